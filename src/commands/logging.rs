//! How log lines look: for the journal, for a log file, for a person.

use std::env;
use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;

use env_logger::fmt::Formatter;
use log::{Level, LevelFilter, Record};

use crate::cli::{Cli, Command};
use crate::sys::clock::utc_now;

/// Variable by which systemd tells a service which file its output goes to.
const JOURNAL_STREAM: &str = "JOURNAL_STREAM";

/// Who reads the lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// The journal, which takes a priority before each line and knows the time itself.
    Journal,
    /// A log file, or a person who watches the daemon.
    Timed,
    /// Whoever has typed a command.
    Plain,
}

/// Logs to standard error; `RUST_LOG` overrides the level.
pub(super) fn init(cli: &Cli) {
    let serves = matches!(
        &cli.command,
        None | Some(Command::Serve(_) | Command::Nri(_) | Command::Deploy(_))
    );
    let level = match &cli.command {
        None if cli.daemon.debug => LevelFilter::Debug,
        Some(Command::Serve(args)) if args.debug => LevelFilter::Debug,
        _ if serves => LevelFilter::Info,
        _ => LevelFilter::Warn,
    };
    let form = match env::var(JOURNAL_STREAM) {
        _ if !serves => Form::Plain,
        Ok(stream) if is_standard_error(&stream) => Form::Journal,
        _ => Form::Timed,
    };
    env_logger::Builder::new()
        .filter_level(level)
        // It warns of every kind of request that is answered with ENOSYS on purpose.
        .filter_module("fuser", LevelFilter::Error)
        .parse_default_env()
        .format(move |out: &mut Formatter, record: &Record<'_>| {
            let message = record.args().to_string();
            out.write_all(line(form, record.level(), &message).as_bytes())
        })
        .init();
}

/// Whether `stream`, as systemd writes it (`DEVICE:INODE`), is where standard error goes: a
/// service may have sent it elsewhere.
fn is_standard_error(stream: &str) -> bool {
    let metadata = fs::metadata("/proc/self/fd/2");
    metadata.is_ok_and(|file| stream == format!("{}:{}", file.dev(), file.ino()))
}

/// One line, whatever is in the message: names of cgroups and files may hold anything.
fn line(form: Form, level: Level, message: &str) -> String {
    let message = message.replace(char::is_control, " ");
    match form {
        Form::Journal => format!("<{}>{message}\n", priority(level)),
        Form::Timed => format!("{} {level:<5} {message}\n", utc_now()),
        Form::Plain => format!("lxcfs: {}{message}\n", kind(level)),
    }
}

/// The priority by syslog(3).
fn priority(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}

fn kind(level: Level) -> &'static str {
    match level {
        Level::Error => "",
        Level::Warn => "warning: ",
        Level::Info | Level::Debug | Level::Trace => "note: ",
    }
}

/// Has a panic logged in one line that names the thread and the place, before the request
/// that it ends is answered.
pub(super) fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        let name = thread.name().unwrap_or("unnamed").to_owned();
        let what = panic
            .payload()
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| panic.payload().downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "a panic".to_owned());
        let place = panic
            .location()
            .map_or(String::new(), |at| format!(" at {at}"));
        log::error!("defect of this program in thread {name}{place}: {what}");
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_journal_gets_a_priority_and_no_time() {
        assert_eq!(line(Form::Journal, Level::Error, "x"), "<3>x\n");
        assert_eq!(line(Form::Journal, Level::Info, "x"), "<6>x\n");
    }

    #[test]
    fn a_file_gets_the_time_and_the_level() {
        let line = line(Form::Timed, Level::Warn, "x");
        let (time, rest) = line.split_once(' ').unwrap();
        assert_eq!(time.len(), "2026-01-01T00:00:00.000Z".len(), "{time}");
        assert_eq!(rest, "WARN  x\n");
    }

    #[test]
    fn a_name_with_newlines_and_escapes_stays_in_one_line() {
        let line = line(Form::Plain, Level::Warn, "cgroup /a\n<0>b\u{1b}[31m");
        assert_eq!(line, "lxcfs: warning: cgroup /a <0>b [31m\n");
    }

    #[test]
    fn another_stream_is_not_the_journal() {
        assert!(!is_standard_error("0:0") && !is_standard_error(""));
    }
}

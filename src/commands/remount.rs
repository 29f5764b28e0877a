//! `lxcfs remount`: repair the mounts that a dead lxcfs left in containers.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::process::ExitCode;

use anyhow::{Context, bail, ensure};
use nix::fcntl::OFlag;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout, geteuid, pipe2};

use crate::cli::RemountArgs;
use crate::remount::{self, Outcome, Row};
use crate::sys::process;

const HEADINGS: [&str; 4] = ["CONTAINER", "PID", "PATH", "RESULT"];

/// First byte of what the worker says.
const REPAIRED: u8 = b'0';
const LEFT_DEAD: u8 = b'1';
const ERROR: u8 = b'E';

/// Repairs and prints what was done.
///
/// # Errors
/// One sentence if nothing can be repaired at all.
pub fn run(args: &RemountArgs) -> anyhow::Result<ExitCode> {
    ensure!(
        geteuid().is_root(),
        "remount needs root; start it with sudo"
    );
    let answer = in_worker(|| work(args)).context("cannot start the process that repairs")?;
    match answer.split_first() {
        Some((code @ (&REPAIRED | &LEFT_DEAD), table)) => {
            let mut out = io::stdout().lock();
            out.write_all(table)
                .and_then(|()| out.flush())
                .context("cannot print what was done")?;
            Ok(ExitCode::from(u8::from(*code == LEFT_DEAD)))
        }
        Some((_, sentence)) => bail!("{}", String::from_utf8_lossy(sentence)),
        None => bail!("the repair was ended before it was done; run it again"),
    }
}

/// What `work` says in a process of its own. Some of its threads may wait for a stopped
/// server and cannot even be killed; nobody waits for that process to be gone.
fn in_worker(work: impl FnOnce() -> Vec<u8>) -> anyhow::Result<Vec<u8>> {
    let (receiver, sender) = pipe2(OFlag::O_CLOEXEC)?;
    if process::fork()?.is_none() {
        process::finish(|| {
            drop(receiver);
            let answer = work();
            u8::from(leave(&answer, sender).is_err())
        })
    }
    drop(sender);
    let mut answer = Vec::new();
    File::from(receiver).read_to_end(&mut answer)?;
    Ok(answer)
}

/// Passes the answer on and lets go of everything somebody could wait for.
fn leave(answer: &[u8], sender: OwnedFd) -> anyhow::Result<()> {
    let null = File::options().read(true).write(true).open("/dev/null")?;
    dup2_stdin(&null)?;
    dup2_stdout(&null)?;
    dup2_stderr(&null)?;
    File::from(sender).write_all(answer)?;
    Ok(())
}

fn work(args: &RemountArgs) -> Vec<u8> {
    // One for each container, held at the same time.
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
    let (first, text) = match remount::run(&args.mountpoint, args.dry_run) {
        Ok(rows) => {
            let failed = |row: &Row| matches!(row.outcome, Outcome::Failed(_));
            let left_dead = rows.iter().any(failed);
            (if left_dead { LEFT_DEAD } else { REPAIRED }, table(&rows))
        }
        Err(error) => (ERROR, format!("{error:#}")),
    };
    [&[first], text.as_bytes()].concat()
}

fn table(rows: &[Row]) -> String {
    if rows.is_empty() {
        return "nothing to repair\n".to_owned();
    }
    let lines: Vec<_> = rows.iter().map(cells).collect();
    let headings = HEADINGS.map(str::to_owned);
    let width = |column: fn(&[String; 4]) -> &String| {
        let lengths = lines.iter().chain([&headings]).map(column);
        lengths.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths = (
        width(|[name, ..]| name),
        width(|[_, pid, ..]| pid),
        width(|[_, _, path, _]| path),
    );
    let mut text = String::new();
    for [name, pid, path, result] in [&headings].into_iter().chain(&lines) {
        let (names, pids, paths) = widths;
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name:names$}  {pid:>pids$}  {path:paths$}  {result}");
    }
    text
}

fn cells(row: &Row) -> [String; 4] {
    // A path is the container's, which may be up to no good with a terminal.
    let path = row
        .path
        .as_ref()
        .map(|path| path.to_string_lossy().escape_debug().to_string());
    [
        row.container.clone().unwrap_or_else(|| "-".to_owned()),
        row.pid.to_string(),
        path.unwrap_or_else(|| "-".to_owned()),
        row.outcome.to_string(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(container: Option<&str>, pid: i32, path: Option<&str>, outcome: Outcome) -> Row {
        Row {
            container: container.map(str::to_owned),
            pid,
            path: path.map(Into::into),
            outcome,
        }
    }

    #[test]
    fn columns_are_as_wide_as_what_is_in_them() {
        let rows = [
            row(
                Some("3f2a6b1c9d8e"),
                7,
                Some("/proc/stat"),
                Outcome::Replaced,
            ),
            row(None, 123_456, None, Outcome::Failed("why".to_owned())),
        ];
        let expected = "CONTAINER        PID  PATH        RESULT\n\
                        3f2a6b1c9d8e       7  /proc/stat  replaced\n\
                        -             123456  -           not repaired: why\n";
        assert_eq!(table(&rows), expected);
        assert_eq!(table(&[]), "nothing to repair\n");
    }

    #[test]
    fn a_path_cannot_steer_a_terminal() {
        let [_, _, path, _] = cells(&row(None, 1, Some("/a\u{1b}[2J\nb"), Outcome::Silent));
        assert_eq!(path, "/a\\u{1b}[2J\\nb");
    }
}

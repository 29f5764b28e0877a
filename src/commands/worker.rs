//! Work in containers is done by a process of its own. Some of its threads may wait for a
//! stopped server and cannot even be killed; nobody waits for that process to be gone.

use std::fmt::Display;
use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::geteuid;

use super::print::print;
use super::table::of_rows;
use crate::places::survey::Row;
use crate::sys::aside::Aside;
use crate::sys::lock;

/// Locked by the process that changes mounts.
const TURN: &str = "/run/lxcfs-remount.lock";
/// No change takes as long.
const LONGEST_TURN: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(10);

/// Before what is printed comes the exit code; this one stands for an error.
const ERROR: u8 = u8::MAX;

/// What the work came to.
#[derive(Debug)]
pub struct Said {
    /// To be printed.
    pub text: String,
    /// To be ended with.
    pub exit_code: u8,
}

/// Does the work of the command `name` in a process of its own, and prints what it says.
///
/// # Errors
/// One sentence from the work, or why it cannot be done.
pub fn run(name: &str, work: impl FnOnce() -> anyhow::Result<Said>) -> anyhow::Result<ExitCode> {
    ensure!(geteuid().is_root(), "{name} needs root; start it with sudo");
    let mut aside = Aside::start(|| {
        // One for each container, held at the same time.
        if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
            let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
        }
        match work() {
            Ok(said) => [&[said.exit_code], said.text.as_bytes()].concat(),
            Err(error) => [&[ERROR], format!("{error:#}").as_bytes()].concat(),
        }
    })
    .context("cannot start the process that does the work")?;
    let answer = aside.answer(None)?.unwrap_or_default();
    match answer.split_first() {
        Some((&ERROR, sentence)) => bail!("{}", String::from_utf8_lossy(sentence)),
        Some((exit_code, text)) => {
            print(text).context("cannot print what was done")?;
            Ok(ExitCode::from(*exit_code))
        }
        None => bail!("the work was ended before it was done; run it again"),
    }
}

/// What became of mounts in containers; `nothing` stands for no rows.
pub fn said<O: Display>(rows: &[Row<O>], failed: impl Fn(&O) -> bool, nothing: &str) -> Said {
    Said {
        text: match rows {
            [] => format!("{nothing}\n"),
            rows => of_rows(rows),
        },
        exit_code: u8::from(rows.iter().any(|row| failed(&row.outcome))),
    }
}

/// Waits until no other process changes mounts: two that repair the same one would leave one
/// over the other. The turn ends when the file is closed.
///
/// # Errors
/// One sentence if the other one does not come to its end.
pub fn take_turn() -> anyhow::Result<Option<File>> {
    let mut options = File::options();
    let opened = options
        .write(true)
        .create(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(TURN);
    let Ok(file) = opened else {
        // Without a place for it, doing the work matters more.
        return Ok(None);
    };
    let deadline = Instant::now() + LONGEST_TURN;
    while lock::try_lock(&file).is_err() {
        ensure!(
            Instant::now() < deadline,
            "another remount, attach or detach does not come to its end; end it first"
        );
        thread::sleep(POLL);
    }
    Ok(Some(file))
}

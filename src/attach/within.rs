//! Work that a stopped server could keep from ever coming to its end.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail};
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, dup2_stderr, dup2_stdin, dup2_stdout, pipe2};

use crate::sys::process;

/// How long a container's start is held up at most.
const LIMIT: Duration = Duration::from_secs(3);

/// How often it is looked whether the process has ended, and how long apart.
const TRIES: usize = 50;
const PAUSE: Duration = Duration::from_millis(2);

const DONE: u8 = b'0';
const FAILED: u8 = b'E';

/// Does `work`, which asks the lxcfs at `views`, in a process of its own, for which nobody
/// waits too long: a thread that waits for a stopped server could not be killed by itself.
///
/// # Errors
/// What `work` fails with, or one sentence if it takes too long.
pub fn within(views: &Path, work: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
    let (receiver, sender) = pipe2(OFlag::O_CLOEXEC)?;
    let child = process::fork().context("cannot start a process")?;
    let Some(child) = child else {
        process::finish(|| {
            drop(receiver);
            u8::from(answer(work, sender).is_err())
        })
    };
    drop(sender);
    let answer = receive(receiver);
    end(child);
    match answer?.split_first() {
        Some((&DONE, _)) => Ok(()),
        Some((_, sentence)) => bail!("{}", String::from_utf8_lossy(sentence)),
        None => bail!("the lxcfs at {} does not answer", views.display()),
    }
}

/// Does the work, and passes on what came of it.
fn answer(work: impl FnOnce() -> anyhow::Result<()>, sender: OwnedFd) -> anyhow::Result<()> {
    // An engine waits until nobody has these open any more.
    let null = File::options().read(true).write(true).open("/dev/null")?;
    dup2_stdin(&null)?;
    dup2_stdout(&null)?;
    dup2_stderr(&null)?;
    let answer = match work() {
        Ok(()) => vec![DONE],
        Err(error) => [&[FAILED], format!("{error:#}").as_bytes()].concat(),
    };
    File::from(sender).write_all(&answer)?;
    Ok(())
}

/// The answer; nothing if none comes in time.
fn receive(receiver: OwnedFd) -> anyhow::Result<Vec<u8>> {
    let limit = PollTimeout::try_from(LIMIT).unwrap_or(PollTimeout::MAX);
    let ready = poll(
        &mut [PollFd::new(receiver.as_fd(), PollFlags::POLLIN)],
        limit,
    )?;
    let mut answer = Vec::new();
    if ready > 0 {
        File::from(receiver).read_to_end(&mut answer)?;
    }
    Ok(answer)
}

/// Ends the process. One that cannot be killed is left behind; any other must not be, since
/// the next program of this process might wonder at a child that it has not started.
fn end(child: Pid) {
    // It may be over already.
    let _ = kill(child, Signal::SIGKILL);
    for _ in 0..TRIES {
        if !matches!(process::reap(Some(child)), Ok(None)) {
            return;
        }
        thread::sleep(PAUSE);
    }
}

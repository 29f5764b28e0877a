//! Work in a process of its own.
//!
//! Whoever asks a file system whose server is stopped waits for ever and cannot even be
//! killed. So that is left to a child, for which nobody has to wait.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, dup2_stderr, dup2_stdin, dup2_stdout, pipe2};

use super::process;

/// A process that does one piece of work.
#[derive(Debug)]
pub struct Aside {
    child: Pid,
    answer: File,
}

impl Aside {
    /// Starts a process that does `work` and passes on what that returns. Threads that it
    /// leaves behind have nothing open that somebody could wait for.
    ///
    /// # Errors
    /// What pipe2(2) and fork(2) say; `EDEADLK` if this process has other threads.
    pub fn start(work: impl FnOnce() -> Vec<u8>) -> io::Result<Self> {
        let (receiver, sender) = pipe2(OFlag::O_CLOEXEC)?;
        let Some(child) = process::fork()? else {
            process::finish(|| {
                drop(receiver);
                let answer = work();
                let said = let_go().and_then(|()| File::from(sender).write_all(&answer));
                u8::from(said.is_err())
            })
        };
        Ok(Self {
            child,
            answer: receiver.into(),
        })
    }

    /// What the work returns, or nothing if the process ended before; `None` if it takes longer than
    /// `limit`.
    ///
    /// # Errors
    /// What poll(2) and read(2) say.
    pub fn answer(&mut self, limit: Option<Duration>) -> io::Result<Option<Vec<u8>>> {
        let deadline = limit.map(|limit| Instant::now() + limit);
        let mut answer = Vec::new();
        let mut piece = [0; 4096];
        loop {
            let rest = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let timeout = match rest {
                Some(rest) => PollTimeout::try_from(rest).unwrap_or(PollTimeout::MAX),
                None => PollTimeout::NONE,
            };
            match poll(
                &mut [PollFd::new(self.answer.as_fd(), PollFlags::POLLIN)],
                timeout,
            ) {
                Ok(0) => return Ok(None),
                Ok(_) => {}
                Err(Errno::EINTR) => continue,
                Err(errno) => return Err(errno.into()),
            }
            match self.answer.read(&mut piece)? {
                0 => return Ok(Some(answer)),
                count => answer.extend(piece.iter().take(count)),
            }
        }
    }

    /// Kills the process, which may take effect later or never.
    #[must_use]
    pub fn abandon(self) -> Pid {
        // It may be over already.
        let _ = kill(self.child, Signal::SIGKILL);
        self.child
    }
}

/// Closes the standard streams, which an engine reads until nobody has them any more. For work
/// that may never come to its end.
///
/// # Errors
/// What open(2) and dup2(2) say.
pub fn let_go() -> io::Result<()> {
    let null = File::options().read(true).write(true).open("/dev/null")?;
    dup2_stdin(&null)?;
    dup2_stdout(&null)?;
    dup2_stderr(&null)?;
    Ok(())
}

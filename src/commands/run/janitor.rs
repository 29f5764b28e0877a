//! A process that outlives the run, whatever kills it, and cleans up after it.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;

use anyhow::{Context, Result};
use nix::fcntl::OFlag;
use nix::sys::signal::SigSet;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{Pid, chdir, dup2_stderr, dup2_stdin, dup2_stdout, pipe2, setsid};

use super::cgroup::Hierarchy;
use super::leftovers;
use crate::sys::process;

/// The janitor as the run knows it.
#[derive(Debug)]
pub struct Janitor {
    pid: Pid,
    /// Open in this process only; its end is what the janitor waits for.
    alive: OwnedFd,
}

impl Janitor {
    /// Starts the janitor of the cgroups `name`.
    pub fn start(hierarchies: &[Hierarchy], name: &str) -> Result<Self> {
        let (end, alive) = pipe2(OFlag::O_CLOEXEC).context("cannot make a pipe")?;
        match process::fork().context("cannot start the process that cleans up")? {
            Some(pid) => Ok(Self { pid, alive }),
            None => process::finish(|| {
                drop(alive);
                u8::from(work(end, hierarchies, name).is_err())
            }),
        }
    }

    /// Has the janitor clean up and waits for it.
    pub fn finish(self, hierarchies: &[Hierarchy], name: &str) -> Result<()> {
        drop(self.alive);
        if let Ok(WaitStatus::Exited(_, 0)) = waitpid(self.pid, None) {
            return Ok(());
        }
        // It was killed or did not get everything away.
        leftovers::remove(hierarchies, name)
            .with_context(|| format!("cannot remove the cgroups named {name}"))
    }
}

fn work(end: OwnedFd, hierarchies: &[Hierarchy], name: &str) -> io::Result<()> {
    // No terminal, signal or pipe of the run may concern the janitor, and nobody is to
    // wait for it who waits for the run's output to end.
    SigSet::all().thread_block()?;
    setsid()?;
    chdir("/")?;
    let null = File::options().read(true).write(true).open("/dev/null")?;
    dup2_stdin(&null)?;
    dup2_stdout(&null)?;
    dup2_stderr(&null)?;
    // Nothing is ever written: this waits for the other end to be closed.
    File::from(end).read_to_end(&mut Vec::new())?;
    leftovers::remove(hierarchies, name)
}

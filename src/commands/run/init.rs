//! The first process of the container: sets it up, starts the command, reaps what is
//! orphaned, and ends with the command and its exit code.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use nix::sched::CloneFlags;
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::{Pid, sethostname};

use super::cgroup::Cgroup;
use super::mounts;
use super::report::Report;
use super::signals::{Event, Signals};
use super::views::Source;
use crate::sys::apart::unshare;
use crate::sys::process;

const HOSTNAME: &str = "lxcfs-run";

const FAILED: u8 = 1;
/// The command exists but cannot be executed; the code that shells use.
const NOT_EXECUTABLE: u8 = 126;
/// The command does not exist; the code that shells use.
const NOT_FOUND: u8 = 127;

/// What the container is made of.
#[derive(Debug)]
pub struct Container<'a> {
    pub cgroup: Cgroup<'a>,
    pub source: Source,
    pub rootfs: Option<&'a Path>,
    pub command: &'a [OsString],
}

/// Runs the container; called in its first process. Returns the exit code.
pub fn run(container: &Container<'_>, mut report: Report) -> u8 {
    let started = container.set_up().and_then(|signals| {
        report.set_up();
        match process::fork().context("cannot start the command")? {
            Some(command) => Ok((signals, command)),
            None => process::finish(|| exec(container.command, &mut report)),
        }
    });
    match started {
        Ok((signals, command)) => {
            drop(report);
            wait_for(command, &signals)
        }
        Err(error) => {
            report.failure(FAILED, &format!("{error:#}"));
            FAILED
        }
    }
}

impl Container<'_> {
    fn set_up(&self) -> Result<Signals> {
        // Should the front process be killed, the container goes with it. If it is dead
        // by now, the janitor removes the cgroup, and what follows fails.
        prctl::set_pdeathsig(Signal::SIGKILL).context("cannot tie the container to lxcfs")?;
        let signals = Signals::block().context("cannot read signals")?;
        // The cgroup in which a process makes a cgroup namespace becomes its root.
        self.cgroup.join()?;
        unshare(
            CloneFlags::CLONE_NEWCGROUP
                | CloneFlags::CLONE_NEWNS
                | CloneFlags::CLONE_NEWUTS
                | CloneFlags::CLONE_NEWIPC,
        )
        .context("cannot make the container's namespaces")?;
        sethostname(HOSTNAME).context("cannot set the host name")?;
        mounts::set_up(self.rootfs, &self.cgroup, &self.source)?;
        Ok(signals)
    }
}

/// Becomes the command. Returns an exit code if that fails.
fn exec(command: &[OsString], report: &mut Report) -> u8 {
    let Some((program, arguments)) = command.split_first() else {
        return FAILED;
    };
    // A program starts with the mask of its caller, which blocked all that we read.
    let error = match SigSet::empty().thread_set_mask() {
        Ok(()) => Command::new(program).args(arguments).exec(),
        Err(error) => error.into(),
    };
    let code = if error.kind() == io::ErrorKind::NotFound {
        NOT_FOUND
    } else {
        NOT_EXECUTABLE
    };
    report.failure(
        code,
        &format!("cannot run {}: {error}", program.to_string_lossy()),
    );
    code
}

/// Passes signals on and reaps, until the command has ended.
fn wait_for(command: Pid, signals: &Signals) -> u8 {
    loop {
        match signals.next() {
            Ok(Event::PassOn(signal)) => {
                // The command is not reaped yet, so the pid is still its own.
                let _ = kill(command, signal);
            }
            Ok(Event::Child) => {
                while let Ok(Some((pid, code))) = process::reap(None) {
                    if pid == command {
                        return code;
                    }
                }
            }
            Err(_) => return FAILED,
        }
    }
}

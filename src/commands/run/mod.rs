//! `lxcfs run`: one command in a fresh container of its own.
//!
//! Up to four processes: the **front**, which the user started and which passes
//! signals on; the **janitor**, which removes the cgroups when the front is gone,
//! however it went; a **server** of the views, if no daemon is mounted; and the
//! container's **init**, which is killed with the front and takes the command along.

mod cgroup;
mod init;
mod janitor;
mod leftovers;
mod mounts;
mod report;
mod signals;
mod views;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sched::CloneFlags;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::{Pid, Uid, getpgrp};

use self::cgroup::{Cgroup, Hierarchy};
use self::init::Container;
use self::janitor::Janitor;
use self::leftovers::Claim;
use self::report::ReportPipe;
use self::signals::{Event, Signals};
use self::views::Source;
use super::Failure;
use crate::cli::RunArgs;
use crate::sys::apart::{unshare, unshare_mounts};
use crate::sys::{process, terminal};

/// Runs the command and returns its exit code, 128 + N if signal N ended it.
///
/// # Errors
/// Exit code 127 if there is no such command, 126 if it cannot be executed, 1 for
/// whatever else keeps it from being started.
pub fn run(args: &RunArgs) -> Result<ExitCode, Failure> {
    if !Uid::effective().is_root() {
        return Err(anyhow::anyhow!("run needs root; start it with sudo").into());
    }
    let rootfs = args.rootfs.as_deref().map(new_root).transpose()?.flatten();
    let hierarchies = cgroup::hierarchies()?;
    leftovers::sweep(&hierarchies);
    let signals = Signals::block().context("cannot read signals")?;
    let claim = Claim::take(&hierarchies)?;
    let janitor = Janitor::start(&hierarchies, &claim.name)?;
    let outcome = match prepare(args, rootfs.as_deref(), &hierarchies, &claim.name) {
        Ok((container, pipe, None)) => process::finish(|| {
            // These must end with the front process.
            drop((claim, janitor));
            init::run(&container, pipe.into_sender())
        }),
        Ok((container, pipe, Some(init))) => {
            let outcome = follow(init, &signals, pipe);
            drop(container);
            outcome
        }
        Err(error) => Err(error.into()),
    };
    if let Err(error) = janitor.finish(&hierarchies, &claim.name) {
        log::warn!("{error:#}");
    }
    outcome.map(ExitCode::from)
}

/// Makes what the container needs and forks its first process, in which the last of
/// the results is `None`.
fn prepare<'a>(
    args: &'a RunArgs,
    rootfs: Option<&'a Path>,
    hierarchies: &'a [Hierarchy],
    name: &str,
) -> Result<(Container<'a>, ReportPipe, Option<Pid>)> {
    let cgroup = Cgroup::create(hierarchies, name, args)?;
    unshare_mounts().context("cannot make a mount namespace")?;
    let container = Container {
        cgroup,
        source: Source::find_or_start(args.views.as_deref(), rootfs)?,
        rootfs,
        command: &args.command,
    };
    let pipe = ReportPipe::new()?;
    // These two concern the children that are made from now on.
    unshare(CloneFlags::CLONE_NEWPID).context("cannot make a pid namespace")?;
    if let Err(error) = new_time_namespace() {
        log::debug!("going on without a time namespace: {error:#}");
    }
    let init = process::fork().context("cannot start the container")?;
    Ok((container, pipe, init))
}

/// Passes signals on until the container has ended; returns its exit code.
fn follow(init: Pid, signals: &Signals, pipe: ReportPipe) -> Result<u8, Failure> {
    let terminal = foreground_terminal();
    let exit_code = wait_for(init, signals).context("cannot wait for the container")?;
    if let Some(terminal) = terminal {
        take_back(&terminal);
    }
    pipe.receive()?;
    Ok(exit_code)
}

/// The directory to use as the root; `None` if that is the root anyway.
fn new_root(directory: &Path) -> Result<Option<PathBuf>> {
    let path = fs::canonicalize(directory)
        .with_context(|| format!("cannot use --rootfs {}", directory.display()))?;
    ensure!(
        path.is_dir(),
        "cannot use --rootfs {}: not a directory",
        directory.display()
    );
    Ok((path != Path::new("/")).then_some(path))
}

/// Has the clocks of future children start at zero, uptime included
/// (man: time_namespaces(7)).
fn new_time_namespace() -> Result<()> {
    unshare(CloneFlags::from_bits_retain(libc::CLONE_NEWTIME)).context("unshare")?;
    let offsets = [
        ("monotonic", ClockId::CLOCK_MONOTONIC),
        ("boottime", ClockId::CLOCK_BOOTTIME),
    ]
    .into_iter()
    .map(|(name, clock)| {
        let now = Duration::from(clock_gettime(clock)?);
        // The offset is -now, with a part in nanoseconds that must not be negative.
        let nanoseconds = (1_000_000_000 - now.subsec_nanos()) % 1_000_000_000;
        let seconds = now.as_secs() + u64::from(nanoseconds > 0);
        Ok(format!("{name} -{seconds} {nanoseconds}\n"))
    })
    .collect::<Result<String>>()?;
    fs::write("/proc/self/timens_offsets", offsets).context("/proc/self/timens_offsets")
}

fn wait_for(init: Pid, signals: &Signals) -> Result<u8> {
    loop {
        match signals.next()? {
            // Fails only if init is dead, which is the next event then.
            Event::PassOn(signal) => drop(kill(init, signal)),
            Event::Child => {
                if let Some((_, exit_code)) = process::reap(Some(init))? {
                    return Ok(exit_code);
                }
            }
        }
    }
}

/// The terminal, if this process is in its foreground.
fn foreground_terminal() -> Option<File> {
    let terminal = File::open("/dev/tty").ok()?;
    (terminal::foreground(&terminal).ok()? == getpgrp()).then_some(terminal)
}

/// Puts this process back into the foreground of its terminal: a shell in the
/// container that used job control cannot name the process group of ours.
fn take_back(terminal: &File) {
    // Without that the kernel would stop a process that does so from the background.
    let mut stop = SigSet::empty();
    stop.add(Signal::SIGTTOU);
    let outcome = stop
        .thread_block()
        .and_then(|()| terminal::set_foreground(terminal, getpgrp()));
    if let Err(error) = outcome {
        log::debug!("cannot take the terminal back: {error}");
    }
}

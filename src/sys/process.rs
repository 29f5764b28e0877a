//! Processes that are not a fresh program: fork(2) without exec.

use std::fs;
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, ExitStatus};

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::{SigHandler, SigSet, Signal};
use nix::unistd::{ForkResult, Pid, getpid, getppid};

/// Exit code of a child whose code panicked.
const PANICKED: u8 = 101;

/// Forks: the child's pid in the parent, `None` in the child, which is to go on with
/// [`finish`].
///
/// # Errors
/// What fork(2) says; `EDEADLK` if the process has other threads, whose locks the
/// child could never take.
pub fn fork() -> io::Result<Option<Pid>> {
    if fs::read_dir("/proc/self/task")?.count() != 1 {
        return Err(Errno::EDEADLK.into());
    }
    // SAFETY: no other thread exists, so the child is as consistent as the parent.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Parent { child } => Ok(Some(child)),
        ForkResult::Child => Ok(None),
    }
}

/// Ends a forked child with the exit code that `body` returns. Neither a panic nor a
/// destructor of what the child shares with its parent gets beyond this point.
pub fn finish(body: impl FnOnce() -> u8) -> ! {
    let code = catch_unwind(AssertUnwindSafe(body)).unwrap_or(PANICKED);
    // SAFETY: _exit takes any code and does not return.
    unsafe { libc::_exit(i32::from(code)) }
}

/// Reaps `child`, or any child if `None`, if it has ended: its pid and the exit code
/// by which shells report its end. `None` if none has ended yet.
///
/// # Errors
/// `ECHILD` if there is no such child.
pub fn reap(child: Option<Pid>) -> Result<Option<(Pid, u8)>, Errno> {
    let mut status = 0;
    let wanted = child.map_or(-1, Pid::as_raw);
    // SAFETY: `status` is a live integer for the kernel to write to.
    let pid = Errno::result(unsafe { libc::waitpid(wanted, &raw mut status, libc::WNOHANG) })?;
    if pid == 0 {
        return Ok(None);
    }
    let status = ExitStatus::from_raw(status);
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal));
    let code = code.and_then(|code| u8::try_from(code).ok());
    Ok(Some((Pid::from_raw(pid), code.unwrap_or(u8::MAX))))
}

/// Gives `signal` its default action.
///
/// # Errors
/// What sigaction(2) says.
pub fn default_signal(signal: Signal) -> Result<(), Errno> {
    // SAFETY: no handler is set that could run at a wrong time.
    unsafe { nix::sys::signal::signal(signal, SigHandler::SigDfl) }.map(drop)
}

/// Has the program that `command` starts get `signal` when this process dies. None of
/// its signals are blocked, whichever are in this process.
pub fn die_with_parent(command: &mut Command, signal: Signal) {
    let parent = getpid();
    let tie = move || {
        SigSet::empty().thread_set_mask()?;
        prctl::set_pdeathsig(signal)?;
        if getppid() == parent {
            Ok(())
        } else {
            Err(Errno::ESRCH.into())
        }
    };
    // SAFETY: between fork and exec only system calls are made, and nothing is
    // allocated.
    unsafe {
        command.pre_exec(tie);
    }
}

/// Makes this thread, and those it starts, one that does not interrupt others when it is
/// woken (`SCHED_BATCH`, man: sched(7)).
///
/// # Errors
/// What sched_setscheduler(2) says.
pub fn interrupt_nobody() -> Result<(), Errno> {
    let priority = libc::sched_param { sched_priority: 0 };
    // SAFETY: the call reads one struct, which lives until it returns.
    Errno::result(unsafe { libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const priority) })?;
    Ok(())
}

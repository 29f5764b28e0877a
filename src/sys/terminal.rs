//! Who is in the foreground of a terminal (man: tcgetpgrp(3)).

use std::os::fd::{AsFd, AsRawFd};

use nix::errno::Errno;
use nix::unistd::Pid;

/// The process group in the foreground of `terminal`.
///
/// # Errors
/// `ENOTTY` if it is not the caller's controlling terminal.
pub fn foreground(terminal: impl AsFd) -> Result<Pid, Errno> {
    // SAFETY: takes an open fd and returns a process group or -1.
    Errno::result(unsafe { libc::tcgetpgrp(terminal.as_fd().as_raw_fd()) }).map(Pid::from_raw)
}

/// Puts a process group of the caller's session into the foreground of `terminal`.
///
/// # Errors
/// As [`foreground`]; `EPERM` if the group is not in this session.
pub fn set_foreground(terminal: impl AsFd, group: Pid) -> Result<(), Errno> {
    // SAFETY: takes an open fd and a number.
    Errno::result(unsafe { libc::tcsetpgrp(terminal.as_fd().as_raw_fd(), group.as_raw()) })
        .map(drop)
}

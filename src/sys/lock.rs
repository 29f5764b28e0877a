//! Locks on open files (man: flock(2)). The lock belongs to the open file: processes
//! that inherit the fd share it, and it ends when the last of them has closed it.

use std::os::fd::{AsFd, AsRawFd};

use nix::errno::Errno;

/// Waits for the lock and takes it.
///
/// # Errors
/// `EINTR`, or what flock(2) says.
pub fn lock(file: impl AsFd) -> Result<(), Errno> {
    flock(file, libc::LOCK_EX)
}

/// Takes the lock.
///
/// # Errors
/// `EWOULDBLOCK` if somebody has it.
pub fn try_lock(file: impl AsFd) -> Result<(), Errno> {
    flock(file, libc::LOCK_EX | libc::LOCK_NB)
}

fn flock(file: impl AsFd, operation: libc::c_int) -> Result<(), Errno> {
    // SAFETY: takes an open fd and a number.
    Errno::result(unsafe { libc::flock(file.as_fd().as_raw_fd(), operation) }).map(drop)
}

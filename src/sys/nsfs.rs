//! Requests to namespace files (man: ioctl_nsfs(2)).

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use nix::errno::Errno;

const NSIO: u8 = 0xb7;
/// `_IO(NSIO, 2)`.
const NS_GET_PARENT: libc::Ioctl = nix::request_code_none!(NSIO, 0x2) as libc::Ioctl;
/// `_IOR(NSIO, 7, int)`, since Linux 6.11.
const NS_GET_TGID_FROM_PIDNS: libc::Ioctl =
    nix::request_code_read!(NSIO, 0x7, size_of::<libc::c_int>()) as libc::Ioctl;

/// The parent of a pid or user namespace.
///
/// # Errors
/// `EPERM` when the parent lies outside of the caller's own namespace.
pub fn parent(namespace: impl AsFd) -> Result<OwnedFd, Errno> {
    // SAFETY: the request takes no argument and returns a new fd or -1.
    let fd = Errno::result(unsafe { libc::ioctl(namespace.as_fd().as_raw_fd(), NS_GET_PARENT) })?;
    // SAFETY: the kernel just made this fd for us; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The caller's number for process `pid` of a pid namespace.
///
/// # Errors
/// `ENOTTY` before Linux 6.11, `ESRCH` if there is no such process.
pub fn process_in_namespace(namespace: impl AsFd, pid: i32) -> Result<i32, Errno> {
    // SAFETY: the argument is passed by value; the result is a pid or -1.
    Errno::result(unsafe {
        libc::ioctl(namespace.as_fd().as_raw_fd(), NS_GET_TGID_FROM_PIDNS, pid)
    })
}

//! Requests to namespace files (man: ioctl_nsfs(2)).

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use nix::NixPath;
use nix::errno::Errno;

const NSIO: u8 = 0xb7;
/// `_IO(NSIO, 2)`.
const NS_GET_PARENT: libc::Ioctl = nix::request_code_none!(NSIO, 0x2) as libc::Ioctl;
/// `_IOR(NSIO, 7, int)`, since Linux 6.11.
const NS_GET_TGID_FROM_PIDNS: libc::Ioctl =
    nix::request_code_read!(NSIO, 0x7, size_of::<libc::c_int>()) as libc::Ioctl;

/// Longer than the target of any link to a namespace.
const LINK_BYTES: usize = 64;

/// Inode number of the namespace that a link in `/proc/PID/ns` stands for (man: namespaces(7)).
///
/// # Errors
/// What readlink(2) says; `EINVAL` if it is no such link.
pub fn inode_of_link(dir: impl AsFd, link: &str) -> Result<u64, Errno> {
    let mut target = [0_u8; LINK_BYTES];
    let length = link.with_nix_path(|link| {
        // SAFETY: the fd is open, the path ends with 0, and the kernel writes at most so many
        // bytes as there are.
        Errno::result(unsafe {
            libc::readlinkat(
                dir.as_fd().as_raw_fd(),
                link.as_ptr(),
                target.as_mut_ptr().cast(),
                target.len(),
            )
        })
    })??;
    let inode = || {
        let text = std::str::from_utf8(target.get(..usize::try_from(length).ok()?)?).ok()?;
        text.split_once('[')?.1.strip_suffix(']')?.parse().ok()
    };
    inode().ok_or(Errno::EINVAL)
}

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

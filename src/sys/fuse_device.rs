//! Requests to `/dev/fuse` (kernel: include/uapi/linux/fuse.h).

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::errno::Errno;

/// `_IOR(229, 0, uint32_t)`.
const FUSE_DEV_IOC_CLONE: libc::Ioctl =
    nix::request_code_read!(229, 0, size_of::<u32>()) as libc::Ioctl;

/// Opens the FUSE device.
///
/// # Errors
/// What open(2) says; `ENOENT` or `ENODEV` where the kernel has no FUSE.
pub fn open() -> io::Result<OwnedFd> {
    open_device().map(OwnedFd::from)
}

fn open_device() -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open("/dev/fuse")
}

/// Another fd of the same connection with a request queue of its own.
///
/// # Errors
/// What open(2) and ioctl(2) say.
pub fn clone(connection: impl AsFd) -> io::Result<OwnedFd> {
    let device = open_device()?;
    let source = u32::try_from(connection.as_fd().as_raw_fd()).map_err(io::Error::other)?;
    // SAFETY: the request reads one u32, which lives until the call returns.
    Errno::result(unsafe {
        libc::ioctl(device.as_raw_fd(), FUSE_DEV_IOC_CLONE, &raw const source)
    })?;
    Ok(device.into())
}

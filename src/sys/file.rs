//! Reading files of the kernel's, whose size is not known before.

use std::ffi::CString;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::sys::uio::pread;

/// What the kernel gives at least in one piece, if there is as much.
const PIECE: usize = 4096;

/// A first piece this short is the whole file: no record that was left for the next
/// piece can have been too long for the rest of this one.
const SURELY_WHOLE: usize = 1024;

/// How files are opened that a container can open too. Whoever has a lease on one (man: fcntl(2),
/// `F_SETLEASE`) would have this process wait for 45 seconds; so it gets `EAGAIN`. Nothing else
/// about the kernel's own files depends on `O_NONBLOCK`.
pub const AT_ONCE: OFlag = OFlag::O_NONBLOCK.union(OFlag::O_CLOEXEC);

/// The content of a file at `path` as text, without waiting for anybody.
///
/// # Errors
/// What open(2) and read(2) say; `EAGAIN` if somebody has a lease on it.
pub fn read_at_once(path: &Path) -> Result<String, Errno> {
    read_text(open(path, AT_ONCE, Mode::empty())?)
}

/// Reads the file from its beginning to its end; the fd can be kept and read again.
///
/// # Errors
/// What pread(2) says.
pub fn read_whole(fd: impl AsFd) -> Result<Vec<u8>, Errno> {
    // Nearly all files are short: no more memory is taken than they need.
    let mut first = [0; PIECE];
    let mut filled = pread(&fd, &mut first, 0)?;
    let mut bytes = first.get(..filled).unwrap_or_default().to_vec();
    let mut at_end = filled < SURELY_WHOLE;
    while !at_end {
        if bytes.len() < filled + PIECE {
            bytes.resize(2 * (filled + PIECE), 0);
        }
        let room = bytes.get_mut(filled..).unwrap_or_default();
        let count = pread(&fd, room, i64::try_from(filled).unwrap_or(i64::MAX))?;
        filled += count;
        at_end = count == 0;
    }
    bytes.truncate(filled);
    Ok(bytes)
}

/// The same as text; bytes that are no UTF-8 become U+FFFD.
///
/// # Errors
/// What pread(2) says.
pub fn read_text(fd: impl AsFd) -> Result<String, Errno> {
    let bytes = read_whole(fd)?;
    Ok(String::from_utf8(bytes)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
}

/// Major and minor device number of the file system that `path` leads to, as the kernel knows it
/// without asking a server.
///
/// # Errors
/// What statx(2) says.
pub fn device_of(path: &Path) -> Result<(u32, u32), Errno> {
    let path = CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno::EINVAL)?;
    let flags = libc::AT_SYMLINK_NOFOLLOW | libc::AT_NO_AUTOMOUNT | libc::AT_STATX_DONT_SYNC;
    let mut found = MaybeUninit::<libc::statx>::zeroed();
    // SAFETY: the path is a string, and there is room for the answer; both live until the call
    // returns.
    Errno::result(unsafe {
        libc::statx(
            libc::AT_FDCWD,
            path.as_ptr(),
            flags,
            libc::STATX_TYPE,
            found.as_mut_ptr(),
        )
    })?;
    // SAFETY: all zeros is a value of this struct, and the kernel has filled it in.
    let found = unsafe { found.assume_init() };
    Ok((found.stx_dev_major, found.stx_dev_minor))
}

/// Lets the number of `target` stand for what `source` refers to (dup3(2), close-on-exec).
///
/// # Errors
/// What dup3(2) says.
pub fn replace(source: impl AsFd, target: BorrowedFd<'_>) -> Result<(), Errno> {
    // SAFETY: both numbers are open fds, and whoever owns `target` goes on owning its number.
    Errno::result(unsafe {
        libc::dup3(
            source.as_fd().as_raw_fd(),
            target.as_raw_fd(),
            libc::O_CLOEXEC,
        )
    })?;
    Ok(())
}

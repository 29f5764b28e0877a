//! Reading files: those of the kernel, whose size is not known before, and those of others,
//! which may be anything. And what else about files is not in nix.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::ptr;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode, makedev};
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

/// The text of a file that somebody has written, of at most `most` bytes. Never waits, and
/// takes no more memory than that, whatever is at the path.
///
/// # Errors
/// What open(2) and read(2) say, `FileTooLarge`, or `InvalidInput` for anything but a regular
/// file or `/dev/null`.
pub fn read_small(path: &Path, most: usize) -> io::Result<String> {
    // A FIFO is opened at once, and is not read.
    let file = File::options()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() && metadata.rdev() != makedev(1, 3) {
        let error = "it is not a regular file";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, error));
    }
    let mut text = String::new();
    let limit = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
    if file.take(limit).read_to_string(&mut text)? > most {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(text)
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

/// Whether the file has a list of extended attributes, be it empty (flistxattr(2)).
///
/// # Errors
/// What flistxattr(2) says, but for `EOPNOTSUPP`.
pub fn lists_attributes(file: impl AsFd) -> Result<bool, Errno> {
    // SAFETY: the fd is open, and nothing is written to a list without room.
    let length = unsafe { libc::flistxattr(file.as_fd().as_raw_fd(), ptr::null_mut(), 0) };
    match Errno::result(length) {
        Ok(_) => Ok(true),
        Err(Errno::EOPNOTSUPP) => Ok(false),
        Err(errno) => Err(errno),
    }
}

#[cfg(test)]
mod tests {
    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;

    use super::*;

    #[test]
    fn what_is_no_small_file_is_refused_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "12345").unwrap();
        assert_eq!(read_small(&file, 5).unwrap(), "12345");
        let kind = |path: &Path, most| read_small(path, most).unwrap_err().kind();
        assert_eq!(kind(&file, 4), io::ErrorKind::FileTooLarge);
        let fifo = dir.path().join("fifo");
        mkfifo(&fifo, Mode::S_IRWXU).unwrap();
        for other in [fifo.as_path(), dir.path(), "/dev/zero".as_ref()] {
            assert_eq!(kind(other, 5), io::ErrorKind::InvalidInput);
        }
        assert_eq!(read_small("/dev/null".as_ref(), 5).unwrap(), "");
    }
}

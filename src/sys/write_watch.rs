//! Whether files of a file system have been written to, or removed (man: fanotify(7)).

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

use nix::NixPath;
use nix::errno::Errno;
use nix::unistd::read;

/// Room for a few dozen events.
const EVENTS_BYTES: usize = 4096;

/// A watch on whole file systems.
#[derive(Debug)]
pub struct WriteWatch {
    events: OwnedFd,
}

impl WriteWatch {
    /// A watch on nothing yet.
    ///
    /// # Errors
    /// What fanotify_init(2) says: `EPERM` without `CAP_SYS_ADMIN`.
    pub fn new() -> Result<Self, Errno> {
        let flags = libc::FAN_CLOEXEC | libc::FAN_NONBLOCK | libc::FAN_REPORT_FID;
        // SAFETY: the call takes numbers only.
        let fd = Errno::result(unsafe { libc::fanotify_init(flags, 0) })?;
        // SAFETY: the call has just opened this fd for us.
        let events = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self { events })
    }

    /// Watches the file systems that `paths` lie on, wherever else they are mounted. Those
    /// that are watched already stay so.
    ///
    /// # Errors
    /// What fanotify_mark(2) says: `EINVAL` or `ENODEV` where the kernel cannot watch one of
    /// these file systems.
    pub fn add<'a>(&self, paths: impl Iterator<Item = &'a Path>) -> Result<(), Errno> {
        for path in paths {
            path.with_nix_path(|path| {
                // SAFETY: the fd is open, and the path is a string that ends with 0.
                Errno::result(unsafe {
                    libc::fanotify_mark(
                        self.events.as_raw_fd(),
                        libc::FAN_MARK_ADD | libc::FAN_MARK_FILESYSTEM,
                        libc::FAN_MODIFY | libc::FAN_DELETE | libc::FAN_ONDIR,
                        libc::AT_FDCWD,
                        path.as_ptr(),
                    )
                })
            })??;
        }
        Ok(())
    }

    /// Whether a write(2), an unlink(2) or a rmdir(2) has ended since this was last asked. Once
    /// the call of whoever did it has returned, the answer is yes. Never blocks.
    #[must_use]
    pub fn has_been_written(&self) -> bool {
        let mut events = [0; EVENTS_BYTES];
        // What does not fit makes the next answer yes as well.
        read(&self.events, &mut events) != Err(Errno::EAGAIN)
    }
}

impl From<OwnedFd> for WriteWatch {
    /// A watch that was begun elsewhere.
    fn from(events: OwnedFd) -> Self {
        Self { events }
    }
}

impl From<WriteWatch> for OwnedFd {
    fn from(watch: WriteWatch) -> Self {
        watch.events
    }
}

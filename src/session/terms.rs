//! What was agreed with the kernel about a connection and holds until its end.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::time::Duration;

use super::held::memory;

/// The kernel takes nothing shorter for a timeout of requests.
const SHORTEST: u32 = 15;

/// What is asked for where the kernel's default is shorter: a machine that is busy can take
/// that long to start another server.
pub const ROOM: Duration = Duration::from_secs(60);

/// A server that hangs is to be found out, and its work done by the next one, in the time
/// that the kernel waits.
const WATCHDOGS_SHARE: u32 = 3;

/// How long the kernel waits for an answer before it aborts a connection, by its settings
/// (Linux 6.15, Documentation/admin-guide/sysctl/fs.rst). In seconds; 0 stands for no limit.
#[derive(Debug, Clone, Copy, Default)]
pub struct Timeouts {
    default: u32,
    max: u32,
}

impl Timeouts {
    /// Those of file systems that are mounted now.
    #[must_use]
    pub fn now() -> Self {
        let setting = |name| {
            let text = std::fs::read_to_string(format!("/proc/sys/fs/fuse/{name}"));
            let number = text.ok().and_then(|text| text.trim().parse().ok());
            number.unwrap_or(0)
        };
        Self {
            default: setting("default_request_timeout"),
            max: setting("max_request_timeout"),
        }
    }

    /// What to ask the kernel for; 0 for what it does by itself.
    pub(super) fn asked(self) -> u16 {
        let room = u16::try_from(ROOM.as_secs()).unwrap_or(u16::MAX);
        if self.default > 0 && self.default < u32::from(room) {
            room
        } else {
            0
        }
    }

    /// What the kernel makes of that.
    #[must_use]
    pub fn effective(self) -> Option<Duration> {
        let wanted = match self.asked() {
            0 => self.default,
            asked => u32::from(asked),
        };
        let seconds = match (wanted, self.max) {
            (0, 0) => return None,
            (0, only) | (only, 0) => only,
            (wanted, max) => wanted.min(max),
        };
        Some(Duration::from_secs(seconds.max(SHORTEST).into()))
    }
}

/// The memory of it, for later servers and holders.
#[derive(Debug)]
pub struct Terms(File);

/// Its parts, of four bytes each.
const TIMEOUT: u64 = 0;
const INTERRUPTS: u64 = 4;
const POLLS: u64 = 8;

impl Terms {
    /// Those of a new connection.
    ///
    /// # Errors
    /// What `memfd_create(2)` says.
    pub(super) fn new(request_timeout: Option<Duration>) -> io::Result<Self> {
        let terms = Self(memory(c"lxcfs-terms")?.into());
        let seconds = request_timeout.map_or(0, |timeout| timeout.as_secs());
        terms.put(TIMEOUT, u32::try_from(seconds).unwrap_or(u32::MAX))?;
        Ok(terms)
    }

    /// Those that an earlier process left; it may have been one that left none.
    ///
    /// # Errors
    /// What `memfd_create(2)` says.
    pub(super) fn adopt(left: Option<OwnedFd>) -> io::Result<Self> {
        match left {
            Some(fd) => Ok(Self(fd.into())),
            None => Self::new(Timeouts::now().effective()),
        }
    }

    /// For how long the server may not answer before it is replaced, if it is `usual` that
    /// long.
    #[must_use]
    pub fn patience(&self, usual: Duration) -> Duration {
        match self.get(TIMEOUT) {
            None | Some(0) => usual,
            Some(seconds) => usual.min(Duration::from_secs(seconds.into()) / WATCHDOGS_SHARE),
        }
    }

    /// Whether the kernel sends no INTERRUPT requests.
    #[must_use]
    pub fn interrupts_are_refused(&self) -> bool {
        self.get(INTERRUPTS) == Some(1)
    }

    /// Notes that the kernel sends no INTERRUPT requests any more.
    ///
    /// # Errors
    /// `ENOSPC`.
    pub(super) fn note_refused_interrupts(&self) -> io::Result<()> {
        self.put(INTERRUPTS, 1)
    }

    /// Whether the kernel sends no POLL requests.
    #[must_use]
    pub fn polls_are_refused(&self) -> bool {
        self.get(POLLS) == Some(1)
    }

    /// Notes that the kernel sends no POLL requests any more.
    ///
    /// # Errors
    /// `ENOSPC`.
    pub fn note_refused_polls(&self) -> io::Result<()> {
        self.put(POLLS, 1)
    }

    /// The same memory.
    ///
    /// # Errors
    /// `EMFILE`.
    pub fn try_clone(&self) -> io::Result<Self> {
        self.0.try_clone().map(Self)
    }

    fn put(&self, offset: u64, value: u32) -> io::Result<()> {
        self.0.write_all_at(&value.to_ne_bytes(), offset)
    }

    fn get(&self, offset: u64) -> Option<u32> {
        let mut value = [0; 4];
        self.0.read_exact_at(&mut value, offset).ok()?;
        Some(u32::from_ne_bytes(value))
    }
}

impl AsFd for Terms {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn effective(default: u32, max: u32) -> Option<u64> {
        let timeouts = Timeouts { default, max };
        timeouts.effective().map(|timeout| timeout.as_secs())
    }

    #[test]
    fn a_short_default_is_lengthened_and_the_maximum_holds() {
        assert_eq!(effective(0, 0), None);
        assert_eq!(effective(15, 0), Some(60));
        assert_eq!(effective(300, 0), Some(300));
        assert_eq!(effective(0, 20), Some(20));
        assert_eq!(effective(15, 20), Some(20));
        assert_eq!(effective(300, 1), Some(15));
    }

    #[test]
    fn the_watchdog_is_faster_than_the_kernel() {
        let usual = Duration::from_secs(30);
        let patience = |timeout| {
            let terms = Terms::new(timeout).unwrap();
            terms.patience(usual).as_secs()
        };
        assert_eq!(patience(None), 30);
        assert_eq!(patience(Some(Duration::from_secs(15))), 5);
        assert_eq!(patience(Some(Duration::from_secs(600))), 30);
    }

    #[test]
    fn of_an_earlier_version_nothing_is_taken_for_refused() {
        let terms = Terms::adopt(None).unwrap();
        assert!(!terms.interrupts_are_refused());
        terms.note_refused_interrupts().unwrap();
        let later = Terms::adopt(Some(terms.0.into())).unwrap();
        assert!(later.interrupts_are_refused());
    }
}

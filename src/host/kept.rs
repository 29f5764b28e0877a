//! A kernel file that stays open, and short-lived snapshots shared by all readers.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sys::stat::Mode;
use parking_lot::RwLock;

use crate::freshness::{Cached, Clock, Validity};
use crate::sys::file::read_text;

/// A file of `/proc` or `/sys`, opened once and read again and again.
#[derive(Debug)]
pub struct KeptFile {
    fd: OwnedFd,
}

impl KeptFile {
    /// Opens the file.
    ///
    /// # Errors
    /// What open(2) says.
    pub fn open(path: &Path) -> io::Result<Self> {
        let fd = openat(
            AT_FDCWD,
            path,
            OFlag::O_RDONLY | OFlag::O_CLOEXEC,
            Mode::empty(),
        )?;
        Ok(Self { fd })
    }

    /// The present content.
    ///
    /// # Errors
    /// What pread(2) says.
    pub fn read(&self) -> io::Result<String> {
        Ok(read_text(&self.fd)?)
    }
}

/// A value that is made anew when it is no longer fresh.
#[derive(Debug)]
pub struct Snapshot<T> {
    validity: Validity,
    clock: Clock,
    latest: RwLock<Option<Cached<Arc<T>>>>,
}

impl<T: Default> Snapshot<T> {
    /// An empty snapshot.
    pub fn new(validity: Validity) -> Self {
        Self::by_clock(validity, Clock::default())
    }

    fn by_clock(validity: Validity, clock: Clock) -> Self {
        Self {
            validity,
            clock,
            latest: RwLock::new(None),
        }
    }

    /// The value that was made last, however old it is.
    pub fn latest(&self) -> Option<Arc<T>> {
        let latest = self.latest.read();
        latest.as_ref().map(|latest| Arc::clone(latest.value()))
    }

    /// The latest value, made by `make` when the known one is too old. When `make`
    /// fails the last good value stays; before the first one that is the default.
    pub fn get(&self, make: impl FnOnce() -> io::Result<T>) -> Arc<T> {
        self.get_if(|_| true, make)
    }

    /// The same, where the known value must also be as this function says.
    pub fn get_if(
        &self,
        fits: impl FnOnce(&T) -> bool,
        make: impl FnOnce() -> io::Result<T>,
    ) -> Arc<T> {
        let now = self.clock.now();
        if let Some(latest) = &*self.latest.read() {
            if let Some(value) = latest.fresh(now, self.validity).filter(|value| fits(value)) {
                return Arc::clone(value);
            }
        }
        self.renew(make)
    }

    /// The value that `make` returns now, as [`Self::get`] falls back on the last good one.
    pub fn renew(&self, make: impl FnOnce() -> io::Result<T>) -> Arc<T> {
        let now = self.clock.now();
        // The lock is not held here: a slow kernel file delays this reader alone.
        let value = match make() {
            Ok(value) => Arc::new(value),
            Err(error) => {
                log::debug!("a host file could not be read: {error}");
                self.latest().unwrap_or_default()
            }
        };
        *self.latest.write() = Some(Cached::new(Arc::clone(&value), now));
        value
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;
    use crate::freshness::FakeTime;

    #[test]
    fn a_value_is_made_anew_when_it_is_too_old_and_stays_when_that_fails() {
        let time = Arc::new(FakeTime::default());
        let set = |nsec| time.nsec.store(nsec, Ordering::Relaxed);
        set(1000);
        let clock = Clock::fake(Arc::clone(&time));
        let snapshot = Snapshot::by_clock(Validity::for_nsec(10), clock);
        assert_eq!(*snapshot.get(|| Err(io::ErrorKind::Other.into())), 0);
        set(1010);
        assert_eq!(*snapshot.get(|| Ok(1)), 1);
        set(1019);
        assert_eq!(*snapshot.get(|| Ok(2)), 1, "fresh");
        assert_eq!(
            *snapshot.get_if(|value| *value == 3, || Ok(3)),
            3,
            "another"
        );
        set(1029);
        assert_eq!(*snapshot.get(|| Err(io::ErrorKind::Other.into())), 3);
        assert_eq!(
            *snapshot.get(|| Ok(4)),
            3,
            "a failure is not tried again at once"
        );
    }
}

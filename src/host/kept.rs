//! A kernel file that stays open, and short-lived snapshots shared by all readers.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sys::stat::Mode;
use parking_lot::RwLock;

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

/// A value that is made anew when it is older than its time to live.
#[derive(Debug)]
pub struct Snapshot<T> {
    lifetime: Duration,
    latest: RwLock<Option<(Instant, Arc<T>)>>,
}

impl<T: Default> Snapshot<T> {
    /// An empty snapshot.
    pub const fn new(lifetime: Duration) -> Self {
        Self {
            lifetime,
            latest: RwLock::new(None),
        }
    }

    /// The value that was made last, however old it is.
    pub fn latest(&self) -> Option<Arc<T>> {
        let latest = self.latest.read();
        latest.as_ref().map(|(_, value)| Arc::clone(value))
    }

    /// The latest value, made by `make` when the known one is too old. When `make`
    /// fails the last good value stays; before the first one that is the default.
    pub fn get(&self, make: impl FnOnce() -> io::Result<T>) -> Arc<T> {
        let known = self.latest.read().clone();
        if let Some((made, value)) = &known {
            if made.elapsed() < self.lifetime {
                return Arc::clone(value);
            }
        }
        self.renew(make)
    }

    /// The value that `make` returns now, as [`Self::get`] falls back on the last good one.
    pub fn renew(&self, make: impl FnOnce() -> io::Result<T>) -> Arc<T> {
        // The lock is not held here: a slow kernel file delays this reader alone.
        let value = match make() {
            Ok(value) => Arc::new(value),
            Err(error) => {
                log::debug!("a host file could not be read: {error}");
                self.latest().unwrap_or_default()
            }
        };
        *self.latest.write() = Some((Instant::now(), Arc::clone(&value)));
        value
    }
}

//! Waiting a moment for the next request before going to sleep.
//!
//! A reader that has been answered asks again at once: after OPEN comes READ, after READ
//! the one that finds the end. A thread that has gone to sleep meanwhile must be woken,
//! which on an idle CPU takes several times as long as the answer.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::host::boottime_nsec;

/// The longest wait, about what being woken costs.
const LONGEST_NSEC: u64 = 50_000;

/// The connection to wait on.
#[derive(Debug, Default)]
pub struct Linger {
    connection: OnceLock<OwnedFd>,
    /// When a file was read to its end or closed last.
    ended_nsec: AtomicU64,
    /// From the last end to the next OPEN.
    gap_nsec: AtomicU64,
}

impl Linger {
    /// From now on there is something to wait for.
    pub fn connect(&self, connection: OwnedFd) {
        let _ = self.connection.set(connection);
    }

    /// After OPEN: a READ will follow.
    pub fn after_open(&self) {
        let gap_nsec = boottime_nsec().saturating_sub(self.ended_nsec.load(Ordering::Relaxed));
        self.gap_nsec.store(gap_nsec, Ordering::Relaxed);
        self.wait();
    }

    /// After READ: another one will follow, unless this one found the end.
    pub fn after_read(&self, found_end: bool) {
        if found_end {
            self.after_end();
        } else {
            self.wait();
        }
    }

    /// After a file was read to its end or closed: another one will be opened at once, if
    /// that was so the last time.
    pub fn after_end(&self) {
        self.ended_nsec.store(boottime_nsec(), Ordering::Relaxed);
        if self.gap_nsec.load(Ordering::Relaxed) < LONGEST_NSEC {
            self.wait();
        }
    }

    /// Waits until a request is there, but not for long. Others may use the CPU.
    fn wait(&self) {
        let Some(connection) = self.connection.get() else {
            return;
        };
        let start_nsec = boottime_nsec();
        let mut ready = [PollFd::new(connection.as_fd(), PollFlags::POLLIN)];
        while poll(&mut ready, PollTimeout::ZERO) == Ok(0)
            && boottime_nsec().saturating_sub(start_nsec) < LONGEST_NSEC
        {
            thread::yield_now();
        }
    }
}

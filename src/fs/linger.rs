//! Waiting a moment for the next request before going to sleep.
//!
//! A reader that has been answered asks again at once: after OPEN comes READ, after READ
//! the one that finds the end. A thread that has gone to sleep meanwhile must be woken,
//! which on an idle CPU takes several times as long as the answer. With several readers
//! there is always a request to answer, and a thread that waits is in their way.
//!
//! The kernel wakes a thread that sleeps in read(2) for every request, though another one
//! looks out for it. So while one waits here, the others stay away from the connection.
//!
//! On a busy host the reader may need the very CPU on which a thread waits for it, and
//! sched_yield(2) leaves the CPU to threads of the same cgroup only. So one wait in vain is
//! the last one for a while.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::sys::clock::boottime_nsec;

/// The longest wait, about what being woken costs.
const LONGEST_NSEC: u64 = 50_000;

/// How long the others stay away. If the one that waits gets a request that takes long,
/// another reader waits for as long as this.
const AWAY: Duration = Duration::from_micros(500);

/// How long nobody waits after a wait in vain.
const PAUSE_NSEC: u64 = 10_000_000;

/// Two readers are at it at the same time if one opens a file so soon after the other one, who
/// has not come to the end of his.
const AT_ONCE_NSEC: u64 = 1_000_000;

/// How long there are taken to be several readers then.
const CROWD_NSEC: u64 = 10_000_000;

/// The connection to wait on, and whether that is worth while.
#[derive(Debug, Default)]
pub struct Linger {
    connection: OnceLock<OwnedFd>,
    /// Whether a thread waits.
    occupied: AtomicBool,
    /// The thread that opened a file last, and when.
    reader: AtomicI32,
    opened_nsec: AtomicU64,
    /// Until when there are several readers.
    crowd_until_nsec: AtomicU64,
    /// Until when nobody waits, since it was in vain.
    pause_until_nsec: AtomicU64,
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

    /// There is more to do than to wait.
    pub fn keep_off(&self) {
        self.note_crowd(boottime_nsec());
    }

    fn note_crowd(&self, now_nsec: u64) {
        let until_nsec = now_nsec.saturating_add(CROWD_NSEC);
        self.crowd_until_nsec.store(until_nsec, Ordering::Relaxed);
    }

    /// After OPEN by the thread `reader`: a READ will follow.
    pub fn after_open(&self, reader: i32) {
        let now_nsec = boottime_nsec();
        let since = |nsec: u64| now_nsec.saturating_sub(nsec);
        let last_reader = self.reader.swap(reader, Ordering::Relaxed);
        let opened_nsec = self.opened_nsec.swap(now_nsec, Ordering::Relaxed);
        let ended_nsec = self.ended_nsec.load(Ordering::Relaxed);
        let is_another_open = ended_nsec < opened_nsec && since(opened_nsec) < AT_ONCE_NSEC;
        if reader != last_reader && is_another_open {
            self.note_crowd(now_nsec);
        }
        self.gap_nsec.store(since(ended_nsec), Ordering::Relaxed);
        self.wait(now_nsec);
    }

    /// After READ: another one will follow, unless this one found the end.
    pub fn after_read(&self, found_end: bool) {
        if found_end {
            self.after_end();
        } else {
            self.wait(boottime_nsec());
        }
    }

    /// After a file was read to its end or closed: another one will be opened at once, if
    /// that was so the last time.
    pub fn after_end(&self) {
        let now_nsec = boottime_nsec();
        self.ended_nsec.store(now_nsec, Ordering::Relaxed);
        if self.gap_nsec.load(Ordering::Relaxed) < LONGEST_NSEC {
            self.wait(now_nsec);
        }
    }

    /// Waits until a request is there, but not for long. Others may use the CPU.
    fn wait(&self, start_nsec: u64) {
        let Some(connection) = self.connection.get() else {
            return;
        };
        let is_before = |time: &AtomicU64| start_nsec < time.load(Ordering::Relaxed);
        if is_before(&self.crowd_until_nsec) || is_before(&self.pause_until_nsec) {
            return;
        }
        if self.occupied.swap(true, Ordering::Relaxed) {
            return thread::sleep(AWAY);
        }
        let mut ready = [PollFd::new(connection.as_fd(), PollFlags::POLLIN)];
        while poll(&mut ready, PollTimeout::ZERO) == Ok(0) {
            let now_nsec = boottime_nsec();
            if now_nsec.saturating_sub(start_nsec) >= LONGEST_NSEC {
                let until_nsec = now_nsec.saturating_add(PAUSE_NSEC);
                self.pause_until_nsec.store(until_nsec, Ordering::Relaxed);
                break;
            }
            thread::yield_now();
        }
        self.occupied.store(false, Ordering::Relaxed);
    }
}

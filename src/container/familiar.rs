//! Readers that were identified a moment ago.
//!
//! A thread that reads again and again need not be looked at each time. That it is the
//! same thread, and not another one under its number, is known from a pidfd.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use parking_lot::Mutex;

use super::resolve::Resolved;
use crate::host::boottime_nsec;
use crate::sys::process::pidfd_of_thread;

/// How long an identity is trusted. A thread that moves to another container is shown its
/// former one's figures for as long as this.
const TRUST_NSEC: u64 = 2_000_000;

/// Threads that are remembered at the most.
const SLOTS: usize = 64;

/// The readers, by number.
#[derive(Debug)]
pub(super) struct Familiar {
    slots: [Mutex<Option<Known>>; SLOTS],
}

#[derive(Debug)]
struct Known {
    tid: i32,
    since_nsec: u64,
    /// None for a thread seen once: most read a file once and end.
    pidfd: Option<Arc<OwnedFd>>,
    resolved: Arc<Resolved>,
}

impl Familiar {
    pub(super) fn new() -> Self {
        Self {
            slots: std::array::from_fn(|_| Mutex::default()),
        }
    }

    /// The container found for the thread a moment ago.
    pub(super) fn get(&self, tid: i32) -> Option<Arc<Resolved>> {
        let (pidfd, resolved) = {
            let slot = self.slot(tid)?.lock();
            let known = slot.as_ref().filter(|known| known.tid == tid)?;
            if boottime_nsec().saturating_sub(known.since_nsec) >= TRUST_NSEC {
                return None;
            }
            (
                Arc::clone(known.pidfd.as_ref()?),
                Arc::clone(&known.resolved),
            )
        };
        is_running(&pidfd).then_some(resolved)
    }

    /// Remembers the container of a thread, which must be waiting for its answer.
    pub(super) fn remember(&self, tid: i32, resolved: &Arc<Resolved>) {
        let Some(slot) = self.slot(tid) else { return };
        let seen_before = slot.lock().take().filter(|known| known.tid == tid);
        let pidfd = seen_before.and_then(|known| match known.pidfd {
            Some(pidfd) if is_running(&pidfd) => Some(pidfd),
            _ => pidfd_of_thread(tid).ok().map(Arc::new),
        });
        *slot.lock() = Some(Known {
            tid,
            since_nsec: boottime_nsec(),
            pidfd,
            resolved: Arc::clone(resolved),
        });
    }

    /// Forgets everybody, and with them the namespaces of containers that have ended.
    pub(super) fn clear(&self) {
        for slot in &self.slots {
            *slot.lock() = None;
        }
    }

    fn slot(&self, tid: i32) -> Option<&Mutex<Option<Known>>> {
        self.slots.get(usize::try_from(tid).ok()? % SLOTS)
    }
}

/// Whether the thread has not ended.
fn is_running(pidfd: &OwnedFd) -> bool {
    let mut ended = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
    poll(&mut ended, PollTimeout::ZERO) == Ok(0)
}

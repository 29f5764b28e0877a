//! Readers that were identified a moment ago.
//!
//! A thread that reads again and again need not be looked at each time. That it is the
//! same thread, not another one under its number, and still in the same cgroups, is known
//! from its `/proc/TID/cgroup`, which is kept open.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use parking_lot::Mutex;

use super::resolve::Resolved;
use crate::host::boottime_nsec;
use crate::host::process::Proc;
use crate::sys::file::read_whole;

/// How long the namespaces of a thread are taken for the same. One that enters others is
/// shown the figures of its former container for as long as this.
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
    memberships: Option<Arc<OwnedFd>>,
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
        let (memberships, resolved) = {
            let slot = self.slot(tid)?.lock();
            let known = slot.as_ref().filter(|known| known.tid == tid)?;
            if boottime_nsec().saturating_sub(known.since_nsec) >= TRUST_NSEC {
                return None;
            }
            (
                Arc::clone(known.memberships.as_ref()?),
                Arc::clone(&known.resolved),
            )
        };
        // The file of a thread that has ended cannot be read, whoever has its number now.
        let text = read_whole(&*memberships).ok()?;
        (text == resolved.memberships.as_bytes()).then_some(resolved)
    }

    /// Remembers the container of a thread, which must be waiting for its answer.
    pub(super) fn remember(&self, tid: i32, resolved: &Arc<Resolved>, proc: &Proc) {
        let Some(slot) = self.slot(tid) else { return };
        let seen_before = slot.lock().take().is_some_and(|known| known.tid == tid);
        let memberships = seen_before.then(|| proc.open_file(tid, "cgroup").ok().map(Arc::new));
        *slot.lock() = Some(Known {
            tid,
            since_nsec: boottime_nsec(),
            memberships: memberships.flatten(),
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

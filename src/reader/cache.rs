//! Readers that were identified a moment ago.
//!
//! A thread that reads again and again need not be looked at as closely each time. That it
//! is the same thread, not another one under its number, is known from a file of its
//! `/proc/TID` that is kept open, and that it is still in the same cgroups from its
//! `/proc/TID/cgroup`, unless no thread has been moved at all.

use std::os::fd::OwnedFd;
use std::sync::{Arc, OnceLock};

use nix::errno::Errno;
use nix::sys::uio::pread;
use parking_lot::Mutex;

use super::Resolved;
use super::key::Namespaces;
use crate::cgroup::FdBudget;
use crate::freshness::{Cached, Moment, validity};
use crate::host::process::Proc;
use crate::sys::file::read_whole;

/// How long ago a thread has read that may be forgotten.
const IDLE_NSEC: u64 = 2_000_000_000;

/// Threads that are remembered at the most, and files that are kept for each.
const SLOTS: usize = 4096;
const FILES: usize = 2;

/// The file that is the quickest to read. It is kept for threads that read again soon.
const SIGN_OF_LIFE: &str = "oom_score_adj";

/// The readers, by number.
#[derive(Debug)]
pub(super) struct ReaderCache {
    slots: Box<[Mutex<Option<Known>>]>,
    budget: Arc<FdBudget>,
}

#[derive(Debug, Clone)]
struct Known {
    tid: i32,
    /// None for a thread seen once: most read a file once and end.
    thread: Option<Arc<Thread>>,
    resolved: Arc<Resolved>,
    /// When it was found to be in the cgroups, the cgroup namespace and the time namespace of the
    /// container's readers.
    memberships: Cached<()>,
    namespaces: Cached<()>,
    time_namespace: Cached<()>,
}

impl Known {
    fn is_of_same_thread(&self, other: &Self) -> bool {
        match (&self.thread, &other.thread) {
            (Some(thread), Some(other)) => Arc::ptr_eq(thread, other),
            _ => false,
        }
    }
}

/// Kept files of a thread. Once it has ended they cannot be read, whoever has its number
/// then.
#[derive(Debug)]
pub(super) struct Thread {
    /// When it was seen for the second time.
    pub(super) known_since_nsec: u64,
    pids_by_namespace: OnceLock<Box<[i32]>>,
    sign_of_life: OnceLock<OwnedFd>,
    memberships: OwnedFd,
    namespaces: OwnedFd,
    budget: Arc<FdBudget>,
}

impl Thread {
    fn open(tid: i32, now: Moment, proc: &Proc, budget: &Arc<FdBudget>) -> Option<Self> {
        if !budget.take(FILES) {
            return None;
        }
        let open = || -> Result<Self, Errno> {
            Ok(Self {
                known_since_nsec: now.nsec,
                pids_by_namespace: OnceLock::new(),
                sign_of_life: OnceLock::new(),
                memberships: proc.open_file(tid, "cgroup")?,
                namespaces: proc.open_namespaces(tid)?,
                budget: Arc::clone(budget),
            })
        };
        let opened = open();
        if opened.is_err() {
            budget.give_back(FILES);
        }
        opened.ok()
    }

    /// [`Proc::pids_by_namespace`] of this thread, `tid`: the same ones for all its life.
    pub(super) fn pids_by_namespace(&self, tid: i32, proc: &Proc) -> &[i32] {
        if let Some(known) = self.pids_by_namespace.get() {
            return known;
        }
        match proc.pids_by_namespace(tid) {
            unreadable if unreadable.is_empty() => &[],
            pids => self.pids_by_namespace.get_or_init(|| pids.into()),
        }
    }

    /// Has a file kept that is quickly read. The thread, `tid`, must be known to live.
    fn keep_sign_of_life(&self, tid: i32, proc: &Proc) {
        if self.sign_of_life.get().is_some() || !self.budget.take(1) {
            return;
        }
        let opened = proc.open_file(tid, SIGN_OF_LIFE).ok();
        let is_kept = opened.is_some_and(|file| self.sign_of_life.set(file).is_ok());
        if !is_kept {
            self.budget.give_back(1);
        }
    }

    fn lives(&self) -> bool {
        let file = self.sign_of_life.get().unwrap_or(&self.memberships);
        pread(file, &mut [0], 0).is_ok()
    }

    fn is_in(&self, memberships: &str) -> bool {
        read_whole(&self.memberships).is_ok_and(|text| text == memberships.as_bytes())
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        let signs = usize::from(self.sign_of_life.get().is_some());
        self.budget.give_back(FILES + signs);
    }
}

impl ReaderCache {
    pub(super) fn new(budget: Arc<FdBudget>) -> Self {
        Self {
            slots: (0..SLOTS).map(|_| Mutex::default()).collect(),
            budget,
        }
    }

    /// The thread, and the container found for it the last time, if that is still the
    /// thread's: that waits for its answer, and has these `namespaces` if any can be seen, the
    /// one of time with them if it is asked for.
    pub(super) fn get(
        &self,
        tid: i32,
        now: Moment,
        asks_time: bool,
        proc: &Proc,
        namespaces: impl FnOnce(&OwnedFd, Namespaces, bool) -> Option<Namespaces>,
    ) -> Option<(Arc<Resolved>, Arc<Thread>)> {
        let known = self.slot(tid)?.lock().clone();
        let mut known = known.filter(|known| known.tid == tid)?;
        let thread = Arc::clone(known.thread.as_ref()?);
        let resolved = Arc::clone(&known.resolved);
        let key = &resolved.key;
        let reads_again_soon = known.namespaces.is_fresh(now, validity::NAMESPACES);
        let is_time_due = asks_time && !known.time_namespace.is_fresh(now, validity::NAMESPACES);
        let is_due = !reads_again_soon || is_time_due || thread.sign_of_life.get().is_none();
        // That they can be seen is a sign of life, too.
        let seen = is_due
            .then(|| namespaces(&thread.namespaces, key.namespaces, is_time_due))
            .flatten();
        let is_unmoved = known.memberships.is_fresh(now, validity::MEMBERSHIPS);
        let is_there = match is_unmoved {
            true => seen.is_some() || thread.lives(),
            false => thread.is_in(&key.memberships),
        };
        let is_elsewhere = seen.is_some_and(|seen| seen != key.namespaces);
        if !is_there || is_elsewhere || !resolved.is_fresh(now) {
            return None;
        }
        if reads_again_soon {
            thread.keep_sign_of_life(tid, proc);
        }
        if is_due {
            known.namespaces.confirm(now);
        }
        if is_time_due {
            known.time_namespace.confirm(now);
        }
        if !is_unmoved {
            known.memberships.confirm(now);
        }
        if is_due || !is_unmoved {
            self.update(known);
        }
        Some((resolved, thread))
    }

    /// A number of the container found for the thread the last time, whichever thread has
    /// its number now.
    pub(super) fn seen_last(&self, tid: i32) -> Option<usize> {
        let slot = self.slot(tid)?.try_lock()?;
        let known = slot.as_ref().filter(|known| known.tid == tid)?;
        Some(Arc::as_ptr(&known.resolved.container).addr())
    }

    /// Puts what was found out in place of what was known, unless that was forgotten.
    fn update(&self, known: Known) {
        let Some(slot) = self.slot(known.tid) else {
            return;
        };
        let mut slot = slot.lock();
        if slot
            .as_ref()
            .is_some_and(|old| old.is_of_same_thread(&known))
        {
            *slot = Some(known);
        }
    }

    /// Remembers the container of a thread, which must be waiting for its answer.
    pub(super) fn remember(&self, tid: i32, resolved: &Arc<Resolved>, now: Moment, proc: &Proc) {
        let Some(slot) = self.slot(tid) else { return };
        let seen_before = slot.lock().take().is_some_and(|known| known.tid == tid);
        let thread = seen_before.then(|| Thread::open(tid, now, proc, &self.budget));
        let found = Cached::new((), now);
        *slot.lock() = Some(Known {
            tid,
            thread: thread.flatten().map(Arc::new),
            resolved: Arc::clone(resolved),
            memberships: found,
            namespaces: found,
            time_namespace: found,
        });
    }

    /// Forgets those that have not read lately, most of which have ended.
    pub(super) fn forget_idle(&self, now: Moment) {
        let is_idle = |known: &mut Known| now.nsec_since(known.namespaces.found()) > IDLE_NSEC;
        for slot in &*self.slots {
            slot.lock().take_if(is_idle);
        }
    }

    /// Forgets everybody, and with them the namespaces of containers that have ended.
    pub(super) fn clear(&self) {
        for slot in &*self.slots {
            *slot.lock() = None;
        }
    }

    fn slot(&self, tid: i32) -> Option<&Mutex<Option<Known>>> {
        self.slots.get(usize::try_from(tid).ok()? % SLOTS)
    }
}

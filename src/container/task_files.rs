//! What a container's threads are doing, from files that are kept open.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use crate::cgroup::FdBudget;
use crate::freshness::{Cached, Moment, validity};
use crate::host::process::Proc;
use crate::parse::pid_stat::PidStat;
use crate::sys::clock::boottime_nsec;
use crate::sys::file::read_whole;

/// Of so few threads the files are kept.
const FEW: usize = 8;

/// How long files are kept that nobody needs.
const IDLE_NSEC: u64 = 2_000_000_000;

/// State and start time of a thread.
pub(super) type Stat = (i32, PidStat);

/// Kept files `stat` of the threads of a container that has few threads. To open and close one
/// costs more than to read it.
#[derive(Debug)]
pub(super) struct TaskFiles {
    budget: Arc<FdBudget>,
    kept: Mutex<Option<Kept>>,
}

#[derive(Debug, Clone)]
struct Kept {
    files: Arc<Files>,
    /// Whether the number of these threads tells if they are still all there are, found when they
    /// were listed.
    listed: Option<Cached<bool>>,
}

impl Kept {
    fn is_trusted(&self, now: Moment) -> bool {
        let counts =
            |listed: &Cached<bool>| listed.fresh(now, validity::THREAD_LIST) == Some(&true);
        self.listed.as_ref().is_some_and(counts)
    }
}

impl TaskFiles {
    pub(super) fn new(budget: Arc<FdBudget>) -> Self {
        Self {
            budget,
            kept: Mutex::default(),
        }
    }

    /// State and start time of each of the `threads` but the reader that has not ended.
    pub(super) fn stats(&self, threads: &[i32], reader: i32, proc: &Proc) -> Vec<Stat> {
        let files = self.of(threads);
        let stat = |(index, thread): (usize, &i32)| {
            let kept = files.as_ref().and_then(|files| {
                files.keep(index, proc);
                files.stat(index)
            });
            Some((*thread, kept.or_else(|| proc.stat(*thread))?))
        };
        let others = threads.iter().enumerate();
        let others = others.filter(|(_, thread)| **thread != reader);
        others.filter_map(stat).collect()
    }

    /// Whether the threads that were listed last may still be all there are.
    pub(super) fn has_listed(&self, now: Moment) -> bool {
        let kept = self.kept.lock();
        kept.as_ref().is_some_and(|kept| kept.is_trusted(now))
    }

    /// [`Self::stats`] of the threads that were listed last, if these are still all there are:
    /// `count` of them, the reader is one, none has ended, and none was moved as this is the
    /// same epoch.
    pub(super) fn stats_of_listed(
        &self,
        count: u64,
        reader: i32,
        now: Moment,
    ) -> Option<Vec<Stat>> {
        let kept = self.kept.lock().clone()?;
        let threads = &kept.files.threads;
        let is_all = threads.len() as u64 == count && threads.contains(&reader);
        if !is_all || !kept.is_trusted(now) {
            return None;
        }
        kept.files.used_nsec.store(now.nsec, Ordering::Relaxed);
        let threads = threads.iter().copied().enumerate();
        let others = threads.filter(|(_, thread)| *thread != reader);
        others
            .map(|(index, thread)| {
                let stat = kept.files.stat(index)?;
                // One that has ended may be counted until its parent has asked for it.
                (!matches!(stat.state, b'Z' | b'X')).then_some((thread, stat))
            })
            .collect()
    }

    /// Notes that the `threads` of the kept files were listed, not before `now`. `is_counted` is
    /// asked, when they are listed for the second time in an epoch, whether there are others under
    /// the same count.
    pub(super) fn note_listed(
        &self,
        threads: &[i32],
        now: Moment,
        is_counted: impl FnOnce() -> bool,
    ) {
        let kept = self.kept.lock().clone();
        let Some(mut kept) = kept.filter(|kept| *kept.files.threads == *threads) else {
            return;
        };
        let before = kept.listed.filter(|it| it.found().epoch.is_same(now.epoch));
        let is_counted = before.is_some_and(|before| *before.value() || is_counted());
        kept.listed = Some(Cached::new(is_counted, now));
        let _same = self.kept.lock().replace(kept);
    }

    /// The files of just these threads, if they are few.
    fn of(&self, threads: &[i32]) -> Option<Arc<Files>> {
        let mut kept = self.kept.lock();
        if let Some(known) = kept.as_ref().filter(|kept| *kept.files.threads == *threads) {
            let now_nsec = boottime_nsec();
            known.files.used_nsec.store(now_nsec, Ordering::Relaxed);
            return Some(Arc::clone(&known.files));
        }
        let files = Files::new(threads, &self.budget).map(Arc::new);
        let new = files.clone().map(|files| Kept {
            files,
            listed: None,
        });
        let old = std::mem::replace(&mut *kept, new);
        drop(kept);
        drop(old);
        files
    }

    /// Closes the files.
    pub(super) fn close(&self) {
        let _closed = self.kept.lock().take();
    }

    /// Closes the files if nobody has needed them lately.
    pub(super) fn close_idle(&self) {
        let now_nsec = boottime_nsec();
        let is_idle = |kept: &mut Kept| {
            now_nsec.saturating_sub(kept.files.used_nsec.load(Ordering::Relaxed)) > IDLE_NSEC
        };
        let _closed = self.kept.lock().take_if(is_idle);
    }
}

#[derive(Debug)]
struct Files {
    threads: Box<[i32]>,
    /// By place in `threads`. A thread that alone reads has none.
    files: Box<[OnceLock<OwnedFd>]>,
    used_nsec: AtomicU64,
    budget: Arc<FdBudget>,
}

impl Files {
    fn new(threads: &[i32], budget: &Arc<FdBudget>) -> Option<Self> {
        let are_few = (1..=FEW).contains(&threads.len());
        are_few.then(|| Self {
            threads: threads.into(),
            files: threads.iter().map(|_| OnceLock::new()).collect(),
            used_nsec: AtomicU64::new(boottime_nsec()),
            budget: Arc::clone(budget),
        })
    }

    /// Opens the file of a thread that was listed just now, unless it is open.
    fn keep(&self, index: usize, proc: &Proc) {
        let (Some(thread), Some(kept)) = (self.threads.get(index), self.files.get(index)) else {
            return;
        };
        if kept.get().is_some() || !self.budget.take(1) {
            return;
        }
        let opened = proc.open_stat(*thread).ok();
        let is_kept = opened.is_some_and(|file| kept.set(file).is_ok());
        if !is_kept {
            self.budget.give_back(1);
        }
    }

    /// What the file of a thread tells. Once the thread has ended it cannot be read, also when
    /// another one has got its number.
    fn stat(&self, index: usize) -> Option<PidStat> {
        PidStat::parse(&read_whole(self.files.get(index)?.get()?).ok()?).ok()
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let open = self.files.iter().filter(|file| file.get().is_some());
        self.budget.give_back(open.count());
    }
}

//! What a container's threads are doing, from files that are kept open.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::errno::Errno;
use parking_lot::Mutex;

use crate::cgroup::FdBudget;
use crate::host::boottime_nsec;
use crate::host::process::Proc;
use crate::parse::pid_stat::PidStat;
use crate::sys::file::read_whole;

/// Of so few threads the files are kept.
const FEW: usize = 8;

/// How long files are kept that nobody needs.
const IDLE_NSEC: u64 = 2_000_000_000;

/// Kept files `/proc/TID/stat` of a container that has few threads. To open and close one
/// costs more than to read it.
#[derive(Debug)]
pub(super) struct TaskFiles {
    budget: Arc<FdBudget>,
    kept: Mutex<Option<Arc<Files>>>,
}

impl TaskFiles {
    pub(super) fn new(budget: Arc<FdBudget>) -> Self {
        Self {
            budget,
            kept: Mutex::default(),
        }
    }

    /// State and start time of each of the `threads` that has not ended.
    pub(super) fn stats(&self, threads: &[i32], proc: &Proc) -> Vec<(i32, PidStat)> {
        let files = self.of(threads, proc);
        let stat = |(index, thread): (usize, &i32)| {
            let kept = files.as_ref().and_then(|files| files.stat(index));
            Some((*thread, kept.or_else(|| proc.stat(*thread))?))
        };
        threads.iter().enumerate().filter_map(stat).collect()
    }

    /// The files of just these threads, if they are few.
    fn of(&self, threads: &[i32], proc: &Proc) -> Option<Arc<Files>> {
        let known = self.kept.lock().clone();
        if let Some(files) = known.filter(|files| *files.threads == *threads) {
            files.used_nsec.store(boottime_nsec(), Ordering::Relaxed);
            return Some(files);
        }
        let opened = Files::open(threads, proc, &self.budget).map(Arc::new);
        let _old = std::mem::replace(&mut *self.kept.lock(), opened.clone());
        opened
    }

    /// Closes the files.
    pub(super) fn close(&self) {
        let _closed = self.kept.lock().take();
    }

    /// Closes the files if nobody has needed them lately.
    pub(super) fn close_idle(&self) {
        let now_nsec = boottime_nsec();
        let is_idle = |files: &mut Arc<Files>| {
            now_nsec.saturating_sub(files.used_nsec.load(Ordering::Relaxed)) > IDLE_NSEC
        };
        let _closed = self.kept.lock().take_if(is_idle);
    }
}

#[derive(Debug)]
struct Files {
    threads: Box<[i32]>,
    files: Vec<OwnedFd>,
    used_nsec: AtomicU64,
    budget: Arc<FdBudget>,
}

impl Files {
    fn open(threads: &[i32], proc: &Proc, budget: &Arc<FdBudget>) -> Option<Self> {
        if threads.is_empty() || threads.len() > FEW || !budget.take(threads.len()) {
            return None;
        }
        let files: Result<_, Errno> = threads
            .iter()
            .map(|thread| proc.open_file(*thread, "stat"))
            .collect();
        if files.is_err() {
            budget.give_back(threads.len());
        }
        Some(Self {
            threads: threads.into(),
            files: files.ok()?,
            used_nsec: AtomicU64::new(boottime_nsec()),
            budget: Arc::clone(budget),
        })
    }

    /// What the file of a thread tells. Once the thread has ended it cannot be read, also when
    /// another one has got its number.
    fn stat(&self, index: usize) -> Option<PidStat> {
        PidStat::parse(&read_whole(self.files.get(index)?).ok()?).ok()
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        self.budget.give_back(self.threads.len());
    }
}

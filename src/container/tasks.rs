//! The threads of a container and what they are doing.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::cgroup::{Cgroup, Error};
use crate::host::process::Proc;

/// How long a count serves.
const LIFETIME: Duration = Duration::from_millis(200);

/// Threads whose state is looked at while a reader waits. Where there are more, the
/// states of these stand for all.
const MOST_INSPECTED: usize = 1000;

/// Threads of a container at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tasks {
    /// All threads.
    pub total: u64,
    /// Threads that run or could run.
    pub running: u64,
    /// Threads in uninterruptible sleep.
    pub blocked: u64,
    /// The thread with the highest number, as the host numbers them.
    pub newest: i32,
}

impl Tasks {
    /// Counts the threads. `reader` waits for this very answer: the kernel's own file would
    /// be read by a running thread, so it counts as one.
    fn count(cgroup: &Cgroup, proc: &Proc, reader: i32) -> Result<Self, Error> {
        let threads = cgroup.threads()?;
        let mut tasks = Self {
            total: threads.len() as u64,
            newest: threads.iter().copied().max().unwrap_or(0),
            ..Self::default()
        };
        let inspected = threads.len().min(MOST_INSPECTED);
        for thread in threads
            .iter()
            .take(MOST_INSPECTED)
            .filter(|thread| **thread != reader)
        {
            match proc.stat(*thread).map(|stat| stat.state) {
                Some(b'R') => tasks.running += 1,
                Some(b'D') => tasks.blocked += 1,
                _ => {}
            }
        }
        if inspected < threads.len() {
            let scale = |count: u64| count * threads.len() as u64 / inspected as u64;
            tasks.running = scale(tasks.running);
            tasks.blocked = scale(tasks.blocked);
        }
        Ok(tasks)
    }

    /// Threads that count for the load average.
    #[must_use]
    pub fn active(&self) -> u64 {
        self.running + self.blocked
    }
}

/// The latest count.
#[derive(Debug, Default)]
pub(super) struct TaskCount {
    latest: Mutex<Option<(Instant, Tasks)>>,
}

impl TaskCount {
    /// A count not older than [`LIFETIME`].
    pub(super) fn get(&self, cgroup: &Cgroup, proc: &Proc, reader: i32) -> Result<Tasks, Error> {
        let known = *self.latest.lock();
        if let Some((counted, tasks)) = known
            && counted.elapsed() < LIFETIME
        {
            return Ok(tasks);
        }
        let tasks = Tasks::count(cgroup, proc, reader)?;
        *self.latest.lock() = Some((Instant::now(), tasks));
        Ok(tasks)
    }
}

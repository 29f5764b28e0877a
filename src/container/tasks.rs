//! The threads of a container and what they are doing.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::cgroup::{Cgroup, Error};
use crate::host::process::Proc;

/// How long the states of many threads serve.
const LIFETIME: Duration = Duration::from_millis(200);

/// So few threads are looked at for every reader.
const FEW: usize = 32;

/// Threads whose state is looked at while a reader waits. Where there are more, the
/// states of these stand for all.
const MOST_INSPECTED: usize = 1000;

/// Threads of a container at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tasks {
    /// All threads, with those that have ended and wait for their parent.
    pub total: u64,
    /// Threads that run or could run.
    pub running: u64,
    /// Threads in uninterruptible sleep.
    pub blocked: u64,
    /// The thread with the highest number, as the host numbers them.
    pub newest: i32,
}

impl Tasks {
    /// Threads that count for the load average.
    #[must_use]
    pub fn active(&self) -> u64 {
        self.running + self.blocked
    }
}

/// What threads are doing.
#[derive(Debug, Clone, Copy, Default)]
struct States {
    running: u64,
    blocked: u64,
}

impl States {
    /// Looks at the threads. `reader` waits for this very answer: the kernel's own file
    /// would be read by a running thread, so it is left to the caller.
    fn inspect(threads: &[i32], proc: &Proc, reader: i32) -> Self {
        let mut states = Self::default();
        for thread in threads
            .iter()
            .take(MOST_INSPECTED)
            .filter(|thread| **thread != reader)
        {
            match proc.stat(*thread).map(|stat| stat.state) {
                Some(b'R') => states.running += 1,
                Some(b'D') => states.blocked += 1,
                _ => {}
            }
        }
        let inspected = threads.len().min(MOST_INSPECTED) as u64;
        if inspected < threads.len() as u64 {
            let scale = |count: u64| count * threads.len() as u64 / inspected;
            states = Self {
                running: scale(states.running),
                blocked: scale(states.blocked),
            };
        }
        states
    }
}

/// Counts the threads of a container.
#[derive(Debug, Default)]
pub(super) struct TaskCount {
    latest: Mutex<Option<(Instant, States)>>,
}

impl TaskCount {
    /// The threads as they are now. Where there are many, their states may be a little
    /// older, so that frequent readers do not cost more than others.
    pub(super) fn get(&self, cgroup: &Cgroup, proc: &Proc, reader: i32) -> Result<Tasks, Error> {
        let threads = cgroup.threads()?;
        let known = self
            .latest
            .lock()
            .filter(|(inspected, _)| inspected.elapsed() < LIFETIME);
        let states = match known {
            Some((_, states)) if threads.len() > FEW => states,
            _ => {
                let states = States::inspect(&threads, proc, reader);
                *self.latest.lock() = Some((Instant::now(), states));
                states
            }
        };
        let listed = threads.len() as u64;
        Ok(Tasks {
            total: cgroup.thread_count()?.unwrap_or(0).max(listed),
            running: states.running,
            blocked: states.blocked,
            newest: threads.iter().copied().max().unwrap_or(0),
        })
    }
}

//! The threads of a container and what they are doing.

use std::sync::Arc;

use parking_lot::Mutex;

use super::task_files::{Stat, TaskFiles};
use crate::cgroup::{Cgroup, Error, FdBudget};
use crate::freshness::{Cached, Clock, Moment, Validity, validity};
use crate::host::process::Proc;
use crate::sys::clock::thread_cpu_nsec;

/// So few threads are looked at for every reader.
const FEW: usize = 32;

/// Threads whose state is looked at while a reader waits. Where there are more, the
/// states of these stand for all.
const MOST_INSPECTED: usize = 1000;

/// A count that takes more CPU time than this is costly: the container has thousands of threads
/// or cgroups.
const COSTLY_NSEC: u64 = 5_000_000;

/// A costly count serves for so many times what it took. However often such a container reads,
/// counting takes no more than this part of a CPU.
const COSTLY_SERVES: u64 = 20;

/// Threads of a container at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tasks {
    /// Threads that are listed.
    pub(super) listed: u64,
    /// Threads that run or could run.
    pub running: u64,
    /// Threads in uninterruptible sleep.
    pub blocked: u64,
    /// The thread that was started last.
    pub(super) newest: Newest,
}

/// The thread that was started last: when, in clock ticks, and its number on the host. Numbers
/// alone do not tell, as they begin anew at `pid_max`.
pub(super) type Newest = (u64, i32);

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
    newest: Newest,
}

impl States {
    /// Looks at the threads but the reader.
    fn inspect(threads: &[i32], reader: i32, files: &TaskFiles, proc: &Proc) -> Self {
        let inspected = threads.get(..MOST_INSPECTED).unwrap_or(threads);
        let mut states = Self::of(files.stats(inspected, reader, proc));
        if inspected.len() < threads.len() {
            let scale = |count: u64| count * threads.len() as u64 / inspected.len() as u64;
            states = Self {
                running: scale(states.running),
                blocked: scale(states.blocked),
                ..states
            };
        }
        states
    }

    fn of(stats: Vec<Stat>) -> Self {
        let mut states = Self::default();
        for (thread, stat) in stats {
            states.newest = states.newest.max((stat.starttime_ticks, thread));
            match stat.state {
                b'R' => states.running += 1,
                b'D' => states.blocked += 1,
                _ => {}
            }
        }
        states
    }

    /// Takes the thread with the highest number for the newest one if it was started later
    /// than those looked at.
    fn beside_highest(mut self, threads: &[i32], reader: i32, proc: &Proc) -> Self {
        let others = threads.iter().copied().filter(|thread| *thread != reader);
        if let Some(highest) = others.max() {
            if highest > self.newest.1 {
                let started = proc.stat(highest).map_or(0, |stat| stat.starttime_ticks);
                self.newest = self.newest.max((started, highest));
            }
        }
        self
    }

    fn among(self, listed: u64) -> Tasks {
        Tasks {
            listed,
            running: self.running,
            blocked: self.blocked,
            newest: self.newest,
        }
    }
}

/// Counts the threads of a container.
#[derive(Debug)]
pub(super) struct TaskCount {
    pub(super) files: TaskFiles,
    latest: Mutex<Option<Cached<States>>>,
    costly: Mutex<Option<Cached<Costly>>>,
    ticked: Mutex<Option<(Mark, u64)>>,
    /// The newest thread's number by pid namespace.
    newest: Mutex<Option<(Newest, Box<[i32]>)>>,
}

/// The latest count, if it was costly.
#[derive(Debug, Clone, Copy)]
struct Costly {
    tasks: Tasks,
    serves: Validity,
}

/// Whose threads are asked for, and by whom.
#[derive(Debug, Clone, Copy)]
pub(super) struct Question<'a> {
    pub(super) cgroup: &'a Cgroup,
    pub(super) proc: &'a Proc,
    /// The thread that waits for this very answer: the kernel's own file would be read by a
    /// running thread, so it is left to the caller. 0 if nobody waits.
    pub(super) reader: i32,
    /// The present moment.
    pub(super) now: Moment,
}

/// What changes when a thread runs, comes or goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    used_nsec: u64,
    threads: u64,
}

impl Mark {
    fn of(cgroup: &Cgroup) -> Option<Self> {
        Some(Self {
            used_nsec: cgroup.cpu_used_nsec().ok()??,
            threads: cgroup.thread_count().ok()??,
        })
    }
}

impl TaskCount {
    pub(super) fn new(budget: Arc<FdBudget>) -> Self {
        Self {
            files: TaskFiles::new(budget),
            latest: Mutex::default(),
            costly: Mutex::default(),
            ticked: Mutex::default(),
            newest: Mutex::default(),
        }
    }

    /// How many threads are active, for a load average. Threads of which none has run since
    /// the last call are doing what they did then, and are not looked at again.
    pub(super) fn active(&self, cgroup: &Cgroup, proc: &Proc) -> Result<u64, Error> {
        let mark = Mark::of(cgroup);
        let ticked = *self.ticked.lock();
        if let (Some(mark), Some((before, active))) = (mark, ticked) {
            if mark == before {
                return Ok(active);
            }
        }
        let question = Question {
            cgroup,
            proc,
            reader: 0,
            now: Clock::default().now(),
        };
        let active = self.get(question)?.active();
        *self.ticked.lock() = mark.map(|mark| (mark, active));
        Ok(active)
    }

    /// The number of the `newest` thread in a pid namespace that is so many levels below the
    /// daemon's.
    pub(super) fn pid_of(&self, newest: Newest, level: usize, proc: &Proc) -> Option<i32> {
        if let Some((thread, pids)) = &*self.newest.lock() {
            if *thread == newest {
                return pids.get(level).copied();
            }
        }
        let pids = proc.pids_by_namespace(newest.1);
        let pid = pids.get(level).copied()?;
        *self.newest.lock() = Some((newest, pids.into()));
        Some(pid)
    }

    /// The threads as they are now. Where there are many, their states may be a little
    /// older, and where it is costly to count them their number too, so that frequent readers do
    /// not cost more than others.
    pub(super) fn get(&self, question: Question<'_>) -> Result<Tasks, Error> {
        let now = question.now;
        if let Some(tasks) = self.as_listed(question) {
            return Ok(tasks);
        }
        if let Some(tasks) = self.counted_lately(now) {
            return Ok(tasks);
        }
        let used_nsec = thread_cpu_nsec();
        let tasks = self.count(question)?;
        self.note_cost(tasks, thread_cpu_nsec().saturating_sub(used_nsec), now);
        Ok(tasks)
    }

    /// A costly count that still serves. Of all that find it too old at the same time one counts
    /// anew.
    fn counted_lately(&self, now: Moment) -> Option<Tasks> {
        let mut costly = self.costly.lock();
        let known = costly.as_mut()?;
        if let Some(costly) = known.fresh(now, known.value().serves) {
            return Some(costly.tasks);
        }
        known.confirm(now);
        None
    }

    fn note_cost(&self, tasks: Tasks, used_nsec: u64, now: Moment) {
        let serves = Validity::for_nsec(used_nsec.saturating_mul(COSTLY_SERVES));
        let costly = Cached::new(Costly { tasks, serves }, now);
        *self.costly.lock() = (used_nsec > COSTLY_NSEC).then_some(costly);
    }

    fn count(&self, question: Question<'_>) -> Result<Tasks, Error> {
        let Question {
            cgroup,
            proc,
            reader,
            now,
        } = question;
        let threads = cgroup.threads()?;
        let latest = *self.latest.lock();
        let known = latest.and_then(|known| known.fresh(now, validity::THREAD_STATES).copied());
        let states = match known {
            Some(states) if threads.len() > FEW => states,
            _ => {
                let states = States::inspect(&threads, reader, &self.files, proc);
                *self.latest.lock() = Some(Cached::new(states, now));
                states
            }
        };
        self.files
            .note_listed(&threads, now, || cgroup.counts(&threads).unwrap_or(false));
        let listed = threads.len() as u64;
        Ok(states.beside_highest(&threads, reader, proc).among(listed))
    }

    /// The threads that were listed before, if these are still all there are. To count them takes
    /// one system call, to list them four.
    fn as_listed(&self, question: Question<'_>) -> Option<Tasks> {
        let now = question.now;
        if !self.files.has_listed(now) {
            return None;
        }
        let count = question.cgroup.thread_count().ok()??;
        let stats = self.files.stats_of_listed(count, question.reader, now)?;
        Some(States::of(stats).among(count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_costly_count_serves_for_a_while_and_one_reader_counts_anew() {
        let count = TaskCount::new(Arc::new(FdBudget::new(0)));
        let tasks = Tasks {
            listed: 20_000,
            ..Tasks::default()
        };
        let at = |nsec| Moment {
            nsec,
            ..Moment::default()
        };
        count.note_cost(tasks, COSTLY_NSEC, at(0));
        assert_eq!(count.counted_lately(at(0)), None);
        count.note_cost(tasks, 2 * COSTLY_NSEC, at(0));
        let serves_nsec = 2 * COSTLY_NSEC * COSTLY_SERVES;
        assert_eq!(count.counted_lately(at(serves_nsec - 1)), Some(tasks));
        assert_eq!(count.counted_lately(at(serves_nsec)), None);
        assert_eq!(count.counted_lately(at(serves_nsec)), Some(tasks));
    }

    #[test]
    fn newest_thread_is_found_after_the_hosts_numbers_began_anew() {
        let dir = tempfile::tempdir().unwrap();
        for (thread, state, started) in [(32_760, 'S', 100), (305, 'R', 200), (301, 'S', 150)] {
            let zeros = "0 ".repeat(18);
            let task = dir.path().join(format!("{thread}/task/{thread}"));
            std::fs::create_dir_all(&task).unwrap();
            std::fs::write(
                task.join("stat"),
                format!("{thread} (a) {state} {zeros}{started} 0\n"),
            )
            .unwrap();
        }
        let proc = Proc::open(dir.path()).unwrap();
        let threads = [32_760, 305, 301];
        let files = TaskFiles::new(Arc::new(FdBudget::new(0)));
        let states = States::inspect(&threads, 0, &files, &proc);
        assert_eq!((states.newest, states.running), ((200, 305), 1));
        assert_eq!(states.beside_highest(&threads, 0, &proc).newest.1, 305);
        // The one with the highest number came after those that were looked at.
        let states = States::inspect(&threads[2..], 0, &files, &proc);
        assert_eq!(states.beside_highest(&threads[1..], 0, &proc).newest.1, 305);
    }
}

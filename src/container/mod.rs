//! What is known and kept of each container: its figures, and what they build upon. How a reader
//! is taken to its container is told in `reader`.

pub mod apportion;
mod counter;
pub mod cpu_time;
mod cpus_shown;
mod disks;
pub(crate) mod fallback;
pub(crate) mod inits;
mod journal;
pub mod load;
mod memory;
pub mod policy;
mod state;
mod task_files;
mod tasks;
pub mod vm_counters;

use std::sync::Arc;

use parking_lot::Mutex;

pub use self::cpus_shown::CpuView;
pub use self::fallback::report_unknown;
pub use self::journal::Journal;
pub use self::tasks::Tasks;

use self::cpu_time::Cpu;
use self::cpus_shown::KnownCpus;
use self::inits::{Init, Inits};
use self::journal::stored::Stored;
use self::journal::{Owner, Record};
use self::load::Load;
use self::state::{KeptLoad, State};
use self::tasks::{Question, TaskCount};
use crate::cgroup::account::CpuUsage;
use crate::cgroup::{Cgroup, Error, FdBudget};
use crate::freshness::{Cached, Moment};
use crate::host::Host;
use crate::host::process::Proc;
use crate::parse::cpu_list::CpuSet;
use crate::parse::keyed::DeviceNumber;
use crate::parse::pressure::{Pressure, Resource};
use crate::sys::clock::boottime_nsec;

/// Clock ticks of `/proc` files in nanoseconds: `USER_HZ` is 100 on every architecture
/// that has containers.
pub const TICK_NSEC: u64 = 10_000_000;

/// The cgroup has been removed: the reader must be somewhere else by now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gone;

/// The processes that share one view.
#[derive(Debug)]
pub struct Container {
    /// The boundary cgroup.
    pub cgroup: Cgroup,
    /// Whether its readers are in the daemon's own namespaces: processes of the host.
    on_host: bool,
    inits: Inits,
    tasks: TaskCount,
    cpus: Mutex<Option<Cached<KnownCpus>>>,
    backing: Mutex<Option<Cached<Arc<[DeviceNumber]>>>>,
    /// What goes on from one request to the next. The lock is held for arithmetic only,
    /// never over a system call.
    state: Mutex<State>,
    /// The same, for the next server.
    record: Record,
}

/// What a container did since its start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Activity {
    /// Time by CPU shown.
    pub cpus: Vec<Cpu>,
    /// Time of CPUs that were shown before.
    pub away: Vec<Cpu>,
    /// Idle time of all these CPUs.
    pub idle_nsec: u64,
    /// Its share of the host's interrupts.
    pub interrupts: u64,
    /// Its share of the host's context switches.
    pub context_switches: u64,
    /// Its share of the host's forks; at least the highest pid that was noted.
    pub forks: u64,
    /// Its share of the host's softirqs, by kind.
    pub softirqs: Vec<u64>,
}

impl Container {
    /// A container that goes on where the journal has it, else one that is new.
    pub(crate) fn new(
        cgroup: Cgroup,
        on_host: bool,
        started_nsec: u64,
        journal: &Journal,
        budget: &Arc<FdBudget>,
    ) -> Self {
        let (record, content) = journal.claim(&Owner {
            directories: cgroup.directories(),
            on_host,
        });
        let restored = content.and_then(|content| {
            let restored = State::restore(&mut content.as_slice());
            if restored.is_none() {
                log::warn!("the counters of a container start anew: what was left is damaged");
            }
            restored
        });
        let state = restored.unwrap_or_else(|| State::new(started_nsec));
        Self {
            cgroup,
            on_host,
            inits: Inits::default(),
            tasks: TaskCount::new(Arc::clone(budget)),
            cpus: Mutex::default(),
            backing: Mutex::default(),
            state: Mutex::new(state),
            record,
        }
    }

    /// Notes the init of its readers. When those of an earlier container in the same cgroup have
    /// all ended, time begins anew at `since_nsec`.
    pub(crate) fn begin(&self, init: Init, since_nsec: u64, proc: &Proc) {
        if self.inits.follows_ended(init, proc) {
            self.state.lock().cpu.begin_again(since_nsec);
        }
    }

    /// Writes to the journal what has changed. To be called before a figure that must not
    /// go back is shown.
    fn save(&self) {
        self.record.write(|out| {
            let mut state = self.state.lock();
            let is_unsaved = std::mem::take(&mut state.is_unsaved);
            if is_unsaved {
                state.store(out);
            }
            is_unsaved
        });
    }

    /// Lets another object for the same container go on from here.
    pub(crate) fn retire(&self) {
        self.record.retire(|out| self.state.lock().store(out));
    }

    /// Whether its readers are the host's own processes: in the root cgroup for every controller,
    /// and in the daemon's namespaces. The host's figures are theirs. One that some controller
    /// limits is a container for all others too.
    #[must_use]
    pub fn is_host(&self) -> bool {
        self.on_host && self.cgroup.is_root()
    }

    /// Pressure on a resource. All zero where no cgroup accounts it.
    ///
    /// # Errors
    /// [`Gone`] when the cgroup has been removed.
    pub fn pressure(&self, resource: Resource) -> Result<Pressure, Gone> {
        self.or_last(self.cgroup.pressure(resource), "pressure", |state| {
            let [cpu, io, irq, memory] = &mut **state.pressure.get_or_insert_default();
            match resource {
                Resource::Cpu => cpu,
                Resource::Io => io,
                Resource::Irq => irq,
                Resource::Memory => memory,
            }
        })
    }

    /// There have been at least as many forks as this `pid` says.
    pub fn note_pid(&self, pid: u64) {
        let mut state = self.state.lock();
        state.highest_pid = state.highest_pid.max(pid);
    }

    /// CPU time since the container's start on the CPUs it is `shown`, and its share of
    /// what the host counts along with CPU time.
    ///
    /// # Errors
    /// [`Gone`] when the cgroup has been removed.
    pub fn activity(&self, host: &Host, shown: &CpuSet) -> Result<Activity, Gone> {
        let now_nsec = boottime_nsec();
        // Throttled time does not grow without a quota, but there may have been one before.
        let asks_throttled = self.state.lock().cpu.cpus().is_empty()
            || self
                .cpus
                .lock()
                .as_ref()
                .is_none_or(|cpus| cpus.value().has_quota);
        let usage = match self.cgroup.cpu_usage(asks_throttled) {
            Ok(usage) => Some(usage.unwrap_or_default()),
            Err(Error::Gone) => return Err(Gone),
            Err(error) => {
                fallback::report("CPU time", &error);
                None
            }
        };
        let host = host.stat();
        let busy_ticks = host.total.unwrap_or_default().busy();
        let softirqs = host.softirqs.as_deref().unwrap_or_default();
        let mut counted = vec![
            host.interrupts.unwrap_or(0),
            host.context_switches.unwrap_or(0),
            host.processes.unwrap_or(0),
        ];
        counted.extend_from_slice(softirqs);

        let activity = {
            let state = &mut *self.state.lock();
            state.is_unsaved = true;
            if let Some(mut usage) = usage {
                if !asks_throttled {
                    usage.throttled_nsec = state.cpu.throttled_seen_nsec();
                }
                let used_nsec = usage.user_nsec.saturating_add(usage.system_nsec);
                let away = &mut state.cpus_away;
                state.cpu.advance(now_nsec, shown, &usage, away);
                state
                    .counters
                    .advance(used_nsec, busy_ticks.saturating_mul(TICK_NSEC), &counted);
            } else if state.cpu.cpus().is_empty() {
                // Without a last good value the CPUs are there all the same, and idle.
                let away = &mut state.cpus_away;
                let usage = CpuUsage::default();
                state.cpu.advance(now_nsec, shown, &usage, away);
            }
            let counters = &state.counters;
            let idle_away_nsec = state.cpus_away.total().idle_nsec;
            Activity {
                cpus: state.cpu.cpus().to_vec(),
                away: state.cpus_away.cpus().collect(),
                idle_nsec: state.cpu.total().idle_nsec.saturating_add(idle_away_nsec),
                interrupts: counters.get(0),
                context_switches: counters.get(1),
                forks: counters.get(2).max(state.highest_pid),
                softirqs: (3..3 + softirqs.len())
                    .map(|index| counters.get(index))
                    .collect(),
            }
        };
        self.save();
        Ok(activity)
    }

    /// The container's threads, as the thread `reader` of it sees them.
    ///
    /// # Errors
    /// [`Gone`] when the cgroup has been removed.
    pub fn tasks(&self, host: &Host, reader: i32, now: Moment) -> Result<Tasks, Gone> {
        let read = self.tasks.get(Question {
            cgroup: &self.cgroup,
            proc: &host.proc,
            reader,
            now,
        });
        self.or_last(read, "threads", |state| &mut state.tasks)
    }

    /// How many threads there are beside these `tasks`: also those that have ended and wait for
    /// their parent.
    ///
    /// # Errors
    /// [`Gone`] when the cgroup has been removed.
    pub fn thread_count(&self, tasks: &Tasks) -> Result<u64, Gone> {
        match self.cgroup.thread_count() {
            Ok(count) => Ok(count.unwrap_or(0).max(tasks.listed)),
            Err(Error::Gone) => Err(Gone),
            Err(error) => {
                fallback::report("threads", &error);
                Ok(tasks.listed)
            }
        }
    }

    /// The number of the newest of these `tasks` in a pid namespace so many levels below the
    /// daemon's; `None` if it has none there.
    pub(crate) fn pid_of_newest(&self, tasks: &Tasks, level: usize, proc: &Proc) -> Option<i32> {
        self.tasks.pid_of(tasks.newest, level, proc)
    }

    /// The load average. At the first read it is estimated from the threads that are
    /// active now and the container's age; from then on it is kept up.
    pub fn load(&self, active: u64, started_nsec: u64) -> Load {
        let now_nsec = boottime_nsec();
        let mut state = self.state.lock();
        state.load.take_if(|kept| kept.is_unused(now_nsec));
        let is_new = state.load.is_none();
        let kept = state
            .load
            .get_or_insert_with(|| KeptLoad::new(active, started_nsec, now_nsec));
        let is_late = kept.is_late(now_nsec);
        if is_late {
            kept.advance(active, now_nsec);
        }
        let load = kept.read(now_nsec);
        state.is_unsaved = true;
        drop(state);
        // That it was read again can wait for the next tick.
        if is_new || is_late {
            self.save();
        }
        load
    }

    /// Brings the load average up to date, if anybody reads it, and writes down what is
    /// not yet. To be called about every [`load::PERIOD_NSEC`].
    pub fn keep_up(&self, host: &Host) {
        self.tasks.files.close_idle();
        let now_nsec = boottime_nsec();
        let is_read = {
            let mut state = self.state.lock();
            state.load.take_if(|kept| kept.is_unused(now_nsec));
            state.load.is_some()
        };
        if is_read {
            if let Ok(active) = self.active(host) {
                let mut state = self.state.lock();
                if let Some(kept) = &mut state.load {
                    kept.advance(active, now_nsec);
                    state.is_unsaved = true;
                }
            }
        }
        self.save();
    }

    /// Closes the files that need not be kept open.
    pub(crate) fn close_kept(&self) {
        self.tasks.files.close();
    }

    /// Threads that count for the load average.
    fn active(&self, host: &Host) -> Result<u64, Gone> {
        match self.tasks.active(&self.cgroup, &host.proc) {
            Ok(active) => Ok(active),
            Err(Error::Gone) => Err(Gone),
            Err(error) => {
                fallback::report("threads", &error);
                Ok(self.state.lock().tasks.active())
            }
        }
    }

    /// What was read or, if that failed, what was read the last time.
    fn or_last<T: Clone>(
        &self,
        read: Result<T, Error>,
        what: &str,
        last: impl Fn(&mut State) -> &mut T,
    ) -> Result<T, Gone> {
        match read {
            Ok(value) => {
                let mut state = self.state.lock();
                last(&mut state).clone_from(&value);
                state.is_unsaved = true;
                drop(state);
                Ok(value)
            }
            Err(Error::Gone) => Err(Gone),
            Err(error) => {
                fallback::report(what, &error);
                Ok(last(&mut self.state.lock()).clone())
            }
        }
    }
}

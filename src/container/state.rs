//! What goes on from one request to the next.

use std::collections::HashMap;

use super::apportion::{Apportioned, DiskTime};
use super::cpu_time::{Away, CpuTime};
use super::journal::stored::stored;
use super::load::{Load, PERIOD_NSEC};
use super::tasks::Tasks;
use super::vm_counters::VmCounters;
use crate::cgroup::Limit;
use crate::cgroup::account::{DeviceIo, Memory};
use crate::parse::cpu_list::CpuSet;
use crate::parse::keyed::DeviceNumber;
use crate::parse::numa_stat::NumaStat;
use crate::parse::pressure::{Pressure, Resource};

/// The load average is kept up for containers whose file was read in this time.
const LOAD_KEPT_NSEC: u64 = 15 * 60 * 1_000_000_000;

/// The figures of one container that later ones build upon.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct State {
    pub(super) cpu: CpuTime,
    pub(super) counters: Apportioned,
    pub(super) disk_times: HashMap<DeviceNumber, DiskTime>,
    pub(super) load: Option<KeptLoad>,
    pub(super) vm_counters: VmCounters,
    /// CPUs whose time [`Self::cpu`] does not tell of any more.
    pub(super) cpus_away: Away,
    /// The highest pid that there was when a reader asked.
    pub(super) highest_pid: u64,
    // The last good values, for when a source fails.
    pub(super) memory: Memory,
    pub(super) memory_high: Limit,
    pub(super) cpus_shown: CpuSet,
    pub(super) io: Vec<DeviceIo>,
    pub(super) tasks: Tasks,
    pub(super) memory_nodes: CpuSet,
    pub(super) numa_stat: NumaStat,
    /// None for most, who never read it.
    pub(super) pressure: Option<Box<[Pressure; Resource::ALL.len()]>>,
    /// Whether something has changed that is to outlive the process.
    pub(super) is_unsaved: bool,
}

stored!(State {
    cpu,
    counters,
    disk_times,
    load,
    memory,
    cpus_shown,
    io,
} later {
    vm_counters,
    highest_pid,
    cpus_away,
} except {
    memory_high,
    tasks,
    memory_nodes,
    numa_stat,
    pressure,
    is_unsaved,
});

impl State {
    /// State of a container that nothing is known of yet.
    pub(super) fn new(started_nsec: u64) -> Self {
        Self {
            cpu: CpuTime::new(started_nsec),
            ..Self::default()
        }
    }
}

/// The load average of a container that is read now and then. All times are since boot.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct KeptLoad {
    load: Load,
    advanced_nsec: u64,
    last_read_nsec: u64,
}

stored!(KeptLoad {
    load,
    advanced_nsec,
    last_read_nsec,
});

impl KeptLoad {
    /// The load average of a container that is read for the first time.
    pub(super) fn new(active: u64, started_nsec: u64, now_nsec: u64) -> Self {
        Self {
            load: Load::seeded(active, now_nsec.saturating_sub(started_nsec)),
            advanced_nsec: now_nsec,
            last_read_nsec: now_nsec,
        }
    }

    /// Whether nobody has read it for long.
    pub(super) fn is_unused(&self, now_nsec: u64) -> bool {
        now_nsec.saturating_sub(self.last_read_nsec) > LOAD_KEPT_NSEC
    }

    /// Whether the regular advance is overdue, as it is after a while without a server.
    pub(super) fn is_late(&self, now_nsec: u64) -> bool {
        now_nsec.saturating_sub(self.advanced_nsec) >= 2 * PERIOD_NSEC
    }

    /// The averages, for a reader.
    pub(super) fn read(&mut self, now_nsec: u64) -> Load {
        self.last_read_nsec = self.last_read_nsec.max(now_nsec);
        self.load
    }

    /// Adds the time since the last advance, with so many active threads.
    ///
    /// As in the kernel a tick counts as a whole period, however late in it a container
    /// came along; ticks that were missed are made up for.
    pub(super) fn advance(&mut self, active: u64, now_nsec: u64) {
        let elapsed_nsec = now_nsec.saturating_sub(self.advanced_nsec);
        let periods = elapsed_nsec.saturating_add(PERIOD_NSEC / 2) / PERIOD_NSEC;
        self.load.advance(active, periods.max(1));
        self.advanced_nsec = now_nsec;
    }
}

#[cfg(test)]
mod tests;

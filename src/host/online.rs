//! The CPUs that are online, and what the host tells of the same CPUs in other files.
//!
//! CPUs come and go while files are read. All that is shown of CPUs rests on one snapshot,
//! so that no two files disagree for longer than it lives.

use std::io;
use std::sync::Arc;

use parking_lot::Mutex;

use super::kept::{KeptFile, Snapshot};
use crate::freshness::{Cached, Clock, Validity, validity};
use crate::parse::cpu_list::CpuSet;
use crate::parse::host_stat::HostStat;

/// How often a file is read again whose CPUs changed meanwhile.
const TRIES: usize = 3;

/// `/sys/devices/system/cpu/online`.
#[derive(Debug)]
pub(super) struct Online {
    file: KeptFile,
    /// Takes its place where it cannot be read: `/proc/stat`.
    stat: KeptFile,
    snapshot: Snapshot<CpuSet>,
    /// When other CPUs were found than before.
    changed: Mutex<Option<Cached<()>>>,
    clock: Clock,
}

impl Online {
    pub(super) fn new(file: KeptFile, stat: KeptFile) -> Self {
        Self {
            file,
            stat,
            snapshot: Snapshot::new(validity::CPUS_ONLINE),
            changed: Mutex::default(),
            clock: Clock::default(),
        }
    }

    /// The CPUs; never none.
    pub(super) fn cpus(&self) -> Arc<CpuSet> {
        self.snapshot.get(|| Ok(self.read()))
    }

    /// Whether the last change is so long ago that cpusets are up to date.
    pub(super) fn is_settled(&self) -> bool {
        let changed = *self.changed.lock();
        let now = self.clock.now();
        changed.is_none_or(|changed| !changed.is_fresh(now, validity::CPUSETS_SETTLE))
    }

    /// The CPUs by now.
    fn renew(&self) -> Arc<CpuSet> {
        self.snapshot.renew(|| Ok(self.read()))
    }

    fn read(&self) -> CpuSet {
        let read = || CpuSet::parse("online", &self.file.read().ok()?).ok();
        let cpus = read().filter(|cpus| !cpus.is_empty()).unwrap_or_else(|| {
            let stat = self.stat.read().unwrap_or_default();
            HostStat::parse(&stat)
                .cpus
                .iter()
                .map(|(id, _)| *id)
                .collect()
        });
        let cpus = match cpus.is_empty() {
            true => CpuSet::from_iter([0]),
            false => cpus,
        };
        let is_other = |known: Arc<CpuSet>| *known != cpus;
        if self.snapshot.latest().is_some_and(is_other) {
            *self.changed.lock() = Some(Cached::new((), self.clock.now()));
        }
        cpus
    }
}

/// A snapshot of something that tells of the CPUs online.
#[derive(Debug)]
pub(super) struct CpuSnapshot<T> {
    snapshot: Snapshot<Told<T>>,
}

/// What was told while these CPUs were online.
#[derive(Debug, Default)]
struct Told<T> {
    cpus: Arc<CpuSet>,
    value: Arc<T>,
}

impl<T: Default> CpuSnapshot<T> {
    pub(super) fn new(validity: Validity) -> Self {
        Self {
            snapshot: Snapshot::new(validity),
        }
    }

    /// The latest value, made by `make` when the known one is too old or of other CPUs.
    /// When `make` fails the last good value stays; before the first one that is the default.
    pub(super) fn get(&self, online: &Online, make: impl Fn() -> io::Result<T>) -> Arc<T> {
        let cpus = online.cpus();
        let is_of_these = |told: &Told<T>| told.cpus == cpus;
        let told = self.snapshot.get_if(is_of_these, || {
            Ok(self.tell(online, Arc::clone(&cpus), &make))
        });
        Arc::clone(&told.value)
    }

    fn tell(
        &self,
        online: &Online,
        mut cpus: Arc<CpuSet>,
        make: impl Fn() -> io::Result<T>,
    ) -> Told<T> {
        let mut made = make();
        for _ in 1..TRIES {
            let after = online.renew();
            if after == cpus {
                break;
            }
            cpus = after;
            made = make();
        }
        let value = match made {
            Ok(value) => Arc::new(value),
            Err(error) => {
                log::debug!("a host file could not be read: {error}");
                let before = self.snapshot.latest();
                before.map_or_else(Arc::default, |told| Arc::clone(&told.value))
            }
        };
        Told { cpus, value }
    }
}

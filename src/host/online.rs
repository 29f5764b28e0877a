//! The CPUs that are online, and what the host tells of the same CPUs in other files.
//!
//! CPUs come and go while files are read. All that is shown of CPUs rests on one snapshot,
//! so that no two files disagree for longer than it lives.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};

use super::kept::{KeptFile, Snapshot};
use crate::parse::cpu_list::CpuSet;
use crate::parse::host_stat::HostStat;

/// How long a snapshot of the CPUs serves: not to be noticed, and far longer than reading
/// one takes.
const LIFETIME: Duration = Duration::from_millis(10);

/// How long after a change cpusets may be from before: the kernel brings them up to date
/// later, in a work queue (kernel/cgroup/cpuset.c).
const SETTLING: Duration = Duration::from_secs(1);

/// How often a file is read again whose CPUs changed meanwhile.
const TRIES: usize = 3;

/// `/sys/devices/system/cpu/online`.
#[derive(Debug)]
pub(super) struct Online {
    file: KeptFile,
    /// Takes its place where it cannot be read: `/proc/stat`.
    stat: KeptFile,
    snapshot: Snapshot<CpuSet>,
    changed: Mutex<Option<Instant>>,
}

impl Online {
    pub(super) fn new(file: KeptFile, stat: KeptFile) -> Self {
        Self {
            file,
            stat,
            snapshot: Snapshot::new(LIFETIME),
            changed: Mutex::default(),
        }
    }

    /// The CPUs; never none.
    pub(super) fn cpus(&self) -> Arc<CpuSet> {
        self.snapshot.get(|| Ok(self.read()))
    }

    /// Whether the last change is so long ago that cpusets are up to date.
    pub(super) fn is_settled(&self) -> bool {
        let changed = *self.changed.lock();
        changed.is_none_or(|changed| changed.elapsed() >= SETTLING)
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
            *self.changed.lock() = Some(Instant::now());
        }
        cpus
    }
}

/// A snapshot of something that tells of the CPUs online.
#[derive(Debug)]
pub(super) struct CpuSnapshot<T> {
    lifetime: Duration,
    latest: RwLock<Option<Latest<T>>>,
}

#[derive(Debug)]
struct Latest<T> {
    made: Instant,
    cpus: Arc<CpuSet>,
    value: Arc<T>,
}

impl<T: Default> CpuSnapshot<T> {
    pub(super) const fn new(lifetime: Duration) -> Self {
        Self {
            lifetime,
            latest: RwLock::new(None),
        }
    }

    /// The latest value, made by `make` when the known one is too old or of other CPUs.
    /// When `make` fails the last good value stays; before the first one that is the default.
    pub(super) fn get(&self, online: &Online, make: impl Fn() -> io::Result<T>) -> Arc<T> {
        let now = online.cpus();
        if let Some(latest) = &*self.latest.read() {
            if latest.made.elapsed() < self.lifetime && latest.cpus == now {
                return Arc::clone(&latest.value);
            }
        }
        let mut cpus = now;
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
                let latest = self.latest.read();
                let known = latest.as_ref().map(|latest| Arc::clone(&latest.value));
                known.unwrap_or_default()
            }
        };
        *self.latest.write() = Some(Latest {
            made: Instant::now(),
            cpus,
            value: Arc::clone(&value),
        });
        value
    }
}

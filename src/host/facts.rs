//! The host's own `/proc` files, parsed once for all readers of a short while.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use super::kept::{KeptFile, Snapshot};
use super::process::Proc;
use crate::parse::cpu_list::CpuSet;
use crate::parse::cpuinfo::CpuInfo;
use crate::parse::meminfo::MemInfo;

/// How long a snapshot of quickly changing figures serves.
const BRIEFLY: Duration = Duration::from_millis(100);
/// How long a snapshot of what hardly ever changes serves.
const LONGER: Duration = Duration::from_secs(1);

/// Readers of the host's figures, with kept fds.
#[derive(Debug)]
pub struct Host {
    /// The host's `/proc`.
    pub proc: Proc,
    meminfo: (KeptFile, Snapshot<MemInfo>),
    online: (KeptFile, Snapshot<CpuSet>),
    cpuinfo: (KeptFile, Snapshot<CpuInfo>),
}

impl Host {
    /// Opens the files below `root` (`/` on a live system).
    ///
    /// # Errors
    /// The file that could not be opened, and why.
    pub fn open(root: &Path) -> io::Result<Self> {
        let open = |path: &str| {
            let path = root.join(path);
            KeptFile::open(&path).map_err(|error| {
                io::Error::new(
                    error.kind(),
                    format!("cannot open {}: {error}", path.display()),
                )
            })
        };
        Ok(Self {
            proc: Proc::open(&root.join("proc"))?,
            meminfo: (open("proc/meminfo")?, Snapshot::new(BRIEFLY)),
            online: (
                open("sys/devices/system/cpu/online")?,
                Snapshot::new(LONGER),
            ),
            cpuinfo: (open("proc/cpuinfo")?, Snapshot::new(LONGER)),
        })
    }

    /// `/proc/meminfo`.
    pub fn meminfo(&self) -> Arc<MemInfo> {
        let (file, snapshot) = &self.meminfo;
        snapshot.get(|| Ok(MemInfo::parse(&file.read()?)))
    }

    /// `/proc/cpuinfo`. Costly on large machines, where little but the frequencies changes.
    pub fn cpuinfo(&self) -> Arc<CpuInfo> {
        let (file, snapshot) = &self.cpuinfo;
        snapshot.get(|| Ok(CpuInfo::parse(file.read()?.into_bytes())))
    }

    /// The present content of `/proc/FILE`.
    ///
    /// # Errors
    /// What open(2) and read(2) say.
    pub fn proc_file(&self, name: &str) -> io::Result<Vec<u8>> {
        self.proc.read_file(name)
    }

    /// CPUs that are online.
    pub fn online(&self) -> Arc<CpuSet> {
        let (file, snapshot) = &self.online;
        snapshot.get(|| CpuSet::parse("online", &file.read()?).map_err(io::Error::other))
    }
}

/// Time since the boot in nanoseconds, suspended time included (`CLOCK_BOOTTIME`, which
/// `/proc/uptime` shows).
#[must_use]
pub fn boottime_nsec() -> u64 {
    let Ok(now) = clock_gettime(ClockId::CLOCK_BOOTTIME) else {
        return 0;
    };
    let seconds = u64::try_from(now.tv_sec()).unwrap_or(0);
    seconds
        .saturating_mul(1_000_000_000)
        .saturating_add(u64::try_from(now.tv_nsec()).unwrap_or(0))
}

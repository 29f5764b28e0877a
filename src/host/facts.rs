//! The host's own `/proc` files, parsed once for all readers of a short while.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use super::kept::{KeptFile, Snapshot};
use super::nodes::{self, NumaNode};
use super::personality;
use super::process::Proc;
use crate::parse::cpu_list::CpuSet;
use crate::parse::cpuinfo::CpuInfo;
use crate::parse::diskstats::{self, Device};
use crate::parse::host_stat::HostStat;
use crate::parse::keyed;
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
    root: PathBuf,
    meminfo: (KeptFile, Snapshot<MemInfo>),
    stat: (KeptFile, Snapshot<HostStat>),
    diskstats: (KeptFile, Snapshot<Vec<Device>>),
    online: (KeptFile, Snapshot<CpuSet>),
    cpuinfo: (KeptFile, Snapshot<CpuInfo>),
    cpuinfo_of_linux32: Snapshot<CpuInfo>,
    nodes: Snapshot<Vec<NumaNode>>,
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
            root: root.to_owned(),
            meminfo: (open("proc/meminfo")?, Snapshot::new(BRIEFLY)),
            stat: (open("proc/stat")?, Snapshot::new(BRIEFLY)),
            diskstats: (open("proc/diskstats")?, Snapshot::new(BRIEFLY)),
            online: (
                open("sys/devices/system/cpu/online")?,
                Snapshot::new(LONGER),
            ),
            cpuinfo: (open("proc/cpuinfo")?, Snapshot::new(LONGER)),
            cpuinfo_of_linux32: Snapshot::new(LONGER),
            nodes: Snapshot::new(LONGER),
        })
    }

    /// `/proc/meminfo`.
    pub fn meminfo(&self) -> Arc<MemInfo> {
        let (file, snapshot) = &self.meminfo;
        snapshot.get(|| Ok(MemInfo::parse(&file.read()?)))
    }

    /// `/proc/stat`.
    pub fn stat(&self) -> Arc<HostStat> {
        let (file, snapshot) = &self.stat;
        snapshot.get(|| Ok(HostStat::parse(&file.read()?)))
    }

    /// `/proc/diskstats`.
    pub fn diskstats(&self) -> Arc<Vec<Device>> {
        let (file, snapshot) = &self.diskstats;
        snapshot.get(|| Ok(diskstats::parse(&file.read()?)))
    }

    /// Numbers of the disks behind what the process has mounted.
    pub fn disks_of_mounts(&self, pid: i32) -> Vec<(u32, u32)> {
        let mountinfo = self.proc.read(pid, "mountinfo").unwrap_or_default();
        // A container can have a hundred thousand mounts, but of few devices.
        let devices: HashSet<_> = mountinfo
            .lines()
            .filter_map(|line| keyed::device(line.split(' ').nth(2)?))
            .filter(|(major, _)| *major != 0)
            .collect();
        devices
            .into_iter()
            .map(|device| self.whole_disk(device))
            .collect()
    }

    /// The disk of which the device is a partition, or the device itself.
    fn whole_disk(&self, (major, minor): (u32, u32)) -> (u32, u32) {
        let device = self.root.join(format!("sys/dev/block/{major}:{minor}"));
        let parent = device.join("partition").exists().then(|| {
            // The path goes through a link to the partition's directory in its disk's.
            let text = std::fs::read_to_string(device.join("../dev")).ok()?;
            keyed::device(text.trim())
        });
        parent.flatten().unwrap_or((major, minor))
    }

    /// `/proc/cpuinfo`. Costly on large machines, where little but the frequencies changes.
    pub fn cpuinfo(&self) -> Arc<CpuInfo> {
        let (file, snapshot) = &self.cpuinfo;
        snapshot.get(|| Ok(CpuInfo::parse(file.read()?.into_bytes())))
    }

    /// Whether the kernel has another `/proc/cpuinfo` for this thread, as it is one of a
    /// 32-bit program.
    pub fn has_cpuinfo_of_linux32(&self, tid: i32) -> bool {
        personality::CPUINFO_DIFFERS
            && self
                .proc
                .read(tid, "personality")
                .is_ok_and(|text| personality::is_linux32(&text))
    }

    /// That other `/proc/cpuinfo`.
    pub fn cpuinfo_of_linux32(&self) -> Arc<CpuInfo> {
        self.cpuinfo_of_linux32.get(|| {
            personality::read_as_linux32(&self.root.join("proc/cpuinfo")).map(CpuInfo::parse)
        })
    }

    /// The nodes that are online, by id; none where the kernel knows no nodes.
    pub fn nodes(&self) -> Arc<Vec<NumaNode>> {
        self.nodes
            .get(|| nodes::read(&self.root.join("sys/devices/system/node")))
    }

    /// Size of a transparent huge page, in which some files count; 0 without them.
    pub fn huge_page_kb(&self) -> u64 {
        let file = "sys/kernel/mm/transparent_hugepage/hpage_pmd_size";
        let text = std::fs::read_to_string(self.root.join(file)).unwrap_or_default();
        text.trim().parse::<u64>().unwrap_or(0) / 1024
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

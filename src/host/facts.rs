//! The host's own `/proc` files, parsed once for all readers of a short while.

use std::collections::HashSet;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::unistd::{SysconfVar, sysconf};

use super::kept::{KeptFile, Snapshot};
use super::mounts::{Extent, Limit};
use super::nodes::{self, NumaNode};
use super::online::{CpuSnapshot, Online};
use super::personality;
use super::process::Proc;
use crate::freshness::validity;
use crate::parse::arcstats::ArcStats;
use crate::parse::cpu_list::CpuSet;
use crate::parse::cpu_table::CpuTable;
use crate::parse::cpuinfo::CpuInfo;
use crate::parse::diskstats::{self, Device};
use crate::parse::host_stat::HostStat;
use crate::parse::keyed::{self, DeviceNumber};
use crate::parse::meminfo::MemInfo;
use crate::parse::pressure::{Pressure, Resource};
use crate::sys::file::{AT_ONCE, read_at_once};

/// Below `/proc`.
const ARCSTATS: &str = "spl/kstat/zfs/arcstats";

/// Readers of the host's figures, with kept fds.
#[derive(Debug)]
pub struct Host {
    /// The host's `/proc`.
    pub proc: Proc,
    root: PathBuf,
    meminfo: (KeptFile, Snapshot<MemInfo>),
    stat: (KeptFile, Snapshot<HostStat>),
    diskstats: (KeptFile, Snapshot<Vec<Device>>),
    online: Online,
    cpuinfo: (KeptFile, CpuSnapshot<CpuInfo>),
    arcstats: Snapshot<ArcStats>,
    interrupts: Snapshot<CpuTable>,
    softirqs: Snapshot<CpuTable>,
    vmstat_names: OnceLock<Vec<String>>,
    huge_page_kb: OnceLock<u64>,
    cpuinfo_of_linux32: CpuSnapshot<CpuInfo>,
    nodes: CpuSnapshot<Vec<NumaNode>>,
    pressure: [Option<PressureFile>; Resource::ALL.len()],
}

/// One of the host's pressure files.
#[derive(Debug, Clone, Copy)]
pub struct PressureFile {
    /// Its permissions: those of others too allow writing since Linux 5.13.
    pub permissions: u16,
    /// What it said at the start, for its lines.
    pub content: Pressure,
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
            pressure: Resource::ALL.map(|resource| pressure_file(root, resource)),
            meminfo: (open("proc/meminfo")?, Snapshot::new(validity::HOST_FIGURES)),
            stat: (open("proc/stat")?, Snapshot::new(validity::HOST_FIGURES)),
            diskstats: (
                open("proc/diskstats")?,
                Snapshot::new(validity::HOST_FIGURES),
            ),
            online: Online::new(open("sys/devices/system/cpu/online")?, open("proc/stat")?),
            cpuinfo: (
                open("proc/cpuinfo")?,
                CpuSnapshot::new(validity::HOST_FACTS),
            ),
            arcstats: Snapshot::new(validity::HOST_FIGURES),
            interrupts: Snapshot::new(validity::HOST_INTERRUPTS),
            softirqs: Snapshot::new(validity::HOST_INTERRUPTS),
            vmstat_names: OnceLock::new(),
            huge_page_kb: OnceLock::new(),
            cpuinfo_of_linux32: CpuSnapshot::new(validity::HOST_FACTS),
            nodes: CpuSnapshot::new(validity::HOST_FACTS),
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

    /// Numbers of the disks behind what the process has mounted, and whether these are all:
    /// of a list that is too long only the beginning is read.
    pub fn disks_of_mounts(&self, pid: i32) -> (Vec<DeviceNumber>, Extent) {
        // A container can have a hundred thousand mounts, but of few devices.
        let mut devices = HashSet::new();
        let name = format!("{pid}/mountinfo");
        let extent = self.proc.visit_mounts(&name, Limit::BRIEF, |line| {
            if line.device.0 != 0 {
                devices.insert(line.device);
            }
        });
        let disks = devices.into_iter().map(|device| self.whole_disk(device));
        (disks.collect(), extent.unwrap_or(Extent::Part))
    }

    /// The disk of which the device is a partition, or the device itself.
    fn whole_disk(&self, (major, minor): (u32, u32)) -> (u32, u32) {
        let device = self.root.join(format!("sys/dev/block/{major}:{minor}"));
        let parent = device.join("partition").exists().then(|| {
            // The path goes through a link to the partition's directory in its disk's.
            let text = read_at_once(&device.join("../dev")).ok()?;
            keyed::device(text.trim())
        });
        parent.flatten().unwrap_or((major, minor))
    }

    /// Whether the device lies on other ones, as those of the device mapper and RAID do.
    #[must_use]
    pub fn is_stacked(&self, (major, minor): (u32, u32)) -> bool {
        let below = self
            .root
            .join(format!("sys/dev/block/{major}:{minor}/slaves"));
        std::fs::read_dir(below).is_ok_and(|mut entries| entries.next().is_some())
    }

    /// Size of the pages that transparent huge pages are counted in; 0 without them
    /// (kernel: Documentation/admin-guide/mm/transhuge.rst).
    #[must_use]
    pub fn huge_page_kb(&self) -> u64 {
        *self.huge_page_kb.get_or_init(|| {
            let file = "sys/kernel/mm/transparent_hugepage/hpage_pmd_size";
            let text = std::fs::read_to_string(self.root.join(file)).unwrap_or_default();
            text.trim().parse::<u64>().unwrap_or(0) / 1024
        })
    }

    /// Names of the lines of `/proc/vmstat`, which stay the same as long as a kernel runs.
    /// None when the file cannot be read.
    #[must_use]
    pub fn vmstat_names(&self) -> &[String] {
        if let Some(names) = self.vmstat_names.get() {
            return names;
        }
        let Ok(content) = self.proc_file("vmstat") else {
            return &[];
        };
        self.vmstat_names.get_or_init(|| {
            let text = String::from_utf8_lossy(&content);
            keyed::flat(&text)
                .map(|(name, _)| name.to_owned())
                .collect()
        })
    }

    /// The cache of ZFS; empty on a host without ZFS.
    pub fn arcstats(&self) -> Arc<ArcStats> {
        self.arcstats.get(|| {
            let content = self.proc_file(ARCSTATS)?;
            Ok(ArcStats::parse(&String::from_utf8_lossy(&content)))
        })
    }

    /// The rows of `/proc/interrupts`.
    pub fn interrupts(&self) -> Arc<CpuTable> {
        self.interrupts.get(|| self.cpu_table("interrupts"))
    }

    /// The rows of `/proc/softirqs`.
    pub fn softirqs(&self) -> Arc<CpuTable> {
        self.softirqs.get(|| self.cpu_table("softirqs"))
    }

    fn cpu_table(&self, file: &str) -> io::Result<CpuTable> {
        let content = self.proc_file(file)?;
        Ok(CpuTable::parse(&String::from_utf8_lossy(&content)))
    }

    /// Whether the host has a cache of ZFS.
    #[must_use]
    pub fn has_arcstats(&self) -> bool {
        self.proc.has_file(ARCSTATS)
    }

    /// The file of this name below `/proc/pressure`, if this machine has it.
    #[must_use]
    pub fn pressure(&self, resource: Resource) -> Option<&PressureFile> {
        self.pressure.get(resource as usize)?.as_ref()
    }

    /// `/proc/cpuinfo`. Costly on large machines, where little but the frequencies changes.
    pub fn cpuinfo(&self) -> Arc<CpuInfo> {
        let (file, snapshot) = &self.cpuinfo;
        let read = || Ok(CpuInfo::parse(file.read()?.into_bytes()));
        snapshot.get(&self.online, read)
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
        self.cpuinfo_of_linux32.get(&self.online, || {
            personality::read_as_linux32(&self.root.join("proc/cpuinfo")).map(CpuInfo::parse)
        })
    }

    /// The nodes that are online, by id; none where the kernel knows no nodes.
    pub fn nodes(&self) -> Arc<Vec<NumaNode>> {
        let directory = self.root.join("sys/devices/system/node");
        self.nodes.get(&self.online, || nodes::read(&directory))
    }

    /// The present content of `/proc/FILE`.
    ///
    /// # Errors
    /// What open(2) and read(2) say.
    pub fn proc_file(&self, name: &str) -> io::Result<Vec<u8>> {
        self.proc.read_file(name)
    }

    /// Opens the host's own file below `/proc/pressure` to which triggers are written.
    ///
    /// # Errors
    /// What open(2) says.
    pub fn open_pressure(&self, resource: Resource) -> Result<OwnedFd, Errno> {
        let path = self.root.join("proc/pressure").join(resource.name());
        open(&path, OFlag::O_RDWR | AT_ONCE, Mode::empty())
    }

    /// CPUs that are online; never none.
    pub fn online(&self) -> Arc<CpuSet> {
        self.online.cpus()
    }

    /// Whether no CPU has come or gone just now, so that cpusets are up to date.
    pub fn cpus_are_settled(&self) -> bool {
        self.online.is_settled()
    }
}

/// Size of a page of memory.
#[must_use]
pub fn page_kb() -> u64 {
    let bytes = sysconf(SysconfVar::PAGE_SIZE).ok().flatten();
    bytes
        .and_then(|bytes| u64::try_from(bytes).ok())
        .map_or(4, |bytes| bytes / 1024)
}

fn pressure_file(root: &Path, resource: Resource) -> Option<PressureFile> {
    let path = root.join("proc/pressure").join(resource.name());
    let permissions = std::fs::metadata(&path).ok()?.permissions().mode() & 0o666;
    // With `psi=0` some kernels have the files, but reading fails.
    let text = std::fs::read_to_string(&path).ok()?;
    Some(PressureFile {
        permissions: u16::try_from(permissions).unwrap_or(0o444),
        content: Pressure::parse(&text),
    })
}

//! The fixed part of the tree. Inode numbers are constants: they must survive
//! restarts and upgrades, since the kernel keeps them as long as the mount lives.

use crate::parse::pressure::Resource;

/// Inode number of the file system's root.
pub const ROOT: u64 = 1;
/// Inode number of `/sys/devices/system/cpu`, below which the host's tree is narrowed.
pub const CPU: u64 = 6;
/// Inode number of `/sys/devices/system/node`, likewise.
pub const NODE: u64 = 10;
/// Inode number of `/sys/block`, where the disks have the container's figures.
pub const BLOCK: u64 = 11;
/// Inode number of `/proc/pressure`, which not every machine has.
pub const PRESSURE: u64 = 12;
/// Inode number of `/proc/spl`. It is there on hosts with ZFS only, and not listed: LXC's
/// mount hook lays what `/proc` lists over the container's own, directories whole, and
/// would hide all other files of that directory.
pub const SPL: u64 = 40;

/// A virtual file below `/proc`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProcFile {
    /// `/proc/spl/kstat/zfs/arcstats`
    Arcstats,
    /// `/proc/cpuinfo`
    Cpuinfo,
    /// `/proc/diskstats`
    Diskstats,
    /// `/proc/interrupts`
    Interrupts,
    /// `/proc/loadavg`
    Loadavg,
    /// `/proc/meminfo`
    Meminfo,
    /// `/proc/pressure/cpu`
    PressureCpu,
    /// `/proc/pressure/io`
    PressureIo,
    /// `/proc/pressure/irq`
    PressureIrq,
    /// `/proc/pressure/memory`
    PressureMemory,
    /// `/proc/slabinfo`
    Slabinfo,
    /// `/proc/softirqs`
    Softirqs,
    /// `/proc/stat`
    Stat,
    /// `/proc/swaps`
    Swaps,
    /// `/proc/uptime`
    Uptime,
    /// `/proc/vmstat`
    Vmstat,
}

impl ProcFile {
    /// All of them, by name.
    pub const ALL: [Self; 16] = [
        Self::Arcstats,
        Self::Cpuinfo,
        Self::Diskstats,
        Self::Interrupts,
        Self::Loadavg,
        Self::Meminfo,
        Self::PressureCpu,
        Self::PressureIo,
        Self::PressureIrq,
        Self::PressureMemory,
        Self::Slabinfo,
        Self::Softirqs,
        Self::Stat,
        Self::Swaps,
        Self::Uptime,
        Self::Vmstat,
    ];

    /// The path below `/proc`.
    #[must_use]
    pub const fn path(self) -> &'static str {
        match self {
            Self::Arcstats => "spl/kstat/zfs/arcstats",
            Self::Cpuinfo => "cpuinfo",
            Self::Diskstats => "diskstats",
            Self::Interrupts => "interrupts",
            Self::Loadavg => "loadavg",
            Self::Meminfo => "meminfo",
            Self::PressureCpu => "pressure/cpu",
            Self::PressureIo => "pressure/io",
            Self::PressureIrq => "pressure/irq",
            Self::PressureMemory => "pressure/memory",
            Self::Slabinfo => "slabinfo",
            Self::Softirqs => "softirqs",
            Self::Stat => "stat",
            Self::Swaps => "swaps",
            Self::Uptime => "uptime",
            Self::Vmstat => "vmstat",
        }
    }

    /// The file at this path below `/proc`.
    #[must_use]
    pub fn by_path(path: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|file| file.path() == path)
    }

    /// Permissions as the kernel's own file has them.
    #[must_use]
    pub const fn mode(self) -> u16 {
        match self {
            Self::Slabinfo => 0o400,
            _ => 0o444,
        }
    }

    fn name(self) -> &'static str {
        self.path().rsplit('/').next().unwrap_or_default()
    }

    const fn directory(self) -> u64 {
        match self {
            Self::Arcstats => ZFS,
            _ if self.resource().is_some() => PRESSURE,
            _ => PROC,
        }
    }

    const fn inode(self) -> u64 {
        match self {
            Self::Cpuinfo => 16,
            Self::Diskstats => 17,
            Self::Loadavg => 18,
            Self::Meminfo => 19,
            Self::Stat => 20,
            Self::Swaps => 21,
            Self::Uptime => 22,
            Self::Vmstat => 23,
            Self::Slabinfo => 24,
            Self::Arcstats => 25,
            Self::Interrupts => 26,
            Self::Softirqs => 27,
            Self::PressureCpu => 28,
            Self::PressureIo => 29,
            Self::PressureIrq => 30,
            Self::PressureMemory => 31,
        }
    }

    /// The resource whose pressure the file shows.
    #[must_use]
    pub const fn resource(self) -> Option<Resource> {
        match self {
            Self::PressureCpu => Some(Resource::Cpu),
            Self::PressureIo => Some(Resource::Io),
            Self::PressureIrq => Some(Resource::Irq),
            Self::PressureMemory => Some(Resource::Memory),
            _ => None,
        }
    }
}

/// What an inode number of the fixed part stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// A directory with fixed entries.
    Directory,
    /// A file below `/proc`.
    Proc(ProcFile),
}

/// Directories: inode, inode of the parent, name.
const DIRECTORIES: [(u64, u64, &str); 12] = [
    (ROOT, ROOT, ""),
    (2, ROOT, "proc"),
    (3, ROOT, "sys"),
    (4, 3, "devices"),
    (5, 4, "system"),
    (CPU, 5, "cpu"),
    (NODE, 5, "node"),
    (BLOCK, 3, "block"),
    (PRESSURE, PROC, "pressure"),
    (SPL, PROC, "spl"),
    (41, SPL, "kstat"),
    (ZFS, 41, "zfs"),
];
const PROC: u64 = 2;
const ZFS: u64 = 42;

/// The entry with this inode number.
#[must_use]
pub fn entry(inode: u64) -> Option<Entry> {
    if DIRECTORIES.iter().any(|(own, _, _)| *own == inode) {
        return Some(Entry::Directory);
    }
    ProcFile::ALL
        .into_iter()
        .find(|file| file.inode() == inode)
        .map(Entry::Proc)
}

/// Inode number of every file below `/proc`, and its path from the root of the tree.
pub fn files() -> impl Iterator<Item = (u64, String)> {
    let files = ProcFile::ALL.into_iter();
    files.map(|file| (file.inode(), format!("proc/{}", file.path())))
}

/// Name, inode number and kind of everything in a fixed directory.
pub fn children(parent: u64) -> impl Iterator<Item = (&'static str, u64, Entry)> {
    let directories = DIRECTORIES
        .iter()
        .filter(move |(own, above, _)| *above == parent && *own != ROOT)
        .map(|(own, _, name)| (*name, *own, Entry::Directory));
    let files = ProcFile::ALL
        .into_iter()
        .filter(move |file| file.directory() == parent)
        .map(|file| (file.name(), file.inode(), Entry::Proc(file)));
    directories.chain(files)
}

/// Whether a listing of its directory names the entry.
#[must_use]
pub const fn is_listed(inode: u64) -> bool {
    inode != SPL
}

/// The directory above a fixed directory.
#[must_use]
pub fn parent(inode: u64) -> u64 {
    DIRECTORIES
        .iter()
        .find(|(own, _, _)| *own == inode)
        .map_or(ROOT, |(_, above, _)| *above)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_entry_is_found_by_its_inode_and_only_once() {
        let mut seen = HashSet::from([ROOT]);
        let mut open = vec![ROOT];
        while let Some(inode) = open.pop() {
            for (name, child, kind) in children(inode) {
                assert!(seen.insert(child), "{name}");
                assert_eq!(entry(child), Some(kind), "{name}");
                if kind == Entry::Directory {
                    assert_eq!(parent(child), inode, "{name}");
                    open.push(child);
                }
            }
        }
        assert_eq!(seen.len(), DIRECTORIES.len() + ProcFile::ALL.len());
    }

    #[test]
    fn inode_numbers_are_those_of_the_first_release() {
        let numbers: Vec<_> = children(PROC)
            .chain(children(PRESSURE))
            .map(|(name, inode, _)| (name, inode))
            .filter(|(_, inode)| is_listed(*inode))
            .collect();
        assert_eq!(
            numbers,
            [
                ("pressure", 12),
                ("cpuinfo", 16),
                ("diskstats", 17),
                ("interrupts", 26),
                ("loadavg", 18),
                ("meminfo", 19),
                ("slabinfo", 24),
                ("softirqs", 27),
                ("stat", 20),
                ("swaps", 21),
                ("uptime", 22),
                ("vmstat", 23),
                ("cpu", 28),
                ("io", 29),
                ("irq", 30),
                ("memory", 31)
            ]
        );
    }
}

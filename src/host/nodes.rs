//! The host's NUMA nodes (kernel: Documentation/ABI/stable/sysfs-devices-node).

use std::io;
use std::path::Path;

use nix::errno::Errno;

use crate::parse::cpu_list::CpuSet;
use crate::parse::meminfo::MemInfo;
use crate::sys::file::read_at_once;

/// A node that is online.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NumaNode {
    /// The number in its name.
    pub id: usize,
    /// Its CPUs that are online.
    pub cpus: CpuSet,
    /// Its memory.
    pub meminfo: MemInfo,
}

impl NumaNode {
    /// Its size in kB; 0 if it has CPUs only.
    #[must_use]
    pub fn total_kb(&self) -> u64 {
        self.meminfo.get("MemTotal").unwrap_or(0)
    }
}

/// Reads the nodes below `directory`, by id; none if it does not exist.
pub(super) fn read(directory: &Path) -> io::Result<Vec<NumaNode>> {
    let online = match read_at_once(&directory.join("online")) {
        Err(Errno::ENOENT) => return Ok(Vec::new()),
        online => CpuSet::parse("online", &online?).map_err(io::Error::other)?,
    };
    let node = |id: usize| {
        let read = |file| read_at_once(&directory.join(format!("node{id}/{file}")));
        Ok(NumaNode {
            id,
            // Of a list in an unknown form no CPU is shown.
            cpus: CpuSet::parse("cpulist", &read("cpulist")?).unwrap_or_default(),
            meminfo: MemInfo::parse_node(&read("meminfo")?),
        })
    };
    online.iter().map(node).collect()
}

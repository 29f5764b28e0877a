//! What readers are shown of nodes and disks below `/sys`.

use std::sync::atomic::Ordering;

use nix::errno::Errno;

use super::super::tree::ProcFile;
use super::{Views, shows_host};
use crate::container::apportion::Disk;
use crate::host::{NumaNode, page_kb};
use crate::parse::cpu_list::CpuSet;
use crate::parse::keyed::DeviceNumber;
use crate::parse::meminfo::MemInfo;
use crate::reader::Subject;
use crate::view::{node_memory, sys_node};

impl Views {
    /// The nodes that thread `reader` is shown; `None` for all there are.
    ///
    /// # Errors
    /// As [`Views::render`].
    pub fn nodes_shown(&self, reader: i32) -> Result<Option<sys_node::Shown>, Errno> {
        if self.off.load(Ordering::Relaxed) {
            return Ok(None);
        }
        self.for_container(reader, false, |known| {
            let resolved = &*known.resolved;
            if resolved.options.passthrough {
                return Ok(None);
            }
            let memory = resolved.container.memory_nodes(&self.host)?;
            let has_cpus = |nodes: &Vec<NumaNode>, cpus: &CpuSet| {
                let found = nodes.iter().map(|node| node.cpus.intersection_len(cpus));
                found.sum::<usize>() == cpus.len()
            };
            let (nodes, cpus) = self.of_cpus_shown(known, || self.host.nodes(), has_cpus)?;
            Ok(Some(sys_node::Shown::new(&nodes, cpus, memory)))
        })
    }

    /// What thread `reader` reads from the file `name` of a node, about its memory; `None`
    /// for the host's own content `host`, which gives the lines.
    ///
    /// # Errors
    /// As [`Views::render`].
    pub fn node_memory(
        &self,
        reader: i32,
        node: usize,
        name: &str,
        host: &[u8],
    ) -> Result<Option<Vec<u8>>, Errno> {
        if self.off.load(Ordering::Relaxed) {
            return Ok(None);
        }
        self.for_container(reader, false, |Subject { resolved, .. }| {
            if shows_host(ProcFile::Meminfo, resolved) {
                return Ok(None);
            }
            let container = &*resolved.container;
            let mut own = Vec::with_capacity(2048);
            self.meminfo(resolved, &mut own)?;
            let input = node_memory::Input {
                host: &self.host.nodes(),
                memory: &container.memory_nodes(&self.host)?,
                own: &MemInfo::parse(&String::from_utf8_lossy(&own)),
                stat: &container.numa_stat()?,
                hugetlb: &container.memory(&self.host)?.hugetlb,
                page_kb: page_kb(),
                huge_page_kb: self.host.huge_page_kb(),
            };
            let host = String::from_utf8_lossy(host);
            let text = node_memory::render(&input, node, name, &host);
            Ok(Some(text.into_bytes()))
        })
    }

    /// What the container of `reader` did on a disk of the host, as its `/proc/diskstats`
    /// has it; `None` for a reader to whom the host's own figures are shown.
    ///
    /// # Errors
    /// As [`Views::render`].
    pub fn disk(&self, reader: i32, number: DeviceNumber) -> Result<Option<Disk>, Errno> {
        if self.off.load(Ordering::Relaxed) {
            return Ok(None);
        }
        self.for_container(reader, false, |Subject { resolved, .. }| {
            if shows_host(ProcFile::Diskstats, resolved) {
                return Ok(None);
            }
            let disks = self.disks(resolved, &self.host.diskstats())?;
            let own = disks
                .into_iter()
                .find(|disk| (disk.io.major, disk.io.minor) == number);
            Ok(Some(own.unwrap_or_default()))
        })
    }

    /// Whether thread `reader` is shown the host's own figures of disks.
    ///
    /// # Errors
    /// As [`Views::render`].
    pub fn disks_are_hosts(&self, reader: i32) -> Result<bool, Errno> {
        if self.off.load(Ordering::Relaxed) {
            return Ok(true);
        }
        self.for_container(reader, false, |Subject { resolved, .. }| {
            Ok(shows_host(ProcFile::Diskstats, resolved))
        })
    }
}

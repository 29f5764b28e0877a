//! Memory that a container is shown.

use super::vm_counters::{self, VmCounters};
use super::{Container, Gone, fallback};
use crate::cgroup::account::Memory;
use crate::cgroup::vm_events::VmEvents;
use crate::cgroup::{Error, Limit};
use crate::host::{Host, NumaNode};
use crate::parse::cpu_list::CpuSet;
use crate::parse::numa_stat::NumaStat;

impl Container {
    /// Memory and swap. All zero where no cgroup accounts them. The limit is no more than
    /// the nodes have from which the container may have memory.
    ///
    /// # Errors
    /// [`Gone`] when the cgroup has been removed.
    pub fn memory(&self, host: &Host) -> Result<Memory, Gone> {
        let huge_pages = host.meminfo().get("Hugetlb").unwrap_or(0) > 0;
        let read = self
            .cgroup
            .memory(huge_pages)
            .map(Option::unwrap_or_default);
        let mut memory = self.or_last(read, "memory", |state| &mut state.memory)?;
        let nodes = host.nodes();
        if nodes.len() > 1 {
            let allowed = self.memory_nodes(host)?;
            let is_allowed = |node: &&NumaNode| allowed.contains(node.id);
            if !nodes
                .iter()
                .all(|node| node.total_kb() == 0 || is_allowed(&node))
            {
                let sizes = nodes.iter().filter(is_allowed).map(NumaNode::total_kb);
                let size_bytes = sizes.fold(0, u64::saturating_add).saturating_mul(1024);
                memory.limit_bytes = memory.limit_bytes.min(Limit::Value(size_bytes));
            }
        }
        Ok(memory)
    }

    /// The limit of memory above which it is taken back.
    ///
    /// # Errors
    /// [`Gone`] when the cgroup has been removed.
    pub fn memory_high_bytes(&self) -> Result<Limit, Gone> {
        let read = self.cgroup.memory_high_bytes();
        self.or_last(read, "memory", |state| &mut state.memory_high)
    }

    /// The nodes with memory that the container may use, never none of the host's.
    ///
    /// # Errors
    /// [`Gone`] when the cgroup has been removed.
    pub fn memory_nodes(&self, host: &Host) -> Result<CpuSet, Gone> {
        let read = self.cgroup.memory_nodes().map(Option::unwrap_or_default);
        let allowed = self.or_last(read, "memory nodes", |state| &mut state.memory_nodes)?;
        let nodes = host.nodes();
        let with_memory = nodes.iter().filter(|node| node.total_kb() > 0);
        let with_memory: CpuSet = with_memory.map(|node| node.id).collect();
        let shown = with_memory.intersection(&allowed);
        Ok(if shown.is_empty() { with_memory } else { shown })
    }

    /// On which nodes its memory lies; nothing where that cannot be told.
    ///
    /// # Errors
    /// [`Gone`] when the cgroup has been removed.
    pub fn numa_stat(&self) -> Result<NumaStat, Gone> {
        let read = self.cgroup.numa_stat();
        self.or_last(read, "memory by node", |state| &mut state.numa_stat)
    }

    /// Counters of memory management since the container's start. `memory` is a recent
    /// reading of the container's memory.
    ///
    /// # Errors
    /// [`Gone`] when the cgroup has been removed.
    pub fn vm_counters(
        &self,
        host: &Host,
        memory: &Memory,
        page_kb: u64,
    ) -> Result<VmCounters, Gone> {
        let mut events = match self.cgroup.vm_events() {
            Ok(events) => events.unwrap_or_default(),
            Err(Error::Gone) => return Err(Gone),
            Err(error) => {
                fallback::report("counters of memory management", &error);
                VmEvents::default()
            }
        };
        let io = self.or_last(self.cgroup.io(), "I/O", |state| &mut state.io)?;
        // What a device passes on to those below it is counted there.
        let disks = io
            .iter()
            .filter(|io| !host.is_stacked((io.major, io.minor)));
        vm_counters::add_io(&mut events, disks);
        vm_counters::add_swapping(&mut events, memory, page_kb);
        let counters = {
            let mut state = self.state.lock();
            state.is_unsaved = true;
            state.vm_counters.advance(&events);
            state.vm_counters.clone()
        };
        self.save();
        Ok(counters)
    }
}

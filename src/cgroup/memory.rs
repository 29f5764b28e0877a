//! Memory of one cgroup: limits, use and events.

use super::account::Memory;
use super::vm_events::VmEvents;
use super::{
    Cgroup, Controller, Error, Limit, Version, hugetlb, nearest_text, smallest_limit, v1, v2,
};
use crate::parse::numa_stat::NumaStat;

impl Cgroup {
    /// Memory and swap; `None` if no cgroup of its own accounts them. `huge_pages`
    /// says whether the host has any, else their controller is not asked.
    ///
    /// # Errors
    /// [`Error::Gone`] or a file that cannot be read or understood.
    pub fn memory(&self, huge_pages: bool) -> Result<Option<Memory>, Error> {
        let Some((version, node)) = self.accounted(Controller::Memory) else {
            return Ok(None);
        };
        let memory = match version {
            Version::V1 => v1::memory(node)?,
            Version::V2 => v2::memory(node)?,
        };
        let Some(mut memory) = memory else {
            return Ok(None);
        };
        if huge_pages {
            if let Some((version, node)) = self.accounted(Controller::Hugetlb) {
                memory.hugetlb = hugetlb::hugetlb(version, node)?;
            }
        }
        Ok(Some(memory))
    }

    /// The smallest limit on the way to the root above which memory is taken from it (v1: the
    /// soft limit).
    ///
    /// # Errors
    /// As [`Cgroup::memory`].
    pub fn memory_high_bytes(&self) -> Result<Limit, Error> {
        match self.accounted(Controller::Memory) {
            Some((Version::V1, node)) => smallest_limit(node, "memory.soft_limit_in_bytes"),
            Some((Version::V2, node)) => smallest_limit(node, "memory.high"),
            None => Ok(Limit::Max),
        }
    }

    /// Counters of memory management; `None` if no cgroup of its own accounts them.
    ///
    /// # Errors
    /// As [`Cgroup::memory`].
    pub fn vm_events(&self) -> Result<Option<VmEvents>, Error> {
        match self.accounted(Controller::Memory) {
            Some((Version::V1, node)) => v1::vm_events(node),
            Some((Version::V2, node)) => v2::vm_events(node),
            None => Ok(None),
        }
    }

    /// On which nodes the memory lies; nothing if no cgroup of its own accounts that.
    ///
    /// # Errors
    /// As [`Cgroup::memory`].
    pub fn numa_stat(&self) -> Result<NumaStat, Error> {
        let Some((version, node)) = self.accounted(Controller::Memory) else {
            return Ok(NumaStat::default());
        };
        let prefix = match version {
            Version::V1 => "hierarchical_",
            Version::V2 => "",
        };
        let text = nearest_text(node, "memory.numa_stat")?.unwrap_or_default();
        Ok(NumaStat::parse(&text, prefix))
    }
}

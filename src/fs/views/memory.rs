//! Views that are made of the container's memory and tell the same as `/proc/meminfo`.

use super::{Views, memory_input};
use crate::cgroup::account::Memory;
use crate::container::Gone;
use crate::container::policy::MemoryLimit;
use crate::host::page_kb;
use crate::reader::Resolved;
use crate::view;

impl Views {
    /// The container's memory, of the size that the operator wants it to be shown.
    pub(super) fn memory(&self, resolved: &Resolved) -> Result<Memory, Gone> {
        let mut memory = resolved.container.memory(&self.host)?;
        if resolved.options.memory_limit == MemoryLimit::High {
            let high = resolved.container.memory_high_bytes()?;
            memory.limit_bytes = memory.limit_bytes.min(high);
        }
        Ok(memory)
    }

    pub(super) fn vmstat(&self, resolved: &Resolved, out: &mut Vec<u8>) -> Result<(), Gone> {
        let memory = self.memory(resolved)?;
        let host = self.host.meminfo();
        let input = view::vmstat::Input {
            names: self.host.vmstat_names(),
            memory: memory_input(resolved, &host, &memory),
            counters: &resolved
                .container
                .vm_counters(&self.host, &memory, page_kb())?,
            page_kb: page_kb(),
            huge_page_kb: self.host.huge_page_kb(),
            hide_swap: !resolved.options.swap,
        };
        view::vmstat::render(&input, out);
        Ok(())
    }

    pub(super) fn slabinfo(&self, resolved: &Resolved, out: &mut Vec<u8>) -> Result<(), Gone> {
        let memory = self.memory(resolved)?;
        let host = self.host.meminfo();
        let input = view::slabinfo::Input {
            memory: memory_input(resolved, &host, &memory),
            page_kb: page_kb(),
        };
        view::slabinfo::render(&input, out);
        Ok(())
    }

    pub(super) fn arcstats(&self, resolved: &Resolved, out: &mut Vec<u8>) -> Result<(), Gone> {
        let memory = self.memory(resolved)?;
        let host = self.host.meminfo();
        let input = view::arcstats::Input {
            host: &self.host.arcstats(),
            memory: memory_input(resolved, &host, &memory),
        };
        view::arcstats::render(&input, out);
        Ok(())
    }
}

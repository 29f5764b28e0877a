//! What a cgroup accounts, in one form for v1 and v2.
//!
//! Names are those of cgroup v2 (kernel: Documentation/admin-guide/cgroup-v2.rst);
//! v1 files are translated. `None` means that the kernel has no such figure for
//! this cgroup, never that it is zero.

use super::Limit;

/// Memory of one cgroup and everything below it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Memory {
    /// Smallest `memory.max` on the way to the root.
    pub limit_bytes: Limit,
    /// `memory.current`.
    pub usage_bytes: u64,
    /// `memory.stat`.
    pub stat: MemoryStat,
    /// Swap; `None` where swap is not accounted.
    pub swap: Option<Swap>,
    /// One entry for each huge page size that the hugetlb controller knows.
    pub hugetlb: Vec<Hugetlb>,
}

/// Swap of one cgroup and everything below it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swap {
    /// Smallest `memory.swap.max` on the way to the root (v1: what `memsw` leaves
    /// above the memory limit).
    pub limit_bytes: Limit,
    /// `memory.swap.current`.
    pub usage_bytes: u64,
}

/// Huge pages of one size.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Hugetlb {
    /// Page size, e.g. 2048.
    pub page_kb: u64,
    /// Smallest `hugetlb.SIZE.max` on the way to the root.
    pub limit_bytes: Limit,
    /// `hugetlb.SIZE.current`.
    pub usage_bytes: u64,
}

/// `memory.stat` in bytes; hierarchical (v1: the `total_` lines). `kernel`, `sock`, `slab` and
/// the faults are in no view and not read on v1, but have their places in the journal.
#[allow(
    missing_docs,
    reason = "the kernel's own names, documented in cgroup-v2.rst"
)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MemoryStat {
    pub anon: Option<u64>,
    pub file: Option<u64>,
    pub kernel: Option<u64>,
    pub kernel_stack: Option<u64>,
    pub pagetables: Option<u64>,
    pub sec_pagetables: Option<u64>,
    pub percpu: Option<u64>,
    pub sock: Option<u64>,
    pub vmalloc: Option<u64>,
    pub shmem: Option<u64>,
    pub zswap: Option<u64>,
    pub zswapped: Option<u64>,
    pub file_mapped: Option<u64>,
    pub file_dirty: Option<u64>,
    pub file_writeback: Option<u64>,
    pub swapcached: Option<u64>,
    pub anon_thp: Option<u64>,
    pub file_thp: Option<u64>,
    pub shmem_thp: Option<u64>,
    pub inactive_anon: Option<u64>,
    pub active_anon: Option<u64>,
    pub inactive_file: Option<u64>,
    pub active_file: Option<u64>,
    pub unevictable: Option<u64>,
    pub slab_reclaimable: Option<u64>,
    pub slab_unreclaimable: Option<u64>,
    pub slab: Option<u64>,
    pub pgfault: Option<u64>,
    pub pgmajfault: Option<u64>,
}

/// CPU time of one cgroup and everything below it, cumulative, in nanoseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CpuUsage {
    /// Time in user mode, niced time included.
    pub user_nsec: u64,
    /// Time in kernel mode.
    pub system_nsec: u64,
    /// The part of `user_nsec` that ran niced (kernel >= 6.13).
    pub nice_nsec: Option<u64>,
    /// Time for which runnable tasks were held back by the quota.
    pub throttled_nsec: u64,
    /// The whole use by CPU id, where the kernel tells (v1 `cpuacct.usage_percpu`).
    pub per_cpu_nsec: Option<Vec<u64>>,
}

/// I/O of one cgroup on one block device, cumulative.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DeviceIo {
    /// Device number, major part.
    pub major: u32,
    /// Device number, minor part.
    pub minor: u32,
    /// Completed reads.
    pub reads: u64,
    /// Completed writes.
    pub writes: u64,
    /// Completed discards.
    pub discards: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Bytes discarded.
    pub discarded_bytes: u64,
}

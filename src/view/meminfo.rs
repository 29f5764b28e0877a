//! `/proc/meminfo` (kernel: Documentation/filesystems/proc.rst, "meminfo").
//!
//! The lines are the host's, the values the container's. `memory.stat` lags behind
//! `memory.current`, and a limit may be lowered below the usage: every value is cut
//! so that the sums which tools make of them stay within the total.

use super::swaps::SwapView;
use super::{Class, find_from, put, put_spaces, put_u64_padded};
use crate::cgroup::account::Memory;
use crate::parse::meminfo::{Line, MemInfo};

#[cfg(test)]
mod tests;

/// What the file is made of.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// The host's own file: its lines, its total, its facts.
    pub host: &'a MemInfo,
    /// The container's memory.
    pub memory: &'a Memory,
    /// The swap that `/proc/swaps` shows as well.
    pub swap: SwapView,
    /// Whether the zswap lines show zero.
    pub hide_zswap: bool,
}

/// Renders the host's lines, in the host's order, with the container's values.
pub fn render(input: &Input<'_>, out: &mut Vec<u8>) {
    let figures = Figures::new(input);
    let mut cursor = 0;
    for line in &input.host.lines {
        let row = find_from(ROWS, &mut cursor, |row| row.key == line.key);
        let value = match row.map(|row| &row.value) {
            Some(Value::Of(value)) => value(&figures),
            Some(Value::Host) => line.value,
            // A line that is not known yet tells of the host's memory, most likely.
            Some(Value::Zero) | None => 0,
        };
        put_line(out, line, value);
    }
}

/// Every line that is known, with its class, in the kernel's order.
pub fn lines() -> impl Iterator<Item = (&'static str, Class)> {
    ROWS.iter().map(|row| (row.key, row.class))
}

/// The kernel pads `Key:` and value to 16 + 8 characters, but prints a few lines
/// with a fixed gap and at least 5 digits.
fn put_line(out: &mut Vec<u8>, line: &Line, value: u64) {
    let fixed_gap = !line.in_kb || matches!(&*line.key, "HardwareCorrupted" | "EarlyMemtestBad");
    let (label_width, value_width) = if fixed_gap { (19, 5) } else { (16, 8) };
    put(out, &line.key);
    put(out, ":");
    put_spaces(
        out,
        label_width.max(line.key.len() + 2) - line.key.len() - 1,
    );
    put_u64_padded(out, value, value_width);
    put(out, if line.in_kb { " kB\n" } else { "\n" });
}

struct Row {
    key: &'static str,
    class: Class,
    value: Value,
}

enum Value {
    Of(fn(&Figures) -> u64),
    Host,
    Zero,
}

const fn exact(key: &'static str, value: fn(&Figures) -> u64) -> Row {
    Row {
        key,
        class: Class::Exact,
        value: Value::Of(value),
    }
}

const fn derived(key: &'static str, value: fn(&Figures) -> u64) -> Row {
    Row {
        key,
        class: Class::Derived,
        value: Value::Of(value),
    }
}

const fn fact(key: &'static str) -> Row {
    Row {
        key,
        class: Class::Fact,
        value: Value::Host,
    }
}

const fn zero(key: &'static str) -> Row {
    Row {
        key,
        class: Class::Zero,
        value: Value::Zero,
    }
}

/// In the kernel's order, so that the row of a line is mostly the next one.
#[rustfmt::skip]
const ROWS: &[Row] = &[
    exact("MemTotal", |f| f.total),
    exact("MemFree", |f| f.free),
    derived("MemAvailable", |f| f.available),
    zero("Buffers"),
    exact("Cached", |f| f.cached),
    exact("SwapCached", |f| f.swap_cached),
    derived("Active", |f| f.active_anon + f.active_file),
    derived("Inactive", |f| f.inactive_anon + f.inactive_file),
    exact("Active(anon)", |f| f.active_anon),
    exact("Inactive(anon)", |f| f.inactive_anon),
    exact("Active(file)", |f| f.active_file),
    exact("Inactive(file)", |f| f.inactive_file),
    exact("Unevictable", |f| f.unevictable),
    derived("Mlocked", |f| f.unevictable),
    zero("HighTotal"),
    zero("HighFree"),
    derived("LowTotal", |f| f.total),
    derived("LowFree", |f| f.free),
    zero("MmapCopy"),
    exact("SwapTotal", |f| f.swap.total_kb),
    exact("SwapFree", |f| f.swap.free_kb()),
    exact("Zswap", |f| f.zswap),
    exact("Zswapped", |f| f.zswapped),
    exact("Dirty", |f| f.dirty),
    exact("Writeback", |f| f.writeback),
    exact("AnonPages", |f| f.anon),
    exact("Mapped", |f| f.mapped),
    exact("Shmem", |f| f.shmem),
    derived("KReclaimable", |f| f.slab_reclaimable),
    derived("Slab", |f| f.slab_reclaimable + f.slab_unreclaimable),
    exact("SReclaimable", |f| f.slab_reclaimable),
    exact("SUnreclaim", |f| f.slab_unreclaimable),
    exact("KernelStack", |f| f.kernel_stack),
    exact("PageTables", |f| f.page_tables),
    exact("SecPageTables", |f| f.sec_page_tables),
    zero("Quicklists"),
    zero("NFS_Unstable"),
    zero("Bounce"),
    zero("WritebackTmp"),
    derived("CommitLimit", |f| f.commit_limit),
    derived("Committed_AS", |f| f.committed),
    fact("VmallocTotal"),
    exact("VmallocUsed", |f| f.vmalloc),
    zero("VmallocChunk"),
    exact("Percpu", |f| f.percpu),
    zero("EarlyMemtestBad"),
    zero("HardwareCorrupted"),
    exact("AnonHugePages", |f| f.anon_huge),
    exact("ShmemHugePages", |f| f.shmem_huge),
    zero("ShmemPmdMapped"),
    exact("FileHugePages", |f| f.file_huge),
    zero("FilePmdMapped"),
    zero("CmaTotal"),
    zero("CmaFree"),
    zero("Unaccepted"),
    zero("Balloon"),
    zero("GPUActive"),
    zero("GPUReclaim"),
    exact("HugePages_Total", |f| f.huge_pages_total),
    exact("HugePages_Free", |f| f.huge_pages_free),
    zero("HugePages_Rsvd"),
    zero("HugePages_Surp"),
    fact("Hugepagesize"),
    derived("Hugetlb", |f| f.hugetlb),
    zero("DirectMap4k"),
    zero("DirectMap64k"),
    zero("DirectMap1M"),
    zero("DirectMap2M"),
    zero("DirectMap4M"),
    zero("DirectMap1G"),
    zero("DirectMap2G"),
];

/// All values in kB, except for the counts of huge pages.
pub(super) struct Figures {
    pub(super) total: u64,
    pub(super) free: u64,
    pub(super) available: u64,
    pub(super) cached: u64,
    pub(super) swap: SwapView,
    pub(super) swap_cached: u64,
    pub(super) zswap: u64,
    pub(super) zswapped: u64,
    pub(super) active_anon: u64,
    pub(super) inactive_anon: u64,
    pub(super) active_file: u64,
    pub(super) inactive_file: u64,
    pub(super) unevictable: u64,
    pub(super) dirty: u64,
    pub(super) writeback: u64,
    pub(super) anon: u64,
    pub(super) mapped: u64,
    pub(super) shmem: u64,
    pub(super) slab_reclaimable: u64,
    pub(super) slab_unreclaimable: u64,
    pub(super) kernel_stack: u64,
    pub(super) page_tables: u64,
    pub(super) sec_page_tables: u64,
    pub(super) commit_limit: u64,
    pub(super) committed: u64,
    pub(super) vmalloc: u64,
    pub(super) percpu: u64,
    pub(super) anon_huge: u64,
    pub(super) shmem_huge: u64,
    pub(super) file_huge: u64,
    pub(super) huge_pages_total: u64,
    pub(super) huge_pages_free: u64,
    pub(super) hugetlb: u64,
}

impl Figures {
    pub(super) fn new(input: &Input<'_>) -> Self {
        let Input {
            host, memory, swap, ..
        } = *input;
        let stat = &memory.stat;
        let host_total = host.get("MemTotal").unwrap_or(0);
        let total = memory
            .limit_bytes
            .or_at_most(host_total.saturating_mul(1024))
            / 1024;
        let used = total.min(memory.usage_bytes / 1024);
        let free = total - used;
        let at_most = |ceiling: u64, bytes: Option<u64>| ceiling.min(bytes.unwrap_or(0) / 1024);
        let part = |bytes| at_most(used, bytes);

        // free(1) and others subtract these three from the total.
        let cached = part(stat.file);
        let slab_reclaimable = at_most(used - cached, stat.slab_reclaimable);
        let shmem = at_most(cached, stat.shmem);
        let anon = part(stat.anon);
        let active_anon = part(stat.active_anon);
        let inactive_anon = part(stat.inactive_anon);
        let active_file = at_most(used - active_anon, stat.active_file);
        let inactive_file = at_most(used - inactive_anon, stat.inactive_file);
        let reclaimable = active_file + inactive_file + slab_reclaimable;
        let host_available = host.get("MemAvailable").unwrap_or(total);
        let swap_cached = at_most(swap.used_kb.min(used), stat.swapcached);
        let zswapped = if input.hide_zswap {
            0
        } else {
            at_most(swap.used_kb, stat.zswapped)
        };
        let huge = HugePages::new(host, memory);
        let swap_and_total = total.saturating_add(swap.total_kb);
        Self {
            total,
            free,
            available: free
                .saturating_add(reclaimable)
                .min(total)
                .min(host_available),
            cached,
            swap,
            swap_cached,
            zswap: at_most(zswapped.min(used), stat.zswap),
            zswapped,
            active_anon,
            inactive_anon,
            active_file,
            inactive_file,
            unevictable: part(stat.unevictable),
            dirty: part(stat.file_dirty),
            writeback: part(stat.file_writeback),
            anon,
            mapped: at_most(cached, stat.file_mapped),
            shmem,
            slab_reclaimable,
            slab_unreclaimable: at_most(used - slab_reclaimable, stat.slab_unreclaimable),
            kernel_stack: part(stat.kernel_stack),
            page_tables: part(stat.pagetables),
            sec_page_tables: part(stat.sec_pagetables),
            commit_limit: commit_limit(host, total, swap.total_kb).min(swap_and_total),
            committed: (anon + shmem)
                .saturating_add(swap.used_kb)
                .min(swap_and_total),
            vmalloc: part(stat.vmalloc),
            percpu: part(stat.percpu),
            anon_huge: at_most(anon, stat.anon_thp),
            shmem_huge: at_most(shmem, stat.shmem_thp),
            file_huge: at_most(cached, stat.file_thp),
            huge_pages_total: huge.total,
            huge_pages_free: huge.free,
            hugetlb: huge.all_sizes_kb,
        }
    }
}

/// The kernel's formula with the shown totals; the share of memory that may be
/// committed is a setting of the machine, seen in the host's own figures.
fn commit_limit(host: &MemInfo, total_kb: u64, swap_total_kb: u64) -> u64 {
    let host_kb = |key| host.get(key).unwrap_or(0);
    let committable = host_kb("CommitLimit").saturating_sub(host_kb("SwapTotal"));
    let of = host_kb("MemTotal").saturating_sub(host_kb("Hugetlb"));
    let own = (u128::from(committable) * u128::from(total_kb))
        .checked_div(u128::from(of))
        .unwrap_or(0);
    u64::try_from(own)
        .unwrap_or(u64::MAX)
        .saturating_add(swap_total_kb)
}

/// Huge pages as the hugetlb controller has them; none without the controller.
#[derive(Default)]
struct HugePages {
    /// Pages of the default size.
    total: u64,
    /// Pages of the default size.
    free: u64,
    all_sizes_kb: u64,
}

impl HugePages {
    fn new(host: &MemInfo, memory: &Memory) -> Self {
        let default_kb = host.get("Hugepagesize").unwrap_or(0);
        let surplus = host.get("HugePages_Surp").unwrap_or(0);
        let pool = host
            .get("HugePages_Total")
            .unwrap_or(0)
            .saturating_sub(surplus);
        let mut huge = Self::default();
        for size in &memory.hugetlb {
            let page_bytes = size.page_kb.saturating_mul(1024);
            if size.page_kb == default_kb && default_kb > 0 {
                let used = size.usage_bytes / page_bytes;
                let limit = size.limit_bytes.or_at_most(u64::MAX) / page_bytes;
                huge.total = pool.max(used).min(limit);
                huge.free = huge.total.saturating_sub(used);
                let total_kb = huge.total.saturating_mul(default_kb);
                huge.all_sizes_kb = huge.all_sizes_kb.saturating_add(total_kb);
            } else {
                // The pools of other sizes are not in this file.
                huge.all_sizes_kb = huge.all_sizes_kb.saturating_add(size.usage_bytes / 1024);
            }
        }
        huge
    }
}

//! `/proc/vmstat` (kernel: Documentation/filesystems/proc.rst and mm/vmstat.c).
//!
//! The lines are the host's. What they count at present is that of `/proc/meminfo`, in
//! pages; what they have counted so far is the container's own since its start.

use super::{Class, find_from, meminfo, put, put_u64};
use crate::container::vm_counters::VmCounters;

#[cfg(test)]
mod tests;

/// What the file is made of.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// Names of the host's lines, in its order.
    pub names: &'a [String],
    /// What `/proc/meminfo` is made of.
    pub memory: meminfo::Input<'a>,
    /// What the container counted.
    pub counters: &'a VmCounters,
    /// Size of a page.
    pub page_kb: u64,
    /// Size of a transparent huge page.
    pub huge_page_kb: u64,
    /// Whether the lines of swapping show zero; those of zswap do as in `memory`.
    pub hide_swap: bool,
}

/// Renders the host's lines, in the host's order, with the container's values.
pub fn render(input: &Input<'_>, out: &mut Vec<u8>) {
    let figures = meminfo::Figures::new(&input.memory);
    let mut cursor = 0;
    for name in input.names {
        let row = find_from(ROWS, &mut cursor, |row| row.name == name);
        put(out, name);
        put(out, " ");
        // A line that is not known yet tells of the host's memory, most likely.
        put_u64(out, row.map_or(0, |row| row.value(input, &figures)));
        put(out, "\n");
    }
}

/// Every line that is known, with its class, in the kernel's order. `_ZONE` stands for
/// the name of each zone.
pub fn lines() -> impl Iterator<Item = (&'static str, Class)> {
    ROWS.iter().map(|row| (row.name, row.class))
}

struct Row {
    name: &'static str,
    class: Class,
    value: Value,
}

/// Where a value comes from; sizes are taken from figures in kB.
enum Value {
    Pages(fn(&meminfo::Figures) -> u64),
    HugePages(fn(&meminfo::Figures) -> u64),
    Kb(fn(&meminfo::Figures) -> u64),
    /// The counter of the same name.
    Counter,
    Zero,
}

impl Row {
    fn value(&self, input: &Input<'_>, figures: &meminfo::Figures) -> u64 {
        match self.value {
            Value::Pages(kb) => kb(figures).checked_div(input.page_kb).unwrap_or(0),
            Value::HugePages(kb) => kb(figures).checked_div(input.huge_page_kb).unwrap_or(0),
            Value::Kb(kb) => kb(figures),
            Value::Counter if self.is_hidden(input) => 0,
            Value::Counter => input.counters.get(self.name),
            Value::Zero => 0,
        }
    }

    fn is_hidden(&self, input: &Input<'_>) -> bool {
        match self.name {
            "pswpin" | "pswpout" | "swpin_zero" | "swpout_zero" => input.hide_swap,
            "zswpin" | "zswpout" | "zswpwb" => input.memory.hide_zswap,
            _ => false,
        }
    }
}

const fn exact(name: &'static str, value: Value) -> Row {
    Row {
        name,
        class: Class::Exact,
        value,
    }
}

const fn derived(name: &'static str, value: Value) -> Row {
    Row {
        name,
        class: Class::Derived,
        value,
    }
}

const fn zero(name: &'static str) -> Row {
    Row {
        name,
        class: Class::Zero,
        value: Value::Zero,
    }
}

/// In the kernel's order, so that the row of a line is mostly the next one. The last ones
/// are of older kernels.
#[rustfmt::skip]
const ROWS: &[Row] = &[
    exact("nr_free_pages", Value::Pages(|f| f.free)),
    zero("nr_free_pages_blocks"),
    exact("nr_zone_inactive_anon", Value::Pages(|f| f.inactive_anon)),
    exact("nr_zone_active_anon", Value::Pages(|f| f.active_anon)),
    exact("nr_zone_inactive_file", Value::Pages(|f| f.inactive_file)),
    exact("nr_zone_active_file", Value::Pages(|f| f.active_file)),
    exact("nr_zone_unevictable", Value::Pages(|f| f.unevictable)),
    derived("nr_zone_write_pending", Value::Pages(|f| f.dirty + f.writeback)),
    derived("nr_mlock", Value::Pages(|f| f.unevictable)),
    zero("nr_bounce"),
    zero("nr_zspages"),
    zero("nr_free_cma"),
    zero("nr_unaccepted"),
    zero("numa_hit"),
    zero("numa_miss"),
    zero("numa_foreign"),
    zero("numa_interleave"),
    zero("numa_local"),
    zero("numa_other"),
    exact("nr_inactive_anon", Value::Pages(|f| f.inactive_anon)),
    exact("nr_active_anon", Value::Pages(|f| f.active_anon)),
    exact("nr_inactive_file", Value::Pages(|f| f.inactive_file)),
    exact("nr_active_file", Value::Pages(|f| f.active_file)),
    exact("nr_unevictable", Value::Pages(|f| f.unevictable)),
    exact("nr_slab_reclaimable", Value::Pages(|f| f.slab_reclaimable)),
    exact("nr_slab_unreclaimable", Value::Pages(|f| f.slab_unreclaimable)),
    zero("nr_isolated_anon"),
    zero("nr_isolated_file"),
    zero("workingset_nodes"),
    exact("workingset_refault_anon", Value::Counter),
    exact("workingset_refault_file", Value::Counter),
    exact("workingset_activate_anon", Value::Counter),
    exact("workingset_activate_file", Value::Counter),
    exact("workingset_restore_anon", Value::Counter),
    exact("workingset_restore_file", Value::Counter),
    exact("workingset_nodereclaim", Value::Counter),
    exact("nr_anon_pages", Value::Pages(|f| f.anon)),
    exact("nr_mapped", Value::Pages(|f| f.mapped)),
    derived("nr_file_pages", Value::Pages(|f| f.cached + f.swap_cached)),
    exact("nr_dirty", Value::Pages(|f| f.dirty)),
    exact("nr_writeback", Value::Pages(|f| f.writeback)),
    zero("nr_writeback_temp"),
    exact("nr_shmem", Value::Pages(|f| f.shmem)),
    exact("nr_shmem_hugepages", Value::HugePages(|f| f.shmem_huge)),
    zero("nr_shmem_pmdmapped"),
    exact("nr_file_hugepages", Value::HugePages(|f| f.file_huge)),
    zero("nr_file_pmdmapped"),
    exact("nr_anon_transparent_hugepages", Value::HugePages(|f| f.anon_huge)),
    zero("nr_vmscan_write"),
    zero("nr_vmscan_immediate_reclaim"),
    zero("nr_dirtied"),
    zero("nr_written"),
    zero("nr_throttled_written"),
    zero("nr_kernel_misc_reclaimable"),
    zero("nr_foll_pin_acquired"),
    zero("nr_foll_pin_released"),
    exact("nr_kernel_stack", Value::Kb(|f| f.kernel_stack)),
    zero("nr_shadow_call_stack"),
    exact("nr_page_table_pages", Value::Pages(|f| f.page_tables)),
    exact("nr_sec_page_table_pages", Value::Pages(|f| f.sec_page_tables)),
    zero("nr_iommu_pages"),
    exact("nr_swapcached", Value::Pages(|f| f.swap_cached)),
    exact("pgpromote_success", Value::Counter),
    zero("pgpromote_candidate"),
    zero("pgpromote_candidate_nrl"),
    exact("pgdemote_kswapd", Value::Counter),
    exact("pgdemote_direct", Value::Counter),
    exact("pgdemote_khugepaged", Value::Counter),
    exact("pgdemote_proactive", Value::Counter),
    zero("nr_hugetlb"),
    zero("nr_balloon_pages"),
    zero("nr_kernel_file_pages"),
    zero("nr_gpu_active"),
    zero("nr_gpu_reclaim"),
    zero("nr_dirty_threshold"),
    zero("nr_dirty_background_threshold"),
    zero("nr_memmap_pages"),
    zero("nr_memmap_boot_pages"),
    derived("pgpgin", Value::Counter),
    derived("pgpgout", Value::Counter),
    derived("pswpin", Value::Counter),
    derived("pswpout", Value::Counter),
    zero("pgalloc_ZONE"),
    zero("allocstall_ZONE"),
    zero("pgskip_ZONE"),
    zero("pgfree"),
    exact("pgactivate", Value::Counter),
    exact("pgdeactivate", Value::Counter),
    exact("pglazyfree", Value::Counter),
    exact("pgfault", Value::Counter),
    exact("pgmajfault", Value::Counter),
    exact("pglazyfreed", Value::Counter),
    exact("pgrefill", Value::Counter),
    zero("pgreuse"),
    exact("pgsteal_kswapd", Value::Counter),
    exact("pgsteal_direct", Value::Counter),
    exact("pgsteal_khugepaged", Value::Counter),
    exact("pgsteal_proactive", Value::Counter),
    exact("pgscan_kswapd", Value::Counter),
    exact("pgscan_direct", Value::Counter),
    exact("pgscan_khugepaged", Value::Counter),
    exact("pgscan_proactive", Value::Counter),
    zero("pgscan_direct_throttle"),
    exact("pgscan_anon", Value::Counter),
    exact("pgscan_file", Value::Counter),
    exact("pgsteal_anon", Value::Counter),
    exact("pgsteal_file", Value::Counter),
    zero("zone_reclaim_success"),
    zero("zone_reclaim_failed"),
    zero("pginodesteal"),
    zero("slabs_scanned"),
    zero("kswapd_inodesteal"),
    zero("kswapd_low_wmark_hit_quickly"),
    zero("kswapd_high_wmark_hit_quickly"),
    zero("pageoutrun"),
    zero("pgrotated"),
    zero("drop_pagecache"),
    zero("drop_slab"),
    exact("oom_kill", Value::Counter),
    exact("numa_pte_updates", Value::Counter),
    zero("numa_huge_pte_updates"),
    exact("numa_hint_faults", Value::Counter),
    zero("numa_hint_faults_local"),
    exact("numa_pages_migrated", Value::Counter),
    zero("numa_task_migrated"),
    zero("numa_task_swapped"),
    zero("pgmigrate_success"),
    zero("pgmigrate_fail"),
    zero("thp_migration_success"),
    zero("thp_migration_fail"),
    zero("thp_migration_split"),
    zero("compact_migrate_scanned"),
    zero("compact_free_scanned"),
    zero("compact_isolated"),
    zero("compact_stall"),
    zero("compact_fail"),
    zero("compact_success"),
    zero("compact_daemon_wake"),
    zero("compact_daemon_migrate_scanned"),
    zero("compact_daemon_free_scanned"),
    zero("htlb_buddy_alloc_success"),
    zero("htlb_buddy_alloc_fail"),
    zero("cma_alloc_success"),
    zero("cma_alloc_fail"),
    zero("unevictable_pgs_culled"),
    zero("unevictable_pgs_scanned"),
    zero("unevictable_pgs_rescued"),
    zero("unevictable_pgs_mlocked"),
    zero("unevictable_pgs_munlocked"),
    zero("unevictable_pgs_cleared"),
    zero("unevictable_pgs_stranded"),
    exact("thp_fault_alloc", Value::Counter),
    zero("thp_fault_fallback"),
    zero("thp_fault_fallback_charge"),
    exact("thp_collapse_alloc", Value::Counter),
    zero("thp_collapse_alloc_failed"),
    zero("thp_file_alloc"),
    zero("thp_file_fallback"),
    zero("thp_file_fallback_charge"),
    zero("thp_file_mapped"),
    zero("thp_split_page"),
    zero("thp_split_page_failed"),
    zero("thp_deferred_split_page"),
    zero("thp_underused_split_page"),
    zero("thp_split_pmd"),
    zero("thp_scan_exceed_none_pte"),
    zero("thp_scan_exceed_swap_pte"),
    zero("thp_scan_exceed_share_pte"),
    zero("thp_split_pud"),
    zero("thp_zero_page_alloc"),
    zero("thp_zero_page_alloc_failed"),
    exact("thp_swpout", Value::Counter),
    exact("thp_swpout_fallback", Value::Counter),
    zero("balloon_inflate"),
    zero("balloon_deflate"),
    zero("balloon_migrate"),
    zero("nr_tlb_remote_flush"),
    zero("nr_tlb_remote_flush_received"),
    zero("nr_tlb_local_flush_all"),
    zero("nr_tlb_local_flush_one"),
    zero("swap_ra"),
    zero("swap_ra_hit"),
    exact("swpin_zero", Value::Counter),
    exact("swpout_zero", Value::Counter),
    zero("ksm_swpin_copy"),
    zero("cow_ksm"),
    exact("zswpin", Value::Counter),
    exact("zswpout", Value::Counter),
    exact("zswpwb", Value::Counter),
    zero("direct_map_level2_splits"),
    zero("direct_map_level3_splits"),
    zero("direct_map_level2_collapses"),
    zero("direct_map_level3_collapses"),
    zero("vma_lock_success"),
    zero("vma_lock_abort"),
    zero("vma_lock_retry"),
    zero("vma_lock_miss"),
    zero("kstack_1k"),
    zero("kstack_2k"),
    zero("kstack_4k"),
    zero("kstack_8k"),
    zero("kstack_16k"),
    zero("kstack_32k"),
    zero("kstack_64k"),
    zero("kstack_rest"),
    zero("nr_unstable"),
    zero("nr_pages_scanned"),
    zero("nr_indirectly_reclaimable"),
    exact("workingset_refault", Value::Counter),
    exact("workingset_activate", Value::Counter),
    exact("workingset_restore", Value::Counter),
    zero("allocstall"),
    zero("pgrefill_ZONE"),
    zero("pgsteal_kswapd_ZONE"),
    zero("pgsteal_direct_ZONE"),
    zero("pgscan_kswapd_ZONE"),
    zero("pgscan_direct_ZONE"),
    zero("kswapd_skip_congestion_wait"),
    zero("thp_split"),
    zero("kswapd_steal"),
];

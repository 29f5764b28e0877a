//! `meminfo`, `vmstat` and `hugepages` of a node below `/sys/devices/system/node`
//! (kernel: Documentation/ABI/stable/sysfs-devices-node).
//!
//! The figures are those of the container's `/proc/meminfo`, divided among the nodes
//! whose memory it may use, so that their sums are that file's lines to the kB.

use crate::cgroup::account::Hugetlb;
use crate::host::NumaNode;
use crate::parse::cpu_list::CpuSet;
use crate::parse::meminfo::MemInfo;
use crate::parse::numa_stat::NumaStat;

#[cfg(test)]
mod tests;

/// What the files are made of.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// The host's nodes.
    pub host: &'a [NumaNode],
    /// The nodes whose memory the container may use.
    pub memory: &'a CpuSet,
    /// The container's `/proc/meminfo`.
    pub own: &'a MemInfo,
    /// On which nodes the container's memory lies.
    pub stat: &'a NumaStat,
    /// The container's huge pages.
    pub hugetlb: &'a [Hugetlb],
    /// Size of a page, in which most lines of `vmstat` count.
    pub page_kb: u64,
    /// Size of a transparent huge page.
    pub huge_page_kb: u64,
}

/// The file `name` of the node, e.g. `meminfo`, with the lines of the `host`'s.
#[must_use]
pub fn render(input: &Input<'_>, node: usize, name: &str, host: &str) -> String {
    let figures = Figures::new(input, node);
    match name {
        "meminfo" => meminfo(&figures, host),
        "vmstat" => vmstat(&figures, input, node, host),
        _ => format!("{}\n", huge_pages(&figures, input, name)),
    }
}

/// A line that is divided among the nodes.
struct Divided {
    key: &'static str,
    /// The line of `/proc/meminfo`.
    own: &'static str,
    /// Lines of `memory.numa_stat` to divide by; the first that the kernel has.
    by: &'static [&'static str],
}

const fn divided(key: &'static str, by: &'static [&'static str]) -> Divided {
    Divided { key, own: key, by }
}

const DIVIDED: [Divided; 21] = [
    Divided {
        key: "FilePages",
        own: "Cached",
        by: &["file"],
    },
    divided("SwapCached", &["swapcached", "anon"]),
    divided("Active(anon)", &["active_anon", "anon"]),
    divided("Inactive(anon)", &["inactive_anon", "anon"]),
    divided("Active(file)", &["active_file", "file"]),
    divided("Inactive(file)", &["inactive_file", "file"]),
    divided("Unevictable", &["unevictable"]),
    divided("Mlocked", &["unevictable"]),
    divided("Dirty", &["file_dirty", "file"]),
    divided("Writeback", &["file_writeback", "file"]),
    divided("Mapped", &["file_mapped", "file"]),
    divided("AnonPages", &["anon"]),
    divided("Shmem", &["shmem", "file"]),
    divided("KernelStack", &["kernel_stack"]),
    divided("PageTables", &["pagetables"]),
    divided("SecPageTables", &["sec_pagetables"]),
    divided("SReclaimable", &["slab_reclaimable"]),
    divided("SUnreclaim", &["slab_unreclaimable"]),
    divided("AnonHugePages", &["anon_thp", "anon"]),
    divided("ShmemHugePages", &["shmem_thp", "shmem", "file"]),
    divided("FileHugePages", &["file_thp", "file"]),
];

/// Lines that are the sum of others.
const SUMS: [(&str, &[&str]); 6] = [
    ("Active", &["Active(anon)", "Active(file)"]),
    ("Inactive", &["Inactive(anon)", "Inactive(file)"]),
    ("KReclaimable", &["SReclaimable"]),
    ("Slab", &["SReclaimable", "SUnreclaim"]),
    ("LowTotal", &["MemTotal"]),
    ("LowFree", &["MemFree"]),
];

/// All that v2 tells the use of a node from; v1 has it as one figure.
const USED: [&str; 8] = [
    "total",
    "anon",
    "file",
    "kernel_stack",
    "pagetables",
    "sec_pagetables",
    "slab_reclaimable",
    "slab_unreclaimable",
];

enum Unit {
    Pages,
    HugePages,
    Kb,
}

/// Lines of `vmstat` with those of `meminfo` that they are the sum of.
const VMSTAT: [(&str, &[&str], Unit); 28] = [
    ("nr_free_pages", &["MemFree"], Unit::Pages),
    ("nr_zone_inactive_anon", &["Inactive(anon)"], Unit::Pages),
    ("nr_zone_active_anon", &["Active(anon)"], Unit::Pages),
    ("nr_zone_inactive_file", &["Inactive(file)"], Unit::Pages),
    ("nr_zone_active_file", &["Active(file)"], Unit::Pages),
    ("nr_zone_unevictable", &["Unevictable"], Unit::Pages),
    (
        "nr_zone_write_pending",
        &["Dirty", "Writeback"],
        Unit::Pages,
    ),
    ("nr_mlock", &["Mlocked"], Unit::Pages),
    ("nr_inactive_anon", &["Inactive(anon)"], Unit::Pages),
    ("nr_active_anon", &["Active(anon)"], Unit::Pages),
    ("nr_inactive_file", &["Inactive(file)"], Unit::Pages),
    ("nr_active_file", &["Active(file)"], Unit::Pages),
    ("nr_unevictable", &["Unevictable"], Unit::Pages),
    ("nr_slab_reclaimable", &["SReclaimable"], Unit::Pages),
    ("nr_slab_unreclaimable", &["SUnreclaim"], Unit::Pages),
    ("nr_anon_pages", &["AnonPages"], Unit::Pages),
    ("nr_mapped", &["Mapped"], Unit::Pages),
    ("nr_file_pages", &["FilePages"], Unit::Pages),
    ("nr_dirty", &["Dirty"], Unit::Pages),
    ("nr_writeback", &["Writeback"], Unit::Pages),
    ("nr_shmem", &["Shmem"], Unit::Pages),
    ("nr_shmem_hugepages", &["ShmemHugePages"], Unit::HugePages),
    ("nr_file_hugepages", &["FileHugePages"], Unit::HugePages),
    (
        "nr_anon_transparent_hugepages",
        &["AnonHugePages"],
        Unit::HugePages,
    ),
    ("nr_kernel_stack", &["KernelStack"], Unit::Kb),
    ("nr_page_table_pages", &["PageTables"], Unit::Pages),
    ("nr_sec_page_table_pages", &["SecPageTables"], Unit::Pages),
    ("nr_swapcached", &["SwapCached"], Unit::Pages),
];

/// The lines of one node's `meminfo` by key.
#[derive(Default)]
struct Figures {
    lines: Vec<(&'static str, u64)>,
    /// `MemTotal` of all nodes with memory, and which of them this one is.
    totals: (Vec<u64>, usize),
}

impl Figures {
    fn new(input: &Input<'_>, node: usize) -> Self {
        let host = input.host.iter();
        let nodes: Vec<&NumaNode> = host.filter(|n| input.memory.contains(n.id)).collect();
        let Some(index) = nodes.iter().position(|candidate| candidate.id == node) else {
            return Self::default();
        };
        let own = |key| input.own.get(key).unwrap_or(0);
        let of_nodes = |value: &dyn Fn(&NumaNode) -> u64| -> Vec<u64> {
            nodes.iter().map(|node| value(node)).collect()
        };
        let no_cap = vec![u64::MAX; nodes.len()];
        let sizes = of_nodes(&NumaNode::total_kb);
        let weights = of_nodes(&|node| {
            let parts = USED.iter().map(|key| input.stat.get(key, node.id));
            parts.fold(0, u64::saturating_add)
        });
        // By size alone: a machine's nodes stay as large as they are. What lies on a node
        // beyond its part of the limit is shown where there is room.
        let total = divide(own("MemTotal"), &sizes, &no_cap);
        let used = own("MemTotal").saturating_sub(own("MemFree"));
        let used = divide(used, &weights, &total);
        let pools = of_nodes(&|node| node.meminfo.get("HugePages_Total").unwrap_or(0));
        let huge = divide(own("HugePages_Total"), &pools, &no_cap);
        let huge_used = divide(
            own("HugePages_Total").saturating_sub(own("HugePages_Free")),
            &huge,
            &huge,
        );
        let at = |values: &[u64]| values.get(index).copied().unwrap_or(0);
        let mut figures = Self {
            lines: vec![
                ("MemTotal", at(&total)),
                ("MemUsed", at(&used)),
                ("MemFree", at(&total).saturating_sub(at(&used))),
                ("HugePages_Total", at(&huge)),
                ("HugePages_Free", at(&huge).saturating_sub(at(&huge_used))),
            ],
            totals: (total.clone(), index),
        };
        // Page cache and reclaimable slabs together are part of what is used.
        let mut beside_cache = used.clone();
        for line in &DIVIDED {
            let by = line.by.iter().find(|key| input.stat.has(key));
            let by = by.map_or_else(
                || weights.clone(),
                |key| of_nodes(&|node| input.stat.get(key, node.id)),
            );
            let caps = if line.key == "SReclaimable" {
                &beside_cache
            } else {
                &used
            };
            let parts = divide(own(line.own), &by, caps);
            figures.lines.push((line.key, at(&parts)));
            if line.key == "FilePages" {
                for (room, cached) in beside_cache.iter_mut().zip(&parts) {
                    *room = room.saturating_sub(*cached);
                }
            }
        }
        for (key, parts) in &SUMS {
            let sum = parts
                .iter()
                .fold(0_u64, |sum, part| sum.saturating_add(figures.get(part)));
            figures.lines.push((key, sum));
        }
        figures
    }

    /// The value of a line; 0 for what no cgroup accounts.
    fn get(&self, key: &str) -> u64 {
        let line = self.lines.iter().find(|(known, _)| *known == key);
        line.map_or(0, |(_, value)| *value)
    }
}

/// Divides `value` by weights to the last unit. What is beyond a cap goes to where there is
/// room left.
fn divide(value: u64, weights: &[u64], caps: &[u64]) -> Vec<u64> {
    let sum: u128 = weights.iter().copied().map(u128::from).sum();
    let (weights, sum) = if sum == 0 {
        (caps, caps.iter().copied().map(u128::from).sum())
    } else {
        (weights, sum)
    };
    let up_to = |weight: u128| {
        let part = u128::from(value).saturating_mul(weight).checked_div(sum);
        u64::try_from(part.unwrap_or(0)).unwrap_or(u64::MAX)
    };
    let mut weight_before: u128 = 0;
    let mut beyond: u64 = 0;
    let mut parts = Vec::with_capacity(weights.len());
    for (weight, cap) in weights.iter().zip(caps) {
        let weight = weight_before.saturating_add(u128::from(*weight));
        let part = up_to(weight).saturating_sub(up_to(weight_before));
        weight_before = weight;
        beyond = beyond.saturating_add(part.saturating_sub(*cap));
        parts.push(part.min(*cap));
    }
    for (part, cap) in parts.iter_mut().zip(caps) {
        let more = beyond.min(cap.saturating_sub(*part));
        *part = part.saturating_add(more);
        beyond = beyond.saturating_sub(more);
    }
    parts
}

/// The host's lines with other values, as wide as those of the host or wider.
fn meminfo(figures: &Figures, host: &str) -> String {
    let mut text = String::with_capacity(host.len());
    for line in host.lines() {
        let Some((label, value)) = line.split_once(':') else {
            continue;
        };
        let key = label.rsplit(' ').next().unwrap_or_default();
        let digits_end = value.trim_end_matches(" kB").len();
        let unit = value.get(digits_end..).unwrap_or_default();
        let value = figures.get(key);
        text.push_str(&format!("{label}:{value:>digits_end$}{unit}\n"));
    }
    text
}

fn vmstat(figures: &Figures, input: &Input<'_>, node: usize, host: &str) -> String {
    let mut text = String::with_capacity(host.len());
    for key in host.lines().filter_map(|line| line.split(' ').next()) {
        let value = match VMSTAT.iter().find(|(known, _, _)| *known == key) {
            Some((_, parts, unit)) => {
                let parts = parts.iter().map(|part| figures.get(part));
                let kb = parts.fold(0, u64::saturating_add);
                let per_unit_kb = match unit {
                    Unit::Pages => input.page_kb,
                    Unit::HugePages => input.huge_page_kb,
                    Unit::Kb => 1,
                };
                kb.checked_div(per_unit_kb).unwrap_or(0)
            }
            // v2 counts these by node too.
            None if key.starts_with("workingset_") && input.memory.contains(node) => {
                input.stat.get(key, node)
            }
            None => 0,
        };
        text.push_str(&format!("{key} {value}\n"));
    }
    text
}

/// A file of the node's pool of huge pages of one size, e.g.
/// `hugepages/hugepages-2048kB/free_hugepages`.
fn huge_pages(figures: &Figures, input: &Input<'_>, name: &str) -> u64 {
    let mut parts = name.split('/').skip(1);
    let size = parts.next().unwrap_or_default();
    let size = size.strip_prefix("hugepages-").unwrap_or(size);
    let page_kb: u64 = size.trim_end_matches("kB").parse().unwrap_or(0);
    let is_default = input.own.get("Hugepagesize") == Some(page_kb);
    match parts.next() {
        Some("nr_hugepages") if is_default => figures.get("HugePages_Total"),
        Some("free_hugepages") if is_default => figures.get("HugePages_Free"),
        // Of other sizes those in use are shown, as in `/proc/meminfo`.
        Some("nr_hugepages") => {
            let used = input.hugetlb.iter().find(|size| size.page_kb == page_kb);
            let used_kb = used.map_or(0, |size| size.usage_bytes / 1024);
            let (totals, index) = &figures.totals;
            let all = used_kb.checked_div(page_kb).unwrap_or(0);
            let parts = divide(all, totals, &vec![u64::MAX; totals.len()]);
            parts.get(*index).copied().unwrap_or(0)
        }
        _ => 0,
    }
}

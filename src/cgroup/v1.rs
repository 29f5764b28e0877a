//! cgroup v1 files (kernel: Documentation/admin-guide/cgroup-v1/).

use super::account::{CpuUsage, DeviceIo, Memory, MemoryStat, Swap};
use super::vm_events::VmEvents;
use super::{Error, Limit, Node, cpu_millis, nearest_number, nearest_text, number, smallest_limit};
use crate::parse::{ParseError, keyed};

/// `cpuacct.stat` counts in clock ticks, of which the kernel promises user space
/// this many a second on every architecture that still has cgroup v1.
const NSEC_PER_TICK: u64 = 10_000_000;

const STAT: &str = "memory.stat";

/// Memory and swap together.
const MEMSW_USAGE: &str = "memory.memsw.usage_in_bytes";

pub(super) fn memory(node: &Node) -> Result<Option<Memory>, Error> {
    let Some(usage_bytes) = nearest_number(node, "memory.usage_in_bytes")? else {
        return Ok(None);
    };
    let own_stat = node.read(STAT)?.map(|text| StatFile::parse(&text));
    // The smallest limit on the way to the root: one file instead of one at each level.
    let limit_bytes = match own_stat.as_ref().and_then(|stat| stat.limit_bytes) {
        Some(limit) => Limit::from_v1(limit),
        None => smallest_limit(node, "memory.limit_in_bytes")?,
    };
    let memsw_limit_bytes = match own_stat.as_ref().and_then(|stat| stat.memsw_limit_bytes) {
        Some(limit) => Some(Limit::from_v1(limit)),
        None => match nearest_number(node, MEMSW_USAGE)? {
            Some(_) => Some(smallest_limit(node, "memory.memsw.limit_in_bytes")?),
            None => None,
        },
    };
    let StatFile {
        total, swap_bytes, ..
    } = match own_stat {
        Some(stat) => stat,
        None => StatFile::parse(&nearest_text(node, STAT)?.unwrap_or_default()),
    };
    let swap = match memsw_limit_bytes {
        Some(memsw) => Some(Swap {
            limit_bytes: swap_limit(limit_bytes, memsw),
            usage_bytes: match swap_bytes {
                Some(bytes) => bytes,
                None => nearest_number(node, MEMSW_USAGE)?
                    .unwrap_or(0)
                    .saturating_sub(usage_bytes),
            },
        }),
        None => None,
    };
    Ok(Some(Memory {
        limit_bytes,
        usage_bytes,
        stat: total,
        swap,
        hugetlb: Vec::new(),
    }))
}

/// v1 limits memory and swap together: what is left above the memory limit is swap.
fn swap_limit(memory: Limit, memsw: Limit) -> Limit {
    match (memory, memsw) {
        (_, Limit::Max) => Limit::Max,
        (Limit::Max, Limit::Value(memsw)) => Limit::Value(memsw),
        (Limit::Value(memory), Limit::Value(memsw)) => Limit::Value(memsw.saturating_sub(memory)),
    }
}

/// What `memory.stat` tells.
#[derive(Debug, Default)]
struct StatFile {
    /// The `total_` lines, which cover the cgroups below as well.
    total: MemoryStat,
    swap_bytes: Option<u64>,
    /// Smallest limit on the way to the root, of memory, and of memory with swap.
    limit_bytes: Option<u64>,
    memsw_limit_bytes: Option<u64>,
}

impl StatFile {
    fn parse(text: &str) -> Self {
        let mut file = Self::default();
        let total = &mut file.total;
        for (key, value) in keyed::flat(text) {
            let field = match key {
                "hierarchical_memory_limit" => &mut file.limit_bytes,
                "hierarchical_memsw_limit" => &mut file.memsw_limit_bytes,
                "total_rss" => &mut total.anon,
                "total_cache" => &mut total.file,
                "total_shmem" => &mut total.shmem,
                "total_rss_huge" => &mut total.anon_thp,
                "total_mapped_file" => &mut total.file_mapped,
                "total_dirty" => &mut total.file_dirty,
                "total_writeback" => &mut total.file_writeback,
                "total_swapcached" => &mut total.swapcached,
                "total_swap" => &mut file.swap_bytes,
                "total_inactive_anon" => &mut total.inactive_anon,
                "total_active_anon" => &mut total.active_anon,
                "total_inactive_file" => &mut total.inactive_file,
                "total_active_file" => &mut total.active_file,
                "total_unevictable" => &mut total.unevictable,
                _ => continue,
            };
            *field = Some(value);
        }
        file
    }
}

pub(super) fn vm_events(node: &Node) -> Result<Option<VmEvents>, Error> {
    let Some(stat) = nearest_text(node, STAT)? else {
        return Ok(None);
    };
    let totals =
        keyed::flat(&stat).filter_map(|(key, value)| Some((key.strip_prefix("total_")?, value)));
    let mut events = VmEvents::from_stat(totals);
    // Since Linux 4.13; of the cgroups below as well.
    let control = nearest_text(node, "memory.oom_control")?.unwrap_or_default();
    if let Some(kills) = keyed::flat_value(&control, "oom_kill") {
        events.set("oom_kill", kills);
    }
    Ok(Some(events))
}

/// User and system time split the precise use as `cpuacct.stat` says; the tick-based
/// sum of that file differs from it on kernels before 5.10.
pub(super) fn cpu_usage(node: &Node) -> Result<Option<CpuUsage>, Error> {
    let Some(per_cpu) = nearest_text(node, "cpuacct.usage_percpu")? else {
        return Ok(None);
    };
    let stat = nearest_text(node, "cpuacct.stat")?.unwrap_or_default();
    let per_cpu_nsec = usage_percpu(&per_cpu)?;
    let ticks = |key| keyed::flat_value(&stat, key).unwrap_or(0);
    let (user_nsec, system_nsec) = split(
        per_cpu_nsec
            .iter()
            .fold(0, |sum, cpu| sum.saturating_add(*cpu)),
        ticks("user"),
        ticks("system"),
    );
    Ok(Some(CpuUsage {
        user_nsec,
        system_nsec,
        nice_nsec: None,
        throttled_nsec: 0,
        per_cpu_nsec: Some(per_cpu_nsec),
    }))
}

pub(super) fn cpu_used_nsec(node: &Node) -> Result<Option<u64>, Error> {
    let file = "cpuacct.usage";
    node.read(file)?.map(|text| number(file, &text)).transpose()
}

fn usage_percpu(text: &str) -> Result<Vec<u64>, ParseError> {
    let bad = |word| ParseError::new("cpuacct.usage_percpu", "number", word);
    let words = text.split_ascii_whitespace();
    let usage: Vec<u64> = words
        .map(|word| word.parse().map_err(|_| bad(word)))
        .collect::<Result<_, _>>()?;
    if usage.is_empty() {
        Err(bad(text))
    } else {
        Ok(usage)
    }
}

/// Splits `total` in the ratio of `user` to `system` ticks. The system part is kept to
/// its own ticks, so that neither part decreases while the other one grows.
fn split(total_nsec: u64, user_ticks: u64, system_ticks: u64) -> (u64, u64) {
    let counted_nsec = user_ticks
        .saturating_add(system_ticks)
        .saturating_mul(NSEC_PER_TICK);
    let system_nsec = if counted_nsec <= total_nsec {
        system_ticks.saturating_mul(NSEC_PER_TICK)
    } else {
        let scaled = u128::from(total_nsec) * u128::from(system_ticks)
            / u128::from(user_ticks.saturating_add(system_ticks).max(1));
        u64::try_from(scaled).unwrap_or(total_nsec)
    };
    (
        total_nsec.saturating_sub(system_nsec),
        system_nsec.min(total_nsec),
    )
}

pub(super) fn throttled_nsec(node: &Node) -> Result<u64, Error> {
    let text = nearest_text(node, "cpu.stat")?.unwrap_or_default();
    Ok(keyed::flat_value(&text, "throttled_time").unwrap_or(0))
}

pub(super) fn cpu_limit_millis(node: &Node) -> Result<Limit, Error> {
    let mut smallest = Limit::Max;
    for node in node.self_and_ancestors() {
        let Some(quota) = node.read("cpu.cfs_quota_us")? else {
            continue;
        };
        // -1 stands for "no quota".
        if quota.starts_with('-') {
            continue;
        }
        let quota_usec = number("cpu.cfs_quota_us", &quota)?;
        let period_usec = match node.read("cpu.cfs_period_us")? {
            Some(text) => number("cpu.cfs_period_us", &text)?,
            None => continue,
        };
        smallest = smallest.min(cpu_millis(quota_usec, period_usec));
    }
    Ok(smallest)
}

/// The throttle figures count every request; those of a weight-based scheduler (bfq,
/// cfq) only its own.
pub(super) fn io(node: &Node) -> Result<Vec<DeviceIo>, Error> {
    let mut devices = Vec::new();
    let files = [
        (
            "blkio.throttle.io_serviced_recursive",
            "blkio.throttle.io_serviced",
        ),
        (
            "blkio.throttle.io_service_bytes_recursive",
            "blkio.throttle.io_service_bytes",
        ),
    ];
    for (index, (recursive, own)) in files.into_iter().enumerate() {
        let text = match nearest_text(node, recursive)? {
            Some(text) => Some(text),
            None => nearest_text(node, own)?,
        };
        add_blkio(
            &mut devices,
            text.as_deref().unwrap_or_default(),
            index == 0,
        );
    }
    Ok(devices)
}

/// Adds lines such as `8:0 Read 12`; the lines `Sync`, `Async` and `Total` repeat them.
fn add_blkio(devices: &mut Vec<DeviceIo>, text: &str, counts: bool) {
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let (Some(device), Some(kind), Some(Ok(value))) = (
            words.next(),
            words.next(),
            words.next().map(str::parse::<u64>),
        ) else {
            continue;
        };
        let Some((major, minor)) = keyed::device(device) else {
            continue;
        };
        let known = devices
            .iter()
            .position(|io| (io.major, io.minor) == (major, minor));
        let index = known.unwrap_or_else(|| {
            devices.push(DeviceIo {
                major,
                minor,
                ..DeviceIo::default()
            });
            devices.len() - 1
        });
        let Some(io) = devices.get_mut(index) else {
            continue;
        };
        let field = match (kind, counts) {
            ("Read", true) => &mut io.reads,
            ("Write", true) => &mut io.writes,
            ("Discard", true) => &mut io.discards,
            ("Read", false) => &mut io.read_bytes,
            ("Write", false) => &mut io.written_bytes,
            ("Discard", false) => &mut io.discarded_bytes,
            _ => continue,
        };
        *field = value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_the_precise_use_by_ticks() {
        assert_eq!(split(50_000_000, 3, 1), (40_000_000, 10_000_000));
        assert_eq!(split(20_000_000, 2, 2), (10_000_000, 10_000_000));
        assert_eq!(split(7, 0, 0), (7, 0));
        assert_eq!(split(0, 5, 5), (0, 0));
        let (user, system) = split(u64::MAX, u64::MAX, u64::MAX);
        assert!(user.saturating_add(system) >= u64::MAX - 1);
    }

    #[test]
    fn what_memsw_leaves_above_the_memory_limit_is_swap() {
        let value = Limit::Value;
        assert_eq!(swap_limit(value(50), value(80)), value(30));
        assert_eq!(swap_limit(value(50), value(50)), value(0));
        assert_eq!(swap_limit(value(50), value(20)), value(0));
        assert_eq!(swap_limit(value(50), Limit::Max), Limit::Max);
        assert_eq!(swap_limit(Limit::Max, value(80)), value(80));
    }

    #[test]
    fn reads_blkio_figures() {
        let mut devices = Vec::new();
        add_blkio(
            &mut devices,
            "252:0 Read 3\n252:0 Write 1\n252:0 Sync 4\n252:0 Total 4\n8:0 Read x\nTotal 4\n",
            true,
        );
        add_blkio(&mut devices, "252:0 Read 4096\n252:0 Discard 512\n", false);
        assert_eq!(devices.len(), 1);
        assert_eq!(
            (
                devices[0].reads,
                devices[0].writes,
                devices[0].read_bytes,
                devices[0].discarded_bytes
            ),
            (3, 1, 4096, 512)
        );
    }

    #[test]
    fn refuses_garbage_in_usage_percpu() {
        assert_eq!(usage_percpu("1 2 3 \n"), Ok(vec![1, 2, 3]));
        assert!(usage_percpu("1 x").is_err());
        assert!(usage_percpu("\n").is_err());
    }
}

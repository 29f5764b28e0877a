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
    let own_stat = node.read(STAT)?;
    // The smallest limit on the way to the root: one file instead of one at each level.
    let stated = |key| keyed::flat_value(own_stat.as_deref()?, key).map(Limit::from_v1);
    let limit_bytes = match stated("hierarchical_memory_limit") {
        Some(limit) => limit,
        None => smallest_limit(node, "memory.limit_in_bytes")?,
    };
    let memsw_limit_bytes = match stated("hierarchical_memsw_limit") {
        Some(limit) => Some(limit),
        None => match nearest_number(node, MEMSW_USAGE)? {
            Some(_) => Some(smallest_limit(node, "memory.memsw.limit_in_bytes")?),
            None => None,
        },
    };
    let text = match own_stat {
        Some(text) => text,
        None => nearest_text(node, STAT)?.unwrap_or_default(),
    };
    let swap = match memsw_limit_bytes {
        Some(memsw) => Some(Swap {
            limit_bytes: swap_limit(limit_bytes, memsw),
            usage_bytes: match keyed::flat_value(&text, "total_swap") {
                Some(bytes) => bytes,
                None => nearest_number(node, MEMSW_USAGE)?
                    .unwrap_or(0)
                    .saturating_sub(usage_bytes),
            },
        }),
        None => None,
    };
    let mut stat = memory_stat(&text);
    stat.kernel = nearest_number(node, "memory.kmem.usage_in_bytes")?;
    Ok(Some(Memory {
        limit_bytes,
        usage_bytes,
        stat,
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

/// The `total_` lines cover the cgroups below as well.
fn memory_stat(text: &str) -> MemoryStat {
    let mut stat = MemoryStat::default();
    for (key, value) in keyed::flat(text) {
        let field = match key {
            "total_rss" => &mut stat.anon,
            "total_cache" => &mut stat.file,
            "total_shmem" => &mut stat.shmem,
            "total_rss_huge" => &mut stat.anon_thp,
            "total_mapped_file" => &mut stat.file_mapped,
            "total_dirty" => &mut stat.file_dirty,
            "total_writeback" => &mut stat.file_writeback,
            "total_swapcached" => &mut stat.swapcached,
            "total_inactive_anon" => &mut stat.inactive_anon,
            "total_active_anon" => &mut stat.active_anon,
            "total_inactive_file" => &mut stat.inactive_file,
            "total_active_file" => &mut stat.active_file,
            "total_unevictable" => &mut stat.unevictable,
            "total_pgfault" => &mut stat.pgfault,
            "total_pgmajfault" => &mut stat.pgmajfault,
            _ => continue,
        };
        *field = Some(value);
    }
    stat
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

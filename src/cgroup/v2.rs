//! cgroup v2 files (kernel: Documentation/admin-guide/cgroup-v2.rst).

use super::account::{CpuUsage, DeviceIo, Memory, MemoryStat, Swap};
use super::vm_events::VmEvents;
use super::{Error, Limit, Node, cpu_millis, nearest_number, nearest_text, smallest_limit};
use crate::parse::{ParseError, keyed};

/// `None` if the memory controller is enabled nowhere on the way to the root.
pub(super) fn memory(node: &Node) -> Result<Option<Memory>, Error> {
    let Some(usage_bytes) = nearest_number(node, "memory.current")? else {
        return Ok(None);
    };
    let stat = nearest_text(node, "memory.stat")?.unwrap_or_default();
    let swap = match nearest_number(node, "memory.swap.current")? {
        Some(usage_bytes) => Some(Swap {
            limit_bytes: smallest_limit(node, "memory.swap.max")?,
            usage_bytes,
        }),
        None => None,
    };
    Ok(Some(Memory {
        limit_bytes: smallest_limit(node, "memory.max")?,
        usage_bytes,
        stat: memory_stat(&stat),
        swap,
        hugetlb: Vec::new(),
    }))
}

fn memory_stat(text: &str) -> MemoryStat {
    let mut stat = MemoryStat::default();
    for (key, value) in keyed::flat(text) {
        let field = match key {
            "anon" => &mut stat.anon,
            "file" => &mut stat.file,
            "kernel" => &mut stat.kernel,
            "kernel_stack" => &mut stat.kernel_stack,
            "pagetables" => &mut stat.pagetables,
            "sec_pagetables" => &mut stat.sec_pagetables,
            "percpu" => &mut stat.percpu,
            "sock" => &mut stat.sock,
            "vmalloc" => &mut stat.vmalloc,
            "shmem" => &mut stat.shmem,
            "zswap" => &mut stat.zswap,
            "zswapped" => &mut stat.zswapped,
            "file_mapped" => &mut stat.file_mapped,
            "file_dirty" => &mut stat.file_dirty,
            "file_writeback" => &mut stat.file_writeback,
            "swapcached" => &mut stat.swapcached,
            "anon_thp" => &mut stat.anon_thp,
            "file_thp" => &mut stat.file_thp,
            "shmem_thp" => &mut stat.shmem_thp,
            "inactive_anon" => &mut stat.inactive_anon,
            "active_anon" => &mut stat.active_anon,
            "inactive_file" => &mut stat.inactive_file,
            "active_file" => &mut stat.active_file,
            "unevictable" => &mut stat.unevictable,
            "slab_reclaimable" => &mut stat.slab_reclaimable,
            "slab_unreclaimable" => &mut stat.slab_unreclaimable,
            "slab" => &mut stat.slab,
            "pgfault" => &mut stat.pgfault,
            "pgmajfault" => &mut stat.pgmajfault,
            _ => continue,
        };
        *field = Some(value);
    }
    stat
}

pub(super) fn vm_events(node: &Node) -> Result<Option<VmEvents>, Error> {
    let Some(stat) = nearest_text(node, "memory.stat")? else {
        return Ok(None);
    };
    let mut events = VmEvents::from_stat(keyed::flat(&stat));
    let kills = nearest_text(node, "memory.events")?.unwrap_or_default();
    if let Some(kills) = keyed::flat_value(&kills, "oom_kill") {
        events.set("oom_kill", kills);
    }
    Ok(Some(events))
}

pub(super) fn cpu_used_nsec(node: &Node) -> Result<Option<u64>, Error> {
    let text = node.read("cpu.stat")?.unwrap_or_default();
    let used_usec = keyed::flat_value(&text, "usage_usec");
    Ok(used_usec.map(|usec| usec.saturating_mul(1000)))
}

/// `cpu.stat` exists in every cgroup, with or without the cpu controller; only with
/// it there is a throttled time.
pub(super) fn cpu_usage(node: &Node) -> Result<Option<CpuUsage>, Error> {
    let Some(text) = nearest_text(node, "cpu.stat")? else {
        return Ok(None);
    };
    let nsec = |key| keyed::flat_value(&text, key).map(|usec| usec.saturating_mul(1000));
    let must = |key| nsec(key).ok_or_else(|| ParseError::new("cpu.stat", key, &text));
    Ok(Some(CpuUsage {
        user_nsec: must("user_usec")?,
        system_nsec: must("system_usec")?,
        nice_nsec: nsec("nice_usec"),
        throttled_nsec: nsec("throttled_usec").unwrap_or(0),
        per_cpu_nsec: None,
    }))
}

pub(super) fn cpu_limit_millis(node: &Node) -> Result<Limit, Error> {
    let mut smallest = Limit::Max;
    for node in node.self_and_ancestors() {
        if let Some(text) = node.read("cpu.max")? {
            smallest = smallest.min(cpu_max(&text)?);
        }
    }
    Ok(smallest)
}

fn cpu_max(text: &str) -> Result<Limit, ParseError> {
    let bad = || ParseError::new("cpu.max", "quota and period", text);
    let (quota, period) = text.trim().split_once(' ').ok_or_else(bad)?;
    let period_usec: u64 = period.parse().map_err(|_| bad())?;
    Ok(match Limit::parse("cpu.max", quota)? {
        Limit::Max => Limit::Max,
        Limit::Value(quota_usec) => cpu_millis(quota_usec, period_usec),
    })
}

pub(super) fn io(node: &Node) -> Result<Vec<DeviceIo>, Error> {
    Ok(nearest_text(node, "io.stat")?
        .as_deref()
        .map_or_else(Vec::new, io_stat))
}

fn io_stat(text: &str) -> Vec<DeviceIo> {
    keyed::nested(text)
        .filter_map(|(device, pairs)| {
            let (major, minor) = keyed::device(device)?;
            let mut io = DeviceIo {
                major,
                minor,
                ..DeviceIo::default()
            };
            for (name, value) in pairs {
                match name {
                    "rbytes" => io.read_bytes = value,
                    "wbytes" => io.written_bytes = value,
                    "dbytes" => io.discarded_bytes = value,
                    "rios" => io.reads = value,
                    "wios" => io.writes = value,
                    "dios" => io.discards = value,
                    _ => {}
                }
            }
            Some(io)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_cpu_max() {
        assert_eq!(cpu_max("max 100000\n"), Ok(Limit::Max));
        assert_eq!(cpu_max("50000 100000\n"), Ok(Limit::Value(500)));
        assert_eq!(cpu_max("110000 100000"), Ok(Limit::Value(1100)));
        assert_eq!(cpu_max("1000 1000000"), Ok(Limit::Value(1)));
        assert_eq!(cpu_max("1000 0"), Ok(Limit::Max));
        for text in ["", "max", "x 1", "1 x"] {
            assert!(cpu_max(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn reads_io_stat() {
        let text = "8:0 rbytes=90112 wbytes=4096 rios=4 wios=1 dbytes=0 dios=0\n7:0\n252:0 rbytes=1 cost.usage=3\nx y=1\n";
        let io = io_stat(text);
        assert_eq!(io.len(), 2);
        assert_eq!(
            (io[0].major, io[0].reads, io[0].written_bytes),
            (8, 4, 4096)
        );
        assert_eq!((io[1].major, io[1].read_bytes), (252, 1));
    }

    #[test]
    fn an_unknown_key_of_memory_stat_is_no_error() {
        let stat =
            memory_stat("anon 1\nfile_mapped 3\nfile 2\nnew_key 4\nworkingset_refault_anon 0\n");
        assert_eq!(
            (stat.anon, stat.file, stat.file_mapped, stat.slab),
            (Some(1), Some(2), Some(3), None)
        );
    }
}

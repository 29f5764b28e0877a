//! A coherent machine made by hand: CPUs 2 and 3 of it, memory node 1, one busy process.

use std::collections::BTreeMap;

use crate::file::{Behaviour, Latency};
use crate::inside::Run;
use crate::sample::{CPU_TREE, Calls, NODE_TREE, Newest, Sample, Text, Thread};
use crate::truth::Truth;

/// Seconds of the clock at the first sample, and between two.
pub const START: f64 = 10.0;
pub const APART: f64 = 2.0;
const BOOT: f64 = 1_700_000_000.0;

const MEMINFO: &str = "MemTotal: 262144 kB\nMemFree: 200000 kB\nMemAvailable: 230000 kB\nBuffers: 0 kB\n\
    Cached: 30000 kB\nSwapCached: 0 kB\nActive: 20000 kB\nInactive: 30000 kB\nActive(anon): 10000 kB\n\
    Inactive(anon): 10000 kB\nActive(file): 10000 kB\nInactive(file): 20000 kB\nSwapTotal: 1000 kB\n\
    SwapFree: 400 kB\nDirty: 0 kB\nWriteback: 0 kB\nAnonPages: 20000 kB\nMapped: 5000 kB\nShmem: 100 kB\n\
    KReclaimable: 2000 kB\nSlab: 5000 kB\nSReclaimable: 2000 kB\nSUnreclaim: 3000 kB\nKernelStack: 100 kB\n\
    PageTables: 100 kB\nCommitLimit: 132072 kB\nCommitted_AS: 20700 kB\nVmallocTotal: 34359738367 kB\n\
    HugePages_Total: 0\nHugepagesize: 2048 kB\n";
const SWAPS: &str = "Filename Type Size Used Priority\nnone virtual 1000 600 0\n";
const CPUINFO: &str = "processor\t: 2\nphysical id\t: 0\nsiblings\t: 2\ncore id\t: 0\ncpu cores\t: 2\n\n\
    processor\t: 3\nphysical id\t: 0\nsiblings\t: 2\ncore id\t: 1\ncpu cores\t: 2\n\n";
const INTERRUPTS: &str = "     CPU2 CPU3\n  1: 0 0 timer\n";
const SLABINFO: &str = "slabinfo - version: 2.1\n# name\n\
    dentry 100 100 192 21 1 : tunables 0 0 0 : slabdata 1250 1250 0\n";

/// Everything at so many seconds after the container's start.
pub fn sample(second: f64) -> Sample {
    let ticks = (second * 100.0) as u64;
    let line = format!("{ticks} 0 0 0 0 0 0 0 0 0");
    let idle = format!("0 0 0 {ticks} 0 0 0 0 0 0");
    let both = format!("{ticks} 0 0 {ticks} 0 0 0 0 0 0");
    let sectors = (second * 1000.0) as u64;
    let disk = format!("10 0 0 0 {sectors} 0 {sectors} 0 0 500 500");
    let disks_after = format!(" 254 0 vda {disk}\n");
    let texts = [
        ("/proc/uptime", format!("{second:.2} {second:.2}\n")),
        (
            "/proc/stat",
            format!(
                "cpu  {both}\ncpu2 {line}\ncpu3 {idle}\nintr {ticks} 0 0\nctxt {ticks}\nbtime {BOOT}\nprocesses 50\n\
                 procs_running 1\nprocs_blocked 0\nsoftirq {ticks} 0\n"
            ),
        ),
        (
            "/proc/loadavg",
            format!("{:.2} 0.10 0.05 1/2 40\n", 1.0 - (-second / 60.0).exp()),
        ),
        ("/proc/meminfo", MEMINFO.to_owned()),
        ("/proc/swaps", SWAPS.to_owned()),
        ("/proc/cpuinfo", CPUINFO.to_owned()),
        ("/proc/interrupts", INTERRUPTS.to_owned()),
        ("/proc/slabinfo", SLABINFO.to_owned()),
        ("/proc/diskstats", disks_after.clone()),
        ("/sys/block/vda/stat", disk),
        (
            "/proc/vmstat",
            format!(
                "nr_free_pages 50000\nnr_inactive_anon 1\nnr_active_anon 1\nnr_inactive_file 1\nnr_active_file 1\n\
                 nr_dirty 1\npgpgin {ticks}\npgpgout {ticks}\npswpin 0\npswpout 0\npgfault {ticks}\npgmajfault 0\npgfree 0\n"
            ),
        ),
        (
            "/proc/pressure/cpu",
            format!(
                "some avg10=1.00 avg60=0.00 avg300=0.00 total={ticks}\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"
            ),
        ),
    ];
    let tree = [
        ("online", "2-3\n"),
        ("offline", "\n"),
        ("present", "2-3\n"),
        ("possible", "0-7\n"),
        ("kernel_max", "63\n"),
        ("cpu2/online", "1\n"),
        ("cpu2/topology/core_id", "0\n"),
        ("cpu3/topology/core_id", "1\n"),
        ("cpu2/topology/package_cpus_list", "2-3\n"),
        ("cpu2/topology/package_cpus", "c\n"),
    ];
    let nodes = [
        ("online", "1\n"),
        ("node1/cpulist", "2-3\n"),
        ("node1/cpumap", "c\n"),
        (
            "node1/meminfo",
            "Node 1 MemTotal: 262144 kB\nNode 1 MemFree: 200000 kB\n",
        ),
    ];
    let proc = texts
        .into_iter()
        .map(|(path, text)| (path.to_owned(), text));
    let tree = tree
        .iter()
        .map(|(name, text)| (format!("{CPU_TREE}/{name}"), (*text).to_owned()));
    let nodes = nodes
        .iter()
        .map(|(name, text)| (format!("{NODE_TREE}/{name}"), (*text).to_owned()));
    let at = |text: String| Text {
        text,
        began: second,
        ended: second,
    };
    let texts: BTreeMap<String, Text> = proc
        .chain(tree)
        .chain(nodes)
        .map(|(path, text)| (path, at(text)))
        .collect();
    let names = |list: &str| list.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let lists: BTreeMap<String, Vec<String>> = [
        (
            CPU_TREE.to_owned(),
            names("cpu2 cpu3 online offline present possible kernel_max"),
        ),
        (NODE_TREE.to_owned(), names("node1 online")),
        (
            format!("{NODE_TREE}/node1"),
            names("cpu2 cpu3 cpulist cpumap meminfo"),
        ),
    ]
    .into();
    let thread = |process, state, start_seconds| Thread {
        process,
        state,
        start_seconds,
        processor: 2,
    };
    let threads = vec![thread(1, 'R', 0.0), thread(40, 'S', second)];
    let truth = Truth {
        memory_limit_bytes: Some(262_144 << 10),
        memory_usage_bytes: 62_144 << 10,
        cpu_seconds: second,
        cpus: [2, 3].into(),
        cpuset: [2, 3].into(),
        possible: (0..8).collect(),
        written_bytes: sectors * 512,
        host_available_kb: 10_000_000,
        host_keys: vec!["MemTotal".to_owned()],
    };
    Sample {
        truth: (truth.clone(), truth),
        served: texts.keys().chain(lists.keys()).cloned().collect(),
        links: [(format!("{CPU_TREE}/cpu2/node1"), true)].into(),
        texts,
        lists,
        threads: (threads.clone(), threads),
        newest: Newest {
            id: 40,
            start_seconds: second,
            wall: (BOOT + second, BOOT + second),
        },
        calls: Calls {
            wall: BOOT + second,
            boottime: second,
            memory_kb: 262_144,
            uptime_seconds: second.floor(),
            load: 1.0 - (-second / 60.0_f64).exp(),
            affinity: [2, 3].into(),
            online: 2,
            configured: 8,
            in_time_namespace: true,
        },
        disks_after,
        written_bytes: sectors * 512,
    }
}

pub fn coherent() -> Run {
    let samples: Vec<Sample> = (0..8)
        .map(|number| sample(START + APART * f64::from(number)))
        .collect();
    let stat = samples[0].texts["/proc/stat"].text.clone();
    let behaviour = Behaviour {
        path: "/proc/stat".to_owned(),
        size: 0,
        mode: 0o444,
        beside: stat.clone(),
        other: stat.clone(),
        rewound: sample(START + 1.0).texts["/proc/stat"].text.clone(),
        single: (stat.len(), 0),
        parts: stat,
        at_offset: Some(100),
        past_end: Some(0),
        parallel_errors: 0,
        latency: Latency {
            read: 0.001,
            call: 0.0001,
        },
    };
    Run {
        samples,
        idle_samples: 1,
        behaviours: vec![behaviour],
        sys_sizes: vec![("online".to_owned(), 4096)],
    }
}

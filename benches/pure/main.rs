//! What reads cost without the kernel: parsing its files, dividing CPU time, rendering texts.
//!
//! `cargo bench --bench pure`; a word after `--` picks those whose names contain it.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    missing_docs,
    reason = "the macros of criterion make functions"
)]

mod hosts;

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use hosts::{SIZES, captured};
use lxcfs::cgroup::Limit;
use lxcfs::cgroup::account::{CpuUsage, DeviceIo, Memory, MemoryStat};
use lxcfs::cgroup::vm_events::{NAMES, VmEvents};
use lxcfs::container::apportion::{Disk, DiskMsec};
use lxcfs::container::cpu_time::{Away, CpuTime};
use lxcfs::container::load::Load;
use lxcfs::container::vm_counters::VmCounters;
use lxcfs::parse::cpu_list::CpuSet;
use lxcfs::parse::cpuinfo::CpuInfo;
use lxcfs::parse::host_stat::HostStat;
use lxcfs::parse::meminfo::MemInfo;
use lxcfs::parse::pid_stat::PidStat;
use lxcfs::parse::{diskstats, keyed, pid_cgroup};
use lxcfs::view;
use lxcfs::view::swaps::SwapView;

const V1_STAT: &str =
    include_str!("../../tests/fixtures/debian12-v1/sys/fs/cgroup/memory/docker/c0ffee/memory.stat");
const V2_STAT: &str = captured!("sys/fs/cgroup/system.slice/docker-c0ffee.scope/memory.stat");

/// Measures `work` on a text.
fn parse<T>(criterion: &mut Criterion, name: BenchmarkId, text: &str, work: impl Fn(&str) -> T) {
    let mut group = criterion.benchmark_group("parse");
    group.throughput(Throughput::Bytes(text.len() as u64));
    group.bench_function(name, |bencher| bencher.iter(|| work(black_box(text))));
}

/// Measures `work`, which appends to a text that is empty.
fn render(criterion: &mut Criterion, name: BenchmarkId, work: impl Fn(&mut Vec<u8>)) {
    let mut group = criterion.benchmark_group("render");
    group.bench_function(name, |bencher| {
        bencher.iter(|| {
            let mut text = Vec::with_capacity(4096);
            work(&mut text);
            text
        });
    });
}

fn named(name: &str) -> BenchmarkId {
    BenchmarkId::from_parameter(name)
}

fn parsers(criterion: &mut Criterion) {
    let meminfo = captured!("proc/meminfo");
    parse(criterion, named("meminfo"), meminfo, MemInfo::parse);
    for (name, text) in [("memory.stat v1", V1_STAT), ("memory.stat v2", V2_STAT)] {
        parse(criterion, named(name), text, |text| {
            keyed::flat(text).map(|(_, value)| value).max()
        });
    }
    let cgroup = captured!("proc/4242/cgroup");
    parse(criterion, named("pid/cgroup"), cgroup, |text| {
        pid_cgroup::memberships(text).count()
    });
    let stat = captured!("proc/4242/task/4242/stat");
    parse(criterion, named("pid/stat"), stat, |text| {
        PidStat::parse(text.as_bytes()).expect("a good file")
    });
    parse(
        criterion,
        BenchmarkId::new("diskstats", 16),
        &hosts::diskstats(16),
        diskstats::parse,
    );
    for cpus in SIZES {
        let stat = hosts::stat(cpus);
        parse(
            criterion,
            BenchmarkId::new("stat", cpus),
            &stat,
            HostStat::parse,
        );
        let cpuinfo = hosts::cpuinfo(cpus);
        parse(
            criterion,
            BenchmarkId::new("cpuinfo", cpus),
            &cpuinfo,
            |text| CpuInfo::parse(text.as_bytes().to_vec()),
        );
        let list = format!("0-{}", cpus - 1);
        parse(criterion, BenchmarkId::new("online", cpus), &list, |text| {
            CpuSet::parse("online", text).expect("a good list")
        });
    }
}

fn memory() -> Memory {
    let bytes = |mib: u64| Some(mib << 20);
    Memory {
        limit_bytes: Limit::Value(512 << 20),
        usage_bytes: 300 << 20,
        stat: MemoryStat {
            anon: bytes(120),
            file: bytes(150),
            kernel: bytes(20),
            shmem: bytes(5),
            active_anon: bytes(80),
            inactive_anon: bytes(45),
            active_file: bytes(60),
            inactive_file: bytes(85),
            file_mapped: bytes(40),
            slab_reclaimable: bytes(9),
            slab_unreclaimable: bytes(6),
            ..MemoryStat::default()
        },
        swap: None,
        hugetlb: Vec::new(),
    }
}

fn of_memory(criterion: &mut Criterion) {
    let memory = memory();
    let host = MemInfo::parse(captured!("proc/meminfo"));
    let input = view::meminfo::Input {
        host: &host,
        memory: &memory,
        swap: SwapView::default(),
        hide_zswap: false,
    };
    render(criterion, named("meminfo"), |text| {
        view::meminfo::render(black_box(&input), text);
    });

    let names = keyed::flat(captured!("proc/vmstat")).map(|(name, _)| name.to_owned());
    let names: Vec<String> = names.collect();
    let mut events = VmEvents::default();
    NAMES.iter().for_each(|name| events.set(name, 123_456));
    let mut counters = VmCounters::default();
    counters.advance(&events);
    let input = view::vmstat::Input {
        names: &names,
        memory: input,
        counters: &counters,
        page_kb: 4,
        huge_page_kb: 2048,
        hide_swap: false,
    };
    render(criterion, named("vmstat"), |text| {
        view::vmstat::render(black_box(&input), text);
    });
}

fn of_cpus(criterion: &mut Criterion) {
    for count in SIZES {
        let cpus = hosts::times(count);
        let host = HostStat::parse(&hosts::stat(count));
        let softirqs = host.softirqs.clone().unwrap_or_default();
        let input = view::stat::Input {
            cpus: &cpus,
            away: &[],
            interrupts: 68_343,
            interrupt_columns: host.interrupt_columns,
            context_switches: 70_110,
            btime_sec: 1_795_317_267,
            processes: 633,
            procs_running: 1,
            procs_blocked: 0,
            softirqs: &softirqs,
        };
        render(criterion, BenchmarkId::new("stat", count), |text| {
            view::stat::render(black_box(&input), text);
        });

        let cpuinfo = CpuInfo::parse(hosts::cpuinfo(count).into_bytes());
        let half = cpuinfo.cpus().lowest(count / 2);
        for (name, shown) in [("cpuinfo", cpuinfo.cpus()), ("half of cpuinfo", &half)] {
            render(criterion, BenchmarkId::new(name, count), |text| {
                view::cpuinfo::render(black_box(&cpuinfo), shown, text);
            });
        }
    }
}

fn of_others(criterion: &mut Criterion) {
    let host = diskstats::parse(&hosts::diskstats(16));
    let disk = Disk {
        io: DeviceIo {
            major: 8,
            minor: 0,
            reads: 2675,
            writes: 778,
            read_bytes: 210_506_752,
            written_bytes: 177_971_200,
            ..DeviceIo::default()
        },
        time: DiskMsec {
            read_msec: 2817,
            write_msec: 1298,
            io_msec: 3372,
            weighted_msec: 4163,
            discard_msec: 0,
        },
    };
    let input = view::diskstats::Input {
        host: &host,
        disks: &[disk],
        backing: &[(8, 16)],
    };
    render(criterion, BenchmarkId::new("diskstats", 16), |text| {
        view::diskstats::render(black_box(&input), text);
    });
    let input = view::uptime::Input {
        uptime_nsec: 86_400_123_456_789,
        idle_nsec: 172_800_123_456_789,
    };
    render(criterion, named("uptime"), |text| {
        view::uptime::render(black_box(&input), text);
    });
    let load = Load::seeded(3, 600_000_000_000);
    let input = view::loadavg::Input {
        load: &load,
        running: 2,
        total: 87,
        last_pid: 4321,
    };
    render(criterion, named("loadavg"), |text| {
        view::loadavg::render(black_box(&input), text);
    });
}

/// One read after another of `/proc/stat`, a millisecond apart.
fn cpu_time(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("cpu time");
    for cpus in SIZES {
        let shown: CpuSet = (0..cpus).collect();
        let mut time = CpuTime::default();
        let mut away = Away::default();
        let mut now_nsec = 1_000_000_000;
        let mut usage = CpuUsage {
            per_cpu_nsec: Some(vec![5_000_000; cpus]),
            ..CpuUsage::default()
        };
        group.bench_function(BenchmarkId::from_parameter(cpus), |bencher| {
            bencher.iter(|| {
                now_nsec += 1_000_000;
                usage.user_nsec += 300_000;
                usage.system_nsec += 100_000;
                time.advance(now_nsec, black_box(&shown), &usage, &mut away);
            });
        });
    }
}

/// What is measured takes so little that more time would tell nothing new.
fn brief() -> Criterion {
    Criterion::default()
        .without_plots()
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(800))
        .sample_size(50)
}

criterion_group! {
    name = benches;
    config = brief();
    targets = parsers, of_memory, of_cpus, of_others, cpu_time
}
criterion_main!(benches);

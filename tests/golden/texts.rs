//! The whole chain: what a reader gets, file by file.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;

use lxcfs::container::apportion::Apportioned;
use lxcfs::container::cpu_time::{Away, CpuTime};
use lxcfs::container::load::Load;
use lxcfs::container::policy::Policy;
use lxcfs::container::{Container, CpuView, Journal, TICK_NSEC};
use lxcfs::freshness::Moment;
use lxcfs::host::Host;
use lxcfs::parse::cpu_list::CpuSet;
use lxcfs::parse::keyed;
use lxcfs::parse::pressure::Resource;
use lxcfs::reader::Readers;
use lxcfs::view;
use lxcfs::view::swaps::SwapView;

use crate::tree::Tree;

/// The newest pid in the reader's pid namespace: no tree tells it.
const LAST_PID: u64 = 20;

/// The size of pages of all trees' machines.
const PAGE_KB: u64 = 4;

/// A reader's files, by name.
struct Texts(BTreeMap<&'static str, String>);

impl Texts {
    /// What thread `reader` of the container with this `init` reads at the moment of the
    /// tree's `proc/uptime`; a reader without one is a process of the host.
    fn of(tree: &Tree, reader: i32, init: Option<i32>) -> Self {
        let host = Arc::new(Host::open(&tree.root).unwrap());
        let readers = Readers::new(
            Arc::clone(&host),
            tree.layout(),
            Policy::default(),
            Journal::none(),
            None,
        );
        let resolved = readers.identify(reader, true).unwrap().resolved;
        let started_nsec = init.map_or(0, |init| {
            host.proc.stat(init).unwrap().starttime_ticks * TICK_NSEC
        });
        let mut texts = Self(BTreeMap::new());
        texts.render(
            &host,
            &resolved.container,
            reader,
            started_nsec,
            uptime_nsec(tree),
        );
        texts
    }

    fn render(
        &mut self,
        host: &Host,
        container: &Container,
        reader: i32,
        started_nsec: u64,
        now_nsec: u64,
    ) {
        let shown = container
            .cpus_shown(host, CpuView::Quota, Moment::default())
            .unwrap();
        self.put("cpuinfo", |out| {
            view::cpuinfo::render(&host.cpuinfo(), &shown, out);
        });

        self.render_memory(host, container);
        for (name, resource) in [
            ("pressure.cpu", Resource::Cpu),
            ("pressure.io", Resource::Io),
            ("pressure.irq", Resource::Irq),
            ("pressure.memory", Resource::Memory),
        ] {
            let Some(file) = host.pressure(resource) else {
                continue;
            };
            self.put(name, |out| {
                let input = view::pressure::Input {
                    host: &file.content,
                    own: &container.pressure(resource).unwrap(),
                    uptime_nsec: now_nsec - started_nsec,
                };
                view::pressure::render(&input, out);
            });
        }

        let age_nsec = now_nsec - started_nsec;
        let devices = host.diskstats();
        let disks = container.disks(&devices, age_nsec).unwrap();
        self.put("diskstats", |out| {
            let input = view::diskstats::Input {
                host: &devices,
                disks: &disks,
                backing: &container.backing_disks(host, reader, Moment::default()),
            };
            view::diskstats::render(&input, out);
        });

        let tasks = container.tasks(host, reader, Moment::default()).unwrap();
        self.put("loadavg", |out| {
            let input = view::loadavg::Input {
                load: &Load::seeded(tasks.active(), age_nsec),
                running: tasks.running + 1,
                total: container.thread_count(&tasks).unwrap(),
                last_pid: LAST_PID,
            };
            view::loadavg::render(&input, out);
        });

        let (cpu, counters) = activity(host, container, &shown, started_nsec, now_nsec);
        let stat = host.stat();
        let softirqs: Vec<u64> = (3..3 + stat.softirqs.as_ref().unwrap().len())
            .map(|index| counters.get(index))
            .collect();
        self.put("stat", |out| {
            let input = view::stat::Input {
                cpus: cpu.cpus(),
                away: &[],
                interrupts: counters.get(0),
                interrupt_columns: stat.interrupt_columns,
                context_switches: counters.get(1),
                btime_sec: stat.btime_sec.unwrap(),
                processes: counters.get(2).max(LAST_PID),
                procs_running: tasks.running + 1,
                procs_blocked: tasks.blocked,
                softirqs: &softirqs,
            };
            view::stat::render(&input, out);
        });
        self.put("uptime", |out| {
            let input = view::uptime::Input {
                uptime_nsec: age_nsec,
                idle_nsec: cpu.total().idle_nsec,
            };
            view::uptime::render(&input, out);
        });
    }

    fn render_memory(&mut self, host: &Host, container: &Container) {
        let memory = container.memory(host).unwrap();
        let meminfo = host.meminfo();
        let swap = SwapView::new(meminfo.get("SwapTotal").unwrap(), memory.swap);
        let input = view::meminfo::Input {
            host: &meminfo,
            memory: &memory,
            swap,
            hide_zswap: false,
        };
        self.put("meminfo", |out| view::meminfo::render(&input, out));
        self.put("swaps", |out| view::swaps::render(&swap, out));
        self.put("slabinfo", |out| {
            let input = view::slabinfo::Input {
                memory: input,
                page_kb: PAGE_KB,
            };
            view::slabinfo::render(&input, out);
        });
        if host.vmstat_names().is_empty() {
            return;
        }
        self.put("vmstat", |out| {
            let input = view::vmstat::Input {
                names: host.vmstat_names(),
                memory: input,
                counters: &container.vm_counters(host, &memory, PAGE_KB).unwrap(),
                page_kb: PAGE_KB,
                huge_page_kb: host.huge_page_kb(),
                hide_swap: false,
            };
            view::vmstat::render(&input, out);
        });
    }

    fn put(&mut self, name: &'static str, render: impl FnOnce(&mut Vec<u8>)) {
        let mut out = Vec::new();
        render(&mut out);
        self.0.insert(name, String::from_utf8(out).unwrap());
    }

    /// Compares all files with `expected/READER/`, or writes them there.
    fn check(&self, tree: &Tree, reader: i32) {
        let expected = tree.root.join(format!("expected/{reader}"));
        if std::env::var_os("LXCFS_BLESS").is_some() {
            fs::create_dir_all(&expected).unwrap();
            for (name, text) in &self.0 {
                fs::write(expected.join(name), text).unwrap();
            }
        }
        for (name, text) in &self.0 {
            let path = expected.join(name);
            let wanted = fs::read_to_string(&path).unwrap_or_default();
            assert!(
                *text == wanted,
                "{} differs:\n{}",
                path.display(),
                difference(&wanted, text)
            );
        }
    }

    /// The line of `vmstat` with this name.
    fn count(&self, name: &str) -> u64 {
        keyed::flat_value(&self.0["vmstat"], name).unwrap_or_else(|| panic!("no line {name}"))
    }

    /// The line of `meminfo` with this key.
    fn kb(&self, key: &str) -> u64 {
        let line = self.0["meminfo"]
            .lines()
            .find(|line| line.split(':').next() == Some(key))
            .unwrap_or_else(|| panic!("no line {key}"));
        let number = line.split_ascii_whitespace().nth(1).unwrap();
        number.parse().unwrap()
    }

    /// The words of the only line of `file` that has `word` at the given place.
    fn words(&self, file: &str, place: usize, word: &str) -> Vec<&str> {
        let lines: Vec<Vec<&str>> = self.0[file]
            .lines()
            .map(|line| line.split_ascii_whitespace().collect())
            .filter(|words: &Vec<&str>| words.get(place) == Some(&word))
            .collect();
        assert_eq!(lines.len(), 1, "{file}: {word}");
        lines[0].clone()
    }
}

/// CPU time since the start, and the share of interrupts, context switches, forks and softirqs.
fn activity(
    host: &Host,
    container: &Container,
    shown: &CpuSet,
    started_nsec: u64,
    now_nsec: u64,
) -> (CpuTime, Apportioned) {
    let usage = container
        .cgroup
        .cpu_usage(true)
        .unwrap()
        .unwrap_or_default();
    let mut cpu = CpuTime::new(started_nsec);
    cpu.advance(now_nsec, shown, &usage, &mut Away::default());

    let stat = host.stat();
    let mut counted = vec![
        stat.interrupts.unwrap(),
        stat.context_switches.unwrap(),
        stat.processes.unwrap(),
    ];
    counted.extend(stat.softirqs.iter().flatten());
    let mut counters = Apportioned::default();
    counters.advance(
        usage.user_nsec + usage.system_nsec,
        stat.total.unwrap().busy() * TICK_NSEC,
        &counted,
    );
    (cpu, counters)
}

fn uptime_nsec(tree: &Tree) -> u64 {
    let text = tree.read("proc/uptime");
    let (seconds, hundredths) = text.split(' ').next().unwrap().split_once('.').unwrap();
    (seconds.parse::<u64>().unwrap() * 100 + hundredths.parse::<u64>().unwrap()) * TICK_NSEC
}

fn difference(wanted: &str, found: &str) -> String {
    let lines = |text: &str, other: &str, sign: &str| {
        let other: Vec<&str> = other.lines().collect();
        text.lines()
            .filter(|line| !other.contains(line))
            .map(|line| format!("{sign}{line}\n"))
            .collect::<String>()
    };
    lines(wanted, found, "-") + &lines(found, wanted, "+")
}

fn checked(fixture: &str, reader: i32, init: Option<i32>) -> Texts {
    let tree = Tree::fixture(fixture);
    let texts = Texts::of(&tree, reader, init);
    texts.check(&tree, reader);
    texts
}

#[test]
fn a_docker_container_on_debian_13() {
    let texts = checked("debian13-v2", 4242, Some(4241));
    // memory.max 52428800, memory.current 48939008, memory.swap.max 52428800,
    // memory.swap.current 23285760; host: 4 GB, 512 MB of swap.
    assert_eq!((texts.kb("MemTotal"), texts.kb("MemFree")), (51_200, 3_408));
    assert_eq!((texts.kb("Cached"), texts.kb("Shmem")), (7_468, 4_096));
    // Free + active_file 2953216 + inactive_file 499712 + slab_reclaimable 232432.
    assert_eq!(texts.kb("MemAvailable"), 3_408 + 2_884 + 488 + 226);
    assert_eq!(
        (texts.kb("SwapTotal"), texts.kb("SwapFree")),
        (51_200, 51_200 - 22_740)
    );
    assert_eq!(texts.words("swaps", 1, "virtual")[2..4], ["51200", "22740"]);
    // cpuset 1, one CPU's quota: one of four CPUs, under its own number.
    assert_eq!(
        texts.words("cpuinfo", 0, "processor"),
        ["processor", ":", "1"]
    );
    // user_usec 8824469, system_usec 3575683, throttled_usec 15285 of 45.51 - 24.23 s.
    assert_eq!(
        texts.words("stat", 0, "cpu1")[1..],
        ["882", "0", "357", "886", "0", "0", "0", "1", "0", "0"]
    );
    assert_eq!(texts.0["uptime"], "21.28 8.86\n");
    // io.stat: 254:0 wbytes=20992000 wios=94; 254:32 rbytes=225280 wbytes=23285760
    // rios=55 wios=5685; vdb was not used.
    assert_eq!(
        texts.words("diskstats", 2, "vda")[3..10],
        ["0", "0", "0", "0", "94", "0", "41000"]
    );
    assert_eq!(
        texts.words("diskstats", 2, "vdc")[3..10],
        ["55", "0", "440", "86", "5685", "0", "45480"]
    );
    assert_eq!(texts.0["diskstats"].lines().count(), 2);
    assert_eq!(texts.0["loadavg"], "0.00 0.00 0.00 1/5 20\n");
    assert_eq!(texts.count("nr_free_pages"), 3_408 / 4);
    // slab_reclaimable 232432, slab_unreclaimable 210528.
    assert_eq!(
        (
            texts.count("nr_slab_reclaimable"),
            texts.count("nr_slab_unreclaimable")
        ),
        (56, 51)
    );
    assert_eq!(
        (texts.count("pgfault"), texts.count("pgscan_direct")),
        (9_284, 15_551)
    );
    // All disks together: rbytes=225280, wbytes=20992000 and 23285760.
    assert_eq!(
        (texts.count("pgpgin"), texts.count("pgpgout")),
        (220, 20_500 + 22_740)
    );
    // The swap disk tells that 55 pages were read; all 5685 in swap were written.
    assert_eq!(
        (texts.count("pswpin"), texts.count("pswpout")),
        (55, 5_685 - 62 + 55)
    );
    // anon_thp 23068672.
    assert_eq!(texts.count("nr_anon_transparent_hugepages"), 11);
}

#[test]
fn a_service_with_limits_on_debian_13() {
    let texts = checked("debian13-v2", 4343, None);
    // memory.max 67108864 (memory.high is no limit), memory.current 21852160.
    assert_eq!(
        (texts.kb("MemTotal"), texts.kb("MemFree")),
        (65_536, 65_536 - 21_340)
    );
    assert_eq!(
        (texts.kb("SwapTotal"), texts.kb("SwapFree")),
        (16_384, 16_384)
    );
    // A quota of 1.5 CPUs shows two. user_usec 116032, system_usec 1569208.
    assert_eq!(
        texts.words("stat", 0, "cpu")[1..5],
        ["10", "0", "156", "8932"]
    );
    assert_eq!(texts.words("stat", 0, "cpu0").len(), 11);
    assert_eq!(texts.words("stat", 0, "cpu1").len(), 11);
    assert!(!texts.0["stat"].contains("cpu2"));
    assert_eq!(
        texts.words("diskstats", 2, "vda")[3..10],
        ["2", "0", "104", "1", "232", "0", "40960"]
    );
    assert!(texts.0["uptime"].starts_with("45.51 "));
}

#[test]
fn a_container_on_cgroup_v1() {
    let texts = checked("debian12-v1", 4242, Some(4241));
    // memory.limit_in_bytes 52428800, memory.usage_in_bytes 17842176; the host has no swap.
    assert_eq!(
        (texts.kb("MemTotal"), texts.kb("MemFree")),
        (51_200, 51_200 - 17_424)
    );
    // total_cache 16859136, total_inactive_file 16834560, total_active_file 24576.
    assert_eq!(texts.kb("Cached"), 16_464);
    assert_eq!(texts.kb("MemAvailable"), 33_776 + 16_440 + 24);
    assert_eq!(texts.kb("SwapTotal"), 0);
    assert_eq!(texts.0["swaps"].lines().count(), 1);
    assert_eq!(
        texts.words("cpuinfo", 0, "processor"),
        ["processor", ":", "1"]
    );
    // usage_percpu 1240609224 on CPU 1, of it system 20 ticks; 7020.60 - 7017.06 s.
    assert_eq!(
        texts.words("stat", 0, "cpu1")[1..9],
        ["104", "0", "20", "229", "0", "0", "0", "0"]
    );
    // io_serviced 69 and 75, io_service_bytes 4247552 and 20992000.
    let disk = texts.words("diskstats", 2, "vda");
    assert_eq!((disk[3], disk[5]), ("69", "8296"));
    assert_eq!((disk[7], disk[9]), ("75", "41000"));
    assert_eq!(texts.0["loadavg"], "0.00 0.00 0.00 1/2 20\n");
    assert_eq!(texts.count("nr_free_pages"), 33_776 / 4);
    // total_pgfault 982, total_pgmajfault 1; total_pgpgin 591 is no I/O, that was 4247552.
    assert_eq!(
        (texts.count("pgfault"), texts.count("pgmajfault")),
        (982, 1)
    );
    assert_eq!(
        (texts.count("pgpgin"), texts.count("pgpgout")),
        (4_148, 20_500)
    );
}

#[test]
fn a_container_on_hybrid_cgroups() {
    let texts = checked("hybrid", 4242, Some(4241));
    // Half a CPU, used for 4 s, held back for 0.25 s, of 60 s; its use of the CPU that
    // is not shown counts all the same.
    assert_eq!(
        texts.words("stat", 0, "cpu0")[1..9],
        ["300", "0", "100", "5575", "0", "0", "0", "25"]
    );
    // The parent's memory limit is the smaller one: 64 MB, of 150 MB with swap.
    assert_eq!(
        (texts.kb("MemTotal"), texts.kb("MemFree")),
        (65_536, 24_576)
    );
    assert_eq!(
        (texts.kb("SwapTotal"), texts.kb("SwapFree")),
        ((150 - 64) * 1024, (150 - 64 - 4) * 1024)
    );
}

#[test]
fn a_container_on_linux_4_18() {
    let texts = checked("v2-linux-4.18", 4242, Some(4241));
    assert_eq!(
        (texts.kb("MemTotal"), texts.kb("MemFree")),
        (65_536, 34_816)
    );
    assert_eq!((texts.kb("SwapTotal"), texts.kb("SwapFree")), (0, 0));
    assert_eq!(texts.kb("SReclaimable"), 2_048);
    assert_eq!(
        texts.words("diskstats", 2, "sda")[3..6],
        ["24", "0", "4096"]
    );
}

#[test]
fn a_container_below_limits_on_several_levels() {
    let texts = checked("v2-nested", 4242, Some(4241));
    assert_eq!(
        (texts.kb("MemTotal"), texts.kb("MemFree")),
        (100 * 1024, 70 * 1024)
    );
    assert_eq!(
        (texts.kb("SwapTotal"), texts.kb("SwapFree")),
        (20 * 1024, 17 * 1024)
    );
    let shown: Vec<&str> = texts.0["cpuinfo"]
        .lines()
        .filter_map(|line| line.strip_prefix("processor\t: "))
        .collect();
    assert_eq!(shown, ["1", "2"]);
}

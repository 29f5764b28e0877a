//! One thing after the other is broken on a coherent machine, and the item for it must notice.

use crate::coherent::{APART, START, coherent, sample};
use crate::findings::{KERNEL, Verdict, items};
use crate::inside::Run;
use crate::sample::{CPU_TREE, Sample};

/// The item that a broken machine is seen by.
#[track_caller]
fn noticed(item: &str, what: &str, run: &Run) {
    let findings = run.findings();
    let kernel = KERNEL.contains(&item) && matches!(findings.0[item], Verdict::Warn(_));
    assert!(
        kernel || matches!(findings.0[item], Verdict::Fail(_)),
        "{item} does not notice {what}: {}",
        findings.0[item]
    );
}

#[test]
fn nothing_fails_on_a_coherent_machine() {
    let lines = coherent().findings().lines();
    let odd: Vec<&String> = lines.iter().filter(|line| !line.ends_with(" ok")).collect();
    assert!(odd.is_empty(), "{odd:#?}");
    assert_eq!(lines.len(), items().len());
}

/// Item, file, what stands there, what is put in its place in the last sample.
const BROKEN_TEXTS: &[(&str, &str, &str, &str)] = &[
    (
        "M01",
        "/proc/meminfo",
        "MemTotal: 262144 kB\nMemFree:",
        "MemFree:",
    ),
    ("M01", "/proc/meminfo", "Buffers: 0 kB", "Buffers: many kB"),
    ("M01", "/proc/meminfo", "Buffers: 0 kB", "Cached: 0 kB"),
    ("M02", "/proc/meminfo", "Slab: 5000 kB\n", ""),
    ("M03", "/proc/meminfo", "MemFree: 200000", "MemFree: 300000"),
    (
        "M04",
        "/proc/meminfo",
        "MemAvailable: 230000",
        "MemAvailable: 262145",
    ),
    (
        "M05",
        "/proc/meminfo",
        "MemAvailable: 230000",
        "MemAvailable: 150000",
    ),
    ("M06", "/proc/meminfo", "Buffers: 0", "Buffers: 40000"),
    ("M07", "/proc/meminfo", "Active: 20000", "Active: 30000"),
    ("M08", "/proc/meminfo", "Slab: 5000", "Slab: 9000"),
    (
        "M09",
        "/proc/meminfo",
        "KReclaimable: 2000",
        "KReclaimable: 1000",
    ),
    ("M10", "/proc/meminfo", "Shmem: 100", "Shmem: 40000"),
    (
        "M11",
        "/proc/meminfo",
        "KernelStack: 100",
        "KernelStack: 1000000",
    ),
    ("M12", "/proc/meminfo", "SwapFree: 400", "SwapFree: 4000"),
    ("M13", "/proc/swaps", "1000 600", "2000 600"),
    (
        "M14",
        "/proc/meminfo",
        "CommitLimit: 132072",
        "CommitLimit: 12342048",
    ),
    (
        "M15",
        "/proc/meminfo",
        "MemTotal: 262144",
        "MemTotal: 262100",
    ),
    (
        "M16",
        "/proc/meminfo",
        "MemTotal: 262144",
        "MemTotal: 16000000",
    ),
    ("M17", "/proc/meminfo", "MemFree: 200000", "MemFree: 190000"),
    (
        "M19",
        "/sys/devices/system/node/node1/meminfo",
        "262144",
        "16000000",
    ),
    (
        "M20",
        "/proc/vmstat",
        "nr_free_pages 50000",
        "nr_free_pages 90000",
    ),
    ("C01", "/proc/cpuinfo", "processor\t: 2", "processor\t: 0"),
    ("C02", "/proc/stat", "cpu2", "cpu1"),
    ("C03", "/proc/cpuinfo", "processor\t: 3", "processor\t: 1"),
    ("C04", "/sys/devices/system/cpu/present", "2-3", "0-3"),
    ("C05", "/sys/devices/system/cpu/online", "2-3", "2"),
    ("C06", "/sys/devices/system/cpu/possible", "0-7", "2-3"),
    ("C06", "/sys/devices/system/cpu/offline", "\n", "3\n"),
    ("C07", "/sys/devices/system/cpu/cpu2/online", "1", "0"),
    ("C08", "/sys/devices/system/cpu/online", "2-3", "2"),
    ("C09", "/sys/devices/system/cpu/online", "2-3", "2-4"),
    ("C10", "/sys/devices/system/cpu/online", "2-3", "3"),
    (
        "C11",
        "/sys/devices/system/node/node1/cpulist",
        "2-3",
        "0-3",
    ),
    ("C11", "/sys/devices/system/node/node1/cpumap", "c", "f"),
    (
        "C12",
        "/sys/devices/system/cpu/cpu2/topology/package_cpus_list",
        "2-3",
        "0-3",
    ),
    (
        "C12",
        "/sys/devices/system/cpu/cpu2/topology/package_cpus",
        "c",
        "1,0000000c",
    ),
    ("C13", "/proc/cpuinfo", "siblings\t: 2", "siblings\t: 4"),
    ("C13", "/proc/cpuinfo", "cpu cores\t: 2", "cpu cores\t: 1"),
    ("C14", "/proc/cpuinfo", "core id\t: 0", "core id 0"),
    ("C16", "/sys/devices/system/cpu/online", "2-3", "2"),
    (
        "C17",
        "/proc/interrupts",
        "CPU2 CPU3",
        "CPU0 CPU1 CPU2 CPU3",
    ),
    ("C18", "/proc/stat", "cpu3 ", "cpu3x"),
    ("S01", "/proc/stat", "ctxt", "cctxt"),
    ("S02", "/proc/stat", "cpu2", "cpu2 0"),
    ("S03", "/proc/stat", "cpu2", "cpu2 1"),
    ("S04", "/proc/stat", "processes 50", "processes 49"),
    ("S09", "/proc/stat", "procs_running 1", "procs_running 0"),
    ("S10", "/proc/stat", "procs_running 1", "procs_running 10"),
    ("S11", "/proc/stat", "processes 50", "processes 30"),
    ("S13", "/proc/stat", "intr", "intr                  "),
    ("T01", "/proc/stat", "btime 1700000000", "btime 1700001000"),
    ("T02", "/proc/stat", "btime 1700000000", "btime 1699999000"),
    ("T03", "/proc/uptime", "24.00 24.00", "4.00 4.00"),
    ("T04", "/proc/uptime", "24.00 24.00", "25.00 24.00"),
    ("T05", "/proc/uptime", "24.00 24.00", "23.00 24.00"),
    ("T06", "/proc/uptime", "24.00 24.00", "24.0 24.00"),
    ("T07", "/proc/uptime", "24.00 24.00", "24.00 50.00"),
    ("T08", "/proc/uptime", "24.00 24.00", "24.00 20.00"),
    ("T09", "/proc/uptime", "24.00 24.00", "24.00 20.00"),
    ("T10", "/proc/uptime", "24.00 24.00", "2400.00 24.00"),
    ("T11", "/proc/uptime", "24.00 24.00", "2400.00 24.00"),
    ("L01", "/proc/loadavg", " 0.10", ""),
    ("L02", "/proc/loadavg", "1/2", "0/2"),
    ("L03", "/proc/loadavg", "1/2", "3/2"),
    ("L04", "/proc/loadavg", "1/2", "1/400"),
    ("L05", "/proc/loadavg", "1/2 40", "1/2 9001"),
    ("L05", "/proc/loadavg", "1/2 40", "1/2 39"),
    ("L06", "/proc/stat", "procs_running 1", "procs_running 10"),
    ("L07", "/proc/loadavg", "0.33", "0.13"),
    ("L08", "/proc/loadavg", "0.33", "0.13"),
    ("L09", "/proc/loadavg", "0.33", "4.90"),
    ("D01", "/proc/diskstats", " 500 500", " 500 500 1"),
    ("D02", "/proc/diskstats", " vda 10 ", " vda 9 "),
    ("D03", "/proc/diskstats", " vda ", " vdb "),
    ("D04", "/proc/diskstats", " 500 500", " 500000 500"),
    ("D05", "/sys/block/vda/stat", "10 0 0 0", "299527 0 0 0"),
    ("D05", "/sys/block/vda/stat", "10 0 0 0", "10 0 0 0 0"),
    ("D05", "/sys/block/vda/stat", "10 0 0 0", "9 0 0 0"),
    ("D06", "/proc/diskstats", " 24000 0 24000 ", " 0 0 10000 "),
    ("V01", "/proc/vmstat", "pgpgin", "pgpgim"),
    ("V02", "/proc/vmstat", "pgfault 2400", "pgfault 100"),
    ("V03", "/proc/vmstat", "pgpgin 2400", "pgpgin 240000000"),
    ("V03", "/proc/stat", "ctxt 2400", "ctxt 307900818"),
    (
        "P01",
        "/proc/pressure/cpu",
        "full avg10=0.00 avg60=0.00 avg300=0.00 total=0",
        "full avg10=0.00 avg60=0.00 avg300=0.00 total=9999",
    ),
    ("P01", "/proc/pressure/cpu", "avg10=1.00", "avg10=101.00"),
    ("P01", "/proc/pressure/cpu", "total=2400", "total=9000000"),
    ("P02", "/proc/pressure/cpu", "total=2400", "total=540000000"),
    ("B01", "/proc/slabinfo", "1250 1250", "125000 125000"),
];

#[test]
fn every_broken_text_is_noticed() {
    for (item, path, from, to) in BROKEN_TEXTS {
        let mut run = coherent();
        let text = &mut run
            .samples
            .last_mut()
            .expect("a sample")
            .texts
            .get_mut(*path)
            .expect(path)
            .text;
        assert!(text.contains(from), "{path} has no {from:?}: {text:?}");
        // Beyond the longest line, where the item is about that.
        let to = if *item == "S13" {
            to.replace(' ', &" ".repeat(600))
        } else {
            (*to).to_owned()
        };
        *text = text.replacen(from, &to, 1);
        noticed(item, &format!("{to:?} in {path}"), &run);
    }
}

type Breaking = fn(&mut Run);

/// Item, what is wrong, how it gets so.
const OTHERWISE_BROKEN: &[(&str, &str, Breaking)] = &[
    ("M18", "a long meminfo", |run| {
        text(run, "/proc/meminfo").push_str(&"DirectMap4k: 0 kB\n".repeat(100));
    }),
    ("M21", "sysinfo of the host", |run| {
        last(run).calls.memory_kb = 24_000_000;
    }),
    ("C15", "a name twice", |run| {
        let list = last(run).lists.get_mut(CPU_TREE).expect("the tree");
        list.push("online".to_owned());
    }),
    ("C19", "a link that leads nowhere", |run| {
        let sample = last(run);
        sample.served.insert(format!("{CPU_TREE}/cpu2"));
        sample.links.insert(format!("{CPU_TREE}/cpu2/node1"), false);
    }),
    ("S05", "time that stands still", |run| {
        run.samples[7].texts = {
            let mut texts = sample(START + 7.0 * APART).texts;
            texts.insert(
                "/proc/stat".to_owned(),
                run.samples[6].texts["/proc/stat"].clone(),
            );
            texts.get_mut("/proc/stat").expect("stat").ended = START + 7.0 * APART;
            texts.get_mut("/proc/stat").expect("stat").began = START + 7.0 * APART;
            texts
        }
    }),
    ("S06", "counters since the host's boot", |run| {
        let host = sample(5000.0).texts["/proc/stat"].text.clone();
        *text(run, "/proc/stat") = host;
    }),
    ("S07", "one CPU with the time of both", |run| {
        let stat = text(run, "/proc/stat");
        *stat = stat
            .replace("cpu2 2400 0 0 0", "cpu2 2400 0 0 2400")
            .replace("cpu3 0 0 0 2400", "cpu3 0 0 0 0");
    }),
    ("S08", "the host's work", |run| {
        let stat = text(run, "/proc/stat");
        *stat = stat
            .replace("cpu  2400 0 0 2400", "cpu  4800 0 0 0")
            .replace("cpu3 0 0 0 2400", "cpu3 2400 0 0 0");
    }),
    ("S12", "a first read of zeros", |run| {
        let zeros = sample(0.0).texts["/proc/stat"].text.clone();
        run.samples[0]
            .texts
            .get_mut("/proc/stat")
            .expect("stat")
            .text = zeros;
    }),
    ("F01", "a size", |run| run.behaviours[0].size = 1169),
    ("F02", "two snapshots in one", |run| {
        run.behaviours[0].parts = run.behaviours[0].parts.replace("cpu2 1000", "cpu2 1006");
    }),
    ("F03", "an old text after a rewind", |run| {
        run.behaviours[0].rewound = run.behaviours[0].parts.clone();
    }),
    ("F04", "nothing at an offset", |run| {
        run.behaviours[0].at_offset = Some(0);
    }),
    ("F05", "an error past the end", |run| {
        run.behaviours[0].past_end = None;
    }),
    ("F06", "a read cut short", |run| {
        run.behaviours[0].single = (100, 50);
    }),
    ("F07", "a file that can be written", |run| {
        run.behaviours[0].mode = 0o644;
    }),
    ("F08", "errors of parallel readers", |run| {
        run.behaviours[0].parallel_errors = 1;
    }),
    ("F09", "a reader disturbed by another", |run| {
        run.behaviours[0].beside = run.behaviours[0].parts[100..].to_owned();
    }),
    ("F10", "another size in sysfs", |run| run.sys_sizes[0].1 = 4),
    ("F11", "slow reads", |run| {
        run.behaviours[0].latency.read = 2.0;
    }),
];

#[test]
fn whatever_else_is_broken_is_noticed() {
    for (item, what, breaking) in OTHERWISE_BROKEN {
        let mut run = coherent();
        breaking(&mut run);
        noticed(item, what, &run);
    }
}

#[test]
fn every_item_has_something_to_notice() {
    let texts = BROKEN_TEXTS.iter().map(|row| row.0);
    let known: Vec<&str> = texts
        .chain(OTHERWISE_BROKEN.iter().map(|row| row.0))
        .collect();
    let forgotten: Vec<String> = items()
        .into_iter()
        .filter(|item| !known.contains(&item.as_str()))
        .collect();
    assert!(forgotten.is_empty(), "{forgotten:?}");
}

#[test]
fn what_is_not_bound_is_skipped_with_its_reason() {
    let mut run = coherent();
    for sample in &mut run.samples {
        sample.texts.remove("/proc/pressure/cpu");
        sample.served.remove("/proc/vmstat");
    }
    let findings = run.findings();
    assert_eq!(
        findings.0["P01"].to_string(),
        "skip: there is no /proc/pressure/cpu"
    );
    assert_eq!(
        findings.0["V01"].to_string(),
        "skip: /proc/vmstat is not bound"
    );
    assert_eq!(findings.failed(), Vec::<&str>::new());
}

fn last(run: &mut Run) -> &mut Sample {
    run.samples.last_mut().expect("a sample")
}

fn text<'a>(run: &'a mut Run, path: &str) -> &'a mut String {
    &mut last(run).texts.get_mut(path).expect("a file").text
}

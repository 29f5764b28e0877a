//! util-linux, coreutils and the C library.

use crate::stand::{AFFINITY, FILE, SYSINFO, Stand};
use crate::table::Fact::{Cpus, Load, Memory, Uptime};
use crate::table::{Table, Verdict};

/// Files that a program reads by their size, or from the middle.
const FILES: [&str; 7] = [
    "cpuinfo",
    "diskstats",
    "loadavg",
    "meminfo",
    "stat",
    "swaps",
    "uptime",
];

pub fn check(stand: &Stand, table: &mut Table) {
    if stand.has(table, "lscpu") {
        lscpu(stand, table);
    }
    if stand.has(table, "nproc") {
        coreutils(stand, table);
    }
    let getconf =
        stand.observe("getconf _NPROCESSORS_ONLN; getconf _NPROCESSORS_CONF; getconf _PHYS_PAGES");
    let lines: Vec<f64> = getconf
        .text
        .lines()
        .filter_map(|line| line.parse().ok())
        .collect();
    table.put(
        "getconf ONLN",
        Cpus,
        getconf.cpus(lines.first().copied(), FILE),
    );
    table.put(
        "getconf CONF",
        Cpus,
        getconf.possible_cpus(lines.get(1).copied()),
    );
    let kb = lines.get(2).map(|pages| pages * 4.0);
    table.put(
        "getconf _PHYS_PAGES",
        Memory,
        getconf.memory_kb(kb, 4.0, SYSINFO),
    );
    if stand.has(table, "python3") {
        let load = stand.observe("python3 -c 'import os; print(os.getloadavg()[0])'");
        table.put(
            "getloadavg(3)",
            Load,
            load.load(load.number("", 0), SYSINFO),
        );
    }
}

fn lscpu(stand: &Stand, table: &mut Table) {
    let ids: Vec<String> = stand.cpus().iter().map(ToString::to_string).collect();
    let lscpu = stand.observe("lscpu");
    table.put("lscpu", Cpus, lscpu.cpus(lscpu.number("CPU(s):", 0), FILE));
    let line = |name: &str| {
        let line = lscpu.text.lines().find(|line| line.starts_with(name));
        line.and_then(|line| Some(line.split_once(':')?.1.trim().to_owned()))
    };
    table.symptom(
        "lscpu: on-line are the container's, nothing is off-line",
        Verdict::holds(
            line("On-line CPU(s) list:") == Some(ids.join(",")) && line("Off-line").is_none(),
            &lscpu.text,
        ),
    );
    let node = line("NUMA node0 CPU(s):");
    table.symptom(
        "lscpu: the node has the container's CPUs",
        Verdict::holds(node.is_none_or(|list| list == ids.join(",")), &lscpu.text),
    );
    let each = stand.observe("lscpu -e=CPU,ONLINE");
    let rows: Vec<&str> = each
        .text
        .lines()
        .skip(1)
        .filter_map(|row| row.split_whitespace().next())
        .collect();
    table.symptom(
        "lscpu -e: one line for each CPU",
        Verdict::holds(rows == ids, &each.text),
    );
}

fn coreutils(stand: &Stand, table: &mut Table) {
    let seen = stand.observe("nproc");
    table.put("nproc", Cpus, seen.cpus(seen.number("", 0), AFFINITY));
    let seen = stand.observe("nproc --all");
    table.put("nproc --all", Cpus, seen.possible_cpus(seen.number("", 0)));
    // Older ones know the moment only where init wrote it down.
    let who =
        stand.observe("who -b | grep -q boot && date -d \"$(who -b | sed 's/.*boot *//')\" +%s");
    if let Some(boot) = who.number("", 0) {
        let age = crate::truth::now_seconds() - boot - 30.0;
        table.put("who -b", Uptime, who.uptime(Some(age), 31.0, SYSINFO));
    }

    let sizes = stand.observe(&format!(
        "cd /proc; for f in {}; do a=$(wc -c < $f) b=$(cat $f | wc -c) s=$(stat -c %s $f); echo $f $a $b $s; done",
        FILES.join(" ")
    ));
    // The length of the figures may change from read to read.
    let right = |line: &str| {
        let size = |index| {
            line.split(' ')
                .nth(index)
                .and_then(|word: &str| word.parse::<i64>().ok())
        };
        size(1)
            .zip(size(2))
            .is_some_and(|(a, b)| a > 0 && (a - b).abs() <= 8)
            && size(3) == Some(0)
    };
    table.symptom(
        "wc -c: as many bytes as cat reads, size 0",
        Verdict::holds(
            sizes.text.lines().count() == FILES.len() && sizes.text.lines().all(right),
            &sizes.text,
        ),
    );
    let tar = stand.observe("tar -C /proc -cf /dev/null cpuinfo meminfo stat 2>&1");
    table.symptom(
        "tar: no file shrank",
        Verdict::holds(tar.text.is_empty(), &tar.text),
    );
    let dd = stand.observe("dd if=/proc/meminfo bs=16 skip=4 2>/dev/null | wc -c");
    let whole = stand.observe("wc -c < /proc/meminfo");
    table.symptom(
        "dd skip=: reads on from there",
        Verdict::holds(
            dd.number("", 0) == whole.number("", 0).map(|size| size - 64.0),
            format!("{} of {}", dd.text, whole.text),
        ),
    );
    let twice =
        stand.observe("for d in cpu node; do ls -a /sys/devices/system/$d | sort | uniq -d; done");
    table.symptom(
        "uniq -d: no entry twice",
        Verdict::holds(twice.text.is_empty(), &twice.text),
    );
    let dirs = stand.observe("ls -d /sys/devices/system/cpu/cpu[0-9]*");
    let wanted: Vec<String> = stand
        .cpus()
        .iter()
        .map(|id| format!("/sys/devices/system/cpu/cpu{id}"))
        .collect();
    table.symptom(
        "ls: directories of the container's CPUs only",
        Verdict::holds(dirs.text.lines().eq(wanted.iter()), &dirs.text),
    );
}

//! The figures of one container agree with each other and with its cgroup, whatever its limits. Each invariant has the
//! id under which a violation is reported.

use std::collections::BTreeSet;
use std::thread::sleep;
use std::time::Duration;

use crate::common::docker::{
    Container, Docker, Image, SIX_FILES, cpu_volume, options, proc_volumes,
};
use crate::common::figures::{Stat, cpu_list, cpuinfo_ids, diskstats, keyed, uptime};
use crate::common::{Daemon, USER_HZ, alone, skip, slowness};
use crate::snapshot::Snapshot;

/// Collects the ids of what does not hold.
#[derive(Default)]
struct Report(Vec<String>);

impl Report {
    fn holds(&mut self, id: &str, truth: bool, figures: impl std::fmt::Debug) {
        if !truth {
            self.0.push(format!("{id}: {figures:?}"));
        }
    }
}

fn memory(report: &mut Report, now: &Snapshot) {
    let text = &now.files["meminfo"];
    let keys: Vec<&str> = text
        .lines()
        .filter_map(|line| Some(line.split_once(':')?.0))
        .collect();
    let unique: BTreeSet<&&str> = keys.iter().collect();
    report.holds(
        "M01",
        keys.first() == Some(&"MemTotal") && unique.len() == keys.len(),
        &keys,
    );
    let all = keyed(text);
    let kb = |key: &str| all.get(key).copied().unwrap_or(0);
    let (total, free) = (kb("MemTotal"), kb("MemFree"));
    report.holds("M03", free <= total, (free, total));
    report.holds(
        "M04",
        kb("MemAvailable") <= total,
        (kb("MemAvailable"), total),
    );
    let host_kb =
        keyed(&std::fs::read_to_string("/proc/meminfo").expect("meminfo"))["MemAvailable"];
    let least = free.min(host_kb.saturating_sub(262_144));
    report.holds(
        "M05",
        kb("MemAvailable") >= least,
        (kb("MemAvailable"), free),
    );
    let parts = ["MemFree", "Buffers", "Cached", "SReclaimable"].map(kb);
    report.holds("M06", parts.iter().sum::<u64>() <= total, (parts, total));
    let lists = ["Active", "Inactive"].map(|list| {
        (
            kb(list),
            kb(&format!("{list}(anon)")) + kb(&format!("{list}(file)")),
        )
    });
    report.holds(
        "M07",
        lists.iter().all(|(sum, parts)| sum.abs_diff(*parts) <= 8),
        lists,
    );
    let slab = (kb("Slab"), kb("SReclaimable"), kb("SUnreclaim"));
    report.holds("M08", slab.0.abs_diff(slab.1 + slab.2) <= 4, slab);
    report.holds(
        "M09",
        slab.1 <= kb("KReclaimable") && kb("KReclaimable") <= total,
        (slab.1, kb("KReclaimable")),
    );
    let swap_used = kb("SwapTotal").saturating_sub(kb("SwapFree"));
    report.holds(
        "M10",
        kb("Shmem") <= kb("Cached") + swap_used + 8,
        (kb("Shmem"), kb("Cached"), swap_used),
    );
    let facts = [
        "Vmalloc",
        "DirectMap",
        "Hugepagesize",
        "Committed_AS",
        "CommitLimit",
        "SwapTotal",
        "SwapFree",
    ];
    let beyond: Vec<_> = all
        .iter()
        .filter(|(key, value)| **value > total && !facts.iter().any(|fact| key.starts_with(fact)))
        .collect();
    report.holds("M11", beyond.is_empty(), &beyond);
    report.holds(
        "M12",
        kb("SwapFree") <= kb("SwapTotal"),
        (kb("SwapFree"), kb("SwapTotal")),
    );
    let column = |index: usize| -> u64 {
        let rows = now.files["swaps"].lines().skip(1);
        rows.filter_map(|row| row.split_whitespace().nth(index)?.parse::<u64>().ok())
            .sum()
    };
    report.holds(
        "M13",
        (column(2), column(3)) == (kb("SwapTotal"), swap_used),
        (column(2), column(3), swap_used),
    );
    report.holds(
        "M14",
        kb("CommitLimit") <= total + kb("SwapTotal"),
        (kb("CommitLimit"), total, kb("SwapTotal")),
    );
    report.holds(
        "M16",
        now.limit_bytes.is_none_or(|limit| total <= limit / 1024),
        (total, now.limit_bytes),
    );
    let used = total.saturating_sub(free);
    let range = (now.memory_bytes.0 / 1024).saturating_sub(2048)..=now.memory_bytes.1 / 1024 + 2048;
    report.holds(
        "M17",
        range.contains(&used) || range.start() > &total,
        (used, range),
    );
    report.holds("M18", text.len() <= 2047, text.len());
}

fn cpus(report: &mut Report, now: &Snapshot) {
    let list = |name: &str| cpu_list(&now.files[name]);
    let (info, stat, online) = (
        cpuinfo_ids(&now.files["cpuinfo"]),
        now.stat().ids(),
        list("online"),
    );
    report.holds("C01", info == stat, (&info, &stat));
    report.holds("C02", stat == online, (&stat, &online));
    report.holds(
        "C04",
        list("present") == now.cpu_dirs,
        (list("present"), &now.cpu_dirs),
    );
    report.holds("C05", now.cpu_dirs == online, (&now.cpu_dirs, &online));
    let both: BTreeSet<u32> = online.union(&list("offline")).copied().collect();
    report.holds(
        "C06",
        both == list("present") && list("present").is_subset(&list("possible")),
        &both,
    );
    let foreign: Vec<&str> = now.files["topology"]
        .lines()
        .filter(|line| !cpu_list(line).is_subset(&online))
        .collect();
    report.holds("C12", foreign.is_empty(), &foreign);
    let field = |name: &str| -> Vec<usize> {
        let values = now.files["cpuinfo"]
            .lines()
            .filter(|line| line.starts_with(name));
        values
            .filter_map(|line| line.split_once(": ")?.1.parse().ok())
            .collect()
    };
    for name in ["siblings", "cpu cores"] {
        report.holds(
            "C13",
            field(name).iter().all(|count| *count <= online.len()),
            (name, field(name)),
        );
    }
    let mut names: Vec<&str> = now.files["dirs"].lines().collect();
    names.sort_unstable();
    report.holds(
        "C15",
        names.windows(2).all(|pair| pair[0] != pair[1]),
        &names,
    );
}

fn stat(report: &mut Report, before: &Snapshot, now: &Snapshot) {
    let stat = now.stat();
    let order: Vec<&str> = now.files["stat"]
        .lines()
        .filter_map(|line| line.split(' ').next())
        .collect();
    let heads: Vec<&&str> = order
        .iter()
        .filter(|name| !name.starts_with("cpu"))
        .collect();
    report.holds(
        "S01",
        order[0] == "cpu" && heads.first() == Some(&&"intr"),
        &order,
    );
    let columns: BTreeSet<usize> = stat
        .cpus
        .values()
        .chain([&stat.total])
        .map(Vec::len)
        .collect();
    report.holds("S02", columns == BTreeSet::from([10]), &columns);
    let sums: Vec<u64> = (0..10)
        .map(|column| stat.cpus.values().map(|line| line[column]).sum())
        .collect();
    report.holds("S03", sums == stat.total, (&sums, &stat.total));
    report.holds(
        "S04",
        stat.decreases_since(&before.stat()).is_empty(),
        stat.decreases_since(&before.stat()),
    );
    let shown = stat.cpus.len() as f64;
    let seconds = |file: &str| now.at[file] - before.at[file];
    let capacity = Stat::capacity(&stat.total) as f64 / USER_HZ;
    let grown = capacity - Stat::capacity(&before.stat().total) as f64 / USER_HZ;
    let due = shown * seconds("stat");
    report.holds("S05", (grown - due).abs() <= due * 0.1 + 0.2, (grown, due));
    let up = uptime(&now.files["uptime"]);
    // The age at which stat was read.
    let due = shown * (up.0 + now.at["stat"] - now.at["uptime"]);
    report.holds(
        "S06",
        (capacity - due).abs() <= due * 0.02 + shown * 0.5,
        (capacity, due),
    );
    let busy = Stat::busy(&stat.total) as f64 / USER_HZ;
    let range = now.cpu_seconds.0 * 0.98 - 0.05..=now.cpu_seconds.1 * 1.02 + 0.05;
    report.holds("S08", range.contains(&busy), (busy, range));
    let counts = (
        stat.lines["procs_running"][0],
        stat.lines["procs_blocked"][0],
    );
    report.holds("S09", counts.0 >= 1, counts);
    report.holds("S10", counts.0 + counts.1 <= 40, counts);
    report.holds(
        "S12",
        Stat::capacity(&before.stat().total) > 0,
        &before.stat().total,
    );

    let before_up = uptime(&before.files["uptime"]);
    let passed = up.0 - before_up.0;
    report.holds(
        "T05",
        (passed - seconds("uptime")).abs() < 0.4,
        (passed, seconds("uptime")),
    );
    let two_decimals = |word: &str| {
        word.rsplit_once('.')
            .is_some_and(|(_, part)| part.len() == 2)
    };
    report.holds(
        "T06",
        now.files["uptime"].split_whitespace().all(two_decimals),
        &now.files["uptime"],
    );
    report.holds("T07", up.1 <= shown * up.0 + 0.1, (up, shown));
    let idle = stat.total[3] as f64 / USER_HZ;
    let between = now.at["stat"] - now.at["uptime"];
    report.holds(
        "T08",
        (up.1 - idle).abs() <= shown * (between + 0.2),
        (up.1, idle),
    );
    report.holds("T09", up.1 >= before_up.1, (before_up, up));
}

fn load_and_disks(report: &mut Report, before: &Snapshot, now: &Snapshot) {
    let text = now.files["loadavg"].trim();
    let words: Vec<&str> = text.split(' ').collect();
    let (running, total) = words
        .get(3)
        .and_then(|word| word.split_once('/'))
        .unwrap_or(("", ""));
    let (running, total) = (running.parse::<u64>(), total.parse::<u64>());
    report.holds(
        "L01",
        words.len() == 5 && running.is_ok() && total.is_ok(),
        text,
    );
    if let (Ok(running), Ok(total)) = (running, total) {
        report.holds("L02", running >= 1, text);
        report.holds("L03", running <= total, text);
        // The container's own processes, the shell and the cat of this snapshot; nobody else's.
        report.holds("L04", (3..=12).contains(&total), text);
        report.holds(
            "L06",
            running.abs_diff(now.stat().lines["procs_running"][0]) <= 2,
            text,
        );
    }
    report.holds(
        "L05",
        words
            .last()
            .and_then(|pid| pid.parse::<u64>().ok())
            .is_some_and(|pid| pid < 1000),
        text,
    );

    let (disks, earlier) = (
        diskstats(&now.files["diskstats"]),
        diskstats(&before.files["diskstats"]),
    );
    let widths: BTreeSet<usize> = disks.values().map(Vec::len).collect();
    report.holds("D01", widths.len() <= 1, &widths);
    for (name, columns) in &disks {
        let known = std::path::Path::new("/sys/class/block").join(name).exists();
        report.holds("D03", known, name);
        report.holds(
            "D04",
            columns[9] as f64 <= uptime(&now.files["uptime"]).0 * 1000.0 + 100.0,
            columns,
        );
        if let Some(old) = earlier.get(name) {
            let back = (0..columns.len())
                .filter(|column| *column != 8)
                .any(|column| columns[column] < old[column]);
            report.holds("D02", !back, (old, columns));
        }
    }
}

/// All invariants at two instants in one container.
fn check(container: &Container) -> Vec<String> {
    let inside = container.inside();
    let mut report = Report::default();
    let before = Snapshot::take(&inside);
    sleep(Duration::from_secs(3) * slowness().min(3));
    let now = Snapshot::take(&inside);
    for one in [&before, &now] {
        memory(&mut report, one);
        cpus(&mut report, one);
    }
    let total = |one: &Snapshot| keyed(&one.files["meminfo"])["MemTotal"];
    report.holds(
        "M15",
        total(&before) == total(&now),
        (total(&before), total(&now)),
    );
    stat(&mut report, &before, &now);
    load_and_disks(&mut report, &before, &now);
    report.0
}

#[test]
fn all_figures_of_a_container_agree() {
    let docker = match Docker::get() {
        Ok(docker) => docker,
        Err(why) => skip!("{why}"),
    };
    let _turn = alone();
    let daemon = Daemon::start(&[]);
    let idle = "sleep 100000";
    let busy = "while :; do :; done";
    let cases = [
        ("-m 256m --cpus 1", idle),
        ("-m 256m --cpus 1", busy),
        ("-m 256m --cpuset-cpus 0", busy),
        ("-m 50m --cpus 0.5", busy),
        ("", busy),
    ];
    let mut violated = Vec::new();
    for (limits, script) in cases {
        let mut line = options(limits);
        line.extend(proc_volumes(&daemon, &SIX_FILES));
        line.extend(proc_volumes(&daemon, &["loadavg"]));
        line.extend(cpu_volume(&daemon));
        let container = docker.container_running(Image::Debian, &line, &["sh", "-c", script]);
        violated.extend(
            check(&container)
                .into_iter()
                .map(|what| format!("[{limits}] {script}: {what}")),
        );
    }
    assert!(violated.is_empty(), "{}", violated.join("\n"));
}

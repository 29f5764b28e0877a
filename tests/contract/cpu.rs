//! C: which CPUs there are.

use std::collections::{BTreeMap, BTreeSet};

use crate::common::figures::{cpuinfo_ids, try_cpu_list};
use crate::findings::Findings;
use crate::inside::Run;
use crate::sample::{CPU_TREE, NODE_TREE, Sample};

type Ids = BTreeSet<u32>;

/// The items about `/sys/devices/system/cpu`.
const TREE_ITEMS: [&str; 12] = [
    "C02", "C03", "C04", "C05", "C06", "C07", "C08", "C09", "C10", "C12", "C15", "C16",
];

pub fn check(findings: &mut Findings, run: &Run) {
    for sample in &run.samples {
        let info = sample.file("/proc/cpuinfo").map(|text| text.text.as_str());
        match info {
            Err(why) => ["C01", "C03", "C13", "C14"]
                .iter()
                .for_each(|item| findings.skip(item, &why)),
            Ok(text) => cpuinfo(findings, sample, text),
        }
        interrupts(findings, sample);
        nodes(findings, sample);
        links(findings, sample);
        let affinity = sample.calls.affinity.len();
        if let Some((stat, _)) = sample.stat() {
            findings.kernel(
                "C18",
                affinity == stat.cpus.len(),
                format_args!("nproc {affinity}, /proc/stat {}", stat.cpus.len()),
            );
        } else {
            findings.skip("C18", "/proc/stat is not bound");
        }
        match sample.file(&format!("{CPU_TREE}/online")) {
            Err(why) => TREE_ITEMS.iter().for_each(|item| findings.skip(item, &why)),
            Ok(text) => match try_cpu_list(&text.text) {
                Some(online) => tree(findings, sample, &online),
                None => {
                    for item in TREE_ITEMS {
                        findings.holds(item, false, format_args!("online is {:?}", text.text));
                    }
                }
            },
        }
    }
}

/// The ids in `stem0`, `stem1` and so on.
fn numbered(names: &[String], stem: &str) -> Ids {
    let number = |name: &String| name.strip_prefix(stem)?.parse().ok();
    names.iter().filter_map(number).collect()
}

type Block<'a> = BTreeMap<&'a str, &'a str>;

fn block(text: &str) -> Block<'_> {
    let fields = text.lines().filter_map(|line| line.split_once(':'));
    fields
        .map(|(key, value)| (key.trim(), value.trim()))
        .collect()
}

/// The records of the processors.
fn blocks(text: &str) -> Vec<Block<'_>> {
    let all = text.split("\n\n").map(block);
    all.filter(|block| block.contains_key("processor"))
        .collect()
}

fn cpuinfo(findings: &mut Findings, sample: &Sample, text: &str) {
    let ids = cpuinfo_ids(text);
    match sample.stat() {
        None => findings.skip("C01", "/proc/stat is not bound"),
        Some((stat, _)) => findings.holds(
            "C01",
            ids == stat.ids(),
            format_args!("cpuinfo has {ids:?}, stat {:?}", stat.ids()),
        ),
    }
    let allowed = &sample.truth.0.cpus;
    findings.holds(
        "C03",
        &ids == allowed,
        format_args!("cpuinfo has {ids:?}, the limits allow {allowed:?}"),
    );
    let blocks = blocks(text);
    let odd: Vec<&str> = text
        .lines()
        .filter(|line| !line.is_empty() && !line.contains(':'))
        .collect();
    findings.holds(
        "C14",
        odd.is_empty() && text.ends_with("\n\n") && blocks.len() == ids.len(),
        format_args!("{} records of {ids:?}, odd lines {odd:?}", blocks.len()),
    );
    // Only x86 has these lines.
    for block in &blocks {
        let of = |key: &str| block.get(key).copied();
        let package: Vec<_> = blocks
            .iter()
            .filter(|other| other.get("physical id").copied() == of("physical id"))
            .collect();
        let cores: BTreeSet<_> = package
            .iter()
            .filter_map(|other| other.get("core id"))
            .collect();
        let number = |key: &str| of(key).and_then(|value| value.parse::<usize>().ok());
        let right = number("siblings").is_none_or(|count| count == package.len())
            && number("cpu cores").is_none_or(|count| count == cores.len());
        findings.holds(
            "C13",
            right,
            format_args!(
                "siblings {:?} and cpu cores {:?} of CPU {:?}; its package has {} records, {} cores",
                of("siblings"), of("cpu cores"), of("processor"), package.len(), cores.len()
            ),
        );
    }
}

fn tree(findings: &mut Findings, sample: &Sample, online: &Ids) {
    let list = |name: &str| {
        let text = sample.file(&format!("{CPU_TREE}/{name}")).ok()?;
        try_cpu_list(&text.text)
    };
    if let Some((stat, _)) = sample.stat() {
        findings.holds(
            "C02",
            &stat.ids() == online,
            format_args!("stat has {:?}, online {online:?}", stat.ids()),
        );
    } else {
        findings.skip("C02", "/proc/stat is not bound");
    }
    if let Ok(info) = sample.file("/proc/cpuinfo") {
        let ids = cpuinfo_ids(&info.text);
        findings.holds(
            "C03",
            &ids == online,
            format_args!("cpuinfo has {ids:?}, online {online:?}"),
        );
    }
    let entries = &sample.lists[CPU_TREE];
    let dirs = numbered(entries, "cpu");
    let (present, possible) = (list("present"), list("possible"));
    findings.holds(
        "C04",
        present.as_ref() == Some(&dirs),
        format_args!("present {present:?}, directories {dirs:?}"),
    );
    findings.holds(
        "C05",
        &dirs == online,
        format_args!("directories {dirs:?}, online {online:?}"),
    );
    let offline = list("offline").unwrap_or_default();
    let both: Ids = online.union(&offline).copied().collect();
    // What the kernel has room for is no count of CPUs: programs size by it what the kernel fills.
    let is_hosts = possible.as_ref() == Some(&sample.truth.0.possible);
    findings.holds(
        "C06",
        present.as_ref() == Some(&both) && online.is_disjoint(&offline) && is_hosts,
        format_args!(
            "online {online:?}, offline {offline:?}, present {present:?}, possible {possible:?}"
        ),
    );
    let off: Vec<&u32> = dirs
        .iter()
        .filter(|cpu| {
            list(&format!("cpu{cpu}/online")).is_some_and(|value| value != Ids::from([1]))
        })
        .collect();
    findings.holds(
        "C07",
        off.is_empty(),
        format_args!("cpuN/online is not 1 for {off:?}"),
    );
    affinity(findings, sample, online);
    topology(findings, sample, online);
    duplicates(findings, sample);
    let (shown, configured) = (sample.calls.online, sample.calls.configured);
    // Before 2.36 glibc counts the directories.
    let counts = [possible.map_or(0, |possible| possible.len()), dirs.len()];
    findings.holds(
        "C16",
        shown == online.len() && counts.contains(&configured),
        format_args!("getconf says {shown} online, {configured} configured; online {online:?}, possible and directories {counts:?}"),
    );
}

fn affinity(findings: &mut Findings, sample: &Sample, online: &Ids) {
    let affinity = &sample.calls.affinity;
    let told = format_args!("affinity {affinity:?}, online {online:?}").to_string();
    // A quota narrows what is shown, not where threads may run.
    if sample.truth.0.cpus == sample.truth.0.cpuset {
        findings.holds("C08", affinity.is_subset(online), format_args!("{told}"));
    } else {
        findings.kernel("C08", affinity.is_subset(online), format_args!("{told}"));
    }
    findings.holds("C09", online.is_subset(affinity), format_args!("{told}"));
    let unknown: Ids = sample
        .threads
        .1
        .iter()
        .map(|thread| thread.processor)
        .filter(|cpu| !online.contains(cpu))
        .collect();
    findings.kernel(
        "C10",
        unknown.is_empty(),
        format_args!("threads ran on {unknown:?}, online {online:?}"),
    );
}

fn mask(text: &str) -> Option<Ids> {
    let mut ids = Ids::new();
    for (place, word) in text.trim().split(',').rev().enumerate() {
        let bits = u32::from_str_radix(word, 16).ok()?;
        let first = place as u32 * 32;
        ids.extend(
            (0..32)
                .filter(|bit| bits & (1 << bit) != 0)
                .map(|bit| first + bit),
        );
    }
    Some(ids)
}

/// Lists and masks of CPUs below `cpuN`.
fn topology(findings: &mut Findings, sample: &Sample, online: &Ids) {
    let below = format!("{CPU_TREE}/cpu");
    for (path, text) in sample
        .texts
        .iter()
        .filter(|(path, _)| path.starts_with(&below))
    {
        let name = path.rsplit('/').next().unwrap_or_default();
        let ids = if name.ends_with("_list") || name == "related_cpus" || name == "affected_cpus" {
            try_cpu_list(&text.text.trim().replace(' ', ","))
        } else if ["_map", "_cpus", "_siblings"]
            .iter()
            .any(|end| name.ends_with(end))
        {
            mask(&text.text)
        } else {
            continue;
        };
        findings.holds(
            "C12",
            ids.as_ref()
                .is_some_and(|ids| ids.is_subset(online) && !ids.is_empty()),
            format_args!("{path} is {:?}, online {online:?}", text.text.trim()),
        );
    }
}

fn duplicates(findings: &mut Findings, sample: &Sample) {
    for (dir, entries) in sample
        .lists
        .iter()
        .filter(|(dir, _)| sample.served.contains(*dir))
    {
        let unique: BTreeSet<&String> = entries.iter().collect();
        findings.holds(
            "C15",
            unique.len() == entries.len(),
            format_args!("twice in {dir}: {entries:?}"),
        );
    }
}

fn nodes(findings: &mut Findings, sample: &Sample) {
    if let Err(why) = sample.file(&format!("{NODE_TREE}/online")) {
        findings.skip("C11", &why);
        return;
    }
    let Some((stat, _)) = sample.stat() else {
        findings.skip("C11", "/proc/stat is not bound");
        return;
    };
    let mut all = Ids::new();
    for node in numbered(&sample.lists[NODE_TREE], "node") {
        let text = |name: &str| {
            sample
                .file(&format!("{NODE_TREE}/node{node}/{name}"))
                .map(|text| text.text.clone())
        };
        let list = text("cpulist")
            .ok()
            .and_then(|text| try_cpu_list(&text))
            .unwrap_or_default();
        let map = text("cpumap")
            .ok()
            .and_then(|text| mask(&text))
            .unwrap_or_default();
        let entries = &sample.lists[&format!("{NODE_TREE}/node{node}")];
        let linked = numbered(entries, "cpu");
        findings.holds(
            "C11",
            list == map && list == linked,
            format_args!("node{node}: cpulist {list:?}, cpumap {map:?}, links {linked:?}"),
        );
        all.extend(list);
    }
    findings.holds(
        "C11",
        all == stat.ids(),
        format_args!("CPUs of all nodes {all:?}, of stat {:?}", stat.ids()),
    );
}

fn interrupts(findings: &mut Findings, sample: &Sample) {
    match (sample.file("/proc/interrupts"), sample.stat()) {
        (Err(why), _) => findings.skip("C17", &why),
        (_, None) => findings.skip("C17", "/proc/stat is not bound"),
        (Ok(text), Some((stat, _))) => {
            let names: Vec<String> = text
                .text
                .lines()
                .next()
                .unwrap_or_default()
                .split_whitespace()
                .map(str::to_owned)
                .collect();
            let columns = numbered(&names, "CPU");
            findings.holds(
                "C17",
                columns == stat.ids(),
                format_args!("columns {columns:?}, stat {:?}", stat.ids()),
            );
        }
    }
}

fn links(findings: &mut Findings, sample: &Sample) {
    if !sample.served.contains(CPU_TREE) {
        findings.skip("C19", &format!("{CPU_TREE} is not bound"));
        return;
    }
    let in_served = |link: &str| {
        let dir = link.rsplit_once('/').map_or("", |(dir, _)| dir);
        sample.served.contains(dir)
    };
    let dangling: Vec<&String> = sample
        .links
        .iter()
        .filter(|(link, leads)| !**leads && in_served(link))
        .map(|(link, _)| link)
        .collect();
    findings.holds(
        "C19",
        dangling.is_empty(),
        format_args!("lead nowhere: {dangling:?}"),
    );
    let cpus = numbered(&sample.lists[CPU_TREE], "cpu");
    let own = cpus.iter().map(|cpu| format!("cpu{cpu}/topology/core_id"));
    let missing: Vec<String> = own
        .chain(["kernel_max".to_owned()])
        .filter(|name| !sample.texts.contains_key(&format!("{CPU_TREE}/{name}")))
        .collect();
    findings.holds(
        "C19",
        missing.is_empty(),
        format_args!("missing: {missing:?}"),
    );
}

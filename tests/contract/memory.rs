//! M: memory and swap.

use std::collections::{BTreeMap, BTreeSet};

use crate::findings::Findings;
use crate::inside::Run;
use crate::sample::{NODE_TREE, Sample};
use crate::tolerance::{HOST_KB, LISTS_KB, MEMORY_KB};

const ITEMS: [&str; 21] = [
    "M01", "M02", "M03", "M04", "M05", "M06", "M07", "M08", "M09", "M10", "M11", "M12", "M13",
    "M14", "M15", "M16", "M17", "M18", "M19", "M20", "M21",
];

/// What free, top, htop, psutil and others look for on every kernel of today.
const KEYS: [&str; 24] = [
    "MemTotal",
    "MemFree",
    "MemAvailable",
    "Buffers",
    "Cached",
    "SwapCached",
    "Active",
    "Inactive",
    "SwapTotal",
    "SwapFree",
    "Dirty",
    "Writeback",
    "AnonPages",
    "Mapped",
    "Shmem",
    "Slab",
    "SReclaimable",
    "SUnreclaim",
    "KernelStack",
    "PageTables",
    "CommitLimit",
    "Committed_AS",
    "Hugepagesize",
    "HugePages_Total",
];

/// Address ranges, promises, swap and what is accounted apart: not parts of `MemTotal`.
const NOT_PARTS: [&str; 10] = [
    "Vmalloc",
    "DirectMap",
    "Hugepagesize",
    "HugePages_",
    "Hugetlb",
    "Committed_AS",
    "CommitLimit",
    "SwapTotal",
    "SwapFree",
    "Zswapped",
];

/// The longest meminfo that monit reads.
const LONGEST: usize = 2047;

pub fn check(findings: &mut Findings, run: &Run) {
    for sample in &run.samples {
        match sample.file("/proc/meminfo") {
            Err(why) => ITEMS.iter().for_each(|item| findings.skip(item, &why)),
            Ok(text) => of_one(findings, sample, &text.text),
        }
    }
    for pair in run.samples.windows(2) {
        let total = |sample: &Sample| Some(*sample.keyed("/proc/meminfo").ok()?.get("MemTotal")?);
        let (old, new) = (total(&pair[0]), total(&pair[1]));
        let same_limit = pair[0].truth.1.memory_limit_bytes == pair[1].truth.0.memory_limit_bytes;
        findings.holds(
            "M15",
            old == new || !same_limit,
            format_args!("MemTotal {old:?} kB, then {new:?} kB under one limit"),
        );
    }
}

fn of_one(findings: &mut Findings, sample: &Sample, text: &str) {
    form(findings, sample, text);
    let all = sample.keyed("/proc/meminfo").unwrap_or_default();
    let kb = |key: &str| all.get(key).copied().unwrap_or(0);
    parts(findings, sample, &kb);
    lists(findings, &kb);
    let beyond: Vec<_> = all
        .iter()
        .filter(|(key, value)| {
            **value > kb("MemTotal") && !NOT_PARTS.iter().any(|part| key.starts_with(part))
        })
        .collect();
    findings.holds(
        "M11",
        beyond.is_empty(),
        format_args!("more than MemTotal: {beyond:?}"),
    );
    swap(findings, sample, &kb);
    limits(findings, sample, &kb);
    others(findings, sample, &kb);
}

fn form(findings: &mut Findings, sample: &Sample, text: &str) {
    let well_formed = |line: &&str| {
        let Some((key, value)) = line.split_once(':') else {
            return false;
        };
        let words: Vec<&str> = value.split_whitespace().collect();
        !key.contains(' ')
            && words
                .first()
                .is_some_and(|word| word.parse::<u64>().is_ok())
            && matches!(words[1..], [] | ["kB"])
    };
    let odd: Vec<&str> = text.lines().filter(|line| !well_formed(line)).collect();
    let keys: Vec<&str> = text
        .lines()
        .filter_map(|line| line.split(':').next())
        .collect();
    let unique: BTreeSet<&str> = keys.iter().copied().collect();
    findings.holds(
        "M01",
        odd.is_empty() && keys.first() == Some(&"MemTotal") && unique.len() == keys.len(),
        format_args!(
            "odd lines {odd:?}, first {:?}, {} keys, {} different",
            keys.first(),
            keys.len(),
            unique.len()
        ),
    );
    let host = sample.truth.0.host_keys.iter().map(String::as_str);
    let missing: Vec<&str> = KEYS
        .into_iter()
        .chain(host)
        .filter(|key| !unique.contains(key))
        .collect();
    findings.holds(
        "M02",
        missing.is_empty(),
        format_args!("missing {missing:?}"),
    );
    findings.holds(
        "M18",
        text.len() <= LONGEST,
        format_args!("{} bytes", text.len()),
    );
}

fn parts(findings: &mut Findings, sample: &Sample, kb: &dyn Fn(&str) -> u64) {
    let (total, free, available) = (kb("MemTotal"), kb("MemFree"), kb("MemAvailable"));
    findings.holds(
        "M03",
        free <= total,
        format_args!("MemFree {free} kB of {total} kB"),
    );
    findings.holds(
        "M04",
        available <= total,
        format_args!("MemAvailable {available} kB of {total} kB"),
    );
    let least = free.min(sample.truth.0.host_available_kb.saturating_sub(HOST_KB));
    findings.holds(
        "M05",
        available + MEMORY_KB >= least,
        format_args!("MemAvailable {available} kB, MemFree {free} kB"),
    );
    let parts = ["MemFree", "Buffers", "Cached", "SReclaimable"].map(kb);
    findings.holds(
        "M06",
        parts.iter().sum::<u64>() <= total,
        format_args!("free, buffers, cached and reclaimable slab {parts:?} kB of {total} kB"),
    );
}

fn lists(findings: &mut Findings, kb: &dyn Fn(&str) -> u64) {
    for list in ["Active", "Inactive"] {
        let parts = ["anon", "file"].map(|part| kb(&format!("{list}({part})")));
        findings.holds(
            "M07",
            kb(list).abs_diff(parts.iter().sum()) <= LISTS_KB,
            format_args!("{list} {} kB, its parts {parts:?} kB", kb(list)),
        );
    }
    let slab = ["Slab", "SReclaimable", "SUnreclaim"].map(kb);
    findings.holds(
        "M08",
        slab[0].abs_diff(slab[1] + slab[2]) <= LISTS_KB,
        format_args!("slab, reclaimable, unreclaimable {slab:?} kB"),
    );
    let reclaimable = ["SReclaimable", "KReclaimable", "MemTotal"].map(kb);
    findings.holds(
        "M09",
        reclaimable.is_sorted() || (reclaimable[1] == 0 && reclaimable[0] <= reclaimable[2]),
        format_args!("SReclaimable, KReclaimable, MemTotal {reclaimable:?} kB do not rise"),
    );
    let swap_used = kb("SwapTotal").saturating_sub(kb("SwapFree"));
    findings.holds(
        "M10",
        kb("Shmem") <= kb("Cached") + swap_used + LISTS_KB,
        format_args!(
            "Shmem {} kB, Cached {} kB, swap used {swap_used} kB",
            kb("Shmem"),
            kb("Cached")
        ),
    );
}

fn swap(findings: &mut Findings, sample: &Sample, kb: &dyn Fn(&str) -> u64) {
    let (total, free) = (kb("SwapTotal"), kb("SwapFree"));
    findings.holds(
        "M12",
        free <= total,
        format_args!("SwapFree {free} kB of {total} kB"),
    );
    match sample.file("/proc/swaps") {
        Err(why) => findings.skip("M13", &why),
        Ok(swaps) => {
            let rows = swaps
                .text
                .lines()
                .skip(1)
                .map(|row| row.split_whitespace().collect());
            let rows: Vec<Vec<&str>> = rows.collect();
            let sum = |column: usize| -> Option<u64> {
                let value = |row: &Vec<&str>| row.get(column)?.parse::<u64>().ok();
                rows.iter().map(value).sum()
            };
            let (size, used) = (sum(2), sum(3));
            // The two files are read at different instants.
            let near =
                used.is_some_and(|used| used.abs_diff(total.saturating_sub(free)) <= MEMORY_KB);
            findings.holds(
                "M13",
                size == Some(total) && near,
                format_args!("swaps {size:?} kB, {used:?} used; meminfo {total} kB, {free} free"),
            );
        }
    }
    let limit = kb("CommitLimit");
    findings.holds(
        "M14",
        limit <= kb("MemTotal") + total,
        format_args!(
            "CommitLimit {limit} kB, MemTotal {} kB, SwapTotal {total} kB",
            kb("MemTotal")
        ),
    );
}

fn limits(findings: &mut Findings, sample: &Sample, kb: &dyn Fn(&str) -> u64) {
    let (before, after) = &sample.truth;
    let (total, free) = (kb("MemTotal"), kb("MemFree"));
    let limit = before.memory_limit_bytes;
    findings.holds(
        "M16",
        limit.is_none_or(|limit| total <= limit / 1024),
        format_args!("MemTotal {total} kB, limit {limit:?} bytes"),
    );
    let used = total.saturating_sub(free);
    let usage = [before, after].map(|truth| truth.memory_usage_bytes / 1024);
    let least = usage[0].min(usage[1]).min(total).saturating_sub(MEMORY_KB);
    let most = usage[0].max(usage[1]) + MEMORY_KB;
    findings.holds(
        "M17",
        (least..=most).contains(&used),
        format_args!("MemTotal - MemFree {used} kB; the cgroup uses {usage:?} kB"),
    );
}

fn others(findings: &mut Findings, sample: &Sample, kb: &dyn Fn(&str) -> u64) {
    match nodes_kb(sample, "MemTotal") {
        Err(why) => findings.skip("M19", &why),
        Ok(sum) => findings.holds(
            "M19",
            sum == kb("MemTotal"),
            format_args!(
                "MemTotal of all nodes {sum} kB, of meminfo {} kB",
                kb("MemTotal")
            ),
        ),
    }
    match sample.keyed("/proc/vmstat") {
        Err(why) => findings.skip("M20", &why),
        Ok(vmstat) => {
            let pages_kb = vmstat.get("nr_free_pages").map(|pages| pages * 4);
            findings.holds(
                "M20",
                pages_kb.is_some_and(|pages| pages.abs_diff(kb("MemFree")) <= MEMORY_KB),
                format_args!(
                    "nr_free_pages {pages_kb:?} kB, MemFree {} kB",
                    kb("MemFree")
                ),
            );
        }
    }
    let said = sample.calls.memory_kb;
    findings.kernel(
        "M21",
        said == kb("MemTotal"),
        format_args!("sysinfo says {said} kB, meminfo {} kB", kb("MemTotal")),
    );
}

/// A line of the nodes' meminfo, summed up.
fn nodes_kb(sample: &Sample, key: &str) -> Result<u64, String> {
    let nodes: Vec<&String> = sample
        .texts
        .keys()
        .filter(|path| path.starts_with(NODE_TREE) && path.ends_with("/meminfo"))
        .collect();
    if nodes.is_empty() {
        return Err(format!("there is no meminfo in {NODE_TREE}"));
    }
    let of = |node: &&String| -> Result<u64, String> {
        let text = &sample.file(node)?.text;
        let head = format!(" {key}:");
        let line = text.lines().find(|line| line.contains(&head));
        let value = line.and_then(|line| line.split_whitespace().nth(3)?.parse().ok());
        Ok(value.unwrap_or(0))
    };
    nodes.iter().map(of).sum()
}

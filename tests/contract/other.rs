//! V, P, B: vmstat, pressure and slabinfo.

use std::collections::BTreeMap;

use crate::findings::Findings;
use crate::inside::Run;
use crate::sample::{Sample, Text};
use crate::stat::Bounds;
use crate::tolerance::{MEMORY_KB, ROUNDING_SECONDS, SANE_PER_SECOND, SLAB_SHARE};

/// What vmstat, sar, atop and the exporters look for.
const VMSTAT_KEYS: [&str; 13] = [
    "nr_free_pages",
    "nr_inactive_anon",
    "nr_active_anon",
    "nr_inactive_file",
    "nr_active_file",
    "nr_dirty",
    "pgpgin",
    "pgpgout",
    "pswpin",
    "pswpout",
    "pgfault",
    "pgmajfault",
    "pgfree",
];

const PRESSURES: [&str; 4] = ["cpu", "io", "memory", "irq"];

pub fn check(findings: &mut Findings, run: &Run) {
    for sample in &run.samples {
        vmstat(findings, sample);
        rates(findings, sample);
        pressure(findings, sample);
        slab(findings, sample);
    }
    for pair in run.samples.windows(2) {
        if let (Ok(old), Ok(new)) = (pair[0].keyed("/proc/vmstat"), pair[1].keyed("/proc/vmstat")) {
            let counts = |key: &str| !key.starts_with("nr_") && key != "workingset_nodes";
            let back: Vec<_> = old
                .iter()
                .filter(|(key, value)| counts(key) && new.get(*key).is_none_or(|now| now < *value))
                .collect();
            findings.holds("V02", back.is_empty(), format_args!("went back: {back:?}"));
        }
        pressure_growth(findings, pair);
    }
}

fn vmstat(findings: &mut Findings, sample: &Sample) {
    match sample.keyed("/proc/vmstat") {
        Err(why) => ["V01", "V02"]
            .iter()
            .for_each(|item| findings.skip(item, &why)),
        Ok(all) => {
            let missing: Vec<_> = VMSTAT_KEYS
                .iter()
                .filter(|key| !all.contains_key(**key))
                .collect();
            findings.holds(
                "V01",
                missing.is_empty(),
                format_args!("missing: {missing:?}"),
            );
        }
    }
}

/// The first line of vmstat divides counters by uptime.
fn rates(findings: &mut Findings, sample: &Sample) {
    let Some(((up, _), _)) = sample.uptime() else {
        findings.skip("V03", "/proc/uptime is not bound");
        return;
    };
    let vmstat = sample.keyed("/proc/vmstat").unwrap_or_default();
    let mut counters: BTreeMap<&str, u64> = ["pgpgin", "pgpgout", "pswpin", "pswpout"]
        .into_iter()
        .filter_map(|key| Some((key, *vmstat.get(key)?)))
        .collect();
    if let Some((stat, _)) = sample.stat() {
        for name in ["intr", "ctxt"] {
            let value = stat.lines.get(name).and_then(|line| line.first());
            counters.extend(value.map(|value| (name, *value)));
        }
    }
    let most = (up + 1.0) * SANE_PER_SECOND;
    counters.retain(|_, value| *value as f64 > most);
    findings.holds(
        "V03",
        counters.is_empty(),
        format_args!("beyond reason after {up} s: {counters:?}"),
    );
}

/// The lines of a pressure file: average percentages and total microseconds.
fn lines(text: &Text) -> Option<BTreeMap<String, (Vec<f64>, u64)>> {
    let line = |line: &str| {
        let mut words = line.split(' ');
        let name = words.next()?.to_owned();
        let mut values: Vec<&str> = words
            .map(|word| Some(word.split_once('=')?.1))
            .collect::<Option<_>>()?;
        let total = values.pop()?.parse().ok()?;
        let averages = values
            .iter()
            .map(|value| value.parse().ok())
            .collect::<Option<Vec<f64>>>()?;
        (averages.len() == 3).then_some((name, (averages, total)))
    };
    text.text.lines().map(line).collect()
}

fn pressure(findings: &mut Findings, sample: &Sample) {
    let files = PRESSURES.map(|name| sample.file(&format!("/proc/pressure/{name}")));
    if let [Err(why), Err(_), Err(_), Err(_)] = &files {
        findings.skip("P01", why);
        findings.skip("P02", why);
        return;
    }
    for text in files.into_iter().flatten() {
        let Some(lines) = lines(text) else {
            findings.holds(
                "P01",
                false,
                format_args!("not a pressure: {:?}", text.text),
            );
            continue;
        };
        let total = |name: &str| lines.get(name).map(|(_, total)| *total);
        let within = lines.values().all(|(averages, _)| {
            averages
                .iter()
                .all(|average| (0.0..=100.0).contains(average))
        });
        let ordered =
            total("some").is_none_or(|some| total("full").is_none_or(|full| full <= some));
        findings.holds(
            "P01",
            within && ordered && !lines.is_empty(),
            format_args!("{:?}", text.text),
        );
        if let Some(((up, _), at)) = sample.uptime() {
            let most = up + text.ended - at.began + ROUNDING_SECONDS;
            let longest = lines
                .values()
                .map(|(_, total)| *total as f64 / 1e6)
                .fold(0.0, f64::max);
            findings.holds(
                "P02",
                longest <= most,
                format_args!("{longest} s of pressure, uptime {up} s"),
            );
        } else {
            findings.skip("P02", "/proc/uptime is not bound");
        }
    }
}

fn pressure_growth(findings: &mut Findings, pair: &[Sample]) {
    for name in PRESSURES {
        let path = format!("/proc/pressure/{name}");
        let (Ok(old), Ok(new)) = (pair[0].file(&path), pair[1].file(&path)) else {
            continue;
        };
        let (Some(before), Some(now)) = (lines(old), lines(new)) else {
            continue;
        };
        let most = Bounds::between(old, new).most + ROUNDING_SECONDS;
        for (kind, (_, total)) in &now {
            let earlier = before.get(kind).map_or(0, |(_, total)| *total);
            let grown = (*total as f64 - earlier as f64) / 1e6;
            findings.holds(
                "P01",
                (0.0..=most).contains(&grown),
                format_args!("{name} {kind} grew by {grown} s in {most:.2} s"),
            );
        }
    }
}

/// Pages of all caches together.
fn slab(findings: &mut Findings, sample: &Sample) {
    let (text, meminfo) = match (sample.file("/proc/slabinfo"), sample.keyed("/proc/meminfo")) {
        (Ok(text), Ok(meminfo)) => (&text.text, meminfo),
        (Err(why), _) | (_, Err(why)) => {
            findings.skip("B01", &why);
            return;
        }
    };
    let pages = |line: &str| -> Option<u64> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let each: u64 = words.get(5)?.parse().ok()?;
        let slabs = words.iter().position(|word| *word == "slabdata")? + 2;
        Some(each * words.get(slabs)?.parse::<u64>().ok()?)
    };
    let sum_kb: u64 = text.lines().skip(2).filter_map(pages).sum::<u64>() * 4;
    let slab_kb = meminfo.get("Slab").copied().unwrap_or(0);
    let near = slab_kb as f64 * SLAB_SHARE + MEMORY_KB as f64;
    findings.holds(
        "B01",
        text.starts_with("slabinfo - version: 2.1\n") && sum_kb.abs_diff(slab_kb) as f64 <= near,
        format_args!("slabs of {sum_kb} kB, Slab {slab_kb} kB"),
    );
}

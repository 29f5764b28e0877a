//! D: block devices.

use std::collections::{BTreeMap, BTreeSet};

use crate::common::figures::diskstats;
use crate::findings::Findings;
use crate::inside::Run;
use crate::sample::Sample;
use crate::tolerance::AGE_SECONDS;

const ITEMS: [&str; 5] = ["D01", "D02", "D03", "D04", "D05"];

/// Columns after the name.
const SECTORS_WRITTEN: usize = 6;
const IN_FLIGHT: usize = 8;
const IO_TICKS: usize = 9;

/// Of what was written, the part that must be counted; metadata comes on top.
const COUNTED: f64 = 0.8;

pub fn check(findings: &mut Findings, run: &Run) {
    for sample in &run.samples {
        match sample.file("/proc/diskstats") {
            Err(why) => ITEMS.iter().for_each(|item| findings.skip(item, &why)),
            Ok(text) => of_one(findings, sample, &text.text),
        }
    }
    for pair in run.samples.windows(2) {
        let (old, new) = (disks(&pair[0]), disks(&pair[1]));
        for (name, columns) in &old {
            let now = new.get(name);
            let back = |(at, old): (usize, &u64)| {
                at != IN_FLIGHT && now.and_then(|now| now.get(at)).is_none_or(|now| now < old)
            };
            let any = columns.iter().enumerate().any(back);
            findings.holds(
                "D02",
                !any,
                format_args!("{name} went from {columns:?} to {now:?}"),
            );
        }
        if old.is_empty() {
            findings.holds("D02", true, format_args!(""));
        }
    }
    own(findings, run);
}

fn disks(sample: &Sample) -> BTreeMap<String, Vec<u64>> {
    sample
        .file("/proc/diskstats")
        .map(|text| diskstats(&text.text))
        .unwrap_or_default()
}

fn of_one(findings: &mut Findings, sample: &Sample, text: &str) {
    let widths: BTreeSet<usize> = text
        .lines()
        .map(|line| line.split_whitespace().count())
        .collect();
    let known = widths.iter().all(|width| [14, 18, 20].contains(width));
    findings.holds(
        "D01",
        known && widths.len() <= 1,
        format_args!("lines of {widths:?} columns"),
    );
    // A container that uses no disk has no lines to be wrong.
    for item in ["D03", "D04"] {
        findings.holds(item, true, format_args!(""));
    }
    let up = sample
        .uptime()
        .map(|((up, _), at)| up + sample.texts["/proc/diskstats"].ended - at.began);
    for (name, columns) in disks(sample) {
        let path = format!("/sys/block/{name}/stat");
        findings.holds(
            "D03",
            sample.texts.contains_key(&path),
            format_args!("there is no {path}"),
        );
        let busy = columns
            .get(IO_TICKS)
            .map_or(0.0, |millis| *millis as f64 / 1000.0);
        findings.holds(
            "D04",
            up.is_none_or(|up| busy <= up + AGE_SECONDS),
            format_args!("{name} was busy for {busy} s, uptime {up:?}"),
        );
        same_in_sys(findings, sample, &name, &columns);
    }
    if disks(sample).is_empty() {
        findings.skip("D05", "no disk is shown");
    }
}

/// iostat reads the file in `/sys`. It is read between two readings of the other one, and its figures lie between theirs.
fn same_in_sys(findings: &mut Findings, sample: &Sample, name: &str, columns: &[u64]) {
    let path = &format!("/sys/block/{name}/stat");
    match sample.file(path) {
        Err(why) => findings.skip("D05", &why),
        Ok(text) => {
            let there: Vec<u64> = text
                .text
                .split_whitespace()
                .filter_map(|word| word.parse().ok())
                .collect();
            let after = diskstats(&sample.disks_after);
            let after = after.get(name).map_or(&[][..], Vec::as_slice);
            let between = |at: usize| (columns[at]..=after[at]).contains(&there[at]);
            let same_columns = there.len() == columns.len() && there.len() == after.len();
            findings.holds(
                "D05",
                same_columns && (0..there.len()).all(|at| at == IN_FLIGHT || between(at)),
                format_args!("{path} has {there:?}, diskstats {columns:?} and then {after:?}"),
            );
        }
    }
}

fn own(findings: &mut Findings, run: &Run) {
    let (Some(first), Some(last)) = (run.samples.first(), run.samples.last()) else {
        return;
    };
    if let Err(why) = last.file("/proc/diskstats") {
        findings.skip("D06", &why);
        return;
    }
    let written = last.written_bytes - first.written_bytes;
    let least = written as f64 * COUNTED;
    let accounted = last
        .truth
        .0
        .written_bytes
        .saturating_sub(first.truth.1.written_bytes);
    let bytes = |sample: &Sample| -> u64 {
        disks(sample)
            .values()
            .filter_map(|columns| columns.get(SECTORS_WRITTEN))
            .map(|sectors| sectors * 512)
            .sum()
    };
    let shown = bytes(last).saturating_sub(bytes(first));
    let told = format_args!("{written} bytes written, {shown} shown, {accounted} in the cgroup")
        .to_string();
    // Where the kernel has not counted it for the cgroup, no file can show it.
    if accounted as f64 >= least {
        findings.holds(
            "D06",
            shown as f64 >= least && written > 0,
            format_args!("{told}"),
        );
    } else {
        findings.kernel("D06", false, format_args!("{told}"));
    }
}

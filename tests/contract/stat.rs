//! S: `/proc/stat`.

use std::collections::BTreeSet;

use crate::common::USER_HZ;
use crate::common::figures::Stat;
use crate::findings::Findings;
use crate::inside::Run;
use crate::sample::{Sample, Text};
use crate::tolerance::{ACCOUNTING_SECONDS, AGE_SECONDS, ROUNDING_SECONDS, THREADS, TICK_SECONDS};

const ITEMS: [&str; 13] = [
    "S01", "S02", "S03", "S04", "S05", "S06", "S07", "S08", "S09", "S10", "S11", "S12", "S13",
];

/// sysstat reads lines into a buffer of this size.
const LONGEST_LINE: usize = 8192;

/// The least and the most number of CPUs, and seconds.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    pub least: f64,
    pub most: f64,
}

impl Bounds {
    /// Seconds from one text to a later one.
    pub fn between(old: &Text, new: &Text) -> Self {
        Self {
            least: new.began - AGE_SECONDS - old.ended,
            most: new.ended - old.began + AGE_SECONDS,
        }
    }

    pub fn times(self, count: Self) -> Self {
        let products = [
            self.least * count.least,
            self.least * count.most,
            self.most * count.least,
            self.most * count.most,
        ];
        Self {
            least: products.into_iter().fold(f64::INFINITY, f64::min),
            most: products.into_iter().fold(f64::NEG_INFINITY, f64::max),
        }
    }

    pub fn holds(self, value: f64, tolerance: f64) -> bool {
        (self.least - tolerance..=self.most + tolerance).contains(&value)
    }
}

/// How many CPUs these samples show: bounds, for limits can change between them.
pub fn cpu_counts(samples: &[Sample]) -> Bounds {
    let counts = samples
        .iter()
        .filter_map(|sample| Some(sample.stat()?.0.cpus.len() as f64));
    Bounds {
        least: counts.clone().fold(f64::INFINITY, f64::min),
        most: counts.fold(0.0, f64::max),
    }
}

fn seconds(line: &[u64]) -> f64 {
    Stat::capacity(line) as f64 / USER_HZ
}

pub fn check(findings: &mut Findings, run: &Run) {
    for (index, sample) in run.samples.iter().enumerate() {
        let text = match sample.file("/proc/stat") {
            Ok(text) => text,
            Err(why) => {
                ITEMS.iter().for_each(|item| findings.skip(item, &why));
                continue;
            }
        };
        let Some((stat, _)) = sample.stat() else {
            for item in ITEMS {
                findings.holds(item, false, format_args!("not a stat: {:?}", text.text));
            }
            continue;
        };
        let before = run.samples[..index].iter().filter_map(Sample::stat);
        let mut lost = before.flat_map(|(before, _)| before.cpus.into_keys());
        let has_lost_one = lost.any(|id| !stat.cpus.contains_key(&id));
        form(findings, &stat, &text.text, has_lost_one);
        capacity(findings, &run.samples[..=index], &stat, text);
        accounting(findings, sample, &stat);
    }
    for pair in run.samples.windows(2) {
        if let (Some(old), Some(new)) = (pair[0].stat(), pair[1].stat()) {
            growth(findings, pair, &old, &new);
        }
    }
    if let Some((stat, _)) = run.samples.first().and_then(Sample::stat) {
        let lines = stat.cpus.values().chain([&stat.total]);
        findings.holds(
            "S12",
            lines.clone().all(|line| Stat::capacity(line) > 0),
            format_args!("the first read gave {:?}", lines.collect::<Vec<_>>()),
        );
    }
}

/// As with the kernel's CPUs that are off-line, the time on those that the container no longer has stays in `cpu`.
fn form(findings: &mut Findings, stat: &Stat, text: &str, has_lost_one: bool) {
    let names: Vec<&str> = text
        .lines()
        .filter_map(|line| line.split(' ').next())
        .collect();
    let cpus: Vec<String> = stat.cpus.keys().map(|id| format!("cpu{id}")).collect();
    let rest = [
        "intr",
        "ctxt",
        "btime",
        "processes",
        "procs_running",
        "procs_blocked",
        "softirq",
    ];
    let expected: Vec<&str> = ["cpu"]
        .into_iter()
        .chain(cpus.iter().map(String::as_str))
        .chain(rest)
        .collect();
    findings.holds(
        "S01",
        names == expected,
        format_args!("lines {names:?}, expected {expected:?}"),
    );
    let columns: BTreeSet<usize> = stat
        .cpus
        .values()
        .chain([&stat.total])
        .map(Vec::len)
        .collect();
    findings.holds(
        "S02",
        columns == BTreeSet::from([10]),
        format_args!("{columns:?} columns"),
    );
    let column = |at: usize| -> u64 { stat.cpus.values().filter_map(|line| line.get(at)).sum() };
    let sums: Vec<u64> = (0..stat.total.len()).map(column).collect();
    findings.holds(
        "S03",
        sums == stat.total
            || has_lost_one && sums.iter().zip(&stat.total).all(|(sum, all)| sum <= all),
        format_args!("cpu {:?}, the sum of its CPUs {sums:?}", stat.total),
    );
    let longest = text.lines().map(str::len).max().unwrap_or(0);
    findings.holds(
        "S13",
        longest < LONGEST_LINE,
        format_args!("a line of {longest} bytes"),
    );
}

/// The time of all CPUs since the container's start is what uptime says.
fn capacity(findings: &mut Findings, so_far: &[Sample], stat: &Stat, text: &Text) {
    let Some(((up, _), at)) = so_far.last().and_then(Sample::uptime) else {
        findings.skip("S06", "/proc/uptime is not bound");
        findings.skip("S07", "/proc/uptime is not bound");
        return;
    };
    let since = Bounds::between(at, text);
    let age = Bounds {
        least: up + since.least,
        most: up + since.most,
    };
    let counts = cpu_counts(so_far);
    let due = age.times(counts);
    let total = seconds(&stat.total);
    findings.holds(
        "S06",
        due.holds(total, counts.most * ROUNDING_SECONDS),
        format_args!("{total} s on all CPUs, uptime asks for {due:?}"),
    );
    // A CPU that was not always shown has not the time of all its life.
    let always = |sample: &Sample| {
        sample
            .stat()
            .is_none_or(|(other, _)| other.ids() == stat.ids())
    };
    if !so_far.iter().all(always) {
        return;
    }
    for (id, line) in &stat.cpus {
        findings.holds(
            "S07",
            age.holds(seconds(line), ROUNDING_SECONDS),
            format_args!("{} s on cpu{id}, uptime asks for {age:?}", seconds(line)),
        );
    }
}

fn growth(findings: &mut Findings, pair: &[Sample], old: &(Stat, &Text), new: &(Stat, &Text)) {
    let back = new.0.decreases_since(&old.0);
    findings.holds("S04", back.is_empty(), format_args!("went back: {back:?}"));
    let passed = Bounds::between(old.1, new.1);
    let counts = cpu_counts(pair);
    let grown = seconds(&new.0.total) - seconds(&old.0.total);
    let due = passed.times(counts);
    findings.holds(
        "S05",
        due.holds(grown, counts.most * ROUNDING_SECONDS),
        format_args!("grew by {grown} s, expected {due:?}"),
    );
    if old.0.ids() != new.0.ids() {
        return;
    }
    for (id, line) in &new.0.cpus {
        let grown = seconds(line) - seconds(&old.0.cpus[id]);
        findings.holds(
            "S07",
            passed.holds(grown, ROUNDING_SECONDS),
            format_args!("cpu{id} grew by {grown} s, expected {passed:?}"),
        );
    }
}

fn accounting(findings: &mut Findings, sample: &Sample, stat: &Stat) {
    let busy = Stat::busy(&stat.total) as f64 / USER_HZ;
    let total = seconds(&stat.total);
    // The kernel lets bursts exceed a quota a little. What there was no room for yet is shown later.
    let used = Bounds {
        least: sample.truth.0.cpu_seconds.min(total),
        most: sample.truth.1.cpu_seconds,
    };
    let count = stat.cpus.len() as f64;
    findings.holds(
        "S08",
        used.holds(
            busy,
            count * (ACCOUNTING_SECONDS + ROUNDING_SECONDS + TICK_SECONDS),
        ),
        format_args!("{busy} s busy of {total} s, the cgroup used {used:?}"),
    );
    let figure = |name: &str| stat.lines.get(name).and_then(|line| line.first()).copied();
    let (running, blocked) = (figure("procs_running"), figure("procs_blocked"));
    findings.holds(
        "S09",
        running >= Some(1),
        format_args!("procs_running {running:?}"),
    );
    let threads = sample.threads.0.len().max(sample.threads.1.len()) as u64;
    let active = running
        .zip(blocked)
        .map(|(running, blocked)| running + blocked);
    findings.holds(
        "S10",
        active.is_some_and(|active| active <= threads + THREADS),
        format_args!(
            "procs_running {running:?} and procs_blocked {blocked:?} of {threads} threads"
        ),
    );
    let newest = sample
        .threads
        .0
        .iter()
        .map(|thread| thread.process)
        .max()
        .unwrap_or(0);
    let forks = figure("processes");
    findings.holds(
        "S11",
        forks.is_some_and(|forks| forks >= u64::from(newest)),
        format_args!("processes {forks:?}, the newest pid {newest}"),
    );
}

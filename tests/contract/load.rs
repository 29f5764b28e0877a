//! L: the load average.

use crate::findings::Findings;
use crate::inside::Run;
use crate::sample::{Sample, Thread};
use crate::tolerance::{RUNNING, THREADS};

const ITEMS: [&str; 9] = [
    "L01", "L02", "L03", "L04", "L05", "L06", "L07", "L08", "L09",
];

/// The kernel looks every 5 s; this is long enough for two looks.
const TWO_LOOKS_SECONDS: f64 = 11.0;
/// Figures have two decimals.
const ROUNDING: f64 = 0.02;

struct Figures {
    load: f64,
    running: u64,
    total: u64,
    last: u32,
}

fn parse(text: &str) -> Option<Figures> {
    let words: Vec<&str> = text.strip_suffix('\n')?.split(' ').collect();
    let [one, five, fifteen, threads, last] = words[..] else {
        return None;
    };
    let two_decimals = |word: &str| {
        word.split_once('.')
            .is_some_and(|(_, part)| part.len() == 2)
    };
    let (running, total) = threads.split_once('/')?;
    [one, five, fifteen]
        .into_iter()
        .all(two_decimals)
        .then_some(Figures {
            load: one.parse().ok()?,
            running: running.parse().ok()?,
            total: total.parse().ok()?,
            last: last.parse().ok()?,
        })
}

fn active(threads: &[Thread]) -> u64 {
    let counts = |thread: &&Thread| matches!(thread.state, 'R' | 'D');
    threads.iter().filter(counts).count() as u64
}

pub fn check(findings: &mut Findings, run: &Run) {
    let mut most_active = 0;
    let mut loads = Vec::new();
    for sample in &run.samples {
        let text = match sample.file("/proc/loadavg") {
            Ok(text) => text,
            Err(why) => {
                ITEMS.iter().for_each(|item| findings.skip(item, &why));
                continue;
            }
        };
        let Some(figures) = parse(&text.text) else {
            for item in ITEMS {
                findings.holds(item, false, format_args!("not a loadavg: {:?}", text.text));
            }
            continue;
        };
        findings.holds("L01", true, format_args!(""));
        threads(findings, sample, &figures);
        let said = sample.calls.load;
        findings.kernel(
            "L07",
            (said - figures.load).abs() <= ROUNDING,
            format_args!("getloadavg says {said:.2}, the file {}", figures.load),
        );
        let all = [&sample.threads.0, &sample.threads.1].map(|threads| active(threads));
        most_active = all
            .into_iter()
            .chain([most_active, figures.running])
            .max()
            .unwrap_or(0);
        loads.push((text.began, figures.load));
    }
    let most = most_active as f64 + ROUNDING;
    for (_, load) in &loads {
        findings.holds(
            "L09",
            *load <= most,
            format_args!("a load of {load} with at most {most_active} active threads"),
        );
    }
    follows(findings, run, &loads);
}

fn threads(findings: &mut Findings, sample: &Sample, figures: &Figures) {
    let Figures {
        running,
        total,
        last,
        ..
    } = *figures;
    findings.holds("L02", running >= 1, format_args!("{running} running"));
    findings.holds(
        "L03",
        running <= total,
        format_args!("{running} running of {total}"),
    );
    let seen = [&sample.threads.0, &sample.threads.1].map(|threads| threads.len() as u64);
    let (least, most) = (
        seen[0].min(seen[1]) - THREADS,
        seen[0].max(seen[1]) + THREADS,
    );
    findings.holds(
        "L04",
        (least..=most).contains(&total),
        format_args!("{total} threads, /proc shows {seen:?}"),
    );
    let newest = sample.newest.id;
    // A container that forks all the time would need more room than a few ids.
    findings.holds(
        "L05",
        (newest..newest + 100).contains(&last),
        format_args!("last pid {last}, the newest thread is {newest}"),
    );
    if let Some((stat, _)) = sample.stat() {
        let counted = stat
            .lines
            .get("procs_running")
            .and_then(|line| line.first())
            .copied()
            .unwrap_or(0);
        findings.holds(
            "L06",
            counted.abs_diff(running) <= RUNNING,
            format_args!("{running} running, procs_running {counted}"),
        );
    } else {
        findings.skip("L06", "/proc/stat is not bound");
    }
}

/// The last samples are taken with at least one thread running all the time.
fn follows(findings: &mut Findings, run: &Run, loads: &[(f64, f64)]) {
    let under_load = loads.get(run.idle_samples..).unwrap_or_default();
    if let (Some(first), Some(last)) = (under_load.first(), under_load.last()) {
        let seconds = last.0 - first.0;
        // One thread brings the average towards 1. On a busy machine every other look may be late.
        let least = 1.0 - (1.0 - first.1).max(0.0) * (-seconds / 2.0 / 60.0).exp();
        findings.holds(
            "L08",
            seconds >= TWO_LOOKS_SECONDS && last.1 >= least - ROUNDING,
            format_args!(
                "a load of {} after {} and {seconds:.0} s of a busy thread",
                last.1, first.1
            ),
        );
    }
}

/// Whether the samples so far are enough to see the load average follow the load, and it does. True where it is not
/// served, as there is nothing to wait for.
pub fn has_followed(run: &Run) -> bool {
    let mut findings = Findings::default();
    check(&mut findings, run);
    !findings.failed().contains(&"L08")
}

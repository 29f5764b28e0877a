//! T: uptime, boot time and the ages of processes.

use crate::common::USER_HZ;
use crate::findings::Findings;
use crate::inside::Run;
use crate::sample::Sample;
use crate::stat::{Bounds, cpu_counts};
use crate::tolerance::{AGE_SECONDS, BTIME_SECONDS, ROUNDING_SECONDS, START_SECONDS, TICK_SECONDS};

const ITEMS: [&str; 9] = [
    "T03", "T04", "T05", "T06", "T07", "T08", "T09", "T10", "T11",
];

pub fn check(findings: &mut Findings, run: &Run) {
    for (index, sample) in run.samples.iter().enumerate() {
        boot(findings, sample);
        let text = match sample.file("/proc/uptime") {
            Ok(text) => &text.text,
            Err(why) => {
                ITEMS.iter().for_each(|item| findings.skip(item, &why));
                continue;
            }
        };
        let two_decimals = |word: &str| {
            word.rsplit_once('.')
                .is_some_and(|(_, part)| part.len() == 2)
        };
        let form = text.ends_with('\n') && text.split_whitespace().all(two_decimals);
        findings.holds(
            "T06",
            form && sample.uptime().is_some(),
            format_args!("{text:?}"),
        );
        let Some((figures, _)) = sample.uptime() else {
            for item in ITEMS {
                findings.holds(item, false, format_args!("not an uptime: {text:?}"));
            }
            continue;
        };
        ages(findings, sample, figures.0);
        idle(findings, &run.samples[..=index], figures);
    }
    for pair in run.samples.windows(2) {
        if let (Some((old, before)), Some((new, now))) = (pair[0].uptime(), pair[1].uptime()) {
            let (passed, due) = (new.0 - old.0, Bounds::between(before, now));
            findings.holds(
                "T05",
                due.holds(passed, TICK_SECONDS),
                format_args!("{passed} s passed, expected {due:?}"),
            );
            findings.holds(
                "T09",
                new.1 >= old.1,
                format_args!("idle {} s after {} s", new.1, old.1),
            );
        }
    }
}

/// `btime` and the start times in `/proc/PID/stat`, which count from it.
fn boot(findings: &mut Findings, sample: &Sample) {
    let Some((stat, _)) = sample.stat() else {
        findings.skip("T01", "/proc/stat is not bound");
        findings.skip("T02", "/proc/stat is not bound");
        return;
    };
    let boot = stat
        .lines
        .get("btime")
        .and_then(|line| line.first())
        .map_or(0.0, |boot| *boot as f64);
    let start = boot + sample.newest.start_seconds;
    let (before, after) = sample.newest.wall;
    findings.holds(
        "T02",
        (before - BTIME_SECONDS..=after + BTIME_SECONDS).contains(&start),
        format_args!("a thread started {} s after it did", start - before),
    );
    let Some(((up, _), text)) = sample.uptime() else {
        findings.skip("T01", "/proc/uptime is not bound");
        return;
    };
    let now = sample.calls.wall - (sample.calls.boottime - text.ended);
    let late = now - (boot + up);
    let told = format_args!("btime and uptime give a time {late:.2} s ago").to_string();
    let most = BTIME_SECONDS + (text.ended - text.began);
    let right = (-BTIME_SECONDS..=most).contains(&late);
    if sample.calls.in_time_namespace {
        findings.holds("T01", right, format_args!("{told}"));
    } else {
        findings.kernel("T01", right, format_args!("{told}"));
    }
}

/// Uptime against the clock, the ages of processes and what sysinfo says.
fn ages(findings: &mut Findings, sample: &Sample, up: f64) {
    let text = &sample.texts["/proc/uptime"];
    let calls = &sample.calls;
    let clock = Bounds {
        least: text.began - AGE_SECONDS,
        most: text.ended,
    };
    let as_clock = clock.holds(up, TICK_SECONDS);
    let told = format_args!("uptime {up} s, CLOCK_BOOTTIME {clock:?}").to_string();
    let threads = &sample.threads.0;
    let oldest = threads
        .iter()
        .map(|thread| thread.start_seconds)
        .fold(f64::INFINITY, f64::min);
    let newest = threads
        .iter()
        .map(|thread| thread.start_seconds)
        .fold(0.0, f64::max);
    let by_tools =
        format_args!("uptime {up} s, a thread started {newest} s after boot").to_string();
    if calls.in_time_namespace {
        findings.holds("T04", as_clock, format_args!("{told}"));
        findings.holds(
            "T03",
            newest <= up + TICK_SECONDS,
            format_args!("{by_tools}"),
        );
    } else {
        findings.kernel("T04", as_clock, format_args!("{told}"));
        findings.kernel(
            "T03",
            newest <= up + TICK_SECONDS,
            format_args!("{by_tools}"),
        );
    }
    let age = text.began - oldest;
    findings.holds(
        "T03",
        up + START_SECONDS >= age,
        format_args!("uptime {up} s, the oldest process has an age of {age} s"),
    );
    let init = threads.iter().find(|thread| thread.process == 1);
    match init.map(|init| init.start_seconds) {
        None => findings.skip("T10", "there is no pid 1 in /proc"),
        Some(start) => findings.holds(
            "T10",
            (text.began - start - START_SECONDS..=text.ended - start + START_SECONDS).contains(&up),
            format_args!(
                "uptime {up} s, pid 1 has an age of {} s",
                text.ended - start
            ),
        ),
    }
    let said = calls.uptime_seconds;
    findings.kernel(
        "T11",
        (said - (up + calls.boottime - text.ended)).abs() <= START_SECONDS + TICK_SECONDS,
        format_args!("sysinfo says {said} s, uptime {up} s"),
    );
}

fn idle(findings: &mut Findings, so_far: &[Sample], (up, idle): (f64, f64)) {
    let Some(((stat, text), (_, at))) = so_far
        .last()
        .and_then(|sample| Some((sample.stat()?, sample.uptime()?)))
    else {
        findings.skip("T07", "/proc/stat is not bound");
        findings.skip("T08", "/proc/stat is not bound");
        return;
    };
    let counts = cpu_counts(so_far);
    let most = counts.most * (up + ROUNDING_SECONDS);
    findings.holds(
        "T07",
        idle <= most,
        format_args!("idle {idle} s, uptime on all CPUs {most} s"),
    );
    let counted = stat.total[3] as f64 / USER_HZ;
    let since = Bounds::between(at, text);
    // CPUs can have been idle, or busy, all the time from one read to the other.
    let due = Bounds {
        least: idle + since.least.min(0.0) * counts.most,
        most: idle + since.most * counts.most,
    };
    findings.holds(
        "T08",
        due.holds(counted, counts.most * ROUNDING_SECONDS),
        format_args!("idle in uptime {idle} s, in stat {counted} s"),
    );
}

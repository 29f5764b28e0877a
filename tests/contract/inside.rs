//! The checker: this test binary as a process of a container.

use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::common::slowness;
use crate::file::Behaviour;
use crate::findings::Findings;
use crate::sample::{CPU_TREE, Sample};
use crate::truth::Truth;
use crate::work::Work;
use crate::{cpu, disk, file, load, memory, other, stat, time};

/// Set for the process in the container, to one of the next two.
pub const ROLE: &str = "LXCFS_CONTRACT";
pub const EVERYTHING: &str = "everything";
/// All but the behaviour of the files.
pub const FIGURES: &str = "figures";
/// The line by which it asks for the truth, given on its standard input.
pub const QUESTION: &str = "truth?";
/// The line by which it says that a sample is next, and waits for a line that lets it go on.
pub const NEXT: &str = "next?";
/// The line that asks for any answer.
pub const CALL: &str = "there?";

const IDLE_SAMPLES: usize = 2;
/// Fewer under emulation, where each takes many seconds.
const LOADED_SAMPLES: [usize; 2] = [7, 5];
const APART: Duration = Duration::from_secs(2);
const LONGEST_LOAD: Duration = Duration::from_secs(60);

/// The items that compare files read one after the other, or a file and the cgroup, where figures go up and down.
const MOMENTARY: [&str; 8] = ["M05", "M13", "M17", "M20", "S10", "L04", "L06", "B01"];

/// Whether a sample fails in one of these.
pub fn contradicts_itself(sample: &Sample) -> bool {
    let run = Run {
        samples: vec![sample.clone()],
        ..Run::default()
    };
    let mut findings = Findings::default();
    for group in [memory::check, stat::check, load::check, other::check] {
        group(&mut findings, &run);
    }
    let failed = findings.failed();
    MOMENTARY.iter().any(|item| failed.contains(item))
}

/// Everything that was collected, of which the items are functions.
#[derive(Debug, Clone, Default)]
pub struct Run {
    pub samples: Vec<Sample>,
    /// How many of the samples were taken before the load began.
    pub idle_samples: usize,
    /// Of each file of `/proc` that lxcfs serves.
    pub behaviours: Vec<Behaviour>,
    /// The sizes of some files in the tree of CPUs.
    pub sys_sizes: Vec<(String, u64)>,
}

impl Run {
    pub fn findings(&self) -> Findings {
        let mut findings = Findings::default();
        for group in [
            memory::check,
            cpu::check,
            stat::check,
            time::check,
            load::check,
            disk::check,
            other::check,
            file::check,
        ] {
            group(&mut findings, self);
        }
        findings.close();
        findings
    }

    fn collect(task: &str) -> Self {
        let mut run = Self {
            idle_samples: IDLE_SAMPLES,
            ..Self::default()
        };
        run.samples.push(Sample::take(next, ask, || 0));
        if task == EVERYTHING {
            // At rest: a quota that is used up would stop the reader too.
            let paths = run.samples[0].served.iter();
            run.behaviours = paths
                .filter(|path| path.starts_with("/proc/"))
                .map(|path| Behaviour::of(path).unwrap_or_else(|error| panic!("{path}: {error}")))
                .collect();
        }
        let names = ["online", "present", "possible", "kernel_max"]
            .map(|name| format!("{CPU_TREE}/{name}"));
        let size = |path: String| Some((path.clone(), std::fs::metadata(path).ok()?.len()));
        run.sys_sizes = names.into_iter().filter_map(size).collect();
        run.samples.push(Sample::take(next, ask, || 0));
        let work = Work::start();
        let start = Instant::now();
        for count in 1.. {
            std::thread::sleep(APART);
            run.samples
                .push(Sample::take(next, ask, || work.written_bytes()));
            // The load average may take its time on a busy machine.
            let enough = count >= LOADED_SAMPLES[usize::from(slowness() > 1)];
            if enough && (load::has_followed(&run) || start.elapsed() > LONGEST_LOAD) {
                break;
            }
        }
        run
    }
}

/// Says a line to the process that started this one, and takes its answer.
fn say(what: &str) -> String {
    println!("\n{what}");
    let _ = std::io::stdout().flush();
    let mut line = String::new();
    std::io::stdin()
        .read_line(&mut line)
        .expect("the standard input");
    line
}

/// Goes to the process that started this one and back.
pub fn call() {
    say(CALL);
}

/// Lets limits be changed before a sample.
fn next() {
    say(NEXT);
}

/// What the cgroup says now.
fn ask() -> Truth {
    let line = say(QUESTION);
    Truth::from_line(&line).unwrap_or_else(|| panic!("no truth: {line:?}"))
}

#[test]
#[ignore = "other tests run this one in their containers"]
fn checker() {
    if let Ok(task) = std::env::var(ROLE) {
        for line in Run::collect(&task).findings().lines() {
            println!("\n{line}");
        }
    }
}

//! The checker: this test binary as a process of a container.

use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use crate::common::slowness;
use crate::file::Behaviour;
use crate::findings::Findings;
use crate::sample::{CPU_TREE, Sample};
use crate::truth::Truth;
use crate::work::Work;
use crate::{cpu, disk, file, load, memory, other, stat, time};

/// Set for the process in the container.
pub const ROLE: &str = "LXCFS_CONTRACT";
/// The line by which it asks for the truth, given on its standard input.
pub const QUESTION: &str = "truth?";

const IDLE_SAMPLES: usize = 2;
/// Fewer under emulation, where each takes many seconds.
const LOADED_SAMPLES: [usize; 2] = [7, 5];
const APART: Duration = Duration::from_secs(2);

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

    fn collect() -> Self {
        let mut run = Self {
            idle_samples: IDLE_SAMPLES,
            ..Self::default()
        };
        run.samples.push(Sample::take(ask, || 0));
        // At rest: a quota that is used up would stop the reader too.
        let served = run.samples[0]
            .served
            .iter()
            .filter(|path| path.starts_with("/proc/"));
        run.behaviours = served
            .map(|path| Behaviour::of(path).unwrap_or_else(|error| panic!("{path}: {error}")))
            .collect();
        let names = ["online", "present", "possible", "kernel_max"]
            .map(|name| format!("{CPU_TREE}/{name}"));
        let size = |path: String| Some((path.clone(), std::fs::metadata(path).ok()?.len()));
        run.sys_sizes = names.into_iter().filter_map(size).collect();
        run.samples.push(Sample::take(ask, || 0));
        let work = Work::start();
        for _ in 0..LOADED_SAMPLES[usize::from(slowness() > 1)] {
            std::thread::sleep(APART);
            run.samples.push(Sample::take(ask, || work.written_bytes()));
        }
        run
    }
}

/// What the cgroup says now, from the process that started this one.
fn ask() -> Truth {
    println!("\n{QUESTION}");
    let _ = std::io::stdout().flush();
    let mut line = String::new();
    std::io::stdin()
        .read_line(&mut line)
        .expect("the standard input");
    Truth::from_line(&line).unwrap_or_else(|| panic!("no truth: {line:?}"))
}

#[test]
#[ignore = "other tests run this one in their containers"]
fn checker() {
    if std::env::var_os(ROLE).is_some() {
        for line in Run::collect().findings().lines() {
            println!("\n{line}");
        }
    }
}

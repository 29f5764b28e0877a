//! Files of a machine with any number of CPUs, made from those of a real one.

use std::fmt::Write as _;

use lxcfs::container::cpu_time::{Cpu, Times};

/// The file of a machine with four CPUs.
macro_rules! captured {
    ($file:literal) => {
        include_str!(concat!("../../tests/fixtures/debian13-v2/", $file))
    };
}
pub(crate) use captured;

/// Numbers of CPUs.
pub const SIZES: [usize; 3] = [2, 64, 256];

/// Interrupts for each CPU of a large machine.
const INTERRUPTS_PER_CPU: usize = 12;

/// `/proc/stat`.
pub fn stat(cpus: usize) -> String {
    let captured = captured!("proc/stat");
    let mut text = String::new();
    for line in captured.lines() {
        if line.starts_with("cpu0 ") {
            let times = line.trim_start_matches("cpu0");
            (0..cpus).for_each(|cpu| writeln!(text, "cpu{cpu}{times}").expect("a line"));
        } else if line.starts_with("intr ") {
            let single = " 0 0 0 57 812 104773".repeat(cpus * INTERRUPTS_PER_CPU / 6);
            writeln!(text, "intr 68343{single}").expect("a line");
        } else if !line.starts_with("cpu") || line.starts_with("cpu ") {
            writeln!(text, "{line}").expect("a line");
        }
    }
    text
}

/// `/proc/cpuinfo`, all in one package.
pub fn cpuinfo(cpus: usize) -> String {
    let record = captured!("proc/cpuinfo").split_inclusive("\n\n").next();
    let record = record.expect("the record of the first CPU");
    let numbered = |cpu| {
        let lines = record.lines().map(|line| {
            let (key, value) = line.split_once(':').unwrap_or((line, ""));
            match key.trim() {
                "" => "\n".to_owned(),
                "processor" | "core id" | "apicid" | "initial apicid" => {
                    format!("{key}: {cpu}\n")
                }
                "siblings" | "cpu cores" => format!("{key}: {cpus}\n"),
                _ => format!("{key}:{value}\n"),
            }
        });
        lines.collect::<String>()
    };
    (0..cpus).map(numbered).collect()
}

/// `/proc/diskstats` of a machine with this many disks.
pub fn diskstats(disks: usize) -> String {
    let line = |disk| {
        format!(
            "{:4} {:7} sd{disk} 2675 467 411146 2817 778 139 347600 1298 0 3372 4163 12 0 96 1 88 46\n",
            8 + disk / 16,
            disk % 16 * 16,
        )
    };
    (0..disks).map(line).collect()
}

/// What a container is shown of its CPUs.
pub fn times(cpus: usize) -> Vec<Cpu> {
    let times = Times {
        user_nsec: 1_234_567_890_123,
        nice_nsec: 12_000_000,
        system_nsec: 345_678_901_234,
        idle_nsec: 98_765_432_109_876,
        steal_nsec: 5_000_000,
    };
    (0..cpus).map(|id| Cpu { id, times }).collect()
}

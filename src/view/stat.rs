//! `/proc/stat` (kernel: Documentation/filesystems/proc.rst, "/proc/stat").

use super::{Class, put, put_u64};
use crate::container::TICK_NSEC;
use crate::container::cpu_time::Cpu;

/// What the file is made of.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// Time by CPU shown, in ascending order of ids.
    pub cpus: &'a [Cpu],
    /// CPUs that were shown before; the line `cpu` has their time too, as the kernel's has
    /// that of CPUs that are off-line.
    pub away: &'a [Cpu],
    /// Interrupts of the container's share.
    pub interrupts: u64,
    /// How many single interrupts the host's `intr` line has; they are zero here.
    pub interrupt_columns: usize,
    /// Context switches of the container's share.
    pub context_switches: u64,
    /// Boot time in seconds since 1970, from which start times of processes count.
    pub btime_sec: u64,
    /// Forks.
    pub processes: u64,
    /// Runnable threads; the reader itself is one.
    pub procs_running: u64,
    /// Threads that wait for I/O.
    pub procs_blocked: u64,
    /// Softirqs by kind, of the container's share.
    pub softirqs: &'a [u64],
}

/// Every line, with its class, in the kernel's order; `cpuN` stands for all of them.
pub const LINES: [(&str, Class); 9] = [
    ("cpu", Class::Derived),
    ("cpuN", Class::Derived),
    ("intr", Class::Apportioned),
    ("ctxt", Class::Apportioned),
    ("btime", Class::Fact),
    ("processes", Class::Apportioned),
    ("procs_running", Class::Exact),
    ("procs_blocked", Class::Exact),
    ("softirq", Class::Apportioned),
];

/// Columns of a `cpu` line: user, nice, system, idle, iowait, irq, softirq, steal,
/// guest, guest_nice. The kernel accounts neither interrupts nor waiting by cgroup.
const COLUMNS: usize = 10;

/// Renders the file in the kernel's order of lines.
pub fn render(input: &Input<'_>, out: &mut Vec<u8>) {
    let mut sum = [0; COLUMNS];
    for cpu in input.cpus.iter().chain(input.away) {
        for (sum, ticks) in sum.iter_mut().zip(cpu_ticks(cpu)) {
            *sum = ticks.saturating_add(*sum);
        }
    }
    put(out, "cpu ");
    put_columns(out, &sum);
    for cpu in input.cpus {
        put(out, "cpu");
        put_u64(out, cpu.id as u64);
        put_columns(out, &cpu_ticks(cpu));
    }
    put(out, "intr ");
    put_u64(out, input.interrupts);
    put_zeros(out, input.interrupt_columns);
    put(out, "\n");
    put_line(out, "ctxt ", input.context_switches);
    put_line(out, "btime ", input.btime_sec);
    put_line(out, "processes ", input.processes);
    put_line(out, "procs_running ", input.procs_running.max(1));
    put_line(out, "procs_blocked ", input.procs_blocked);
    put(out, "softirq ");
    put_u64(
        out,
        input
            .softirqs
            .iter()
            .fold(0, |sum, kind| kind.saturating_add(sum)),
    );
    put_columns(out, input.softirqs);
}

/// Whole ticks of each kind.
fn cpu_ticks(cpu: &Cpu) -> [u64; COLUMNS] {
    let times = &cpu.times;
    [
        times.user_nsec / TICK_NSEC,
        times.nice_nsec / TICK_NSEC,
        times.system_nsec / TICK_NSEC,
        times.idle_nsec / TICK_NSEC,
        0,
        0,
        0,
        times.steal_nsec / TICK_NSEC,
        0,
        0,
    ]
}

/// Appends this many columns, of which large machines have thousands.
fn put_zeros(out: &mut Vec<u8>, columns: usize) {
    const ZEROS: &str = " 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0";
    let mut left = 2 * columns;
    while left > 0 {
        let zeros = ZEROS.get(..left).unwrap_or(ZEROS);
        put(out, zeros);
        left -= zeros.len();
    }
}

fn put_columns(out: &mut Vec<u8>, columns: &[u64]) {
    for column in columns {
        // Most of them.
        if *column == 0 {
            put(out, " 0");
        } else {
            put(out, " ");
            put_u64(out, *column);
        }
    }
    put(out, "\n");
}

fn put_line(out: &mut Vec<u8>, label: &str, value: u64) {
    put(out, label);
    put_u64(out, value);
    put(out, "\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::cpu_time::Times;

    const SEC: u64 = 1_000_000_000;

    fn cpus() -> Vec<Cpu> {
        let times = Times {
            user_nsec: 12 * SEC + 349_999_999,
            nice_nsec: 5_000_000,
            system_nsec: SEC,
            idle_nsec: 3_600 * SEC + 9_999_999,
            steal_nsec: 2 * SEC,
        };
        vec![Cpu { id: 1, times }, Cpu { id: 130, times }]
    }

    fn rendered(input: &Input<'_>) -> String {
        let mut out = Vec::new();
        render(input, &mut out);
        String::from_utf8(out).unwrap()
    }

    fn input<'a>(cpus: &'a [Cpu], softirqs: &'a [u64]) -> Input<'a> {
        Input {
            cpus,
            away: &[],
            interrupts: 4711,
            interrupt_columns: 5,
            context_switches: 815,
            btime_sec: 1_795_314_241,
            processes: 40,
            procs_running: 0,
            procs_blocked: 2,
            softirqs,
        }
    }

    #[test]
    fn renders_a_container_with_two_cpus() {
        let softirqs = [1, 0, 3, 0, 5, 6, 0, 0, 9, 10];
        assert_eq!(
            rendered(&input(&cpus(), &softirqs)),
            include_str!("../../tests/fixtures/views/stat/two-cpus")
        );
    }

    #[test]
    fn the_sum_has_cpus_that_are_away_too() {
        let (shown, all) = (&cpus()[..1], cpus());
        let away = &all[1..];
        let text = rendered(&Input {
            away,
            ..input(shown, &[])
        });
        assert!(
            text.starts_with("cpu  2468 0 200 720000 0 0 0 400 0 0\ncpu1 "),
            "{text}"
        );
        assert!(!text.contains("cpu130"), "{text}");
    }

    #[test]
    fn the_sum_is_exact_although_every_cpu_is_rounded() {
        let times = Times {
            user_nsec: 9_999_999,
            idle_nsec: 5_000_000,
            ..Times::default()
        };
        let cpus: Vec<Cpu> = (0..300).map(|id| Cpu { id, times }).collect();
        let text = rendered(&input(&cpus, &[]));
        assert!(
            text.starts_with("cpu  0 0 0 0 0 0 0 0 0 0\ncpu0 0 0 0 0 0"),
            "{text}"
        );
    }

    #[test]
    fn the_hosts_softirq_columns_are_optional() {
        assert!(rendered(&input(&[], &[])).ends_with("procs_blocked 2\nsoftirq 0\n"));
    }

    #[test]
    fn has_a_zero_for_each_interrupt_of_a_large_machine() {
        for columns in [0, 1, 31, 32, 33, 3_000] {
            let text = rendered(&Input {
                interrupt_columns: columns,
                ..input(&[], &[])
            });
            let line = text.lines().find(|line| line.starts_with("intr "));
            assert_eq!(line, Some(&*format!("intr 4711{}", " 0".repeat(columns))));
        }
    }

    #[test]
    fn every_line_is_classified() {
        let text = rendered(&input(&cpus(), &[1]));
        let mut keys: Vec<&str> = text
            .lines()
            .filter_map(|line| line.split(' ').next())
            .collect();
        keys.retain(|key| *key != "cpu130");
        let classified: Vec<&str> = LINES.iter().map(|(key, _)| *key).collect();
        assert_eq!(
            keys.join(" ").replace("cpu1 ", "cpuN "),
            classified.join(" ")
        );
    }
}

//! Each file, by one, two and eight readers in one container.

use std::time::Duration;

use crate::common::load::Figures;
use crate::common::{Cell, run};
use crate::contender::{Contender, container};
use crate::median;

const FILES: [&str; 6] = [
    "meminfo",
    "stat",
    "uptime",
    "cpuinfo",
    "loadavg",
    "diskstats",
];
const READERS: [usize; 3] = [1, 2, 8];
const ROUNDS: usize = 7;
const ROUND_TIME: Duration = Duration::from_millis(400);
/// New containers for the first read.
const FIRST_READS: usize = 15;

/// The first argument that makes this program a reader inside the container.
pub const READER: &str = "--read";

/// What one round of readers saw, and what it cost the daemon.
#[derive(Debug, Clone, Copy)]
struct Round {
    figures: Figures,
    daemon_cpu: Duration,
}

fn measure(
    cell: &Cell,
    contender: &Contender,
    file: &str,
    readers: usize,
    time: Duration,
) -> Round {
    let program = std::env::current_exe().expect("this program");
    let program = program.to_str().expect("an ASCII path");
    let (readers, time) = (readers.to_string(), time.as_millis().to_string());
    let before = contender.cpu_time();
    let path = contender.path(file);
    let line = run(&mut cell.command(&[program, READER, &path, &readers, &time])).ok();
    let daemon_cpu = contender.cpu_time().saturating_sub(before);
    let figures = Figures::from_line(line.trim()).unwrap_or_else(|| panic!("not figures: {line}"));
    assert_eq!(figures.errors, 0, "reads failed: {path}");
    Round {
        figures,
        daemon_cpu,
    }
}

/// Medians over the rounds.
#[derive(Debug)]
struct Medians {
    p50_usec: f64,
    p99_usec: f64,
    per_second: f64,
    cpu_usec: f64,
}

impl Medians {
    fn of(rounds: &[Round]) -> Self {
        let over = |figure: fn(&Round) -> f64| median(rounds.iter().map(figure).collect());
        Self {
            p50_usec: over(|round| round.figures.p50.as_secs_f64() * 1e6),
            p99_usec: over(|round| round.figures.p99.as_secs_f64() * 1e6),
            per_second: over(|round| round.figures.per_second()),
            cpu_usec: over(|round| {
                round.daemon_cpu.as_secs_f64() * 1e6 / round.figures.reads as f64
            }),
        }
    }
}

/// Rounds of all contenders in turn; the first one only warms up.
fn rounds(cell: &Cell, contenders: &[Contender], file: &str, readers: usize) -> Vec<Medians> {
    let mut rounds: Vec<Vec<Round>> = contenders.iter().map(|_| Vec::new()).collect();
    for round in 0..=ROUNDS {
        for (of, contender) in rounds.iter_mut().zip(contenders) {
            let one = measure(cell, contender, file, readers, ROUND_TIME);
            if round > 0 {
                of.push(one);
            }
        }
    }
    rounds.iter().map(|rounds| Medians::of(rounds)).collect()
}

/// Prints the table of all files.
pub fn table() {
    let cell = container();
    let ours = Contender::ours();
    let floor = Contender::floor(&ours, &cell, &FILES);
    let contenders: Vec<_> = [Contender::native(), floor, ours]
        .into_iter()
        .chain(Contender::peer())
        .collect();
    println!("open, read to the end, close; in one container; medians of {ROUNDS} rounds");
    println!("file      readers  who        p50 us   p99 us  reads/s   cpu us  p50/floor");
    for file in FILES {
        for readers in READERS {
            let all = rounds(&cell, &contenders, file, readers);
            let floor = contenders
                .iter()
                .zip(&all)
                .find(|(one, _)| one.name == "floor");
            let floor = floor.map_or(f64::NAN, |(_, medians)| medians.p50_usec);
            for (contender, medians) in contenders.iter().zip(&all) {
                println!(
                    "{file:9} {readers:>7}  {:8} {:>8.1} {:>8.1} {:>8.0} {:>8.2} {:>10.2}",
                    contender.name,
                    medians.p50_usec,
                    medians.p99_usec,
                    medians.per_second,
                    medians.cpu_usec,
                    medians.p50_usec / floor,
                );
            }
        }
    }
    drop(cell);
    first_reads(&contenders);
}

/// The first read of a new container, from which a daemon knows nothing yet.
fn first_reads(contenders: &[Contender]) {
    println!("\nfirst read of a new container, us; median of {FIRST_READS}");
    let mut times: Vec<Vec<f64>> = contenders.iter().map(|_| Vec::new()).collect();
    for _ in 0..FIRST_READS {
        for (times, contender) in times.iter_mut().zip(contenders) {
            let cell = container();
            let round = measure(&cell, contender, "meminfo", 1, Duration::ZERO);
            times.push(round.figures.p50.as_secs_f64() * 1e6);
        }
    }
    for (contender, times) in contenders.iter().zip(times) {
        println!("{:8} {:>8.0}", contender.name, median(times));
    }
}

//! Each file, by one, two and eight readers in one container.

use std::time::Duration;

use crate::common::load::Figures;
use crate::common::{Cell, run};
use crate::contender::{Contender, Who, container};
use crate::median;

/// What is measured.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Files below /proc
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "meminfo,stat,uptime,cpuinfo,loadavg,diskstats"
    )]
    files: Vec<String>,
    /// How many read at the same time
    #[arg(long, value_delimiter = ',', default_value = "1,2,8")]
    readers: Vec<usize>,
    /// Who is read
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "native,floor,ours,lxcfs"
    )]
    who: Vec<Who>,
    /// Rounds of 0.4 s for each, whose median counts
    #[arg(long, default_value_t = 7)]
    rounds: usize,
}

/// What is measured of the first reads.
#[derive(Debug, clap::Args)]
pub struct FirstOptions {
    /// New containers for each
    #[arg(long, default_value_t = 15)]
    count: usize,
    /// Who is read
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "native,floor,ours,lxcfs"
    )]
    who: Vec<Who>,
}

const ROUND_TIME: Duration = Duration::from_millis(400);

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
fn measure_all(
    cell: &Cell,
    contenders: &[Contender],
    file: &str,
    readers: usize,
    count: usize,
) -> Vec<Medians> {
    let mut rounds: Vec<Vec<Round>> = contenders.iter().map(|_| Vec::new()).collect();
    for round in 0..=count {
        for (of, contender) in rounds.iter_mut().zip(contenders) {
            let one = measure(cell, contender, file, readers, ROUND_TIME);
            if round > 0 {
                of.push(one);
            }
        }
    }
    rounds.iter().map(|rounds| Medians::of(rounds)).collect()
}

fn start(who: &[Who], cell: &Cell, files: &[String]) -> Vec<Contender> {
    let start = |who: &Who| who.start(cell, files);
    who.iter().filter_map(start).collect()
}

/// Prints a line for each file, number of readers and contender.
pub fn table(options: &Options) {
    let cell = container();
    let contenders = start(&options.who, &cell, &options.files);
    println!(
        "open, read to the end, close; in one container; medians of {} rounds",
        options.rounds
    );
    println!("file      readers  who        p50 us   p99 us  reads/s   cpu us  p50/floor");
    for file in &options.files {
        for readers in &options.readers {
            let all = measure_all(&cell, &contenders, file, *readers, options.rounds);
            let floor = contenders
                .iter()
                .zip(&all)
                .find(|(one, _)| one.who == Who::Floor);
            let floor = floor.map_or(f64::NAN, |(_, medians)| medians.p50_usec);
            for (contender, medians) in contenders.iter().zip(&all) {
                println!(
                    "{file:9} {readers:>7}  {:8} {:>8.1} {:>8.1} {:>8.0} {:>8.2} {:>10.2}",
                    contender.who.name(),
                    medians.p50_usec,
                    medians.p99_usec,
                    medians.per_second,
                    medians.cpu_usec,
                    medians.p50_usec / floor,
                );
            }
        }
    }
}

/// Prints what the first read of a new container takes, of which a daemon knows nothing yet.
pub fn first_reads(options: &FirstOptions) {
    let file = "meminfo";
    let contenders = start(&options.who, &container(), &[file.to_owned()]);
    println!(
        "first read of a new container, us; median of {}",
        options.count
    );
    let mut times: Vec<Vec<f64>> = contenders.iter().map(|_| Vec::new()).collect();
    for _ in 0..options.count {
        for (times, contender) in times.iter_mut().zip(&contenders) {
            let cell = container();
            let round = measure(&cell, contender, file, 1, Duration::ZERO);
            times.push(round.figures.p50.as_secs_f64() * 1e6);
        }
    }
    for (contender, times) in contenders.iter().zip(times) {
        println!("{:8} {:>8.0}", contender.who.name(), median(times));
    }
}

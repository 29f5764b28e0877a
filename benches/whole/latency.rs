//! Each file, by one, two and eight readers in one container.

use std::time::Duration;

use crate::common::load::Figures;
use crate::common::{Cell, run};
use crate::contender::{Contender, Who, container};
use crate::targets::Targets;
use crate::{median, ratio};

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

/// Has readers in a container read a file without a pause, and gives what they saw.
pub fn hammer_in(
    cell: &Cell,
    contender: &Contender,
    file: &str,
    readers: usize,
    time: Duration,
) -> Figures {
    let program = std::env::current_exe().expect("this program");
    let program = program.to_str().expect("an ASCII path");
    let (readers, time) = (readers.to_string(), time.as_millis().to_string());
    let path = contender.path(file);
    let line = run(&mut cell.command(&[program, READER, &path, &readers, &time])).ok();
    let figures = Figures::from_line(line.trim()).unwrap_or_else(|| panic!("not figures: {line}"));
    assert_eq!(figures.errors, 0, "reads failed: {path}");
    figures
}

fn measure(
    cell: &Cell,
    contender: &Contender,
    file: &str,
    readers: usize,
    time: Duration,
) -> Round {
    let before = contender.cpu_time();
    let figures = hammer_in(cell, contender, file, readers, time);
    Round {
        figures,
        daemon_cpu: contender.cpu_time().saturating_sub(before),
    }
}

/// Medians over the rounds.
#[derive(Debug, Clone, Copy)]
struct Medians {
    p50_usec: f64,
    p99_usec: f64,
    per_second: f64,
    cpu_usec: f64,
}

impl Medians {
    /// Of one who was not measured.
    const UNKNOWN: Self = Self {
        p50_usec: f64::NAN,
        p99_usec: f64::NAN,
        per_second: f64::NAN,
        cpu_usec: f64::NAN,
    };

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

fn start(who: &[Who], files: &[&str]) -> Vec<Contender> {
    who.iter().filter_map(|who| who.start(files)).collect()
}

/// Prints a line for each file, number of readers and contender.
pub fn table(options: &Options, targets: &mut Targets) {
    let files: Vec<&str> = options.files.iter().map(String::as_str).collect();
    let contenders = start(&options.who, &files);
    let cell = container();
    println!(
        "open, read to the end, close; in one container; medians of {} rounds",
        options.rounds
    );
    println!(
        "                                                                  / floor  |  / lxcfs"
    );
    println!(
        "file      readers  who        p50 us   p99 us  reads/s  cpu us      p50  |   p50   p99  reads/s   cpu"
    );
    for file in files {
        for readers in &options.readers {
            let all = measure_all(&cell, &contenders, file, *readers, options.rounds);
            let of = |who| {
                let mut found = contenders
                    .iter()
                    .zip(&all)
                    .filter(|(one, _)| one.who == who);
                found
                    .next()
                    .map_or(Medians::UNKNOWN, |(_, medians)| *medians)
            };
            let (floor, peer) = (of(Who::Floor), of(Who::Lxcfs));
            for (contender, medians) in contenders.iter().zip(&all) {
                println!(
                    "{file:9} {readers:>7}  {:8} {:>8.1} {:>8.1} {:>8.0} {:>7.1} {:>8.2}  | {:>5.2} {:>5.2} {:>8.2} {:>5.2}",
                    contender.who.name(),
                    medians.p50_usec,
                    medians.p99_usec,
                    medians.per_second,
                    medians.cpu_usec,
                    medians.p50_usec / floor.p50_usec,
                    medians.p50_usec / peer.p50_usec,
                    medians.p99_usec / peer.p99_usec,
                    medians.per_second / peer.per_second,
                    medians.cpu_usec / peer.cpu_usec,
                );
            }
            judge(targets, file, *readers, &of(Who::Ours), &floor, &peer);
        }
    }
}

fn judge(
    targets: &mut Targets,
    file: &str,
    readers: usize,
    ours: &Medians,
    floor: &Medians,
    peer: &Medians,
) {
    let what = |figure| format!("{file}, readers: {readers}; {figure}");
    match readers {
        1 => {
            let above_floor = match file {
                "uptime" | "loadavg" | "cpuinfo" => 1.25,
                _ => 1.5,
            };
            let (p50, p99) = (ours.p50_usec, ours.p99_usec);
            targets.at_most(above_floor, p50 / floor.p50_usec, what("median / floor"));
            targets.at_most(0.25, p50 / peer.p50_usec, what("median / lxcfs"));
            targets.at_most(1.0 / 3.0, p99 / peer.p99_usec, what("p99 / lxcfs"));
        }
        8 => {
            let per_second = ours.per_second / peer.per_second;
            let cpu = ours.cpu_usec / peer.cpu_usec;
            targets.at_least(6.0, per_second, what("reads per second / lxcfs"));
            targets.at_most(0.25, cpu, what("CPU time per read / lxcfs"));
        }
        _ => {}
    }
}

/// Prints what the first read of a new container takes, of which a daemon knows nothing yet.
pub fn first_reads(options: &FirstOptions, targets: &mut Targets) {
    let file = "meminfo";
    let contenders = start(&options.who, &[file]);
    let mut times: Vec<Vec<f64>> = contenders.iter().map(|_| Vec::new()).collect();
    for _ in 0..options.count {
        for (times, contender) in times.iter_mut().zip(&contenders) {
            let cell = container();
            let round = measure(&cell, contender, file, 1, Duration::ZERO);
            times.push(round.figures.p50.as_secs_f64() * 1e6);
        }
    }
    println!(
        "first read of a new container; medians of {}",
        options.count
    );
    println!("who             us");
    let mut medians = Vec::new();
    for (contender, times) in contenders.iter().zip(times) {
        let usec = median(times);
        println!("{:8} {usec:>8.0}", contender.who.name());
        medians.push((contender.who, usec));
    }
    let ratio = ratio(&medians, Who::Ours, Who::Lxcfs);
    targets.at_most(0.1, ratio, "first read of a new container / lxcfs");
}

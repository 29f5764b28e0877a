//! Short bursts of readers that nobody has seen before, alone and beside another container that reads now and then.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::common::{Cell, Limits, run};
use crate::contender::{Contender, Who, container};
use crate::latency::hammer_in;
use crate::median;
use crate::targets::Targets;

/// The first argument that makes this program start one reader after the other.
pub const CATS: &str = "--cats";

const FILE: &str = "meminfo";
const LOOPS: usize = 8;

/// What is measured.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// How many threads read at the same time
    #[arg(long, value_delimiter = ',', default_value = "1,2,8")]
    readers: Vec<usize>,
    /// Who is read
    #[arg(long, value_enum, value_delimiter = ',', default_value = "floor,ours")]
    who: Vec<Who>,
    /// How long a burst takes
    #[arg(long, default_value_t = 300)]
    msec: u64,
    /// Rounds, whose median counts
    #[arg(long, default_value_t = 9)]
    rounds: usize,
}

/// A kind of burst.
#[derive(Debug, Clone, Copy)]
enum Burst {
    /// So many threads of one process.
    Threads(usize),
    /// Loops of a program that reads once.
    Loops,
}

impl Burst {
    fn name(self) -> String {
        match self {
            Self::Threads(count) => format!("{count} threads"),
            Self::Loops => format!("{LOOPS} x cat"),
        }
    }

    /// Reads a second in a new container.
    fn per_second(self, contender: &Contender, time: Duration) -> f64 {
        let cell = container();
        match self {
            Self::Threads(count) => hammer_in(&cell, contender, FILE, count, time).per_second(),
            Self::Loops => {
                let program = std::env::current_exe().expect("this program");
                let program = program.to_str().expect("an ASCII path");
                let (path, msec) = (contender.path(FILE), time.as_millis().to_string());
                let text = run(&mut cell.command(&[program, CATS, &path, &msec])).ok();
                text.trim().parse().expect("a number")
            }
        }
    }
}

/// Has several loops start `cat` for so long, and prints how many a second there were.
pub fn cats(path: &Path, time: Duration) {
    let (count, start) = (AtomicU64::new(0), Instant::now());
    let one = || {
        while start.elapsed() < time {
            let status = Command::new("cat").arg(path).stdout(Stdio::null()).status();
            assert!(status.expect("starting cat").success(), "a read");
            count.fetch_add(1, Ordering::Relaxed);
        }
    };
    std::thread::scope(|scope| (0..LOOPS).for_each(|_| drop(scope.spawn(one))));
    let per_second = count.into_inner() as f64 / start.elapsed().as_secs_f64();
    println!("{per_second}");
}

/// A container that reads once a second.
fn other(contender: &Contender) -> Cell {
    let script = r#"while :; do while read -r line; do :; done < "$0"; sleep 1; done"#;
    let path = contender.path(FILE);
    let init = ["sh", "-c", script, &path].map(Path::new);
    Cell::with_init(&Limits::default(), &init, true)
}

/// Prints a line for each kind of burst and contender.
pub fn table(options: &Options, targets: &mut Targets) {
    let contenders: Vec<_> = options
        .who
        .iter()
        .filter_map(|who| who.start(&[FILE]))
        .collect();
    let time = Duration::from_millis(options.msec);
    println!(
        "bursts of {time:?} in new containers, alone and beside another one that reads once a second; medians of {}",
        options.rounds
    );
    println!("burst       who        alone/s  beside/s   / floor alone");
    let bursts = options.readers.iter().copied().map(Burst::Threads);
    for burst in bursts.chain([Burst::Loops]) {
        let mut rounds: Vec<[Vec<f64>; 2]> =
            contenders.iter().map(|_| Default::default()).collect();
        for _ in 0..options.rounds {
            for ([alone, beside], contender) in rounds.iter_mut().zip(&contenders) {
                alone.push(burst.per_second(contender, time));
                let _other = other(contender);
                beside.push(burst.per_second(contender, time));
            }
        }
        let medians = rounds.into_iter().map(|round| round.map(median));
        let medians: Vec<(Who, [f64; 2])> = contenders
            .iter()
            .map(|contender| contender.who)
            .zip(medians)
            .collect();
        let floor = medians.iter().find(|(who, _)| *who == Who::Floor);
        let floor = floor.map_or(f64::NAN, |(_, [alone, _])| *alone);
        for (who, [alone, beside]) in medians {
            let shares = [alone / floor, beside / floor];
            println!(
                "{:11} {:8} {alone:>9.0} {beside:>9.0}   {:>5.2} {:>5.2}",
                burst.name(),
                who.name(),
                shares[0],
                shares[1],
            );
            if who == Who::Ours {
                for (share, word) in shares.into_iter().zip(["alone", "beside another"]) {
                    let what = format!("burst of {}, {word}; reads / floor alone", burst.name());
                    targets.at_least(0.9, share, what);
                }
            }
        }
    }
}

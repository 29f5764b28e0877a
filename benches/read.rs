//! Latency and throughput of reads from inside a container: this daemon and Debian's lxcfs in turn, in one run.
//!
//! `scripts/bench` runs it. The container has cgroups of its own and a pid namespace; a read is open, read to the end
//! and close.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used
)]

use std::path::Path;
use std::time::Duration;

#[path = "../tests/common/mod.rs"]
mod common;

use common::daemon::binary;
use common::load::{Figures, hammer};
use common::{Cell, Daemon, Limits, run};

const PEER: &str = "/usr/bin/lxcfs";
const FILES: [&str; 4] = ["meminfo", "stat", "cpuinfo", "uptime"];
const READERS: [usize; 2] = [1, 8];
const ROUNDS: usize = 7;
const ROUND_TIME: Duration = Duration::from_millis(400);

/// The first argument that makes this program the reader inside the container.
const READER: &str = "--read";

/// One round of readers inside the container.
fn measure(cell: &Cell, daemon: &Daemon, file: &str, readers: usize) -> Figures {
    let program = std::env::current_exe().expect("this program");
    let program = program.to_str().expect("an ASCII path");
    let (path, readers) = (daemon.arg(&format!("proc/{file}")), readers.to_string());
    let line = run(&mut cell.command(&[program, READER, &path, &readers])).ok();
    let figures = Figures::from_line(line.trim()).unwrap_or_else(|| panic!("not figures: {line}"));
    assert_eq!(figures.errors, 0, "reads failed: {path}");
    figures
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Medians over the rounds.
#[derive(Debug)]
struct Medians {
    p50_usec: f64,
    p99_usec: f64,
    per_second: f64,
}

impl Medians {
    fn of(rounds: &[Figures]) -> Self {
        let over =
            |figure: fn(&Figures) -> f64| median(rounds.iter().map(figure).collect::<Vec<_>>());
        Self {
            p50_usec: over(|round| round.p50.as_secs_f64() * 1e6),
            p99_usec: over(|round| round.p99.as_secs_f64() * 1e6),
            per_second: over(|round| round.per_second()),
        }
    }
}

/// Rounds of all daemons in turn; the first one only warms up.
fn rounds(cell: &Cell, daemons: &[(&str, Daemon)], file: &str, readers: usize) -> Vec<Medians> {
    let mut rounds: Vec<Vec<Figures>> = daemons.iter().map(|_| Vec::new()).collect();
    for round in 0..=ROUNDS {
        for (of, (_, daemon)) in rounds.iter_mut().zip(daemons) {
            let figures = measure(cell, daemon, file, readers);
            if round > 0 {
                of.push(figures);
            }
        }
    }
    rounds.iter().map(|rounds| Medians::of(rounds)).collect()
}

fn compare() {
    let with_peer = Path::new(PEER).exists();
    let daemons: Vec<(&str, Daemon)> = [("ours", binary()), ("lxcfs", PEER.into())]
        .into_iter()
        .take(if with_peer { 2 } else { 1 })
        .map(|(name, program)| (name, Daemon::start_as(&program, &[])))
        .collect();
    let cell = Cell::start(&Limits {
        memory_bytes: Some(512 << 20),
        ..Limits::default()
    });
    println!(
        "                  median of a read, us       99 % of reads within, us          reads per second"
    );
    println!(
        "file   readers    ours   lxcfs  ratio      ours   lxcfs  ratio        ours     lxcfs  ratio"
    );
    for file in FILES {
        for readers in READERS {
            let all = rounds(&cell, &daemons, file, readers);
            let figures = [
                |one: &Medians| one.p50_usec,
                |one: &Medians| one.p99_usec,
                |one: &Medians| one.per_second,
            ];
            let columns = figures.map(|figure| {
                let ours = figure(&all[0]);
                let peer = all.get(1).map_or(f64::NAN, figure);
                format!("{ours:>9.0} {peer:>7.0} {:>6.2}", ours / peer)
            });
            println!("{file:8} {readers:>5} {}", columns.join(" "));
        }
    }
    for (name, daemon) in &daemons {
        println!("resident memory of {name}: {} kB", daemon.rss_kb());
    }
    if !with_peer {
        println!("{PEER} is not installed: nothing to compare with");
    }
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [_, READER, path, readers] => {
            let figures = hammer(
                Path::new(path),
                readers.parse().expect("a count"),
                ROUND_TIME,
            );
            println!("{}", figures.to_line());
        }
        _ => compare(),
    }
}

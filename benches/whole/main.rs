//! Whole reads of containers, through the kernel: this daemon, an empty file system, the kernel's own files, and LXCFS of
//! the distribution in turn, in one run.
//!
//! `scripts/bench` runs it and says what it takes.
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

mod bursts;
#[path = "../../tests/common/mod.rs"]
mod common;
mod contender;
mod floor;
mod latency;
mod scale;
mod targets;
mod tasks;

use std::fs;
use std::path::Path;
use std::time::Duration;

use clap::Parser;
use common::load::hammer;
use contender::Who;
use lxcfs::parse::meminfo::MemInfo;
use targets::Targets;

/// The middle one.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn number(text: &str) -> usize {
    text.parse()
        .unwrap_or_else(|_| panic!("not a number: {text}"))
}

/// The ratio of two of these figures; NaN if one is missing.
fn ratio(figures: &[(Who, f64)], of: Who, to: Who) -> f64 {
    let find = |wanted| {
        let found = figures.iter().find(|(who, _)| *who == wanted);
        found.map_or(f64::NAN, |(_, figure)| *figure)
    };
    find(of) / find(to)
}

/// How fast containers read their files, beside the kernel's own, an empty file system and LXCFS. Needs root.
#[derive(Debug, Parser)]
#[command(bin_name = "scripts/bench")]
enum Table {
    /// Each file by several numbers of readers in one container
    Latency(latency::Options),
    /// Bursts of new readers, alone and beside another container
    Bursts(bursts::Options),
    /// The first read of a new container
    First(latency::FirstOptions),
    /// Many containers that each read ten times a second
    Containers(scale::Options),
    /// Containers that come, read once and go
    Churn(scale::ChurnOptions),
    /// One container with 64 readers that never pause, beside ten others
    Spinning(scale::SpinningOptions),
    /// What load averages cost while nobody reads
    Loadavg(tasks::Options),
    /// All of these
    All,
}

impl Table {
    fn print(&self, targets: &mut Targets) {
        match self {
            Self::Latency(options) => latency::table(options, targets),
            Self::Bursts(options) => bursts::table(options, targets),
            Self::First(options) => latency::first_reads(options, targets),
            Self::Containers(options) => scale::table(options, targets),
            Self::Churn(options) => scale::churn(options, targets),
            Self::Spinning(options) => scale::spinning(options, targets),
            Self::Loadavg(options) => tasks::table(options, targets),
            Self::All => {
                let tables = [
                    "latency",
                    "bursts",
                    "first",
                    "containers",
                    "churn",
                    "spinning",
                    "loadavg",
                ];
                for table in tables {
                    Self::parse_from(["", table]).print(targets);
                }
                return;
            }
        }
        println!();
    }
}

/// One line about the machine and who is compared.
fn print_machine() {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let meminfo = fs::read_to_string("/proc/meminfo").expect("meminfo");
    let memory_kb = MemInfo::parse(&meminfo).get("MemTotal").unwrap_or(0);
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").expect("the release");
    let release = release.split('-').next().unwrap_or_default();
    println!(
        "{cpus} CPUs, {} GiB of memory, Linux {}, cgroup v{}\n",
        memory_kb.div_ceil(1 << 20),
        release.trim(),
        common::cgroup::cgroup_version(),
    );
}

fn main() {
    // Cargo adds this one.
    let args = std::env::args().filter(|arg| arg != "--bench");
    let args: Vec<String> = args.collect();
    let words: Vec<&str> = args.iter().skip(1).map(String::as_str).collect();
    match words[..] {
        [latency::READER, path, readers, msec] => {
            let time = Duration::from_millis(number(msec) as u64);
            println!(
                "{}",
                hammer(Path::new(path), number(readers), time).to_line()
            );
        }
        [bursts::CATS, path, msec] => {
            bursts::cats(Path::new(path), Duration::from_millis(number(msec) as u64));
        }
        [scale::PACED, ref paths @ ..] => scale::read_at_a_pace(paths),
        [tasks::IDLE, threads] => tasks::idle(number(threads)),
        [floor::FLOOR, texts, point] => floor::serve(Path::new(texts), Path::new(point)),
        _ => {
            let table = Table::parse_from(args);
            print_machine();
            let mut targets = Targets::default();
            table.print(&mut targets);
            targets.print();
        }
    }
}

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

#[path = "../../tests/common/mod.rs"]
mod common;
mod contender;
mod floor;
mod latency;
mod scale;
mod tasks;

use std::path::Path;
use std::time::Duration;

use clap::Parser;
use common::load::hammer;
use contender::DaemonOptions;

/// The middle one.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn number(text: &str) -> usize {
    text.parse()
        .unwrap_or_else(|_| panic!("not a number: {text}"))
}

/// How fast containers read their files, beside the kernel's own, an empty file system and LXCFS. Needs root.
#[derive(Debug, Parser)]
#[command(bin_name = "scripts/bench")]
enum Table {
    /// Each file by several numbers of readers in one container
    Latency(latency::Options),
    /// The first read of a new container
    First(latency::FirstOptions),
    /// Many containers that each read ten times a second
    Containers(scale::Options),
    /// Containers that come, read once and go
    Churn(scale::ChurnOptions),
    /// One container with 64 readers that never pause, beside ten others
    Spinning(DaemonOptions),
    /// What load averages cost while nobody reads
    Loadavg(tasks::Options),
}

impl Table {
    fn print(&self) {
        match self {
            Self::Latency(options) => latency::table(options),
            Self::First(options) => latency::first_reads(options),
            Self::Containers(options) => scale::table(options),
            Self::Churn(options) => scale::churn(options),
            Self::Spinning(options) => scale::spinning(options),
            Self::Loadavg(options) => tasks::table(options),
        }
    }
}

fn main() {
    // Cargo adds this one.
    let args = std::env::args().filter(|arg| arg != "--bench");
    let args: Vec<String> = args.collect();
    match args.iter().skip(1).map(String::as_str).collect::<Vec<_>>()[..] {
        [latency::READER, path, readers, msec] => {
            let time = Duration::from_millis(number(msec) as u64);
            println!(
                "{}",
                hammer(Path::new(path), number(readers), time).to_line()
            );
        }
        [scale::PACED, ref paths @ ..] => scale::read_at_a_pace(paths),
        [tasks::IDLE, threads] => tasks::idle(number(threads)),
        [floor::FLOOR, texts, point] => floor::serve(Path::new(texts), Path::new(point)),
        _ => Table::parse_from(args).print(),
    }
}

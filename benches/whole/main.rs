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

use common::load::hammer;

/// The middle one.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn number(text: &str) -> usize {
    text.parse()
        .unwrap_or_else(|_| panic!("not a number: {text}"))
}

fn main() {
    let args: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| arg != "--bench")
        .collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
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
        ["latency"] => latency::table(),
        ["containers"] => scale::table(),
        ["churn", count] => scale::churn(number(count)),
        ["spinning"] => scale::spinning(),
        ["loadavg"] => tasks::table(),
        _ => panic!("name one of: latency, containers, churn N, spinning, loadavg"),
    }
}

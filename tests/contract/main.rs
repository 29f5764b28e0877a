//! The contract of coherence: whatever a program in a container reads about the machine, from any file, must describe
//! one machine, the one that the container's limits describe.
//!
//! The checker (`inside`) runs as a process of a real container, takes samples while a load runs there, and prints one
//! line for each item of the contract (`findings`). The items are pure functions of the samples; `broken` proves that
//! each one can fail. `host` and `vm` hold the configurations in which nothing may fail.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    unused_imports,
    reason = "tests, which share helpers with others"
)]

mod broken;
mod coherent;
#[path = "../common/mod.rs"]
mod common;
mod cpu;
mod disk;
mod file;
mod findings;
mod host;
mod inside;
mod load;
mod memory;
mod other;
mod outside;
mod sample;
mod stat;
mod time;
mod tolerance;
mod truth;
mod vm;
mod work;

//! `lxcfs run` on the real kernel: limits, namespaces, exit codes, and that nothing is
//! left behind however it ends. Needs root.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    unused_imports,
    reason = "tests, which share helpers with others"
)]

#[path = "../common/mod.rs"]
mod common;

mod command;
mod container;
mod ending;
mod runner;

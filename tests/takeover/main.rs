//! The daemon is killed, restarted and replaced while containers read: nobody may notice.
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

mod aborted;
#[path = "../common/mod.rs"]
mod common;
mod crash;
mod failing;
mod faults;
mod installed;
mod interrupts;
mod planned;
mod service;
mod unit;
mod watcher;

//! A real mount, without engines: file semantics, the trees of `/sys`, and the life of the daemon.
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

mod abi;
mod calls;
#[path = "../common/mod.rs"]
mod common;
mod cpu_tree;
mod disks;
mod lifecycle;
mod listing;
mod node_tree;
mod places;
mod plug;
mod policy;
mod pressure;
mod requests;
mod semantics;
mod sentences;
mod service;
mod settings;
mod show;
mod signals;
mod suspend;
mod watch;

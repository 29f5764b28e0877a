//! From captured cgroup files to the text that a container reads.
//!
//! `tests/fixtures/NAME/{proc,sys}` is the host, `tests/fixtures/NAME/expected/TID/` what
//! the thread reads there. `LXCFS_BLESS=1 cargo test --test golden` writes the latter anew.
#![allow(
    clippy::cast_possible_truncation,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

mod accounts;
mod bad_input;
mod continuity;
mod freshness;
mod hotplug;
mod nodes;
mod texts;
mod tree;
mod zfs;

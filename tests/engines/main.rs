//! Real containers of real engines read the mounted files.
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

mod big;
mod by_hook;
#[path = "../common/mod.rs"]
mod common;
mod crowded;
mod docker;
mod docker_disks;
mod docker_sharing;
mod hostile;
mod inside_docker;
mod isolation;
mod letting_go;
mod long_lists;
mod lxc;
mod memory_pressure;
mod noisy;
mod pid_reuse;
mod podman;
mod reader;
mod sampling;
mod shared_inode;
mod stand;
mod systemd;
mod threads;
mod update;

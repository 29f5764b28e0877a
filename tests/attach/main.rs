//! The views get into containers in each of the ways that engines know.
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

mod bundle;
#[path = "../common/mod.rs"]
mod common;
mod cri;
mod docker;
mod doctor;
mod formats;
mod habits;
mod habits_of_pods;
mod incus;
mod inside;
mod kubernetes;
mod leaving;
mod lxc;
mod mountpoint;
mod names;
mod nri;
mod nspawn;
mod oci;
mod podman;
mod running;
mod running_engines;
mod running_services;
mod services;
mod shown;
mod units;
mod views;

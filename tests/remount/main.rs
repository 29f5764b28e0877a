//! `lxcfs remount` on what a killed daemon leaves in containers. Needs root. The command looks at every container of the
//! machine, so each test runs alone.
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

#[path = "../common/mod.rs"]
mod common;
mod engines;
mod host;
mod leave_alone;
mod many;
mod meanwhile;
mod namespaces;
mod refusals;
mod unanswering;

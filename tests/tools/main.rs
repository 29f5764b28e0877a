//! The acceptance battery: real tools in real containers, each figure that they print compared with what the kernel
//! accounts to the container's cgroup. At the end a table, tool by fact.
//!
//! What a tool shows is compared with what was recorded while it ran, so that nothing here needs the machine alone.
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
mod hardware;
mod languages;
mod monitoring;
mod old_procps;
mod procps;
mod screens;
mod stand;
mod sysstat;
mod table;
mod truth;
mod tsar;
mod util_linux;

use common::docker::Docker;
use common::{Daemon, beside_others, skip};
use stand::Stand;
use table::Table;

/// Every tool in a container with these limits.
fn battery(limits: &str) {
    let _turn = beside_others();
    let docker = match Docker::get() {
        Ok(docker) => docker,
        Err(why) => skip!("{why}"),
    };
    let daemon = Daemon::start(&[]);
    let stand = match Stand::start(docker, &daemon, limits) {
        Ok(stand) => stand,
        Err(why) => skip!("{why}"),
    };
    let mut table = Table::default();
    for family in [
        procps::check,
        sysstat::check,
        util_linux::check,
        screens::check,
        languages::check,
        monitoring::check,
        hardware::check,
        tsar::check,
    ] {
        family(&stand, &mut table);
    }
    table.report(limits);
    table.assert_nothing_wrong();
}

#[test]
fn every_tool_agrees_under_a_quota_of_one_cpu() {
    battery("-m 256m --cpus 1");
}

#[test]
fn every_tool_agrees_on_cpu_1_alone() {
    battery("-m 256m --cpuset-cpus 1");
}

//! Containers that have a great many files of a dead lxcfs.

use std::process::Command;
use std::time::Instant;

use crate::common::daemon::binary;
use crate::common::{alone, patience, run_within, slowness};
use crate::host::{Host, assert_dead, cell, mentions, result, total_mib};

const MEMINFO: &str = "mount --bind \"$1/proc/meminfo\" /proc/meminfo";

/// A script that binds the file 60 times, and all of that over again so many times; less often
/// where each takes long.
fn binds(doublings: u32) -> String {
    let doublings = match slowness() {
        1 => doublings,
        _ => doublings / 2 + 1,
    };
    format!(
        "{MEMINFO}
        mount -t tmpfs none /srv; mkdir /srv/d
        for i in $(seq 60); do : > /srv/d/$i; mount --bind \"$1/proc/meminfo\" /srv/d/$i; done
        for i in $(seq {doublings}); do mkdir /srv/d/r$i; mount --rbind /srv/d /srv/d/r$i; done"
    )
}

#[test]
fn sixty_thousand_views_in_one_container_leave_no_other_dead() {
    let _turn = alone();
    let mut host = Host::served_by(&binary());
    let victim = cell(&host, MEMINFO);
    let hostile = cell(&host, &binds(10));
    let later = cell(&host, MEMINFO);
    host.follow();
    assert_dead(&victim, "/proc/meminfo");
    let start = Instant::now();
    let ran = host.remount(&[]);
    assert!(start.elapsed() < patience(20), "{:?}", start.elapsed());
    for cell in [&victim, &later] {
        assert_eq!(result(&ran, cell.init, "/proc/meminfo"), "replaced");
        assert_eq!(total_mib(cell), 64);
    }
    assert_eq!(ran.code, Some(1), "{}", ran.err);
    assert!(
        mentions(&ran, hostile.init) && ran.out.contains("too many mounts"),
        "{ran:?}"
    );
}

#[test]
fn a_container_with_many_views_is_repaired_with_few_open_files() {
    let _turn = alone();
    let mut host = Host::served_by(&binary());
    let many = cell(&host, &binds(5));
    let other = cell(&host, MEMINFO);
    host.follow();
    let point = host.point().display();
    let script = format!("ulimit -n 256; exec {} remount {point}", binary().display());
    let ran = run_within(Command::new("sh").args(["-c", &script]), patience(60));
    assert_eq!(result(&ran, other.init, "/proc/meminfo"), "replaced");
    assert_eq!(result(&ran, many.init, "/proc/meminfo"), "replaced");
    assert_eq!(total_mib(&many), 64);
    assert_eq!(
        ran.code,
        Some(0),
        "{}",
        ran.out.lines().last().unwrap_or_default()
    );
}

//! What the daemon does on signals.

use std::fs;
use std::time::Instant;

use nix::sys::signal::Signal;

use crate::common::daemon::mounted_at;
use crate::common::{Cell, Daemon, Limits, beside_others, patience, wait_for};

#[test]
fn sigterm_unmounts_removes_the_pid_file_and_exits_0() {
    let _turn = beside_others();
    let mut daemon = Daemon::start(&[]);
    daemon.signal(Signal::SIGTERM);
    let status = daemon.ended().expect("the daemon ends after SIGTERM");
    assert_eq!(status.code(), Some(0), "{}", daemon.log());
    assert!(mounted_at(daemon.point()).is_none(), "still mounted");
    assert!(!daemon.pid_file().exists(), "the pid file is left");
}

#[test]
fn sigterm_ends_the_daemon_although_a_reader_has_a_file_open() {
    let _turn = beside_others();
    let mut daemon = Daemon::start(&[]);
    let open = fs::File::open(daemon.path("proc/meminfo")).expect("opening");
    daemon.signal(Signal::SIGTERM);
    let status = daemon.ended().expect("the daemon ends after SIGTERM");
    assert_eq!(status.code(), Some(0), "{}", daemon.log());
    drop(open);
}

#[test]
fn the_pid_file_names_the_process_that_was_started() {
    let _turn = beside_others();
    let daemon = Daemon::start(&[]);
    let text = fs::read_to_string(daemon.pid_file()).expect("the pid file");
    assert_eq!(text.trim(), daemon.pid().to_string());
}

#[test]
fn sigusr2_shows_the_hosts_values_and_again_the_containers() {
    let _turn = beside_others();
    let daemon = Daemon::start(&[]);
    let cell = Cell::start(&Limits {
        memory_bytes: Some(64 << 20),
        ..Limits::default()
    });
    let total = || {
        cell.read(&daemon, "proc/meminfo")
            .lines()
            .next()
            .expect("a line")
            .to_owned()
    };
    let host = fs::read_to_string("/proc/meminfo").expect("meminfo");
    let host = host.lines().next().expect("a line");
    let becomes =
        |expected: &str| wait_for(patience(5), || (total() == expected).then_some(())).is_some();
    let own = "MemTotal:          65536 kB";
    assert_eq!(total(), own);
    daemon.signal(Signal::SIGUSR2);
    assert!(becomes(host), "off: {}", total());
    daemon.signal(Signal::SIGUSR2);
    assert!(becomes(own), "on again: {}", total());
}

#[test]
fn an_unmount_from_outside_ends_the_daemon_at_once() {
    let _turn = beside_others();
    let mut daemon = Daemon::start(&[]);
    // Busy as long as the daemon has one of its files read.
    let unmounted = || nix::mount::umount(daemon.point()).ok();
    wait_for(patience(5), unmounted).expect("unmounting");
    let start = Instant::now();
    let status = daemon.ended().expect("the daemon ends");
    assert_eq!(status.code(), Some(0), "{}", daemon.log());
    assert!(start.elapsed() < patience(2), "{:?}", start.elapsed());
    assert!(!daemon.pid_file().exists(), "the pid file is left");
}

//! Numbers that the kernel gives out again: pids, thread ids and namespace inodes.

use std::fs;
use std::process::{Command, Stdio};

use crate::common::figures::keyed;
use crate::common::{Cell, Cgroup, Daemon, Limits, beside_others, skip, slowness};

const LAST_PID: &str = "/proc/sys/kernel/ns_last_pid";

fn limited(mib: u64) -> Cell {
    Cell::start(&Limits {
        memory_bytes: Some(mib << 20),
        ..Limits::default()
    })
}

fn total_mib(meminfo: &str) -> u64 {
    keyed(meminfo)["MemTotal"] / 1024
}

/// Reads as a process of this cgroup that has the given pid; `None` when another process got the pid first.
fn read_as(pid: i32, cgroup: &Cgroup, path: &str) -> Option<String> {
    fs::write(LAST_PID, (pid - 1).to_string()).ok()?;
    let script = format!("{}exec cat '{path}'", cgroup.enter_script());
    let reader = Command::new("sh")
        .args(["-ec", &script])
        .stdout(Stdio::piped())
        .spawn()
        .expect("starting sh");
    let got = i32::try_from(reader.id()).expect("a pid");
    let output = reader.wait_with_output().expect("the reader's output");
    (got == pid).then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn a_reused_pid_never_shows_the_view_of_its_former_owner() {
    let _turn = beside_others();
    if fs::read_to_string(LAST_PID)
        .and_then(|last| fs::write(LAST_PID, last.trim()))
        .is_err()
    {
        skip!("{LAST_PID} cannot be set");
    }
    let daemon = Daemon::start(&[]);
    let path = daemon.arg("proc/meminfo");
    let cells = [(limited(40), 40), (limited(80), 80)];
    let mut pid = 29_000;
    let mut reused = 0;
    for attempt in 0..400 {
        let (cell, mib) = &cells[attempt % 2];
        let Some(text) = read_as(pid, &cell.cgroup, &path) else {
            pid += 7;
            continue;
        };
        assert_eq!(
            total_mib(&text),
            *mib,
            "pid {pid} reads the view of its former owner"
        );
        reused += 1;
        if reused == 30 {
            break;
        }
    }
    if reused < 4 {
        skip!("other processes took the pids each time");
    }
}

#[test]
fn short_lived_containers_never_show_the_view_of_the_one_before() {
    let _turn = beside_others();
    let daemon = Daemon::start(&[]);
    // Namespace inodes and cgroup paths come back as soon as they are free.
    for round in 0..60 / u64::from(slowness()) {
        let mib = 40 + round % 7;
        let cell = limited(mib);
        assert_eq!(
            total_mib(&cell.read(&daemon, "proc/meminfo")),
            mib,
            "round {round}"
        );
    }
}

#[test]
fn a_process_that_moves_to_another_container_sees_the_new_one() {
    let _turn = beside_others();
    let daemon = Daemon::start(&[]);
    let path = daemon.arg("proc/meminfo");
    let (first, second) = (limited(40), limited(80));
    // The same thread in the host's namespaces, in one cgroup after the other: its own cgroup is the boundary. It reads
    // often enough to be known each time.
    let read = format!("for turn in 1 2 3 4 5; do read -r _ total _ < {path}; echo $total; done\n");
    let script: String = [&first, &second, &first]
        .map(|cell| format!("{}{read}", cell.cgroup.enter_script()))
        .concat();
    let expected = ["40960\n", "81920\n", "40960\n"].map(|total| total.repeat(5));
    assert_eq!(crate::common::sh(&script).ok(), expected.concat());
}

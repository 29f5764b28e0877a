//! What others do while the command is at work.

use std::fs;
use std::process::{Child, Command, Stdio};

use crate::common::daemon::binary;
use crate::common::docker::SIX_FILES;
use crate::common::{alone, children, patience, skip, wait_for};
use crate::host::{
    Host, assert_settled, cell, debians, options_at, total_mib, wait_until_it_sleeps,
};

fn start(host: &Host) -> Child {
    let mut command = Command::new(binary());
    command.arg("remount").arg(host.point());
    command
        .stdout(Stdio::null())
        .spawn()
        .expect("starting the command")
}

#[test]
fn several_at_the_same_time_repair_each_mount_once() {
    let _turn = alone();
    let mut host = Host::served_by(&debians().unwrap_or_else(|_| binary()));
    let binds: String = SIX_FILES
        .iter()
        .map(|file| format!("mount --bind \"$1/proc/{file}\" /proc/{file}\n"))
        .collect();
    // Enough work for them to meet.
    let nested = "for i in $(seq 30); do unshare --mount sleep 100000 & done";
    let cell = cell(&host, &format!("{binds}{nested}"));
    let mut pids = children(cell.init);
    pids.iter().for_each(|pid| wait_until_it_sleeps(*pid));
    pids.push(cell.init);
    assert_eq!(pids.len(), 31);
    for _ in 0..6 {
        host.follow();
        let mut all: Vec<_> = (0..6).map(|_| start(&host)).collect();
        for one in &mut all {
            assert!(one.wait().expect("its end").success());
        }
        for pid in &pids {
            for file in SIX_FILES {
                let there = options_at(*pid, &format!("/proc/{file}"));
                assert_eq!(there.len(), 1, "{file} of {pid}");
            }
        }
        assert_eq!(total_mib(&cell), 64);
    }
    assert_settled(&host, &pids);
}

/// Whether the kernel lets a mount slip under another one: Linux 6.5 and newer.
fn slips_under() -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").expect("the kernel's release");
    let mut numbers = release
        .split(|character: char| !character.is_ascii_digit())
        .map_while(|number| number.parse::<u32>().ok());
    (numbers.next(), numbers.next()) >= (Some(6), Some(5))
}

#[test]
fn a_reader_never_sees_the_hosts_figures() {
    if !slips_under() {
        skip!("before Linux 6.5 the host's file shows for a moment");
    }
    let _turn = alone();
    let mut host = Host::served_by(&debians().unwrap_or_else(|_| binary()));
    let dir = tempfile::tempdir().expect("a directory");
    let seen = dir.path().join("seen");
    let script = format!(
        "mount --bind \"$1/proc/meminfo\" /proc/meminfo\n\
         while :; do read -r line < /proc/meminfo && echo \"$line\" || echo dead; done > '{}' 2>/dev/null &",
        seen.display()
    );
    let _reader = cell(&host, &script);
    let lines = || fs::read_to_string(&seen).unwrap_or_default();
    for round in 1..=5 {
        host.follow();
        let before = lines().lines().count();
        assert_eq!(host.remount(&[]).code, Some(0));
        let more = wait_for(patience(10), || {
            (lines().lines().count() > before + 20).then_some(())
        });
        assert!(more.is_some(), "no reads in round {round}");
    }
    let text = lines();
    let container = "MemTotal:          65536 kB";
    let other = text
        .lines()
        .find(|line| *line != container && *line != "dead");
    assert_eq!(other, None);
    assert!(text.contains("dead") && text.contains(container));
}

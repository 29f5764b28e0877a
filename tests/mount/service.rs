//! A process of the host, as of a service, that has a limit in one hierarchy of v1.

use std::process::Command;

use crate::common::cgroup::cgroup_version;
use crate::common::{Cgroup, Daemon, beside_others, patience, run_within, skip};

/// Reads a file in the root cgroup of every hierarchy but for what the script enters.
#[track_caller]
fn read(daemon: &Daemon, enter: &str, below: &str) -> String {
    let roots = "for procs in /sys/fs/cgroup/*/cgroup.procs; do echo 0 > $procs; done";
    let script = format!("{roots}; {enter}; cat {}", daemon.arg(below));
    run_within(Command::new("sh").args(["-c", &script]), patience(20)).ok()
}

/// The figures after the name of a disk.
fn figures(line: &str) -> impl Iterator<Item = u64> {
    let words = line.split_whitespace().skip(3);
    words.map(|word| word.parse().expect("a figure"))
}

#[test]
fn a_service_with_a_limit_of_memory_alone_sees_nothing_of_the_hosts_disks_and_cpus() {
    let _turn = beside_others();
    if cgroup_version() == 2 {
        skip!("one hierarchy has all controllers");
    }
    let daemon = Daemon::start(&[]);
    let cgroup = Cgroup::create();
    let enter = format!("echo 0 > '{}/cgroup.procs'", cgroup.dir("memory").display());

    let disks = read(&daemon, &enter, "proc/diskstats");
    assert!(
        disks.lines().flat_map(figures).all(|figure| figure == 0),
        "{disks}"
    );
    let stat = read(&daemon, &enter, "proc/stat");
    let cpu = stat.lines().next().expect("a line");
    let used: Vec<_> = cpu.split_whitespace().skip(1).take(3).collect();
    assert_eq!(used, ["0", "0", "0"], "{cpu}");
    let vmstat = read(&daemon, &enter, "proc/vmstat");
    assert!(vmstat.contains("\npgpgin 0\n"), "{vmstat}");

    // A process without any limit is the host's.
    let host = read(&daemon, "true", "proc/diskstats");
    assert!(
        host.lines().flat_map(figures).any(|figure| figure > 0),
        "{host}"
    );
    drop(daemon);
    cgroup.remove();
}

//! What is known of containers that are gone.

use std::process::Command;

use crate::common::{Cgroup, Daemon, beside_others, open_fds, patience, run_within, wait_for};

const CONTAINERS: usize = 60;

fn fds(daemon: &Daemon) -> usize {
    daemon.processes().into_iter().map(open_fds).sum()
}

/// An fd of a cgroup's file keeps the cgroup in the kernel after it has been removed.
#[test]
fn files_of_removed_cgroups_are_closed_within_seconds() {
    let _turn = beside_others();
    let daemon = Daemon::start(&[]);
    let before = fds(&daemon);
    let cgroups: Vec<_> = (0..CONTAINERS).map(|_| Cgroup::create()).collect();
    let files: Vec<_> = ["stat", "meminfo", "diskstats"]
        .map(|file| daemon.arg(&format!("proc/{file}")))
        .into();
    for cgroup in &cgroups {
        let script = format!("{}exec cat {}", cgroup.enter_script(), files.join(" "));
        run_within(Command::new("sh").args(["-ec", &script]), patience(20)).ok();
    }
    let held = fds(&daemon);
    assert!(
        held > before + CONTAINERS,
        "{held} fds are no more than {before}"
    );
    cgroups.iter().for_each(Cgroup::remove);
    let closed = wait_for(patience(12), || {
        (fds(&daemon) < before + CONTAINERS / 2).then_some(())
    });
    assert!(
        closed.is_some(),
        "{} of {held} fds are still held",
        fds(&daemon)
    );
}

/// Reads the file in a new pid namespace in the cgroup, after a while.
#[track_caller]
fn read_after(seconds: u32, daemon: &Daemon, cgroup: &Cgroup, file: &str) -> String {
    let read = format!("sleep {seconds}; cat {}", daemon.arg(file));
    let enter = cgroup.enter_script();
    let script = format!("{enter}exec unshare --pid --fork sh -c '{read}'");
    run_within(Command::new("sh").args(["-ec", &script]), patience(20)).ok()
}

#[test]
fn idle_time_of_an_earlier_container_in_the_same_cgroup_does_not_show() {
    let _turn = beside_others();
    let daemon = Daemon::start(&[]);
    let cgroup = Cgroup::create();
    let times = |text: &str| -> Vec<f64> {
        let words = text.split_whitespace();
        words.map(|word| word.parse().expect("seconds")).collect()
    };
    let cpus = cgroup.cpus_to_show().len() as f64;
    let first = times(&read_after(3, &daemon, &cgroup, "proc/uptime"));
    assert!(first[0] >= 2.9 && first[1] > 1.0, "{first:?}");
    let second = times(&read_after(0, &daemon, &cgroup, "proc/uptime"));
    let (uptime, idle) = (second[0], second[1]);
    assert!(idle <= (uptime + 0.02) * cpus, "{second:?} after {first:?}");
    drop(daemon);
    cgroup.remove();
}

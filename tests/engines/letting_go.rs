//! What is known of containers that are gone.

use std::io::Write as _;
use std::process::{Command, Stdio};

use crate::common::{
    Cgroup, Daemon, anonymous_kb, beside_others, open_fds, patience, run_within, slowness, wait_for,
};

fn fds(daemon: &Daemon) -> usize {
    daemon.processes().into_iter().map(open_fds).sum()
}

fn memory_kb(daemon: &Daemon) -> u64 {
    daemon
        .processes()
        .into_iter()
        .filter_map(anonymous_kb)
        .sum()
}

/// Has a process go through so many cgroups and read in each.
#[track_caller]
fn read_in_many(daemon: &Daemon, count: usize) -> Vec<Cgroup> {
    let cgroups: Vec<_> = (0..count).map(|_| Cgroup::create()).collect();
    let files = ["stat", "meminfo", "diskstats"].map(|file| daemon.arg(&format!("proc/{file}")));
    let read = format!("cat {} > /dev/null\n", files.join(" "));
    let visits = cgroups.iter().map(|cgroup| cgroup.enter_script() + &read);
    let script: String = visits.collect();
    let mut shell = Command::new("sh");
    shell.arg("-e").stdin(Stdio::piped());
    let mut shell = shell.spawn().expect("starting sh");
    let mut input = shell.stdin.take().expect("a pipe");
    input.write_all(script.as_bytes()).expect("a script");
    drop(input);
    assert!(shell.wait().expect("the end of sh").success());
    cgroups
}

/// An fd of a cgroup's file keeps the cgroup in the kernel after it has been removed.
#[test]
fn files_and_memory_of_many_removed_cgroups_are_given_back_within_seconds() {
    let _turn = beside_others();
    let daemon = Daemon::start(&[]);
    daemon.read("proc/stat");
    let (before, before_kb) = (fds(&daemon), memory_kb(&daemon));
    let count = 1000 / slowness() as usize;
    let cgroups = read_in_many(&daemon, count);
    let (held, held_kb) = (fds(&daemon), memory_kb(&daemon));
    assert!(
        held > before + count,
        "{held} fds are no more than {before}"
    );
    cgroups.iter().for_each(Cgroup::remove);
    let closed = wait_for(patience(12), || {
        (fds(&daemon) < before + count / 10).then_some(())
    });
    let left = fds(&daemon);
    assert!(closed.is_some(), "{left} of {held} fds are still held");
    if count < 1000 {
        // So little memory is kept for what comes next.
        return;
    }
    let is_back = || (memory_kb(&daemon) < before_kb.midpoint(held_kb)).then_some(());
    let is_back = wait_for(patience(12), is_back);
    let left_kb = memory_kb(&daemon);
    assert!(
        is_back.is_some(),
        "{left_kb} kB of {held_kb}, {before_kb} before"
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

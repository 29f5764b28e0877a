//! The kernel has one inode of a file for all containers. What one of them does to it must not
//! delay the others.

use std::fs::File;
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::common::{
    Cell, Daemon, Inside, Limits, alone, beside_others, children, patience, slowness, wait_for,
};
use crate::reader::{Hammer, Reader};

/// Opens of others wait as long as this for a lease (`fs.lease-break-time`, 45 s), or not at all.
#[track_caller]
fn assert_at_once(inside: &Inside, daemon: &Daemon, file: &str) {
    let start = Instant::now();
    assert!(!inside.read(daemon, file).is_empty());
    let took = start.elapsed();
    assert!(took < patience(10), "{file}: {took:?}");
}

#[test]
fn no_file_of_the_tree_can_be_leased() {
    let _turn = beside_others();
    let daemon = Daemon::start(&[]);
    let hostile = Cell::start(&Limits::default());
    let (files, granted) = Reader::leasing(&hostile, daemon.arg("").trim_end_matches('/'));
    assert!(files > 20, "{files} files");
    assert!(granted.is_empty(), "of {files} files: {granted:?}");
    let other = Cell::start(&Limits::default());
    for file in [
        "proc/uptime",
        "proc/meminfo",
        "sys/devices/system/cpu/online",
    ] {
        assert_at_once(&other, &daemon, file);
    }
}

#[test]
fn nobody_waits_for_long_for_the_process_that_opens_files_when_that_hangs() {
    let _turn = alone();
    let mut daemon = Daemon::start(&[]);
    let (one, other) = (
        Cell::start(&Limits::default()),
        Cell::start(&Limits::default()),
    );
    one.read(&daemon, "sys/devices/system/cpu/online");
    let server = children(daemon.pid())[0];
    let command = |pid: i32| std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let is_opener = |pid: &i32| command(*pid).split(|byte| *byte == 0).nth(1) == Some(b"pin");
    let opener = children(server).into_iter().find(is_opener);
    let opener = Pid::from_raw(opener.expect("a process that opens files"));
    kill(opener, Signal::SIGSTOP).expect("stopping it");
    for (file, limit) in [("present", patience(2)), ("possible", patience(1))] {
        let start = Instant::now();
        let text = other.read(&daemon, &format!("sys/devices/system/cpu/{file}"));
        let took = start.elapsed();
        assert!(!text.is_empty() && took < limit, "{file}: {took:?}");
    }
    let is_gone = || (!children(server).contains(&opener.as_raw())).then_some(());
    wait_for(patience(15), is_gone).expect("it is ended");
    assert!(
        !one.read(&daemon, "sys/devices/system/cpu/kernel_max")
            .is_empty()
    );
    assert!(daemon.is_running(), "{}", daemon.log());
}

#[test]
fn a_file_opened_under_an_earlier_server_cannot_be_leased() {
    let _turn = beside_others();
    let daemon = Daemon::start(&[]);
    let (hostile, other) = (
        Cell::start(&Limits::default()),
        Cell::start(&Limits::default()),
    );
    let files = ["proc/uptime", "sys/devices/system/cpu/present"];
    let later = files.map(|file| Reader::leasing_later(&hostile, &daemon.arg(file)));
    let server = children(daemon.pid())[0];
    kill(Pid::from_raw(server), Signal::SIGKILL).expect("killing the server");
    let next = wait_for(patience(10), || {
        children(daemon.pid())
            .into_iter()
            .find(|pid| *pid != server)
    });
    assert!(next.is_some(), "{}", daemon.log());
    for (file, later) in files.into_iter().zip(later) {
        assert_eq!(later.lease(), "[]\n", "{file}");
        assert_at_once(&other, &daemon, file);
    }
}

#[test]
fn files_that_are_kept_open_keep_nobody_from_unmounting() {
    let _turn = alone();
    let mut daemon = Daemon::start(&[]);
    let cell = Cell::start(&Limits::default());
    assert_at_once(&cell, &daemon, "sys/devices/system/cpu/online");
    // Not lazily: that would succeed whatever is open. Busy as long as the daemon has one of its
    // files read.
    let unmounted = || nix::mount::umount(daemon.point()).ok();
    wait_for(patience(5), unmounted).expect("unmounting");
    let ended = daemon.ended();
    assert!(
        ended.is_some_and(|status| status.success()),
        "{}",
        daemon.log()
    );
}

#[test]
fn a_lock_on_a_file_delays_no_reader() {
    let _turn = beside_others();
    let daemon = Daemon::start(&[]);
    let (hostile, other) = (
        Cell::start(&Limits::default()),
        Cell::start(&Limits::default()),
    );
    let lock = Reader::locking(&hostile, &daemon.arg("proc/uptime"));
    // It is everybody's, as docs/SEMANTICS.md says.
    let file = File::open(daemon.path("proc/uptime")).expect("opening");
    assert!(Flock::lock(file, FlockArg::LockExclusiveNonblock).is_err());
    assert_at_once(&other, &daemon, "proc/uptime");
    drop(lock);
}

/// A container that sees its own cgroup directory can have leases on what the daemon is going to
/// open there.
#[test]
fn leases_on_files_that_the_daemon_opens_delay_nobody() {
    let _turn = alone();
    let daemon = Daemon::start(&[]);
    let (hostile, other) = (
        Cell::start(&Limits::default()),
        Cell::start(&Limits::default()),
    );
    let controllers = ["memory", "cpu", "cpuacct", "cpuset", "pids", "blkio"];
    let directories = controllers.map(|controller| hostile.cgroup.dir(controller));
    let (leases, count) = Reader::keeping_leases(&hostile, &directories);
    assert!(count > 0, "no leases on files of {directories:?}");
    let time = Duration::from_secs(4) * slowness();
    let readers = ["meminfo", "stat", "loadavg", "diskstats"].map(|file| {
        let path = daemon.arg(&format!("proc/{file}"));
        Reader::hammer(&hostile, &path, Hammer { readers: 2, time })
    });
    let one = Hammer { readers: 1, time };
    let figures = Reader::hammer(&other, &daemon.arg("proc/meminfo"), one).figures();
    assert_eq!(figures.errors, 0, "{figures:?}");
    assert!(figures.longest < patience(2), "{figures:?}");
    for figures in readers.map(Reader::figures) {
        assert!(figures.reads > 0, "{figures:?}");
    }
    drop(leases);
}

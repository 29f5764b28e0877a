//! Connections that are ended from outside, and a kernel that ends them by itself.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::common::docker::{Docker, Image, SIX_FILES, options, proc_volumes};
use crate::common::figures::keyed;
use crate::common::{Daemon, alone, patience, report, skip, slowness, wait_for};
use crate::crash::server_of;
use crate::planned::take_over;

/// Has the kernel abort the daemon's connection, as an administrator does it.
#[track_caller]
fn abort(daemon: &Daemon) {
    let dev = fs::metadata(daemon.point()).expect("the mount").dev();
    abort_number(nix::sys::stat::minor(dev));
}

#[track_caller]
fn abort_number(minor: u64) {
    let dir = tempfile::tempdir().expect("a directory");
    let none: Option<&str> = None;
    let flags = MsFlags::empty();
    mount(none, dir.path(), Some("fusectl"), flags, none).expect("mounting fusectl");
    let written = fs::write(dir.path().join(minor.to_string()).join("abort"), "1");
    umount2(dir.path(), MntFlags::MNT_DETACH).expect("unmounting");
    written.expect("aborting");
}

/// Waits until the daemon has been mounted anew.
#[track_caller]
fn mounted_anew(daemon: &Daemon, times: usize) {
    let anew = || {
        let count = daemon.log().matches("mounting anew").count();
        (count == times && daemon.answers()).then_some(())
    };
    let anew = wait_for(patience(10), anew);
    assert!(anew.is_some(), "not mounted anew: {}", daemon.log());
}

#[test]
fn after_an_abort_running_containers_are_repaired_by_themselves() {
    let docker = match Docker::get() {
        Ok(docker) => docker,
        Err(why) => skip!("{why}"),
    };
    let _turn = alone();
    let mut daemon = Daemon::start(&[]);
    let mut line = options("-m 50m");
    line.extend(proc_volumes(&daemon, &SIX_FILES));
    let container = docker.container(Image::Busybox, &line);
    let file = format!("/proc/{}/root/proc/meminfo", container.inside().init);
    let busy = || -> u64 {
        let text = container.exec(&["cat", "/proc/stat"]).ok();
        let line = text.lines().next().expect("a line").to_owned();
        let figures = line.split_whitespace().skip(1);
        figures
            .map(|figure| figure.parse::<u64>().expect("a figure"))
            .sum()
    };
    let before = busy();
    for round in 1..=2 {
        abort(&daemon);
        let start = Instant::now();
        let dead = || fs::read(&file).is_err().then_some(());
        wait_for(patience(5), dead).expect("the connection ends");
        let works = wait_for(patience(20), || fs::read(&file).ok());
        assert!(works.is_some(), "not repaired: {}", daemon.log());
        report(&format!(
            "{round}. abort: a container is repaired after {:?}",
            start.elapsed()
        ));
        mounted_anew(&daemon, round);
        let text = container.exec(&["cat", "/proc/meminfo"]).ok();
        assert_eq!(keyed(&text)["MemTotal"], 50 << 10);
    }
    assert!(busy() >= before, "the counters began anew");
    assert!(daemon.is_running());
}

/// As a kernel does it that limits the time of a request.
#[test]
fn a_connection_that_is_aborted_while_its_server_hangs_is_mounted_anew() {
    let _turn = alone();
    let mut daemon = Daemon::start(&[]);
    let dev = fs::metadata(daemon.point()).expect("the mount").dev();
    let server = server_of(&daemon);
    kill(Pid::from_raw(server), Signal::SIGSTOP).expect("stopping the server");
    abort_number(nix::sys::stat::minor(dev));
    mounted_anew(&daemon, 1);
    assert!(daemon.is_running());
    assert!(!daemon.log().contains("ERROR"), "{}", daemon.log());
    // What is handed on is the new connection.
    take_over(&daemon);
    assert!(daemon.answers(), "{}", daemon.log());
}

#[test]
fn an_unmount_by_force_ends_the_daemon() {
    let _turn = alone();
    let mut daemon = Daemon::start(&[]);
    let unmount = || umount2(daemon.point(), MntFlags::MNT_FORCE).ok();
    wait_for(patience(5), unmount).expect("unmounting");
    let status = daemon.ended().expect("the daemon ends");
    assert_eq!(status.code(), Some(0), "{}", daemon.log());
}

/// A setting of the kernel's, put back when dropped.
struct Setting(&'static Path, String);

impl Setting {
    fn set(file: &'static str, value: &str) -> Option<Self> {
        let file = Path::new(file);
        let before = fs::read_to_string(file).ok()?;
        let setting = Self(file, before);
        fs::write(file, value).ok()?;
        Some(setting)
    }
}

impl Drop for Setting {
    fn drop(&mut self) {
        let _ = fs::write(self.0, &self.1);
    }
}

/// The shortest that the kernel knows: it looks at requests every 15 s and aborts the connection of one that is older.
const SECONDS: u64 = 15;

#[test]
fn a_server_that_hangs_is_replaced_before_the_kernel_loses_patience() {
    if slowness() > 1 {
        skip!("too slow for a limit of {SECONDS} s");
    }
    let _turn = alone();
    let limit = SECONDS.to_string();
    let Some(setting) = Setting::set("/proc/sys/fs/fuse/max_request_timeout", &limit) else {
        skip!("a kernel before 6.15 does not limit the time of requests");
    };
    let mut command = Command::new(crate::common::daemon::binary());
    command.env_remove("WATCHDOG_USEC");
    let daemon = Daemon::start_command(command, &[]);
    drop(setting);
    // It is the mount's limit, whatever is set by the time of a takeover.
    take_over(&daemon);
    wait_for(patience(5), || daemon.answers().then_some(())).expect("an answer");
    let server = server_of(&daemon);
    kill(Pid::from_raw(server), Signal::SIGSTOP).expect("stopping the server");
    let start = Instant::now();
    daemon.read("proc/meminfo");
    assert!(start.elapsed() < Duration::from_secs(SECONDS));
    assert_ne!(server_of(&daemon), server);
    assert!(!daemon.log().contains("anew"), "{}", daemon.log());
}

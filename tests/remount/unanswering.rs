//! File systems that never answer must not stop the repair of others.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::Stdio;
use std::thread;
use std::time::Instant;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::common::daemon::binary;
use crate::common::{Daemon, alone, patience, run_within, sh};
use crate::host::{Host, cell, debians, mounts, result, total_mib};

/// A file system whose server reads every request and answers none: who waits for it cannot even be killed.
struct Swallower {
    dir: TempDir,
    /// Ends the connection when dropped, together with the thread's.
    device: File,
}

impl Swallower {
    fn start() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let mut device = File::options()
            .read(true)
            .write(true)
            .open("/dev/fuse")
            .expect("FUSE");
        let data = format!(
            "fd={},rootmode=40000,user_id=0,group_id=0,allow_other",
            device.as_raw_fd()
        );
        mount(
            Some("lxcfs"),
            dir.path(),
            Some("fuse.lxcfs"),
            MsFlags::empty(),
            Some(data.as_str()),
        )
        .expect("mounting");
        let mut request = vec![0; 1 << 17];
        let count = device.read(&mut request).expect("the first request");
        assert!(count >= 16, "a request of {count} bytes");
        // struct fuse_out_header and struct fuse_init_out: protocol 7.31, all features off.
        let mut answer = Vec::new();
        answer.extend(80_u32.to_ne_bytes());
        answer.extend(0_i32.to_ne_bytes());
        answer.extend(&request[8..16]);
        answer.extend(7_u32.to_ne_bytes());
        answer.extend(31_u32.to_ne_bytes());
        answer.extend([0; 12]);
        answer.extend(65_536_u32.to_ne_bytes());
        answer.resize(80, 0);
        device
            .write_all(&answer)
            .expect("answering the first request");
        let mut reader = device.try_clone().expect("a second handle");
        thread::spawn(move || while reader.read(&mut request).is_ok() {});
        Self { dir, device }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }
}

impl Drop for Swallower {
    fn drop(&mut self) {
        let _ = umount2(self.path(), MntFlags::MNT_FORCE);
        let _ = umount2(self.path(), MntFlags::MNT_DETACH);
        let _ = self.device.flush();
    }
}

/// Ends in a time that is far below any start limit, also for somebody who waits for the end of its output.
#[track_caller]
fn remount_in_time(host: &Host) -> crate::common::Ran {
    let start = Instant::now();
    let line = format!(
        "{{ '{}' remount '{}'; echo code $?; }} 2>&1 | cat",
        binary().display(),
        host.point().display()
    );
    let mut ran = run_within(
        std::process::Command::new("sh")
            .args(["-c", &line])
            .stdin(Stdio::null()),
        patience(20),
    );
    assert!(start.elapsed() < patience(10), "{:?}", start.elapsed());
    let (out, code) = ran.out.rsplit_once("code ").expect("an exit code");
    ran.code = code.trim().parse().ok();
    ran.out = out.to_owned();
    ran
}

#[test]
fn a_stopped_lxcfs_is_left_alone_and_delays_nobody_for_long() {
    let _turn = alone();
    let mut host = Host::served_by(&debians().unwrap_or_else(|_| binary()));
    let stopped = Daemon::start_as(&debians().unwrap_or_else(|_| binary()), &[]);
    let script = format!(
        "mount --bind \"$1/proc/meminfo\" /proc/meminfo; mount --bind '{}' /proc/uptime",
        stopped.arg("proc/uptime")
    );
    let cell = cell(&host, &script);
    host.follow();
    for pid in stopped.processes() {
        sh(&format!("kill -STOP {pid}")).ok();
    }
    let uptime = || {
        mounts(cell.init)
            .into_iter()
            .filter(|line| line.contains(" /proc/uptime "))
            .collect::<Vec<_>>()
    };
    let before = uptime();
    let ran = remount_in_time(&host);
    for pid in stopped.processes() {
        sh(&format!("kill -CONT {pid}")).ok();
    }
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(result(&ran, cell.init, "/proc/meminfo"), "replaced");
    assert_eq!(
        result(&ran, cell.init, "/proc/uptime"),
        "left alone: its lxcfs does not answer"
    );
    assert_eq!(uptime(), before);
    assert_eq!(total_mib(&cell), 64);
    stopped.signal(Signal::SIGTERM);
}

#[test]
fn requests_that_are_read_and_never_answered_hold_nobody() {
    let _turn = alone();
    let mut host = Host::served_by(&binary());
    let silent = Swallower::start();
    let cell = cell(&host, "mount --bind \"$1/proc/meminfo\" /proc/meminfo");
    host.follow();
    let ran = remount_in_time(&host);
    let own = i32::try_from(std::process::id()).expect("a pid");
    let point = silent.path().to_str().expect("an ASCII path").to_owned();
    drop(silent);
    assert!(mounts(own).iter().all(|line| !line.contains(&point)));
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(result(&ran, cell.init, "/proc/meminfo"), "replaced");
    assert_eq!(
        result(&ran, cell.init, &point),
        "left alone: its lxcfs does not answer"
    );
    assert_eq!(total_mib(&cell), 64);
}

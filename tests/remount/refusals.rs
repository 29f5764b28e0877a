//! Command lines and mountpoints that make no sense.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::common::daemon::binary;
use crate::common::{Daemon, Ran, alone, patience, run, run_within, sh};
use crate::host::{Host, cell};

fn remount(args: &[&str]) -> Ran {
    run(Command::new(binary()).arg("remount").args(args))
}

#[track_caller]
fn assert_refused(ran: &Ran, code: i32, sentence: &str) {
    assert_eq!(ran.code, Some(code), "{ran:?}");
    assert_eq!(ran.out, "");
    assert_eq!(ran.err, format!("lxcfs: {sentence}\n"));
}

#[test]
fn what_is_no_mountpoint_of_an_lxcfs_is_refused() {
    let _turn = alone();
    let dir = tempfile::tempdir().expect("a directory");
    let plain = dir.path().to_str().expect("an ASCII path");
    let missing = format!("{plain}/missing");
    let daemon = Daemon::start(&[]);
    let below = daemon.arg("proc");
    for (path, sentence) in [
        (
            plain,
            "no lxcfs is mounted at {}; start it, or name the directory where it is",
        ),
        (
            "/",
            "no lxcfs is mounted at {}; start it, or name the directory where it is",
        ),
        (
            "/proc",
            "no lxcfs is mounted at {}; start it, or name the directory where it is",
        ),
        (
            below.as_str(),
            "no lxcfs is mounted at {}; start it, or name the directory where it is",
        ),
        (
            missing.as_str(),
            "cannot use {}: ENOENT: No such file or directory",
        ),
    ] {
        assert_refused(&remount(&[path]), 1, &sentence.replace("{}", path));
    }
}

#[test]
fn a_dead_mountpoint_is_refused() {
    let _turn = alone();
    let mut daemon = Daemon::start(&[]);
    daemon.kill_all();
    let point = daemon.arg("").trim_end_matches('/').to_owned();
    let sentence = format!("the lxcfs at {point} is dead; start it again first");
    assert_refused(&remount(&[&point]), 1, &sentence);
}

#[test]
fn a_mountpoint_that_does_not_answer_is_refused() {
    let _turn = alone();
    let daemon = Daemon::start(&[]);
    let point = daemon.arg("").trim_end_matches('/').to_owned();
    for pid in daemon.processes() {
        sh(&format!("kill -STOP {pid}")).ok();
    }
    let ran = run_within(
        Command::new(binary()).args(["remount", &point]),
        patience(10),
    );
    for pid in daemon.processes() {
        sh(&format!("kill -CONT {pid}")).ok();
    }
    let sentence = format!("the lxcfs at {point} does not answer; start it again first");
    assert_refused(&ran, 1, &sentence);
}

#[test]
fn wrong_command_lines_have_exit_code_2() {
    for args in [&["--bogus"][..], &["/a", "/b"], &["--dry-run=yes"]] {
        let ran = remount(args);
        assert_eq!(ran.code, Some(2), "{ran:?}");
        assert_eq!(ran.err.lines().count(), 1, "{ran:?}");
        assert!(ran.err.starts_with("lxcfs: "), "{ran:?}");
    }
}

#[test]
fn without_root_it_says_so() {
    // Where the binary was built may be out of reach for others.
    let directory = tempfile::tempdir().expect("a directory");
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).expect("a mode");
    let copy = directory.path().join("lxcfs");
    fs::copy(binary(), &copy).expect("a copy");
    let ran = run(Command::new(copy).arg("remount").uid(65534));
    assert_refused(&ran, 1, "remount needs root; start it with sudo");
}

#[test]
fn odd_paths_work() {
    let _turn = alone();
    let mut host = Host::served_by(&binary());
    let dir = tempfile::tempdir().expect("a directory");
    let link = dir.path().join("a link");
    symlink(host.point(), &link).expect("a link");
    let odd = dir.path().join("a b\\c\td");
    fs::write(&odd, "").expect("a file");
    let script = format!("mount --bind \"$1/proc/meminfo\" '{}'", odd.display());
    let cell = cell(&host, &script);
    host.follow();
    let link = link.to_str().expect("an ASCII path");
    let ran = remount(&[link]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let shown = format!("{}/a b\\\\c\\td", dir.path().display());
    assert!(ran.out.contains(&shown), "{ran:?}");
    let path = format!("/proc/{}/root{}", cell.init, odd.display());
    assert!(
        fs::read_to_string(path)
            .expect("the fresh file")
            .starts_with("MemTotal:")
    );
    let other_way = host.remount(&["--dry-run"]);
    assert!(!other_way.out.contains(&shown), "{other_way:?}");
}

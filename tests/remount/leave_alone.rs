//! What must stay as it is, and what must go.

use std::fs;

use crate::common::daemon::binary;
use crate::common::{Daemon, alone, patience, skip, wait_for};
use crate::host::{
    DEAD, Host, assert_dead, assert_settled, cell, debians, mentions, mounts, options_at, read,
    result, total_mib,
};

#[test]
fn a_dry_run_says_what_would_be_done_and_changes_nothing() {
    let debians = match debians() {
        Ok(debians) => debians,
        Err(why) => skip!("{why}"),
    };
    let _turn = alone();
    let mut host = Host::served_by(&debians);
    let cell = cell(&host, "mount --bind \"$1/proc/meminfo\" /proc/meminfo");
    host.follow();
    let before = mounts(cell.init);
    for _ in 0..2 {
        let ran = host.remount(&["--dry-run"]);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert_eq!(
            result(&ran, cell.init, "/proc/meminfo"),
            "would be replaced"
        );
        assert_eq!(mounts(cell.init), before);
    }
    assert_dead(&cell, "/proc/meminfo");
}

#[test]
fn what_the_new_lxcfs_lacks_uncovers_what_was_there() {
    let debians = match debians() {
        Ok(debians) => debians,
        Err(why) => skip!("{why}"),
    };
    let _turn = alone();
    let mut host = Host::served_by(&debians);
    if !host.point().join("cgroup").exists() {
        skip!("the lxcfs of this distribution has nothing that ours lacks");
    }
    let bind = "mount --bind \"$1/cgroup\" /mnt";
    let bound = cell(&host, bind);
    let locked = cell(
        &host,
        &format!("{bind}\nexec unshare -Ur --mount sleep 100000"),
    );
    host.follow();
    assert_eq!(
        result(&host.remount(&["--dry-run"]), bound.init, "/mnt"),
        "would be unmounted: this lxcfs has no such file"
    );
    let ran = host.remount(&[]);
    assert_eq!(
        result(&ran, bound.init, "/mnt"),
        "unmounted: this lxcfs has no such file"
    );
    assert_eq!(options_at(bound.init, "/mnt"), Vec::<String>::new());
    let own = read(&bound, "/mnt");
    assert!(!own.err.contains(DEAD), "{own:?}");

    // The kernel lets nobody take a locked mount away.
    assert_eq!(ran.code, Some(1), "{ran:?}");
    let said = result(&ran, locked.init, "/mnt");
    assert!(
        said.starts_with("not repaired: ") && said.contains("restart the container"),
        "{said}"
    );
    assert_eq!(host.remount(&[]).code, Some(1));
    drop(locked);
    assert_settled(&host, &[bound.init]);
}

#[test]
fn a_live_lxcfs_of_somebody_else_is_left_alone() {
    let _turn = alone();
    let mut host = Host::served_by(&debians().unwrap_or_else(|_| binary()));
    let others = Host::served_by(&debians().unwrap_or_else(|_| binary()));
    let ours_too = Daemon::start(&[]);
    let bind = |daemon: &Daemon, file: &str| {
        format!(
            "mount --bind '{}' /proc/{file}",
            daemon.arg(&format!("proc/{file}"))
        )
    };
    let script = format!(
        "mount --bind \"$1/proc/meminfo\" /proc/meminfo\n{}\n{}",
        bind(&others.old, "uptime"),
        bind(&ours_too, "stat")
    );
    let cell = cell(&host, &script);
    let line = |path: &str| {
        let is_at = |line: &String| line.contains(&format!(" {path} "));
        mounts(cell.init)
            .into_iter()
            .filter(is_at)
            .collect::<Vec<_>>()
    };
    let before = ["/proc/uptime", "/proc/stat"].map(line);
    host.follow();
    let ran = host.remount(&[]);
    assert_eq!(result(&ran, cell.init, "/proc/meminfo"), "replaced");
    assert_eq!(["/proc/uptime", "/proc/stat"].map(line), before);
    assert!(
        !ran.out.contains("/proc/uptime") && !ran.out.contains("/proc/stat"),
        "{ran:?}"
    );
    read(&cell, "/proc/uptime").ok();
    assert_settled(&host, &[cell.init]);
}

#[test]
fn a_dead_bind_of_somebody_elses_lxcfs_is_repaired_but_not_its_mountpoint() {
    let _turn = alone();
    let host = Host::served_by(&binary());
    let mut others = Host::served_by(&debians().unwrap_or_else(|_| binary()));
    let point = others.point().to_owned();
    let own_process = i32::try_from(std::process::id()).expect("a pid");
    let cell = cell(&others, "mount --bind \"$1/proc/meminfo\" /proc/meminfo");
    others.old.kill_all();
    let at_point = || options_at(own_process, point.to_str().expect("an ASCII path"));
    let before = at_point();
    let ran = host.remount(&[]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(total_mib(&cell), 64);
    assert_eq!(at_point(), before);
    assert!(
        ran.out
            .contains("left alone: the mountpoint of another lxcfs"),
        "{ran:?}"
    );
    let error = fs::read_dir(&point).expect_err("a dead mountpoint");
    assert!(error.to_string().contains(DEAD), "{error}");
}

#[test]
fn a_live_older_lxcfs_that_was_mounted_over_is_replaced() {
    let debians = match debians() {
        Ok(debians) => debians,
        Err(why) => skip!("{why}"),
    };
    let _turn = alone();
    let host = Host::served_by(&debians);
    let cell = cell(&host, "mount --bind \"$1/proc/meminfo\" /proc/meminfo");
    let line = |pid| {
        let mut lines = mounts(pid).into_iter();
        lines.find(|line| line.contains(" /proc/meminfo "))
    };
    let before = line(cell.init);
    let newer_pid_file = host.old.pid_file().with_file_name("pid-of-newer");
    let newer = Daemon::start_at(&debians, host.point(), &newer_pid_file, &["-o", "nonempty"]);
    let own_process = i32::try_from(std::process::id()).expect("a pid");
    let point = host.point().to_str().expect("an ASCII path");
    let both = || (options_at(own_process, point).len() == 2).then_some(());
    assert!(wait_for(patience(10), both).is_some(), "{}", newer.log());
    let ran = host.remount(&[]);
    assert_eq!(result(&ran, cell.init, "/proc/meminfo"), "replaced");
    assert_ne!(line(cell.init), before);
    assert_eq!(total_mib(&cell), 64);
    assert_settled(&host, &[cell.init]);
    drop(newer);
}

#[test]
fn a_dead_mount_that_something_covers_is_not_touched() {
    let _turn = alone();
    let mut host = Host::served_by(&binary());
    let script = "mount --bind \"$1/proc/meminfo\" /proc/meminfo; mount --bind /proc/version /proc/meminfo; \
                  mount --bind \"$1\" /srv; mount -t tmpfs none /srv";
    let cell = cell(&host, script);
    let at = |path: &str| options_at(cell.init, path);
    let before = ["/proc/meminfo", "/srv"].map(at);
    host.follow();
    let ran = host.remount(&[]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(
        !ran.out.contains("/srv") && !ran.out.contains("/proc/meminfo"),
        "{ran:?}"
    );
    assert_eq!(["/proc/meminfo", "/srv"].map(at), before);
    assert!(read(&cell, "/proc/meminfo").ok().starts_with("Linux"));
}

#[test]
fn a_container_with_nothing_dead_is_not_mentioned() {
    let _turn = alone();
    let host = Host::served_by(&binary());
    let with = cell(&host, "mount --bind \"$1/proc/meminfo\" /proc/meminfo");
    let without = cell(&host, "");
    let ran = host.remount(&[]);
    assert!(
        !mentions(&ran, with.init) && !mentions(&ran, without.init),
        "{ran:?}"
    );
    assert_settled(&host, &[with.init, without.init]);
}

//! What the kernel does with mounts of different kinds of namespaces.

use crate::common::daemon::binary;
use crate::common::{Cell, Daemon, Inside, alone, children, run, sh, skip};
use crate::host::{
    Host, assert_dead, assert_settled, cell, cell_with, debians, mounts, options_at, read, result,
    total_mib, wait_until_it_sleeps,
};

const MEMINFO: &str = "mount --bind \"$1/proc/meminfo\" /proc/meminfo";

/// A daemon that is followed by ours; Debian's where there is one, so that the views differ.
fn host() -> Host {
    Host::served_by(&debians().unwrap_or_else(|_| binary()))
}

#[test]
fn a_private_namespace_gets_the_fresh_mount_in_place_of_the_dead() {
    let _turn = alone();
    let mut host = host();
    let cell = cell(&host, MEMINFO);
    let count = mounts(cell.init).len();
    for _ in 0..2 {
        // The second round is about a dead mount of our own.
        host.follow();
        assert_dead(&cell, "/proc/meminfo");
        let ran = host.remount(&[]);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert_eq!(result(&ran, cell.init, "/proc/meminfo"), "replaced");
        assert_eq!(total_mib(&cell), 64);
        assert_eq!(mounts(cell.init).len(), count);
    }
    assert_settled(&host, &[cell.init]);
}

#[test]
fn the_whole_tree_works_as_files_of_it_do() {
    let _turn = alone();
    let mut host = host();
    let script = "mount --bind \"$1\" /mnt; mount --bind \"$1/proc\" /media; mount --bind \"$1/sys/devices/system/cpu\" /srv";
    let cell = cell(&host, script);
    let count = mounts(cell.init).len();
    host.follow();
    let ran = host.remount(&[]);
    for (path, file) in [
        ("/mnt", "/mnt/proc/meminfo"),
        ("/media", "/media/meminfo"),
        ("/srv", "/srv/online"),
    ] {
        assert_eq!(result(&ran, cell.init, path), "replaced");
        read(&cell, file).ok();
    }
    assert_eq!(mounts(cell.init).len(), count);
    assert_settled(&host, &[cell.init]);
}

#[test]
fn a_file_bound_over_a_file_of_the_whole_tree_comes_back_on_the_fresh_tree() {
    let _turn = alone();
    let mut host = host();
    let script = "mount --bind \"$1\" /mnt; mount --bind \"$1/proc/meminfo\" /mnt/proc/uptime";
    let cell = cell(&host, script);
    let count = mounts(cell.init).len();
    host.follow();
    let ran = host.remount(&[]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(result(&ran, cell.init, "/mnt"), "replaced");
    assert_eq!(result(&ran, cell.init, "/mnt/proc/uptime"), "replaced");
    assert!(
        read(&cell, "/mnt/proc/uptime")
            .ok()
            .starts_with("MemTotal:")
    );
    assert_eq!(mounts(cell.init).len(), count);
    assert_settled(&host, &[cell.init]);
}

#[test]
fn a_bind_on_the_host_itself_is_replaced() {
    let _turn = alone();
    let mut host = host();
    let file = tempfile::NamedTempFile::new().expect("a file");
    let path = file.path().to_str().expect("an ASCII path");
    let source = host.point().join("proc/meminfo");
    sh(&format!("mount --bind '{}' {path}", source.display())).ok();
    host.follow();
    let ran = host.remount(&[]);
    let line = ran.out.lines().find(|line| line.contains(path));
    let shown = std::fs::read_to_string(path);
    sh(&format!("umount -l {path}")).ok();
    let line = line.unwrap_or_else(|| panic!("{ran:?}"));
    assert!(
        line.starts_with("host ") && line.ends_with(" replaced"),
        "{line}"
    );
    assert!(shown.expect("the fresh file").starts_with("MemTotal:"));
}

#[test]
fn a_locked_mount_is_covered_once() {
    let _turn = alone();
    let mut host = host();
    let script = format!("{MEMINFO}\nexec unshare -Ur --mount sleep 100000");
    let cell = cell(&host, &script);
    host.follow();
    assert_dead(&cell, "/proc/meminfo");
    let before = mounts(cell.init).len();
    let ran = host.remount(&[]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let said = result(&ran, cell.init, "/proc/meminfo");
    assert_eq!(said, "replaced (over the old one, which is locked)");
    assert_eq!(total_mib(&cell), 64);
    assert_eq!(options_at(cell.init, "/proc/meminfo").len(), 2);
    let more = mounts(cell.init).len() - before;
    assert_settled(&host, &[cell.init]);

    // Dead again, the cover itself is no longer locked and gives way to the next one.
    host.follow();
    assert_dead(&cell, "/proc/meminfo");
    assert_eq!(host.remount(&[]).code, Some(0));
    assert_eq!(total_mib(&cell), 64);
    assert_eq!(mounts(cell.init).len() - before, more);
    assert_settled(&host, &[cell.init]);
}

#[test]
fn a_mount_made_in_a_user_namespace_is_replaced() {
    let _turn = alone();
    let mut host = host();
    let script =
        format!("exec unshare -Ur --mount sh -ec '{MEMINFO}; exec sleep 100000' sh \"$1\"");
    let cell = cell(&host, &script);
    let count = mounts(cell.init).len();
    host.follow();
    let ran = host.remount(&[]);
    assert_eq!(result(&ran, cell.init, "/proc/meminfo"), "replaced");
    assert_eq!(total_mib(&cell), 64);
    // A copy of the host's own mount of the dead lxcfs may be there too, and is locked.
    let here = options_at(cell.init, "/proc/meminfo");
    assert_eq!(here.len(), 1, "{here:?}");
    assert!(mounts(cell.init).len() <= count + 1, "{ran:?}");
    assert_settled(&host, &[cell.init]);
}

#[test]
fn peers_that_share_mounts_get_one_each() {
    let _turn = alone();
    let mut host = host();
    // The peer's mounts are those of the first namespace, whichever of both they are made in.
    let script = format!(
        "mount --make-rshared /\n{MEMINFO}\nunshare --mount --propagation unchanged sleep 100000 &"
    );
    let cell = cell(&host, &script);
    let peer = children(cell.init)[0];
    wait_until_it_sleeps(peer);
    let counts = [cell.init, peer].map(|pid| mounts(pid).len());
    host.follow();
    let ran = host.remount(&[]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    for pid in [cell.init, peer] {
        assert_eq!(options_at(pid, "/proc/meminfo").len(), 1, "{ran:?}");
        let inside = Inside {
            init: pid,
            cgroup: cell.cgroup.clone(),
        };
        let shown = run(&mut inside.command(&["cat", &format!("/proc/{pid}/root/proc/meminfo")]));
        assert!(shown.ok().starts_with("MemTotal:"));
    }
    assert_eq!([cell.init, peer].map(|pid| mounts(pid).len()), counts);
    assert_settled(&host, &[cell.init, peer]);
}

#[test]
fn a_slave_of_the_hosts_mounts_is_repaired() {
    let _turn = alone();
    let mut host = host();
    let cell = cell_with(&host, "slave", MEMINFO);
    host.follow();
    assert_eq!(host.remount(&[]).code, Some(0));
    assert_eq!(total_mib(&cell), 64);
    assert_eq!(options_at(cell.init, "/proc/meminfo").len(), 1);
    assert_settled(&host, &[cell.init]);
}

#[test]
fn a_namespace_inside_a_container_is_repaired_too() {
    let _turn = alone();
    let mut host = host();
    let cell = cell(&host, &format!("{MEMINFO}\nunshare --mount sleep 100000 &"));
    let nested = children(cell.init)[0];
    wait_until_it_sleeps(nested);
    host.follow();
    let ran = host.remount(&[]);
    assert_eq!(result(&ran, cell.init, "/proc/meminfo"), "replaced");
    assert_eq!(result(&ran, nested, "/proc/meminfo"), "replaced");
    assert_settled(&host, &[cell.init, nested]);
}

#[test]
fn options_of_the_old_mount_are_kept_and_none_is_lost() {
    let _turn = alone();
    let debians = match debians() {
        Ok(debians) => debians,
        Err(why) => skip!("{why}"),
    };
    let all = ["ro", "nosuid", "nodev", "noexec"];
    let has = |cell: &Cell, option: &str| {
        let options = options_at(cell.init, "/proc/meminfo");
        assert_eq!(options.len(), 1, "{options:?}");
        options[0].split(',').any(|known| known == option)
    };
    // Of its own our mount has all but the first, Debian's some.
    let mut ours = Daemon::start(&[]);
    let host = Host::served_by(&debians);
    let bind = format!(
        "mount --bind '{}' /proc/meminfo; mount -o remount,bind,ro /proc/meminfo",
        ours.arg("proc/meminfo")
    );
    let strict = cell(&host, &bind);
    ours.kill_all();
    assert_eq!(host.remount(&[]).code, Some(0));
    assert!(read(&strict, "/proc/meminfo").succeeded());
    assert!(all.iter().all(|option| has(&strict, option)));

    let mut host = host;
    let loose = cell(&host, MEMINFO);
    assert!(!has(&loose, "ro") && !has(&loose, "noexec"));
    host.follow();
    assert_eq!(host.remount(&[]).code, Some(0));
    assert_eq!(total_mib(&loose), 64);
    assert!(!has(&loose, "ro") && all[1..].iter().all(|option| has(&loose, option)));
}

#[test]
fn a_directory_that_an_engine_hides_stays_hidden() {
    let _turn = alone();
    let mut host = host();
    let hidden = "/srv/cpu0/topology";
    let script = format!(
        "mount --bind \"$1/sys/devices/system/cpu\" /srv; mount -t tmpfs -o ro none {hidden}"
    );
    let cell = cell(&host, &script);
    let count = mounts(cell.init).len();
    host.follow();
    assert_eq!(host.remount(&[]).code, Some(0));
    assert_eq!(mounts(cell.init).len(), count);
    let listed = run(&mut cell.command(&["ls", &format!("/proc/{}/root{hidden}", cell.init)]));
    assert_eq!(listed.ok(), "");
    read(&cell, "/srv/online").ok();
    assert_settled(&host, &[cell.init]);
}

#[test]
fn dead_mounts_that_were_stacked_become_one() {
    let _turn = alone();
    let mut host = host();
    let cell = cell(&host, &format!("{MEMINFO}\n{MEMINFO}\n{MEMINFO}"));
    host.follow();
    assert_eq!(options_at(cell.init, "/proc/meminfo").len(), 3);
    assert_eq!(host.remount(&[]).code, Some(0));
    assert_eq!(total_mib(&cell), 64);
    assert_eq!(options_at(cell.init, "/proc/meminfo").len(), 1);
    assert_settled(&host, &[cell.init]);
}

#[test]
fn a_run_that_was_ended_half_way_is_finished_by_the_next() {
    let _turn = alone();
    // A dead mount over a fresh one is what it leaves between its two steps.
    let host = Host::served_by(&binary());
    let mut dead = Daemon::start(&[]);
    let over = format!("mount --bind '{}' /proc/meminfo", dead.arg("proc/meminfo"));
    let cell = cell(&host, &format!("{MEMINFO}\n{over}"));
    dead.kill_all();
    assert_dead(&cell, "/proc/meminfo");
    let ran = host.remount(&[]);
    assert_eq!(result(&ran, cell.init, "/proc/meminfo"), "replaced");
    assert_eq!(total_mib(&cell), 64);
    assert_eq!(options_at(cell.init, "/proc/meminfo").len(), 1);
}

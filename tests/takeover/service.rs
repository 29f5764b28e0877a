//! The service of systemd under load: restarts, kills, upgrades, and its end.

use std::fs;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::common::docker::Docker;
use crate::common::{alone, beside_others, has, open_fds, patience, skip, wait_for};
use crate::planned::other_version;
use crate::unit::{Unit, install, systemd_runs};
use crate::watcher::{Seen, Watcher};

/// Readers in two Docker containers and one of LXC.
fn readers(unit: &Unit) -> Result<Vec<Watcher>, String> {
    let docker = Docker::get()?;
    if !has("lxc-execute") {
        return Err("lxc is not installed".to_owned());
    }
    let (point, pause) = (unit.point(), Duration::from_millis(2));
    let watchers = vec![
        Watcher::in_docker(docker, &point, pause),
        Watcher::in_docker(docker, &point, pause),
        Watcher::in_lxc(&point, pause),
    ];
    for watcher in &watchers {
        watcher.reads();
    }
    Ok(watchers)
}

fn all_seen(watchers: Vec<Watcher>) -> Seen {
    let mut all = Seen::default();
    for watcher in watchers {
        all.add(watcher.stop());
    }
    all
}

fn send(pid: i32, signal: Signal) {
    kill(Pid::from_raw(pid), signal).expect("a process to signal");
}

/// Waits until the service runs with two processes again, the holder another one than `before`.
#[track_caller]
fn back(unit: &Unit, holder: i32) {
    let back = wait_for(patience(30), || {
        let now = unit.holder();
        (now != 0 && now != holder && unit.property("ActiveState") == "active").then_some(())
    });
    assert!(back.is_some(), "not back: {}", unit.log());
}

/// What must be so after everything: two processes, and no more fds than at first.
#[track_caller]
fn nothing_is_left_over(unit: &Unit, fds: usize) {
    let settled = wait_for(patience(20), || {
        (unit.processes().len() == 2 && open_fds(unit.holder()) == fds).then_some(())
    });
    assert!(
        settled.is_some(),
        "processes {:?}, fds of the holder {} and before {fds}",
        unit.processes(),
        open_fds(unit.holder())
    );
}

macro_rules! start {
    ($unit:ident, $readers:ident, $fds:ident) => {
        if !systemd_runs() {
            skip!("systemd does not run here");
        }
        let _turn = alone();
        let $unit = Unit::install(true);
        $unit.systemctl("start");
        let $readers = match readers(&$unit) {
            Ok(readers) => readers,
            Err(why) => skip!("{why}"),
        };
        let $fds = open_fds($unit.holder());
    };
}

#[test]
fn fifty_restarts_are_not_noticed() {
    start!(unit, readers, fds);
    for _ in 0..50 {
        unit.systemctl("restart");
    }
    let seen = all_seen(readers);
    seen.report("50 x systemctl restart");
    seen.assert_nothing_wrong();
    nothing_is_left_over(&unit, fds);
}

#[test]
fn reloads_and_upgrades_are_not_noticed() {
    let Some(next) = other_version() else {
        skip!("LXCFS_NEXT_BIN does not name a second version; scripts/test builds one");
    };
    start!(unit, readers, fds);
    let first = unit.dir().join("first");
    fs::copy(unit.program(), &first).expect("copying the program");
    for round in 0..10 {
        let before = unit.server();
        if round % 2 == 0 {
            unit.systemctl("reload");
        } else {
            install(if round % 4 == 1 { &next } else { &first }, &unit.program());
            send(unit.holder(), Signal::SIGUSR1);
        }
        let other = wait_for(patience(20), || (unit.server() != before).then_some(()));
        assert!(other.is_some(), "no takeover: {}", unit.log());
    }
    let seen = all_seen(readers);
    seen.report("5 x systemctl reload, 5 upgrades by SIGUSR1");
    seen.assert_nothing_wrong();
    nothing_is_left_over(&unit, fds);
}

#[test]
fn kills_of_the_server_of_the_holder_and_of_both_are_not_noticed() {
    start!(unit, readers, fds);
    for _ in 0..10 {
        send(unit.server(), Signal::SIGKILL);
        std::thread::sleep(patience(1) / 10);
    }
    for _ in 0..5 {
        let holder = unit.holder();
        send(holder, Signal::SIGKILL);
        back(&unit, holder);
    }
    for _ in 0..5 {
        let (holder, server) = (unit.holder(), unit.server());
        send(holder, Signal::SIGKILL);
        let _ = kill(Pid::from_raw(server), Signal::SIGKILL);
        back(&unit, holder);
    }
    let seen = all_seen(readers);
    seen.report("kill -9: 10 x server, 5 x holder, 5 x both");
    seen.assert_nothing_wrong();
    nothing_is_left_over(&unit, fds);
}

#[test]
fn a_server_killed_for_lack_of_memory_is_not_noticed() {
    start!(unit, readers, fds);
    let limit = unit.cgroup().join("memory.max");
    for _ in 0..3 {
        let (holder, server) = (unit.holder(), unit.server());
        // The write itself may find no memory to free, and says so when it has killed.
        let _ = fs::write(&limit, "1M");
        let killed = wait_for(patience(10), || {
            (!std::path::Path::new(&format!("/proc/{server}")).exists()).then_some(())
        });
        fs::write(&limit, "max").expect("lifting the limit");
        assert!(killed.is_some(), "the server lives on with 1 MB");
        unit.server();
        assert_eq!(
            unit.holder(),
            holder,
            "the holder was killed: {}",
            unit.log()
        );
    }
    let seen = all_seen(readers);
    seen.report("3 x out of memory");
    seen.assert_nothing_wrong();
    nothing_is_left_over(&unit, fds);
}

#[test]
fn without_a_store_containers_are_repaired_after_both_are_killed() {
    if !systemd_runs() {
        skip!("systemd does not run here");
    }
    let _turn = alone();
    let unit = Unit::install(false);
    unit.systemctl("start");
    let readers = match readers(&unit) {
        Ok(readers) => readers,
        Err(why) => skip!("{why}"),
    };
    let mounts = |readers: &[Watcher]| -> Vec<usize> {
        readers.iter().map(|reader| reader.look().1).collect()
    };
    let before = mounts(&readers);
    let (holder, server) = (unit.holder(), unit.server());
    send(holder, Signal::SIGKILL);
    let _ = kill(Pid::from_raw(server), Signal::SIGKILL);
    back(&unit, holder);
    for reader in &readers {
        let works = wait_for(patience(20), || reader.look().0.then_some(()));
        assert!(
            works.is_some(),
            "a container is not repaired: {}",
            unit.log()
        );
    }
    assert_eq!(mounts(&readers), before, "mounts of the containers");
    let seen = all_seen(readers);
    seen.report("both killed without a store, repaired by remount");
    assert!(
        seen.errors > 0,
        "nobody noticed: the connection did not end"
    );
}

#[test]
fn the_unit_is_started_when_the_files_answer_and_unmounts_when_stopped() {
    if !systemd_runs() {
        skip!("systemd does not run here");
    }
    let _turn = beside_others();
    let unit = Unit::install(true);
    unit.systemctl("start");
    let text = unit.meminfo().expect("files after the start");
    assert!(text.starts_with("MemTotal:"));
    assert_eq!(unit.property("ActiveState"), "active");
    unit.systemctl("restart");
    unit.meminfo().expect("files after a restart");

    unit.systemctl("stop");
    assert_eq!(unit.property("ActiveState"), "inactive");
    assert_eq!(unit.property("Result"), "success");
    let error = unit.meminfo().expect_err("files after the stop");
    assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{}", unit.log());
    assert_eq!(unit.property("NFileDescriptorStore"), "0");
}

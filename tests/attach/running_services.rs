//! Services in a container that runs already: systemd gives those with `PrivateTmp=` and the like mounts of their own.

use std::process::Command;

use crate::common::mounts::wait_until_it_sleeps;
use crate::common::{Daemon, Inside, beside_others, children, patience, wait_for};
use crate::running::{assert_has_views, assert_sees_host, attach, cell, lxcfs, own_mounts, result};

/// Makes mounts of its own for a process, which is called by a number of seconds.
const SERVICES: [(&str, &str); 3] = [
    ("1001", "unshare --mount --propagation slave sleep 1001"),
    (
        "1002",
        "unshare --mount --propagation private sh -ec \"umount -l /proc; mount -t proc p /proc; exec sleep 1002\"",
    ),
    // A container in it.
    (
        "1003",
        "unshare --pid --fork unshare --mount sh -ec \"mount -t proc p /proc; exec sleep 1003\"",
    ),
];

#[test]
fn services_with_mounts_of_their_own_get_the_views_and_lose_them() {
    let _turn = beside_others();
    let daemon = Daemon::start(&[]);
    let script: String = SERVICES
        .iter()
        .map(|(_, line)| format!("{line} &\n"))
        .collect();
    let cell = cell(&script);
    let service = |number: usize| {
        let name = SERVICES[number].0;
        let is_called = |pid: &i32| {
            std::fs::read(format!("/proc/{pid}/cmdline"))
                .is_ok_and(|line| line == format!("sleep\0{name}\0").as_bytes())
        };
        let init = wait_for(patience(10), || {
            cell.cgroup.processes().into_iter().find(is_called)
        });
        let init = init.expect("a service");
        wait_until_it_sleeps(init);
        Inside {
            init,
            cgroup: cell.cgroup.clone(),
        }
    };
    let services = [service(0), service(1)];
    let inner = service(2).init;
    // In a pod others can have the same pid namespace.
    let mut other = Command::new("nsenter");
    other.args(["--target", &cell.init.to_string(), "--pid", "--no-fork"]);
    let mut other = other
        .args([
            "unshare",
            "--fork",
            "--mount",
            "--kill-child",
            "sleep",
            "1004",
        ])
        .spawn()
        .expect("a process");
    let outer = i32::try_from(other.id()).expect("a pid");
    let neighbour =
        wait_for(patience(10), || children(outer).first().copied()).expect("a neighbour");
    wait_until_it_sleeps(neighbour);
    let mounts = || [inner, neighbour].map(own_mounts);
    let before = mounts();
    let word = cell.init.to_string();
    for _ in 0..2 {
        let ran = attach(&daemon, &word);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        for inside in &services {
            assert_has_views(inside, 64);
        }
        assert_eq!(mounts(), before);
    }
    let _ = (other.kill(), other.wait());
    let attached = services.each_ref().map(|inside| own_mounts(inside.init));
    attach(&daemon, &word).ok();
    assert_eq!(
        services.each_ref().map(|inside| own_mounts(inside.init)),
        attached
    );
    let ran = lxcfs(&["detach", &word]);
    assert_eq!(result(&ran, "/proc/meminfo"), "detached");
    for inside in &services {
        assert_sees_host(inside, 64);
    }
}

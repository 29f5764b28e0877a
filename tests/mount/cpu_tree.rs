//! `/sys/devices/system/cpu` as a container sees it.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use crate::common::figures::{Stat, cpu_list, cpuinfo_ids};
use crate::common::{Cell, Daemon, Inside, Limits, beside_others, run, skip};

const TREE: &str = "sys/devices/system/cpu";

/// The numbers of the `cpuN` directories this container lists.
fn listed(inside: &Inside, daemon: &Daemon) -> BTreeSet<u32> {
    let list = inside.run(&["ls", &daemon.arg(TREE)]).ok();
    list.lines()
        .filter_map(|name| name.strip_prefix("cpu")?.parse().ok())
        .collect()
}

fn host_cpus() -> BTreeSet<u32> {
    cpu_list(&fs::read_to_string("/sys/devices/system/cpu/online").expect("the host's CPUs"))
}

#[test]
fn lists_directories_and_files_all_name_the_same_cpus() {
    if host_cpus().len() < 2 {
        skip!("this machine has one CPU");
    }
    let _turn = beside_others();
    let daemon = Daemon::start(&[]);
    let cases = [
        Limits {
            cpuset: Some("1"),
            ..Limits::default()
        },
        Limits {
            cpus: Some(1.0),
            ..Limits::default()
        },
        Limits {
            cpus: Some(1.5),
            ..Limits::default()
        },
        Limits {
            cpus: Some(0.2),
            cpuset: Some("0-1"),
            ..Limits::default()
        },
    ];
    for limits in cases {
        let cell = Cell::start(&limits);
        let expected = cell.cgroup.cpus_to_show();
        for list in ["online", "present"] {
            let shown = cpu_list(&cell.read(&daemon, &format!("{TREE}/{list}")));
            assert_eq!(shown, expected, "{list} with {limits:?}");
        }
        for own in ["possible", "kernel_max"] {
            let host = fs::read_to_string(format!("/{TREE}/{own}")).expect("the host's file");
            let shown = cell.read(&daemon, &format!("{TREE}/{own}"));
            assert_eq!(shown, host, "{own} with {limits:?}");
        }
        assert_eq!(
            listed(&cell, &daemon),
            expected,
            "directories with {limits:?}"
        );
        assert_eq!(
            cpuinfo_ids(&cell.read(&daemon, "proc/cpuinfo")),
            expected,
            "cpuinfo with {limits:?}"
        );
        assert_eq!(
            Stat::parse(&cell.read(&daemon, "proc/stat")).ids(),
            expected,
            "stat with {limits:?}"
        );
        assert_eq!(
            cell.read(&daemon, &format!("{TREE}/offline")).trim(),
            "",
            "offline with {limits:?}"
        );
    }
}

#[test]
fn a_hidden_cpu_cannot_be_reached_by_name() {
    if host_cpus().len() < 2 {
        skip!("this machine has one CPU");
    }
    let _turn = beside_others();
    let daemon = Daemon::start(&[]);
    let first = Cell::start(&Limits {
        cpuset: Some("0"),
        ..Limits::default()
    });
    let second = Cell::start(&Limits {
        cpuset: Some("1"),
        ..Limits::default()
    });
    // Both look in turn, so that what the kernel remembers from one answer would show in the other.
    for _ in 0..3 {
        for (cell, own, other) in [(&first, "cpu0", "cpu1"), (&second, "cpu1", "cpu0")] {
            let path = |cpu: &str, below: &str| daemon.arg(&format!("{TREE}/{cpu}{below}"));
            assert!(
                cell.run(&["ls", &path(own, "")]).succeeded(),
                "{own} is not there"
            );
            assert!(
                cell.run(&["cat", &path(own, "/topology/core_id")])
                    .succeeded(),
                "{own}/topology/core_id"
            );
            assert!(
                !cell.run(&["test", "-e", &path(other, "")]).succeeded(),
                "{other} exists"
            );
            assert!(
                !cell
                    .run(&["cat", &path(other, "/topology/core_id")])
                    .succeeded(),
                "{other} can be read"
            );
            assert!(
                !cell.run(&["ls", &path(other, "")]).succeeded(),
                "{other} can be listed"
            );
        }
    }
}

#[test]
fn topology_lists_stay_within_the_cpus_shown() {
    let _turn = beside_others();
    let daemon = Daemon::start(&[]);
    let last = *host_cpus().last().expect("a CPU");
    let cell = Cell::start(&Limits {
        cpuset: Some(&last.to_string()),
        ..Limits::default()
    });
    for list in [
        "core_cpus_list",
        "core_siblings_list",
        "package_cpus_list",
        "thread_siblings_list",
    ] {
        let below = format!("cpu{last}/topology/{list}");
        if Path::new("/sys/devices/system/cpu").join(&below).exists() {
            let shown = cpu_list(&cell.read(&daemon, &format!("{TREE}/{below}")));
            assert_eq!(shown, BTreeSet::from([last]), "{below}");
        }
    }
}

#[test]
fn the_lxc_hook_finds_uevent() {
    let _turn = beside_others();
    let daemon = Daemon::start(&[]);
    assert!(daemon.path(TREE).join("uevent").is_file());
}

#[test]
fn files_closed_to_others_on_the_host_stay_closed() {
    let found = run(Command::new("find").args([
        "/sys/devices/system/cpu/",
        "-type",
        "f",
        "!",
        "-perm",
        "/004",
    ]))
    .out;
    let Some(host) = found.lines().find(|path| !path.contains("/cpufreq/")) else {
        skip!("the kernel closes no file of the tree to other users");
    };
    let _turn = beside_others();
    let daemon = Daemon::start(&[]);
    let path = daemon.path(host.trim_start_matches('/'));
    let mode = |path: &Path| {
        fs::metadata(path)
            .expect("the state of a closed file")
            .permissions()
            .mode()
            & 0o7777
    };
    assert_eq!(mode(&path), mode(Path::new(host)), "{host}");
    let nobody = [
        "--reuid",
        "65534",
        "--regid",
        "65534",
        "--clear-groups",
        "cat",
    ];
    let read = run(Command::new("setpriv").args(nobody).arg(&path));
    assert!(
        !read.succeeded() && read.err.contains("Permission denied"),
        "{read:?}"
    );
}

#[test]
fn no_file_of_the_tree_can_be_opened_for_writing() {
    let _turn = beside_others();
    let daemon = Daemon::start(&[]);
    let mut todo = vec![daemon.path(TREE)];
    let mut seen = 0;
    while let Some(dir) = todo.pop() {
        for entry in fs::read_dir(&dir)
            .expect("a directory")
            .map(|entry| entry.expect("an entry"))
        {
            let kind = entry.file_type().expect("a type");
            if kind.is_dir() {
                todo.push(entry.path());
            } else if kind.is_file() {
                seen += 1;
                let opened = fs::OpenOptions::new().write(true).open(entry.path());
                assert!(
                    opened.is_err(),
                    "{} can be opened for writing",
                    entry.path().display()
                );
            }
        }
    }
    assert!(seen > 10, "only {seen} files in the tree");
}

#[test]
fn nothing_outside_the_listed_directories_can_be_reached() {
    let _turn = beside_others();
    let daemon = Daemon::start(&[]);
    let outside = [
        "sys/kernel",
        "sys/kernel/tracing/trace_pipe",
        "sys/devices/virtual",
        "sys/devices/system/memory",
        "sys/devices/system/clocksource",
        "sys/fs",
        "proc/1",
        "proc/self",
        "proc/kcore",
        "proc/sys",
        "etc",
    ];
    for below in outside {
        let error = fs::symlink_metadata(daemon.path(below))
            .err()
            .map(|error| error.raw_os_error());
        assert_eq!(error, Some(Some(libc::ENOENT)), "{below}");
    }
}

#[test]
fn host_and_container_read_the_same_bytes_of_facts() {
    let _turn = beside_others();
    let daemon = Daemon::start(&[]);
    let cell = Cell::start(&Limits {
        cpuset: Some("0"),
        ..Limits::default()
    });
    for fact in [
        "kernel_max",
        "vulnerabilities/meltdown",
        "cpu0/topology/core_id",
        "modalias",
    ] {
        if let Ok(host) = fs::read_to_string(Path::new("/sys/devices/system/cpu").join(fact)) {
            assert_eq!(
                cell.read(&daemon, &format!("{TREE}/{fact}")),
                host,
                "{fact}"
            );
        }
    }
}

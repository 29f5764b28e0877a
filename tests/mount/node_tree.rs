//! `/sys/devices/system/node` as a container sees it, and what the trees have in common.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::common::figures::{cpu_list, keyed};
use crate::common::{Cell, Daemon, Limits, beside_others, skip};

const TREE: &str = "sys/devices/system/node";

fn is_missing() -> bool {
    !Path::new("/").join(TREE).exists()
}

/// The numbers of the nodes that this container lists.
fn nodes(cell: &Cell, daemon: &Daemon) -> BTreeSet<u32> {
    let list = cell.run(&["ls", &daemon.arg(TREE)]).ok();
    list.lines()
        .filter_map(|name| name.strip_prefix("node")?.parse().ok())
        .collect()
}

/// A node's lines without the number in front.
fn figures(cell: &Cell, daemon: &Daemon, node: u32) -> BTreeMap<String, u64> {
    let text = cell.read(daemon, &format!("{TREE}/node{node}/meminfo"));
    keyed(&text.replace(&format!("Node {node} "), ""))
}

#[test]
fn the_memory_of_all_nodes_is_that_of_meminfo() {
    if is_missing() {
        skip!("the kernel knows no nodes");
    }
    let _turn = beside_others();
    let daemon = Daemon::start(&[]);
    let cell = Cell::start(&Limits {
        memory_bytes: Some(64 << 20),
        ..Limits::default()
    });
    let nodes = nodes(&cell, &daemon);
    let online = cpu_list(&cell.read(&daemon, &format!("{TREE}/online")));
    assert_eq!(online, nodes, "online");
    let figures: Vec<_> = nodes
        .iter()
        .map(|node| figures(&cell, &daemon, *node))
        .collect();
    let sum = |key: &str| -> u64 { figures.iter().map(|node| node[key]).sum() };
    assert_eq!(sum("MemTotal"), 65536);
    assert_eq!(sum("MemFree") + sum("MemUsed"), 65536);
    // One process that sleeps uses next to nothing, the host gigabytes.
    assert!(sum("MemUsed") < 32768, "{} kB used", sum("MemUsed"));
    for node in nodes {
        let numastat = cell.read(&daemon, &format!("{TREE}/node{node}/numastat"));
        let host = fs::read_to_string(format!("/{TREE}/node{node}/numastat")).expect("numastat");
        assert_eq!(numastat.lines().count(), host.lines().count());
        for line in numastat.lines() {
            assert!(line.ends_with(" 0"), "{line}");
        }
    }
}

#[test]
fn nodes_have_the_cpus_shown() {
    let last = cpu_list(&fs::read_to_string("/sys/devices/system/cpu/online").expect("CPUs"));
    let last = *last.last().expect("a CPU");
    if is_missing() || last == 0 {
        skip!("this machine has one CPU, or knows no nodes");
    }
    let _turn = beside_others();
    let daemon = Daemon::start(&[]);
    let first = Cell::start(&Limits {
        cpuset: Some("0"),
        ..Limits::default()
    });
    let second = Cell::start(&Limits {
        cpuset: Some(&last.to_string()),
        ..Limits::default()
    });
    // In turn, so that what the kernel remembers from one answer would show in the other.
    for _ in 0..2 {
        for (cell, own, other) in [(&first, 0, last), (&second, last, 0)] {
            let mut seen = BTreeSet::new();
            for node in nodes(cell, &daemon) {
                let below = |file: &str| format!("{TREE}/node{node}/{file}");
                let cpus = cpu_list(&cell.read(&daemon, &below("cpulist")));
                for cpu in &cpus {
                    let link = daemon.arg(&below(&format!("cpu{cpu}/topology/core_id")));
                    assert!(cell.run(&["cat", &link]).succeeded(), "{link}");
                }
                seen.extend(cpus);
                let link = daemon.arg(&below(&format!("cpu{other}")));
                assert!(!cell.run(&["readlink", &link]).succeeded(), "{link}");
                assert!(!cell.run(&["test", "-e", &link]).succeeded(), "{link}");
                let list = cell.run(&["ls", &daemon.arg(&below(""))]).ok();
                assert!(!list.lines().any(|name| name == format!("cpu{other}")));
            }
            assert_eq!(seen, BTreeSet::from([own]));
        }
    }
}

/// Kind, mode without write permission, target and size of everything in a tree, but for the
/// sizes of directories.
fn entries(top: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut todo = vec![top.to_owned()];
    while let Some(directory) = todo.pop() {
        for entry in fs::read_dir(&directory).expect("a directory") {
            let path = entry.expect("an entry").path();
            let stat = fs::symlink_metadata(&path).expect("the state of an entry");
            let mode = stat.permissions().mode();
            let text = if stat.is_dir() {
                todo.push(path.clone());
                format!("directory {:o}", mode & 0o7555)
            } else if stat.is_symlink() {
                let target = fs::read_link(&path).expect("a target");
                format!("link {:o} to {}", mode & 0o7777, target.display())
            } else {
                format!("file {:o} of {}", mode & 0o7555, stat.len())
            };
            let below = path.strip_prefix(top).expect("a path below");
            found.insert(below.to_owned(), text);
        }
    }
    found
}

#[test]
fn the_host_finds_all_that_it_has_with_kinds_modes_and_targets() {
    let _turn = beside_others();
    let daemon = Daemon::start(&[]);
    for tree in [TREE, "sys/devices/system/cpu"] {
        let host = Path::new("/").join(tree);
        if host.exists() {
            let (host, seen) = (entries(&host), entries(&daemon.path(tree)));
            assert!(host.len() > 10, "{tree}");
            assert_eq!(seen, host, "{tree}");
        }
    }
}

#[test]
fn files_for_writing_only_stay_closed() {
    let file = format!("{TREE}/node0/compact");
    if !Path::new("/").join(&file).exists() {
        skip!("the kernel has no {file}");
    }
    let _turn = beside_others();
    let daemon = Daemon::start(&[]);
    let error = fs::File::open(daemon.path(&file)).expect_err("it opens");
    assert_eq!(error.raw_os_error(), Some(libc::EACCES));
}

//! `/sys/block` as a container sees it: iostat reads that instead of `/proc/diskstats`.

use std::fs;
use std::path::Path;

use crate::common::figures::diskstats;
use crate::common::{Cell, Daemon, Limits, beside_others, has, skip};

/// The columns of a disk's file `stat`.
fn stat(cell: &Cell, daemon: &Daemon, disk: &str) -> Vec<u64> {
    let text = cell.read(daemon, &format!("sys/block/{disk}/stat"));
    text.split_ascii_whitespace()
        .map(|column| column.parse().expect("a number"))
        .collect()
}

#[test]
fn stat_of_a_disk_has_the_figures_of_diskstats() {
    let _turn = beside_others();
    let daemon = Daemon::start(&[]);
    let cell = Cell::start(&Limits::default());
    let data = tempfile::tempdir_in("/var/tmp").expect("a directory");
    cell.cgroup.count_writes_to(data.path());
    let file = data.path().join("data");
    let output = format!("of={}", file.display());
    let written = cell.run(&[
        "dd",
        "if=/dev/zero",
        &output,
        "bs=1M",
        "count=4",
        "oflag=direct",
    ]);
    if !written.succeeded() || cell.cgroup.written_bytes() < 4 << 20 {
        skip!("the kernel does not count this cgroup's I/O");
    }
    let lines = diskstats(&cell.read(&daemon, "proc/diskstats"));
    let (disk, columns) = lines
        .iter()
        .find(|(_, columns)| columns[6] >= 8192)
        .expect("the disk that was written to");
    assert_eq!(stat(&cell, &daemon, disk), *columns, "{disk}");
    assert!(columns[6] < 32768, "{columns:?}");
    // Nothing of that was another container's doing.
    let other = Cell::start(&Limits::default());
    let columns = stat(&other, &daemon, disk);
    assert!(columns.iter().all(|column| *column == 0), "{columns:?}");
}

#[test]
fn disks_are_whole_directories_whose_links_lead_to_the_hosts() {
    let Some(disk) = fs::read_dir("/sys/block")
        .ok()
        .and_then(|mut list| list.next())
    else {
        skip!("this machine has no disk");
    };
    let disk = disk.expect("an entry").file_name();
    let _turn = beside_others();
    let daemon = Daemon::start(&[]);
    let names = |path: &Path| {
        let list = fs::read_dir(path).expect("a directory");
        let mut names: Vec<_> = list
            .map(|entry| entry.expect("an entry").file_name())
            .collect();
        names.sort();
        names
    };
    let host = Path::new("/sys/block");
    let seen = daemon.path("sys/block");
    assert_eq!(names(&seen), names(host));
    let (host, seen) = (host.join(&disk), seen.join(&disk));
    assert!(fs::symlink_metadata(&seen).expect("a disk").is_dir());
    assert_eq!(names(&seen), names(&host));
    for name in names(&seen) {
        if seen.join(&name).is_symlink() {
            let target = |path: &Path| fs::canonicalize(path.join(&name)).ok();
            assert_eq!(target(&seen), target(&host), "{}", name.to_string_lossy());
        }
    }
    assert_eq!(
        fs::read(seen.join("size")).expect("a size"),
        fs::read(host.join("size")).expect("a size")
    );
}

#[test]
fn partitions_and_counts_in_flight_show_nothing_of_the_hosts() {
    if !has("find") {
        skip!("find is not installed");
    }
    let _turn = beside_others();
    let daemon = Daemon::start(&[]);
    let cell = Cell::start(&Limits::default());
    let script = format!(
        "cat {0}/*/inflight $(find {0}/*/*/stat {0}/zram*/mm_stat 2>/dev/null) | tr -d ' 0\\n'",
        daemon.arg("sys/block")
    );
    assert_eq!(cell.run(&["sh", "-c", &script]).ok(), "");
}

//! iostat in Docker containers: it reads `/sys/block/DISK/stat`.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::common::docker::{Docker, Image, proc_volumes};
use crate::common::{Daemon, Inside, beside_others, skip};

const WRITTEN_KB: u64 = 16 << 10;

/// The disk on which a path lies.
fn disk_of(path: &Path) -> Option<String> {
    let device = fs::metadata(path).ok()?.dev();
    let (major, minor) = (nix::sys::stat::major(device), nix::sys::stat::minor(device));
    let mut place = fs::canonicalize(format!("/sys/dev/block/{major}:{minor}")).ok()?;
    if place.join("partition").exists() {
        place.pop();
    }
    Some(place.file_name()?.to_str()?.to_owned())
}

fn kb_written(inside: &Inside) -> u64 {
    inside.cgroup.written_bytes() / 1024
}

#[test]
fn iostat_shows_what_the_container_wrote_whichever_way_it_is_mounted() {
    let docker = match Docker::get() {
        Ok(docker) => docker,
        Err(why) => skip!("{why}"),
    };
    let data = tempfile::tempdir_in("/var/tmp").expect("a directory on a disk");
    let Some(disk) = disk_of(data.path()) else {
        skip!("/var/tmp is on no disk");
    };
    let _turn = beside_others();
    let daemon = Daemon::start(&[]);
    for mounted in [
        "sys/block".to_owned(),
        format!("sys/block/{disk}"),
        format!("sys/block/{disk}/stat"),
    ] {
        let mut line = proc_volumes(&daemon, &["diskstats", "stat", "uptime"]);
        line.extend([
            "-v".to_owned(),
            format!("{}:/{mounted}:ro", daemon.arg(&mounted)),
            "-v".to_owned(),
            format!("{}:/data", data.path().display()),
        ]);
        let container = docker.container(Image::Debian, &line);
        let inside = container.inside();
        inside.cgroup.count_writes_to(data.path());
        container
            .exec_sh("dd if=/dev/zero of=/data/file bs=1M count=16 oflag=direct")
            .ok();
        if kb_written(&inside) < WRITTEN_KB {
            skip!("the kernel does not count this cgroup's I/O");
        }
        let report = container.exec_sh("iostat -dk").ok();
        // Device, tps, kB_read/s, kB_wrtn/s, kB_dscd/s, kB_read, kB_wrtn, kB_dscd
        let of_disk = report.lines().find(|line| line.starts_with(&disk));
        let shown: u64 = of_disk
            .and_then(|line| line.split_ascii_whitespace().nth(6)?.parse().ok())
            .unwrap_or_else(|| panic!("{mounted}: {report}"));
        assert!(
            (WRITTEN_KB..=kb_written(&inside)).contains(&shown),
            "{mounted}: {report}"
        );
        // What is found by links is what the host has.
        let same = container.exec_sh(&format!(
            "cmp /sys/block/{disk}/size /sys/class/block/{disk}/size && \
             test ! -e /sys/block/{disk}/device || ls /sys/block/{disk}/device/"
        ));
        assert!(same.succeeded(), "{mounted}: {same:?}");
    }
}

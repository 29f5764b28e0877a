//! podman with crun.

use std::fs;
use std::process::Command;

use crate::common::cgroup::cgroup_version;
use crate::common::docker::{SIX_FILES, proc_volumes};
use crate::common::figures::{Stat, cpuinfo_ids, keyed, uptime};
use crate::common::{Daemon, beside_others, has, images, patience, run_within, skip, unique};

#[test]
fn a_podman_container_with_crun_sees_its_limits() {
    if !has("podman") || !has("crun") {
        skip!("podman and crun are not installed");
    }
    if cgroup_version() == 1 {
        skip!("crun does not start containers on this layout of cgroups");
    }
    let _turn = beside_others();
    let daemon = Daemon::start(&[]);
    let dir = tempfile::tempdir().expect("a directory");
    let root = dir.path().join("root");
    fs::create_dir(&root).expect("a directory");
    if let Err(why) = images::make_busybox(&root) {
        skip!("{why}");
    }
    let below = |name: &str| dir.path().join(name).to_str().expect("ASCII").to_owned();
    let mut podman = Command::new("podman");
    podman.args([
        "--root",
        &below("graph"),
        "--runroot",
        &below("run"),
        "--storage-driver",
        "vfs",
    ]);
    podman.args([
        "--runtime",
        "crun",
        "run",
        "--rm",
        "--network",
        "none",
        "--name",
        &unique("podman"),
    ]);
    podman
        .args(["-m", "50m", "--cpus", "1"])
        .args(proc_volumes(&daemon, &SIX_FILES));
    podman.arg("--rootfs").arg(&root);
    let print = "cat /proc/meminfo; echo ==; cat /proc/cpuinfo; echo ==; cat /proc/stat; echo ==; cat /proc/uptime; \
                 echo ==; free; top -b -n1; uptime";
    let text = run_within(podman.args(["sh", "-c", print]), patience(60)).ok();
    let parts: Vec<&str> = text.split("==\n").collect();
    assert_eq!(keyed(parts[0])["MemTotal"], 50 << 10, "{text}");
    assert_eq!(cpuinfo_ids(parts[1]).len(), 1, "{text}");
    assert_eq!(Stat::parse(parts[2]).ids(), cpuinfo_ids(parts[1]), "{text}");
    assert!(uptime(parts[3]).0 < patience(60).as_secs_f64(), "{text}");
}

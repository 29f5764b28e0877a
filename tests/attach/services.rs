//! Services of systemd with the drop-in.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::{Daemon, beside_others, patience, run_within, skip, unique};
use crate::formats::{printed, stopped};
use crate::shown::{PRINT, Shown};

const DROP_IN: &str = include_str!("../../share/systemd/50-lxcfs.conf");

/// A drop-in of a service; removed when dropped.
struct DropIn(PathBuf);

impl Drop for DropIn {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What a service with limits and this drop-in prints.
#[track_caller]
fn run(drop_in: &str) -> Shown {
    run_with(drop_in, &[])
}

/// The same with these properties besides.
#[track_caller]
fn run_with(drop_in: &str, properties: &[&str]) -> Shown {
    let name = unique("service");
    let dir = DropIn(format!("/run/systemd/system/{name}.service.d").into());
    fs::create_dir_all(&dir.0).expect("a directory");
    fs::write(dir.0.join("50-lxcfs.conf"), drop_in).expect("a drop-in");
    let script = dir.0.join("print");
    fs::write(&script, PRINT).expect("a script");
    let mut service = Command::new("systemd-run");
    service.args(["--wait", "--pipe", "--quiet", "--collect"]);
    service.args([
        "--unit",
        &name,
        "-p",
        "MemoryMax=50M",
        "-p",
        "AllowedCPUs=0",
    ]);
    for property in properties {
        service.args(["-p", property]);
    }
    Shown::new(&run_within(service.arg("sh").arg(&script), patience(30)).ok())
}

#[test]
fn a_service_with_the_drop_in_sees_its_limits() {
    if !Path::new("/run/systemd/system").exists() {
        skip!("systemd does not run here");
    }
    let _turn = beside_others();
    let daemon = Daemon::start(&[]);
    let packaged = DROP_IN.replace("/var/lib/lxcfs", daemon.point().to_str().expect("ASCII"));
    for drop_in in [&packaged, &printed("systemd", daemon.point(), &[])] {
        let shown = run(drop_in);
        // It is among the processes of the host, whose start times count from the host's.
        shown.assert_memory_and_cpus();
        shown.assert_own_pressure();
        assert!(
            shown.options("/proc/meminfo").starts_with("ro,"),
            "{shown:?}"
        );
    }
}

#[test]
fn a_service_with_the_drop_in_starts_without_lxcfs() {
    if !Path::new("/run/systemd/system").exists() {
        skip!("systemd does not run here");
    }
    let _turn = beside_others();
    let links = stopped();
    for views in [links.path(), Path::new("/nowhere")] {
        run(&printed("systemd", views, &[])).assert_without_views();
    }
}

/// What protects a service from itself.
const PROTECTION: [&str; 16] = [
    "MountAPIVFS=yes",
    "PrivateDevices=yes",
    "PrivateIPC=yes",
    "PrivateMounts=yes",
    "PrivateNetwork=yes",
    "PrivateTmp=yes",
    "PrivateUsers=yes",
    "ProcSubset=pid",
    "ProtectControlGroups=yes",
    "ProtectHome=yes",
    "ProtectHostname=yes",
    "ProtectKernelLogs=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelTunables=yes",
    "ProtectProc=invisible",
    "ProtectSystem=strict",
];

#[test]
fn a_protected_service_starts_and_sees_its_limits() {
    if !Path::new("/run/systemd/system").exists() {
        skip!("systemd does not run here");
    }
    let _turn = beside_others();
    let daemon = Daemon::start(&[]);
    let printed = printed("systemd", daemon.point(), &[]);
    for protection in PROTECTION {
        run_with(&printed, &[protection]).assert_memory_and_cpus();
    }
    run_with(&printed, &PROTECTION).assert_memory_and_cpus();
    let packaged = DROP_IN.replace("/var/lib/lxcfs", daemon.point().to_str().expect("ASCII"));
    run_with(&packaged, &["ProcSubset=pid"]).assert_memory_and_cpus();
}

//! Services of systemd: some with limits and bound files, and the daemon's own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::docker::SIX_FILES;
use crate::common::figures::{Stat, cpuinfo_ids, keyed};
use crate::common::{Daemon, beside_others, patience, run_within, skip, unique, wait_for};

#[test]
fn a_service_with_limits_and_bound_files_sees_them() {
    if !Path::new("/run/systemd/system").exists() {
        skip!("systemd does not run here");
    }
    let _turn = beside_others();
    let daemon = Daemon::start(&[]);
    let mut service = Command::new("systemd-run");
    service.args([
        "--wait",
        "--pipe",
        "--quiet",
        "--collect",
        &format!("--unit={}", unique("service")),
    ]);
    service.args(["-p", "MemoryMax=50M", "-p", "CPUQuota=100%"]);
    for file in SIX_FILES {
        service.arg("-p").arg(format!(
            "BindReadOnlyPaths={}:/proc/{file}",
            daemon.arg(&format!("proc/{file}"))
        ));
    }
    let tree = "sys/devices/system/cpu";
    service
        .arg("-p")
        .arg(format!("BindReadOnlyPaths={}:/{tree}", daemon.arg(tree)));
    let print = "cat /proc/meminfo; echo ==; cat /proc/cpuinfo; echo ==; cat /proc/stat; echo ==; cat /proc/uptime; \
                 echo ==; cat /sys/devices/system/cpu/online; echo ==; free -k";
    let text = run_within(service.args(["sh", "-c", print]), patience(30)).ok();
    let parts: Vec<&str> = text.split("==\n").collect();
    assert_eq!(keyed(parts[0])["MemTotal"], 50 << 10, "{text}");
    assert_eq!(cpuinfo_ids(parts[1]), [0].into(), "{text}");
    assert_eq!(Stat::parse(parts[2]).ids(), [0].into(), "{text}");
    assert_eq!(parts[4].trim(), "0", "{text}");
    assert!(parts[5].contains(" 51200 "), "{text}");
}

/// The unit as it is shipped, but for its paths.
struct Unit {
    name: String,
    file: PathBuf,
    dir: tempfile::TempDir,
}

impl Unit {
    fn install() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let name = format!("{}.service", unique("lxcfs"));
        let file = Path::new("/run/systemd/system").join(&name);
        let shipped = include_str!("../../systemd/lxcfs.service");
        let point = dir.path().join("mnt").display().to_string();
        let text = shipped
            .replace(
                "/usr/bin/lxcfs -f",
                &format!(
                    "{} -f -p {}/pid",
                    crate::common::daemon::binary().display(),
                    dir.path().display()
                ),
            )
            .replace("/var/lib/lxcfs", &point);
        assert_eq!(text.matches(&point).count(), 2, "{text}");
        fs::write(&file, text).expect("a unit file");
        let unit = Self { name, file, dir };
        run_within(Command::new("systemctl").arg("daemon-reload"), patience(30)).ok();
        unit
    }

    fn systemctl(&self, verb: &str) {
        run_within(
            Command::new("systemctl").args([verb, &self.name]),
            patience(30),
        )
        .ok();
    }

    fn property(&self, name: &str) -> String {
        let show = ["show", "--value", "-p", name, &self.name];
        run_within(Command::new("systemctl").args(show), patience(30))
            .ok()
            .trim()
            .to_owned()
    }

    fn meminfo(&self) -> std::io::Result<String> {
        fs::read_to_string(self.dir.path().join("mnt/proc/meminfo"))
    }
}

impl Drop for Unit {
    fn drop(&mut self) {
        let _ = Command::new("systemctl")
            .args(["stop", &self.name])
            .status();
        let _ = fs::remove_file(&self.file);
        let _ = Command::new("systemctl").arg("daemon-reload").status();
    }
}

#[test]
fn the_unit_is_started_when_the_files_answer_and_unmounts_when_stopped() {
    if !Path::new("/run/systemd/system").exists() {
        skip!("systemd does not run here");
    }
    let _turn = beside_others();
    let unit = Unit::install();
    unit.systemctl("start");
    assert!(
        unit.meminfo()
            .expect("files after the start")
            .starts_with("MemTotal:")
    );
    assert_eq!(unit.property("ActiveState"), "active");

    let first = unit.property("MainPID");
    run_within(Command::new("kill").args(["-KILL", &first]), patience(10)).ok();
    let answers_again = wait_for(patience(20), || {
        (unit.property("MainPID") != first && unit.meminfo().is_ok()).then_some(())
    });
    assert!(
        answers_again.is_some(),
        "not back after a kill: {}",
        unit.property("ActiveState")
    );

    unit.systemctl("stop");
    assert_eq!(unit.property("ActiveState"), "inactive");
    assert_eq!(unit.property("Result"), "success");
    let error = unit.meminfo().expect_err("files after the stop");
    assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
}

//! Services of systemd with limits and bound files.

use std::path::Path;
use std::process::Command;

use crate::common::docker::SIX_FILES;
use crate::common::figures::{Stat, cpuinfo_ids, keyed};
use crate::common::{Daemon, beside_others, patience, run_within, skip, unique};

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

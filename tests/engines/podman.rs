//! podman with crun.

use std::fs;
use std::process::Command;

use crate::common::cgroup::cgroup_version;
use crate::common::docker::{SIX_FILES, proc_volumes};
use crate::common::figures::{Stat, cpuinfo_ids, keyed, uptime};
use crate::common::podman::podman_run;
use crate::common::{Daemon, beside_others, has, images, patience, run_within, skip, unique};

#[test]
fn a_podman_container_with_crun_sees_its_limits() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut podman = match podman_run(dir.path(), "crun", &[]) {
        Ok(podman) => podman,
        Err(why) => skip!("{why}"),
    };
    let _turn = beside_others();
    let daemon = Daemon::start(&[]);
    podman
        .args(["-m", "50m", "--cpus", "1"])
        .args(proc_volumes(&daemon, &SIX_FILES))
        .arg("--rootfs")
        .arg(dir.path().join("root"));
    let print = "cat /proc/meminfo; echo ==; cat /proc/cpuinfo; echo ==; cat /proc/stat; echo ==; cat /proc/uptime; \
                 echo ==; free; top -b -n1; uptime";
    let text = run_within(podman.args(["sh", "-c", print]), patience(60)).ok();
    let parts: Vec<&str> = text.split("==\n").collect();
    assert_eq!(keyed(parts[0])["MemTotal"], 50 << 10, "{text}");
    assert_eq!(cpuinfo_ids(parts[1]).len(), 1, "{text}");
    assert_eq!(Stat::parse(parts[2]).ids(), cpuinfo_ids(parts[1]), "{text}");
    assert!(uptime(parts[3]).0 < patience(60).as_secs_f64(), "{text}");
}

/// The OCI option `idmap` makes a mount whose owners are shifted; the kernel asks the file system whether it may.
#[test]
fn files_bound_with_idmap_are_read_in_a_container_with_a_user_namespace() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut podman = match podman_run(dir.path(), "crun", &[]) {
        Ok(podman) => podman,
        Err(why) => skip!("{why}"),
    };
    let _turn = beside_others();
    let daemon = Daemon::start(&[]);
    podman.args([
        "-m",
        "50m",
        "--uidmap",
        "0:100000:65536",
        "--gidmap",
        "0:100000:65536",
    ]);
    for volume in proc_volumes(&daemon, &SIX_FILES) {
        podman.arg(volume.replace(":ro", ":ro,idmap"));
    }
    let root = dir.path().join("root");
    run_within(
        Command::new("chown")
            .args(["-R", "100000:100000"])
            .arg(&root),
        patience(30),
    )
    .ok();
    podman.arg("--rootfs").arg(root);
    let print =
        "cat /proc/self/uid_map; cat /proc/uptime /proc/meminfo; stat -c '%u %a' /proc/meminfo";
    let text = run_within(podman.args(["sh", "-c", print]), patience(60)).ok();
    assert!(text.contains("100000"), "no user namespace: {text}");
    assert!(text.contains("MemTotal:          51200 kB"), "{text}");
    assert!(
        text.trim_end().ends_with("0 444"),
        "the files are not root's there: {text}"
    );
}

/// What podman and Docker have no option for: a runtime that is given a time namespace.
#[test]
fn all_times_agree_in_a_container_that_crun_gives_a_time_namespace() {
    if !has("crun") {
        skip!("crun is not installed");
    }
    if cgroup_version() == 1 {
        skip!("crun does not start containers on this layout of cgroups");
    }
    let _turn = beside_others();
    let daemon = Daemon::start(&[]);
    let bundle = tempfile::tempdir().expect("a directory");
    let root = bundle.path().join("root");
    fs::create_dir(&root).expect("a directory");
    if let Err(why) = images::make_busybox(&root) {
        skip!("{why}");
    }
    let (up, _) = uptime(&fs::read_to_string("/proc/uptime").expect("uptime"));
    let views = ["uptime", "stat"].map(|file| {
        let source = daemon.arg(&format!("proc/{file}"));
        format!(r#"{{"destination":"/proc/{file}","source":"{source}","options":["bind","ro"]}}"#)
    });
    let config = format!(
        r#"{{"ociVersion":"1.0.2","root":{{"path":"root"}},
        "process":{{"cwd":"/","env":["PATH=/bin"],"user":{{"uid":0,"gid":0}},
            "args":["sh","-c","sleep 2; cat /proc/uptime; grep btime /proc/stat; date +%s; cat /proc/uptime"]}},
        "mounts":[{{"destination":"/proc","type":"proc","source":"proc"}},{}],
        "linux":{{"timeOffsets":{{"boottime":{{"secs":-{},"nanosecs":0}}}},
            "namespaces":[{{"type":"pid"}},{{"type":"mount"}},{{"type":"cgroup"}},{{"type":"time"}}]}}}}"#,
        views.join(","),
        up.floor()
    );
    fs::write(bundle.path().join("config.json"), config).expect("a configuration");
    let mut crun = Command::new("crun");
    crun.arg("run").arg("--bundle").arg(bundle.path());
    let text = run_within(crun.arg(unique("crun")), patience(60)).ok();
    let lines: Vec<&str> = text.lines().collect();
    let number = |text: &str| text.trim().parse::<f64>().expect("a number");
    let (shown, _) = uptime(lines[0]);
    let btime = number(lines[1].trim_start_matches("btime "));
    let (later, _) = uptime(lines[3]);
    assert!(shown < patience(30).as_secs_f64(), "{text}");
    // Both btime and date are whole seconds.
    let age = number(lines[2]) - btime;
    assert!((shown - 1.1..later + 1.1).contains(&age), "{text}");
}

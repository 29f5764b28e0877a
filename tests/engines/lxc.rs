//! LXC through the mount hook that Debian's lxcfs package ships.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::common::cgroup::cgroup_version;
use crate::common::figures::{Stat, cpu_list, cpuinfo_ids, keyed, uptime};
use crate::common::{Daemon, beside_others, has, images, patience, run_within, skip, unique};

/// Everything the container prints, one file after the other, and which of them the hook bound.
const PRINT: &str = "for f in meminfo cpuinfo uptime stat swaps diskstats loadavg slabinfo vmstat interrupts softirqs; do echo \"== $f\"; cat /proc/$f; done; \
    echo == online; cat /sys/devices/system/cpu/online; \
    echo == free; free -k; echo == top; top -b -n1; echo == uptime-tool; uptime; \
    echo == mounts; grep lxcfs /proc/self/mounts";

fn part<'a>(text: &'a str, name: &str) -> &'a str {
    let start = text
        .find(&format!("== {name}\n"))
        .unwrap_or_else(|| panic!("no {name} in {text}"));
    let rest = &text[start + name.len() + 4..];
    rest.split("\n== ").next().unwrap_or(rest)
}

/// Why there can be no container with the views.
fn obstacle() -> Option<&'static str> {
    if !has("lxc-execute") {
        return Some("lxc is not installed");
    }
    (!Path::new("/usr/share/lxcfs/lxc.mount.hook").exists())
        .then_some("the mount hook of the lxcfs package is not installed")
}

/// What a script prints in a container with 50 MB and one CPU.
#[track_caller]
fn run(daemon: &Daemon, options: &str, script: &str) -> String {
    let dir = tempfile::tempdir().expect("a directory");
    let root = dir.path().join("root");
    fs::create_dir(&root).expect("a directory");
    images::make_busybox(&root).expect("a root file system");
    let limits = if cgroup_version() == 1 {
        "lxc.cgroup.memory.limit_in_bytes = 50M\nlxc.cgroup.cpuset.cpus = 0"
    } else {
        "lxc.cgroup2.memory.max = 50M\nlxc.cgroup2.cpuset.cpus = 0"
    };
    let config = dir.path().join("config");
    let text = format!(
        "lxc.include = /usr/share/lxc/config/common.conf\nlxc.rootfs.path = dir:{}\nlxc.net.0.type = none\n\
         lxc.apparmor.profile = unconfined\nlxc.uts.name = test\n{limits}\n",
        root.display()
    );
    fs::write(&config, text).expect("a configuration");
    // The hook knows one place only; a mount namespace puts ours there without touching the machine's own.
    fs::create_dir_all("/var/lib/lxcfs").expect("the place the hook looks at");
    let script = format!(
        "mount --bind '{}' /var/lib/lxcfs && exec lxc-execute -P '{}' -n {} -f '{}' {options} -- /bin/sh -c '{script}; echo == end'",
        daemon.point().display(),
        dir.path().display(),
        unique("lxc"),
        config.display()
    );
    let mut command = Command::new("unshare");
    let ran = run_within(
        command.args(["--mount", "--propagation", "private", "sh", "-ec", &script]),
        patience(60),
    );
    assert!(ran.out.contains("== end"), "{ran:?}");
    ran.out.replace('\r', "")
}

#[test]
fn the_mount_hook_gives_an_lxc_container_its_own_figures() {
    if let Some(why) = obstacle() {
        skip!("{why}");
    }
    let _turn = beside_others();
    let daemon = Daemon::start(&[]);
    let text = run(&daemon, "", PRINT);
    for file in [
        "meminfo",
        "cpuinfo",
        "uptime",
        "stat",
        "swaps",
        "diskstats",
        "loadavg",
        "slabinfo",
        "vmstat",
        "interrupts",
        "softirqs",
    ] {
        assert!(
            part(&text, "mounts").contains(&format!("/proc/{file} fuse.lxcfs")),
            "{file} is not bound: {text}"
        );
    }
    // A directory is bound whole.
    assert_eq!(
        part(&text, "mounts").contains("/proc/pressure fuse.lxcfs"),
        Path::new("/proc/pressure").exists(),
        "{text}"
    );
    assert_eq!(keyed(part(&text, "meminfo"))["MemTotal"], 50 << 10);
    assert!(
        keyed(part(&text, "vmstat"))["nr_free_pages"] * 4 <= 50 << 10,
        "{text}"
    );
    assert_eq!(cpuinfo_ids(part(&text, "cpuinfo")), [0].into());
    assert_eq!(cpu_list(part(&text, "online")), [0].into());
    let longest = patience(60).as_secs_f64();
    assert!(uptime(part(&text, "uptime")).0 < longest, "{text}");
    assert!(
        part(&text, "stat").contains("cpu0 ") && !part(&text, "stat").contains("cpu1 "),
        "{text}"
    );
    assert!(part(&text, "free").contains("Mem:"), "{text}");
    assert!(part(&text, "top").contains("Mem:"), "{text}");
    assert!(
        part(&text, "uptime-tool").contains("load average"),
        "{text}"
    );
}

#[test]
fn all_times_agree_where_the_boot_clock_has_an_offset() {
    if let Some(why) = obstacle() {
        skip!("{why}");
    }
    let _turn = beside_others();
    let daemon = Daemon::start(&[]);
    let offset = "-s \"lxc.time.offset.boot=-$(cut -d. -f1 /proc/uptime)s\"";
    let print = "sleep 2; echo == uptime; cat /proc/uptime; echo == stat; cat /proc/stat; \
        echo == now; date +%s; echo == later; cat /proc/uptime; echo == init; cut -d\" \" -f22 /proc/1/stat";
    let text = run(&daemon, offset, print);
    let (up, _) = uptime(part(&text, "uptime"));
    let (later, _) = uptime(part(&text, "later"));
    let stat = Stat::parse(part(&text, "stat"));
    let number = |text: &str| text.trim().parse::<f64>().expect("a number");
    let btime = part(&text, "stat")
        .lines()
        .find_map(|line| line.strip_prefix("btime "))
        .expect("btime");
    let now = number(part(&text, "now"));
    let longest = patience(60).as_secs_f64();
    assert!((2.0..longest).contains(&up), "{text}");
    // Both btime and date are whole seconds.
    let age = now - number(btime);
    assert!((up - 1.1..later + 1.1).contains(&age), "{age} s: {text}");
    let counted = Stat::capacity(&stat.total) as f64 / 100.0;
    assert!(
        (up - 0.05..later + 0.05).contains(&counted),
        "{counted} s: {text}"
    );
    let started = number(part(&text, "init")) / 100.0;
    assert!(started < up && up - started < longest, "{text}");
}

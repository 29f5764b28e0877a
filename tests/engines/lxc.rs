//! LXC through the mount hook that Debian's lxcfs package ships.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::common::cgroup::cgroup_version;
use crate::common::figures::{cpu_list, cpuinfo_ids, keyed, uptime};
use crate::common::{Daemon, beside_others, has, images, patience, run_within, skip, unique};

/// Everything the container prints, one file after the other, and which of them the hook bound.
const PRINT: &str = "for f in meminfo cpuinfo uptime stat swaps diskstats loadavg; do echo \"== $f\"; cat /proc/$f; done; \
    echo == online; cat /sys/devices/system/cpu/online; \
    echo == free; free -k; echo == top; top -b -n1; echo == uptime-tool; uptime; \
    echo == mounts; grep lxcfs /proc/self/mounts; echo == end";

fn part<'a>(text: &'a str, name: &str) -> &'a str {
    let start = text
        .find(&format!("== {name}\n"))
        .unwrap_or_else(|| panic!("no {name} in {text}"));
    let rest = &text[start + name.len() + 4..];
    rest.split("\n== ").next().unwrap_or(rest)
}

#[test]
fn the_mount_hook_gives_an_lxc_container_its_own_figures() {
    if !has("lxc-execute") {
        skip!("lxc is not installed");
    }
    if !Path::new("/usr/share/lxcfs/lxc.mount.hook").exists() {
        skip!("the mount hook of the lxcfs package is not installed");
    }
    let _turn = beside_others();
    let daemon = Daemon::start(&[]);
    let dir = tempfile::tempdir().expect("a directory");
    let root = dir.path().join("root");
    fs::create_dir(&root).expect("a directory");
    if let Err(why) = images::make_busybox(&root) {
        skip!("{why}");
    }
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
        "mount --bind '{}' /var/lib/lxcfs && exec lxc-execute -P '{}' -n {} -f '{}' -- /bin/sh -c '{PRINT}'",
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
    let text = ran.out.replace('\r', "");
    for file in [
        "meminfo",
        "cpuinfo",
        "uptime",
        "stat",
        "swaps",
        "diskstats",
        "loadavg",
    ] {
        assert!(
            part(&text, "mounts").contains(&format!("/proc/{file} fuse.lxcfs")),
            "{file} is not bound: {text}"
        );
    }
    assert_eq!(keyed(part(&text, "meminfo"))["MemTotal"], 50 << 10);
    assert_eq!(cpuinfo_ids(part(&text, "cpuinfo")), [0].into());
    assert_eq!(cpu_list(part(&text, "online")), [0].into());
    assert!(uptime(part(&text, "uptime")).0 < 60.0, "{text}");
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

//! LXC with the hooks that the packages install.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use crate::common::cgroup::cgroup_version;
use crate::common::figures::uptime;
use crate::common::{Daemon, Ran, beside_others, has, images, patience, run_within, skip, unique};
use crate::formats::stopped;
use crate::shown::{PRINT, Shown, add_free};
use crate::views::program;

const COMMON: &str = "/usr/share/lxc/config/common.conf";
pub const USERNS: &str = "/usr/share/lxc/config/userns.conf";

/// The files of share/lxc, and the directories that the packages install them to.
const FILES: [(&str, &str, &str); 3] = [
    (
        "/usr/share/lxcfs",
        "lxc.mount.hook",
        include_str!("../../share/lxc/lxc.mount.hook"),
    ),
    (
        "/usr/share/lxcfs",
        "lxc.reboot.hook",
        include_str!("../../share/lxc/lxc.reboot.hook"),
    ),
    (
        "/usr/share/lxc/config/common.conf.d",
        "00-lxcfs.conf",
        include_str!("../../share/lxc/00-lxcfs.conf"),
    ),
];

/// Writes the files below `dir` and gives the commands that mount them over those of any
/// other lxcfs, in a mount namespace of its own, and `views` at the place the hook knows.
pub fn install(dir: &Path, views: &Path) -> String {
    let mut script = String::new();
    for (place, name, text) in FILES {
        let below = dir.join(place.trim_start_matches('/'));
        fs::create_dir_all(&below).expect("a directory");
        let text = text.replace("/usr/bin/lxcfs", &program());
        fs::write(below.join(name), text).expect("a file");
        fs::set_permissions(below.join(name), fs::Permissions::from_mode(0o755)).expect("a mode");
        script += &format!(
            "mkdir -p {place}; mount --bind '{}' {place}; ",
            below.display()
        );
    }
    // Who has newuidmap may only use what these files say.
    let ranges = dir.join("ranges");
    fs::write(&ranges, "root:100000:65536\n").expect("a file");
    for file in ["/etc/subuid", "/etc/subgid"] {
        if Path::new(file).exists() {
            script += &format!("mount --bind '{}' {file}; ", ranges.display());
        }
    }
    script += "mkdir -p /var/lib/lxcfs; ";
    script + &format!("mount --bind '{}' /var/lib/lxcfs; ", views.display())
}

/// Why there can be no container.
pub fn obstacle() -> Option<&'static str> {
    if !has("lxc-execute") {
        return Some("lxc is not installed");
    }
    (!Path::new(COMMON).exists()).then_some("LXC's common configuration is not installed")
}

/// How a container is set up.
pub struct Setup<'a> {
    /// Further lines of its configuration.
    pub config: String,
    /// Changes its root file system, in a shell with the directory as `$1`.
    pub prepare: &'a str,
    /// Whether the script is the container's init.
    pub starts_system: bool,
}

impl Default for Setup<'_> {
    fn default() -> Self {
        Self {
            config: String::new(),
            prepare: ":",
            starts_system: false,
        }
    }
}

/// What a script prints in a container with 50 MB and one CPU, whose LXC finds `views` where lxcfs is mounted by custom.
#[track_caller]
pub fn run(views: &Path, setup: &Setup, script: &str) -> String {
    let (ran, log) = try_run(views, setup, script);
    assert!(ran.out.contains("== end"), "{ran:?}\n{log}");
    ran.out
}

/// The same, however it ends; with LXC's log.
#[track_caller]
pub fn try_run(views: &Path, setup: &Setup, script: &str) -> (Ran, String) {
    let dir = tempfile::tempdir().expect("a directory");
    // Other users go through it to the root file system.
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("a mode");
    let root = dir.path().join("root");
    fs::create_dir(&root).expect("a directory");
    images::make_busybox(&root).expect("a root file system");
    add_free(&root);
    let mut prepare = Command::new("sh");
    prepare.args(["-ec", setup.prepare, "prepare"]).arg(&root);
    run_within(&mut prepare, patience(30)).ok();
    let limits = if cgroup_version() == 1 {
        "lxc.cgroup.memory.limit_in_bytes = 50M\nlxc.cgroup.cpuset.cpus = 0"
    } else {
        "lxc.cgroup2.memory.max = 50M\nlxc.cgroup2.cpuset.cpus = 0"
    };
    let config = dir.path().join("config");
    let text = format!(
        "lxc.include = {COMMON}\nlxc.rootfs.path = dir:{}\nlxc.net.0.type = empty\n\
         lxc.apparmor.profile = unconfined\nlxc.uts.name = test\n{limits}\n{}\n",
        root.display(),
        setup.config
    );
    fs::write(&config, text).expect("a configuration");
    let place = dir.path().display();
    let program = match setup.starts_system {
        true => "lxc-start -F",
        false => "lxc-execute",
    };
    let script = format!(
        "{}exec {program} -P '{place}' -n {} -f '{}' -o '{place}/log' -l WARN -- /bin/sh -c '{script}'",
        install(dir.path(), views),
        unique("lxc"),
        config.display()
    );
    let mut command = Command::new("unshare");
    let ran = run_within(
        command.args(["--mount", "--propagation", "private", "sh", "-ec", &script]),
        patience(60),
    );
    let log = fs::read_to_string(dir.path().join("log")).unwrap_or_default();
    (ran, log)
}

/// All that the tree of the daemon has is attached, each at its place.
#[track_caller]
fn assert_all_attached(daemon: &Daemon, shown: &Shown) {
    let attached = shown.attached();
    let entries = fs::read_dir(daemon.path("proc")).expect("the files of the tree");
    for entry in entries.flatten() {
        let target = format!("/proc/{}", entry.file_name().to_str().expect("ASCII"));
        if Path::new(&target).exists() && target != "/proc/spl" {
            assert!(
                attached.contains(&target),
                "{target} is not attached: {shown:?}"
            );
        }
    }
    for tree in ["/sys/devices/system/cpu", "/sys/devices/system/node"] {
        if Path::new(tree).exists() {
            assert!(attached.contains(tree), "{tree} is not attached: {shown:?}");
            assert!(shown.options(tree).starts_with("ro,"), "{shown:?}");
        }
    }
    for disk in fs::read_dir("/sys/block").expect("the disks").flatten() {
        let size = fs::read_to_string(disk.path().join("size")).expect("a size");
        let real = disk.path().canonicalize().expect("a disk");
        let is_attached = attached.contains(real.to_str().expect("ASCII"));
        assert_eq!(
            is_attached,
            size.trim() != "0",
            "{}: {shown:?}",
            real.display()
        );
    }
}

/// The daemon, unless a machine has no LXC.
macro_rules! daemon {
    () => {{
        if let Some(why) = obstacle() {
            skip!("{why}");
        }
        Daemon::start(&[])
    }};
}

#[test]
fn the_hook_attaches_all_that_there_is() {
    let _turn = beside_others();
    let daemon = daemon!();
    let setup = Setup {
        prepare: "mkdir -p \"$1/var/lib/lxcfs\"",
        ..Setup::default()
    };
    let shown = Shown::new(&run(daemon.point(), &setup, PRINT));
    shown.assert_limited();
    shown.assert_own_pressure();
    assert_all_attached(&daemon, &shown);
    // For containers in it.
    assert!(shown.attached().contains("/var/lib/lxcfs"), "{shown:?}");
}

#[test]
fn an_unprivileged_container_gets_the_same() {
    let _turn = beside_others();
    let daemon = daemon!();
    let setup = Setup {
        config: format!(
            "lxc.include = {USERNS}\nlxc.idmap = u 0 100000 65536\nlxc.idmap = g 0 100000 65536"
        ),
        prepare: "chown -R 100000:100000 \"$1\"",
        ..Setup::default()
    };
    let print = format!("echo == map; cat /proc/self/uid_map; {PRINT}");
    let shown = Shown::new(&run(daemon.point(), &setup, &print));
    assert!(shown.part("map").contains(" 100000 "), "{shown:?}");
    shown.assert_limited();
    shown.assert_own_pressure();
    assert_all_attached(&daemon, &shown);
}

#[test]
fn while_lxcfs_is_stopped_containers_start_without_it() {
    if let Some(why) = obstacle() {
        skip!("{why}");
    }
    let _turn = beside_others();
    let views = stopped();
    let shown = Shown::new(&run(views.path(), &Setup::default(), PRINT));
    shown.assert_without_views();
    let mounts = shown.part("self/mountinfo");
    assert!(
        !mounts.contains(" /proc/meminfo "),
        "the links were mounted: {shown:?}"
    );
}

/// A dead daemon's files give ENOTCONN.
#[test]
fn when_lxcfs_has_died_containers_start_without_it() {
    let _turn = beside_others();
    let mut daemon = daemon!();
    daemon.kill_all();
    let shown = Shown::new(&run(daemon.point(), &Setup::default(), PRINT));
    shown.assert_without_views();
}

#[test]
fn a_container_that_reboots_starts_with_fresh_figures() {
    let _turn = beside_others();
    let daemon = daemon!();
    // It counts its starts in its root file system.
    let script = "echo x >>/starts; echo == uptime; cat /proc/uptime; \
        if test $(wc -l </starts) = 1; then sleep 4; reboot -f; sleep 100; fi; echo == end";
    let dir = tempfile::tempdir().expect("a directory");
    let out = dir.path().join("out");
    let script = format!("({script}) >>/out/text");
    fs::create_dir(&out).expect("a directory");
    let config = format!(
        "lxc.mount.entry = {} out none bind,create=dir 0 0",
        out.display()
    );
    let setup = Setup {
        config,
        ..Setup::default()
    };
    let _ = try_run(daemon.point(), &setup, &script);
    let text = fs::read_to_string(out.join("text")).expect("what both starts printed");
    let starts: Vec<&str> = text.split("== uptime\n").skip(1).collect();
    assert_eq!(starts.len(), 2, "{text}");
    let uptimes: Vec<f64> = starts
        .iter()
        .map(|start| uptime(start.lines().next().expect("a line")).0)
        .collect();
    assert!(uptimes[1] < uptimes[0] + 4.0, "{text}");
}

/// Runs the hook by itself, for what no container of LXC would survive. `prepare` makes the root file system `$root`,
/// and `bin` is where the hook's programs are.
#[track_caller]
fn run_hook(daemon: &Daemon, bin: &str, prepare: &str) -> String {
    run_hook_among(&["--pid", "--fork"], daemon, bin, prepare)
}

/// The same in the pid namespace that these options of unshare(1) make.
#[track_caller]
fn run_hook_among(processes: &[&str], daemon: &Daemon, bin: &str, prepare: &str) -> String {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path().canonicalize().expect("a directory");
    let installed = install(&dir, daemon.point());
    let script = format!(
        "{installed}cd '{}'; root=$PWD/root; mkdir -p $root/proc $root/sys $root/var/lib outside; {prepare}\n\
         PATH={bin} LXC_ROOTFS_MOUNT=$root sh /usr/share/lxcfs/lxc.mount.hook
         cut -d' ' -f5 /proc/self/mountinfo",
        dir.display()
    );
    let mut command = Command::new("unshare");
    command.args(processes);
    command.args(["--mount", "--propagation", "private"]);
    let text = run_within(command.args(["sh", "-ec", &script]), patience(30)).ok();
    text.replace(dir.to_str().expect("ASCII"), "DIR")
}

const REAL: &str =
    "mount --bind /proc $root/proc; mount --bind /sys $root/sys; mkdir $root/var/lib/lxcfs";

#[test]
fn busybox_can_run_the_hook() {
    let _turn = beside_others();
    let daemon = Daemon::start(&[]);
    let root = tempfile::tempdir().expect("a directory");
    if let Err(why) = images::make_busybox(root.path()) {
        skip!("{why}");
    }
    let bin = root.path().join("bin");
    let text = run_hook(&daemon, bin.to_str().expect("ASCII"), REAL);
    for place in ["/proc/meminfo", "/sys/devices/system/cpu", "/var/lib/lxcfs"] {
        let line = format!("DIR/root{place}");
        assert!(text.lines().any(|found| found == line), "{place}: {text}");
    }
}

#[test]
fn a_container_among_the_processes_of_the_host_is_left_alone() {
    let _turn = beside_others();
    let daemon = Daemon::start(&[]);
    let text = run_hook_among(&[], &daemon, "$PATH", REAL);
    assert!(
        text.contains("DIR/root/proc\n") && !text.contains("DIR/root/proc/"),
        "{text}"
    );
}

#[test]
fn nothing_is_mounted_outside_of_the_root_file_system() {
    let _turn = beside_others();
    let daemon = Daemon::start(&[]);
    let cases = [
        // Links that lead out.
        "rmdir $root/proc $root/sys; ln -s /proc /sys $root/; ln -s $PWD/outside $root/var/lib/lxcfs",
        "rmdir $root/var/lib; mkdir -p outside/lxcfs; ln -s $PWD/outside $root/var/lib",
        // Files of the container's own.
        "touch $root/proc/meminfo $root/proc/stat; mkdir -p $root/sys/devices/system/cpu",
    ];
    for prepare in cases {
        let text = run_hook(&daemon, "$PATH", prepare);
        assert!(
            !text.lines().any(|line| line == "/proc/meminfo"),
            "{prepare}: {text}"
        );
        assert!(!text.contains("DIR/outside"), "{prepare}: {text}");
        assert!(!text.contains("DIR/root/proc/"), "{prepare}: {text}");
        assert!(!text.contains("DIR/root/sys/"), "{prepare}: {text}");
    }
}

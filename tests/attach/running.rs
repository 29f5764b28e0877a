//! `lxcfs attach` and `lxcfs detach` on containers made by hand.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use crate::common::daemon::binary;
use crate::common::figures::{cpu_list, uptime};
use crate::common::mounts::{mounts, options_at, read, total_mib, wait_until_it_sleeps};
use crate::common::{
    Cell, Daemon, Inside, Limits, Ran, alone, beside_others, children, patience, run, run_within,
    sh,
};

/// Runs the program under test.
pub fn lxcfs(args: &[&str]) -> Ran {
    run_within(Command::new(binary()).args(args), patience(30))
}

/// Attaches the views of a daemon.
pub fn attach(daemon: &Daemon, container: &str) -> Ran {
    let views = daemon.point().to_str().expect("an ASCII path");
    lxcfs(&["attach", container, "--views", views])
}

/// A container without the views, with 64 MB and CPU 0, with a mount namespace and a `/proc` of its own, in which
/// `script` has run.
#[track_caller]
pub fn cell(script: &str) -> Cell {
    let limits = Limits {
        memory_bytes: Some(64 << 20),
        cpuset: Some("0"),
        ..Limits::default()
    };
    let script = format!("mount -t proc proc /proc; {script}\nexec sleep 100000");
    let argv = [
        "unshare",
        "--mount",
        "--propagation",
        "private",
        "sh",
        "-ec",
        &script,
    ];
    let argv: Vec<_> = argv.iter().map(Path::new).collect();
    let cell = Cell::with_init(&limits, &argv, true);
    wait_until_it_sleeps(cell.init);
    cell
}

/// What was done with a path.
#[track_caller]
pub fn result(ran: &Ran, path: &str) -> String {
    let line = ran
        .out
        .lines()
        .find_map(|line| line.strip_prefix(path)?.strip_prefix(' '));
    let line = line.unwrap_or_else(|| panic!("nothing about {path}: {ran:?}"));
    line.trim().to_owned()
}

/// The mounts at or below `/proc` and `/sys`. Others, of tests that run at the same time, come and go in copies of the
/// host's mounts.
pub fn own_mounts(pid: i32) -> Vec<String> {
    let mut lines = mounts(pid);
    lines.retain(|line| {
        let place = line.split(' ').nth(4).unwrap_or_default();
        ["/proc", "/sys"]
            .iter()
            .any(|known| place.starts_with(known))
    });
    lines
}

/// The container sees itself.
#[track_caller]
pub fn assert_has_views(inside: &Inside, mib: u64) {
    let text = |path: &str| read(inside, path).ok();
    assert_eq!(total_mib(inside), mib);
    assert_eq!(
        cpu_list(&text("/sys/devices/system/cpu/online")),
        [0].into()
    );
    assert!(text("/proc/stat").contains("cpu0 ") && !text("/proc/stat").contains("cpu1 "));
    assert!(uptime(&text("/proc/uptime")).0 < patience(60).as_secs_f64());
    if Path::new("/proc/pressure").exists() {
        assert!(text("/proc/pressure/memory").starts_with("some "));
        let file = format!("/proc/{}/root/proc/pressure/memory", inside.init);
        let kind = run(Command::new("stat").args(["--file-system", "--format", "%T", &file]));
        let kind = kind.ok();
        assert!(kind.starts_with("fuse"), "the host's pressure: {kind}");
    }
}

/// The container sees the host.
#[track_caller]
pub fn assert_sees_host(inside: &Inside, mib: u64) {
    assert!(total_mib(inside) > mib);
    let mut views = own_mounts(inside.init);
    views.retain(|line| line.contains(" - fuse.lxcfs "));
    assert!(views.is_empty(), "{views:?}");
}

/// Attaches, attaches again, and detaches; the container then has the mounts of before.
#[track_caller]
pub fn assert_comes_and_goes(daemon: &Daemon, word: &str, inside: &Inside, mib: u64) {
    assert_sees_host(inside, mib);
    let before = own_mounts(inside.init);
    let ran = attach(daemon, word);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(result(&ran, "/proc/meminfo"), "attached");
    assert_has_views(inside, mib);
    let attached = own_mounts(inside.init);
    for _ in 0..2 {
        let ran = attach(daemon, word);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert!(!ran.out.contains(" attached\n"), "{ran:?}");
        assert_eq!(result(&ran, "/proc/meminfo"), "attached already");
        assert_eq!(own_mounts(inside.init), attached);
    }
    let ran = lxcfs(&["detach", word]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(result(&ran, "/proc/meminfo"), "detached");
    assert_eq!(own_mounts(inside.init), before);
    assert_sees_host(inside, mib);
    assert_eq!(lxcfs(&["detach", word]).ok(), "nothing to detach\n");
}

#[test]
fn a_process_gets_the_views_and_loses_them() {
    let _turn = beside_others();
    let daemon = Daemon::start(&[]);
    let cell = cell("");
    assert_comes_and_goes(&daemon, &cell.init.to_string(), &cell, 64);
}

#[test]
fn nobody_can_change_anything_through_the_views_but_set_triggers() {
    let _turn = beside_others();
    let daemon = Daemon::start(&[]);
    let cell = cell("");
    attach(&daemon, &cell.init.to_string()).ok();
    let has = |path: &str, option: &str| {
        let options = options_at(cell.init, path);
        assert_eq!(options.len(), 1, "{path}: {options:?}");
        options[0].split(',').any(|known| known == option)
    };
    for path in ["/proc/meminfo", "/sys/devices/system/cpu"] {
        for option in ["ro", "nosuid", "nodev", "noexec"] {
            assert!(has(path, option), "{path} has no {option}");
        }
    }
    if Path::new("/proc/pressure").exists() {
        assert!(has("/proc/pressure", "rw") && has("/proc/pressure", "nodev"));
    }
}

#[test]
fn parts_come_one_after_the_other() {
    let _turn = beside_others();
    let daemon = Daemon::start(&[]);
    let cell = cell("");
    let pid = cell.init.to_string();
    let views = daemon.point().to_str().expect("an ASCII path");
    let ran = lxcfs(&["attach", &pid, "--views", views, "--only", "mem"]);
    assert_eq!(result(&ran, "/proc/meminfo"), "attached");
    assert!(!ran.out.contains("/proc/stat"), "{ran:?}");
    assert_eq!(total_mib(&cell), 64);
    assert_eq!(options_at(cell.init, "/proc/stat"), Vec::<String>::new());
    let ran = attach(&daemon, &pid);
    assert_eq!(result(&ran, "/proc/meminfo"), "attached already");
    assert_eq!(result(&ran, "/proc/stat"), "attached");
    assert_has_views(&cell, 64);
}

#[test]
fn what_is_hidden_stays_hidden() {
    let _turn = beside_others();
    let daemon = Daemon::start(&[]);
    let below = "/sys/devices/system/cpu/cpu0/topology";
    let cell = cell(&format!(
        "mount --bind /dev/null /proc/interrupts; mount -t tmpfs -o ro none {below}; \
         mount -t tmpfs -o ro none /sys/devices/system/node"
    ));
    let pid = cell.init.to_string();
    let before = own_mounts(cell.init);
    let ran = attach(&daemon, &pid);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    for path in ["/proc/interrupts", "/sys/devices/system/node"] {
        assert_eq!(
            result(&ran, path),
            "left alone: something else is mounted there"
        );
    }
    assert_eq!(read(&cell, "/proc/interrupts").ok(), "");
    let listed = run(&mut cell.command(&["ls", &format!("/proc/{pid}/root{below}")]));
    assert_eq!(listed.ok(), "");
    assert_has_views(&cell, 64);
    assert!(lxcfs(&["detach", &pid]).succeeded());
    assert_eq!(own_mounts(cell.init), before);
}

#[test]
fn a_container_that_is_frozen_or_has_a_user_namespace_is_no_different() {
    let _turn = beside_others();
    let daemon = Daemon::start(&[]);
    let other = cell("exec unshare --user --map-root-user --mount sleep 100000");
    assert_comes_and_goes(&daemon, &other.init.to_string(), &other, 64);

    let cell = cell("");
    if cell.cgroup.can_freeze() {
        cell.cgroup.freeze(true);
        let ran = attach(&daemon, &cell.init.to_string());
        assert_eq!(result(&ran, "/proc/meminfo"), "attached");
        cell.cgroup.freeze(false);
        assert_has_views(&cell, 64);
    }
}

#[test]
fn a_root_that_is_not_that_of_the_namespace_counts() {
    let _turn = beside_others();
    let daemon = Daemon::start(&[]);
    let dir = tempfile::tempdir().expect("a directory");
    let root = dir.path().display();
    let cell = cell(&format!(
        "mount --rbind / '{root}'; mount -t proc proc '{root}/proc'; exec chroot '{root}' sleep 100000"
    ));
    assert_comes_and_goes(&daemon, &cell.init.to_string(), &cell, 64);
}

#[test]
fn what_a_less_privileged_copy_has_cannot_be_taken_away() {
    let _turn = beside_others();
    let daemon = Daemon::start(&[]);
    let views = daemon.point().to_str().expect("an ASCII path");
    let cell = cell(&format!(
        "mount --bind '{views}/proc/meminfo' /proc/meminfo; \
         exec unshare --user --map-root-user --mount sleep 100000"
    ));
    assert_eq!(total_mib(&cell), 64);
    let ran = lxcfs(&["detach", &cell.init.to_string()]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    let said = result(&ran, "/proc/meminfo");
    assert!(
        said.contains("locked") && said.contains("restart"),
        "{said}"
    );
    assert_eq!(total_mib(&cell), 64);
}

#[test]
fn dead_views_are_replaced_and_those_of_others_left_alone() {
    let _turn = alone();
    let mut dead = Daemon::start(&[]);
    let (daemon, other) = (Daemon::start(&[]), Daemon::start(&[]));
    let cell = cell("");
    let pid = cell.init.to_string();
    attach(&dead, &pid).ok();
    dead.kill_all();
    let count = own_mounts(cell.init).len();
    let ran = attach(&daemon, &pid);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(result(&ran, "/proc/meminfo"), "replaced");
    assert_has_views(&cell, 64);
    assert_eq!(own_mounts(cell.init).len(), count);

    let ran = attach(&other, &pid);
    assert_eq!(
        result(&ran, "/proc/meminfo"),
        "left alone: another lxcfs is attached"
    );
    assert_eq!(own_mounts(cell.init).len(), count);
}

/// What is mounted in such a container is mounted on the host too.
#[test]
fn the_host_is_left_alone() {
    let _turn = beside_others();
    let daemon = Daemon::start(&[]);
    // A directory of the host whose mounts are shared, with a procfs at the place where the container looks for it.
    let dir = tempfile::tempdir().expect("a directory");
    let root = dir.path().display();
    sh(&format!(
        "mount --bind / '{root}' && mount --make-private '{root}' && \
         mount -t proc proc '{root}/proc' && mount --make-shared '{root}/proc'"
    ))
    .ok();
    let mut init = Command::new("unshare")
        .args(["--mount", "--propagation", "unchanged", "chroot"])
        .arg(dir.path())
        .args(["sleep", "100000"])
        .spawn()
        .expect("a process");
    let pid = i32::try_from(init.id()).expect("a pid");
    wait_until_it_sleeps(pid);
    let own = i32::try_from(std::process::id()).expect("a pid");
    let ours = || {
        let mut lines = mounts(own);
        lines.retain(|line| line.contains(&format!(" {root}/proc/")));
        lines
    };
    let before = ours();
    let ran = attach(&daemon, &pid.to_string());
    let after = ours();
    let _ = init.kill();
    let _ = init.wait();
    sh(&format!("umount --recursive '{root}'")).ok();
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert_eq!(
        result(&ran, "/proc/meminfo"),
        "not done: its mounts are shared with the host"
    );
    assert_eq!(after, before);
}

#[track_caller]
fn assert_refused(ran: &Ran, code: i32, part: &str) {
    assert_eq!(ran.code, Some(code), "{ran:?}");
    assert_eq!(
        (ran.out.as_str(), ran.err.lines().count()),
        ("", 1),
        "{ran:?}"
    );
    assert!(
        ran.err.starts_with("lxcfs: ") && ran.err.contains(part),
        "{ran:?}"
    );
}

#[test]
fn what_is_no_container_is_refused_with_a_reason() {
    let own = std::process::id().to_string();
    for command in ["attach", "detach"] {
        assert_refused(
            &lxcfs(&[command, &own]),
            1,
            "the mount namespace of the host",
        );
        assert_refused(
            &lxcfs(&[command, "999999999"]),
            1,
            "there is no process 999999999",
        );
        assert_refused(
            &lxcfs(&[command, "no such\nname"]),
            1,
            "no running container is called",
        );
        assert_refused(
            &lxcfs(&[command, "--", "--help"]),
            1,
            "no running container is called",
        );
        assert_refused(&lxcfs(&[command, ""]), 1, "no running container is called");
        assert_refused(&lxcfs(&[command]), 2, "CONTAINER");
    }
    for more in [["--all", "web"], ["--views", "/x"]] {
        assert_refused(&lxcfs(&[&["detach"][..], &more].concat()), 2, "");
    }
    let mut ended = Command::new("true").spawn().expect("a process");
    let zombie = ended.id().to_string();
    crate::common::wait_for(patience(10), || {
        let stat = fs::read_to_string(format!("/proc/{zombie}/stat")).unwrap_or_default();
        stat.contains(") Z ").then_some(())
    })
    .expect("the end of a process");
    assert_refused(&lxcfs(&["attach", &zombie]), 1, "has ended");
    ended.wait().expect("waiting for a process");
}

#[test]
fn without_views_or_root_nothing_is_attached() {
    let _turn = beside_others();
    let cell = cell("");
    let pid = cell.init.to_string();
    let before = own_mounts(cell.init);
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().to_str().expect("an ASCII path");
    let ran = lxcfs(&["attach", &pid, "--views", path]);
    assert_refused(&ran, 1, "no lxcfs is mounted at");

    // Where the binary was built may be out of reach for others.
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("a mode");
    let copy = dir.path().join("lxcfs");
    run(Command::new("cp").arg(binary()).arg(&copy)).ok();
    for command in ["attach", "detach"] {
        let ran = run(Command::new(&copy).args([command, &pid]).uid(65534));
        assert_refused(&ran, 1, &format!("{command} needs root"));
    }
    let ran = run(Command::new(&copy).args(["detach", "--all"]).uid(65534));
    assert_refused(&ran, 1, "detach needs root");
    assert_eq!(own_mounts(cell.init), before);
}

#[test]
fn a_container_made_by_run_is_one_too() {
    let _turn = beside_others();
    let daemon = Daemon::start(&[]);
    let views = daemon.point().to_str().expect("an ASCII path");
    let mut command = Command::new(binary());
    command.args([
        "run", "--memory", "64m", "--views", views, "sleep", "100000",
    ]);
    let mut child = command.spawn().expect("a process");
    let outer = i32::try_from(child.id()).expect("a pid");
    let init = crate::common::wait_for(patience(20), || {
        let below = children(outer).into_iter();
        let all: Vec<_> = below
            .flat_map(|pid| [vec![pid], children(pid)].concat())
            .collect();
        all.into_iter().find(|pid| {
            fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe.ends_with("sleep"))
        })
    });
    let pid = init.expect("a command in a container").to_string();
    let present = attach(&daemon, &pid);
    let detached = lxcfs(&["detach", &pid]);
    let attached = attach(&daemon, &pid);
    let _ = child.kill();
    let _ = child.wait();
    assert_eq!(result(&present, "/proc/meminfo"), "attached already");
    assert_eq!(result(&detached, "/proc/meminfo"), "detached");
    assert_eq!(result(&attached, "/proc/meminfo"), "attached");
}

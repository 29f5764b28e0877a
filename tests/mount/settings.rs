//! Settings of the whole machine that are unusual.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::daemon::binary;
use crate::common::figures::keyed;
use crate::common::{
    Cell, Daemon, Limits, alone, beside_others, patience, run, run_within, skip, thrown_away,
    wait_for,
};
use crate::places::has_memory;

/// A setting of the kernel's, set back when dropped.
struct Setting {
    file: PathBuf,
    before: String,
}

impl Setting {
    fn set(file: PathBuf, value: &str) -> Option<Self> {
        let before = fs::read_to_string(&file).ok()?;
        fs::write(&file, value).ok()?;
        Some(Self { file, before })
    }
}

impl Drop for Setting {
    fn drop(&mut self) {
        let _ = fs::write(&self.file, &self.before);
    }
}

/// `psi=0`, `cgroup_disable=memory`: what the kernel does not account is said, by daemon and doctor, and is not
/// the host's.
#[test]
fn what_the_kernel_does_not_account_is_said_and_nothing_of_the_hosts_stands_in() {
    let _turn = beside_others();
    let daemon = Daemon::start(&[]);
    let cell = Cell::start(&Limits::default());
    let lxcfs = Command::new(binary())
        .args(["doctor", "--views"])
        .arg(daemon.point())
        .output();
    let doctor = String::from_utf8(lxcfs.expect("doctor").stdout).expect("text");

    let no_memory = !has_memory();
    let shown = "the size of the host's memory, all of it free";
    assert_eq!(doctor.contains(shown), no_memory, "{doctor}");
    assert_eq!(
        daemon.log().contains("no cgroup accounts memory"),
        no_memory,
        "{}",
        daemon.log()
    );
    let memory = keyed(&cell.read(&daemon, "proc/meminfo"));
    if no_memory {
        assert_eq!(memory["MemFree"], memory["MemTotal"]);
        for line in ["AnonPages", "Cached", "Dirty", "Slab"] {
            assert_eq!(memory[line], 0, "{line}");
        }
        let swaps = cell.read(&daemon, "proc/swaps");
        assert_eq!(swaps.lines().count(), 1, "{swaps}");
    }
    let no_pressure = !Path::new("/proc/pressure").exists();
    let shown = "the kernel accounts no pressure";
    assert_eq!(doctor.contains(shown), no_pressure, "{doctor}");
    assert_eq!(daemon.path("proc/pressure").exists(), !no_pressure);
}

const NAMESPACES: [&str; 8] = ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"];

/// `user.max_*_namespaces`: containers run, and there can be no more of them.
#[test]
fn where_no_more_namespaces_can_be_made_files_are_right_and_lxcfs_run_says_so() {
    if !thrown_away() {
        skip!("the whole machine is changed");
    }
    let _turn = alone();
    let cell = Cell::start(&Limits {
        memory_bytes: Some(64 << 20),
        ..Limits::default()
    });
    let settings = NAMESPACES.map(|name| {
        let file = format!("/proc/sys/user/max_{name}_namespaces");
        Setting::set(file.into(), "0")
    });
    let daemon = Daemon::start(&[]);
    let total = || keyed(&cell.read(&daemon, "proc/meminfo"))["MemTotal"];
    assert_eq!(total(), 64 << 10);
    daemon.signal(nix::sys::signal::Signal::SIGUSR1);
    let taken = || (daemon.log().matches("serving").count() > 1).then_some(());
    assert!(wait_for(patience(10), taken).is_some(), "{}", daemon.log());
    assert_eq!(total(), 64 << 10);
    // A mount that is attached nowhere counts as a namespace too.
    let said = "a file lease can delay readers";
    assert!(daemon.log().contains(said), "{}", daemon.log());

    let lxcfs = |words: &[&str]| {
        let mut command = Command::new(binary());
        run_within(command.args(words), patience(60))
    };
    let point = daemon.point().to_str().expect("an ASCII path").to_owned();
    assert_eq!(lxcfs(&["remount", &point]).ok(), "nothing to repair\n");
    let doctor = lxcfs(&["doctor", "--views", &point]);
    assert_eq!(doctor.err, "");
    assert!(doctor.out.contains(" is served by lxcfs "), "{doctor:?}");
    let ran = lxcfs(&["run", "-m", "50m", "--", "true"]);
    assert_eq!((ran.code, ran.err.lines().count()), (Some(1), 1), "{ran:?}");
    assert!(ran.err.contains("user.max_mnt_namespaces"), "{ran:?}");
    drop(settings);
    run(Command::new(binary()).args(["run", "-m", "50m", "--", "true"])).ok();
}

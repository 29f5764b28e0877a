//! Whoever may mount in a namespace of his own can make the list of his mounts as long as he
//! likes. What reads it must not be held up by that, nor grow.

use std::fs;
use std::process::{Child, Command, Stdio};

use crate::common::daemon::binary;
use crate::common::{Cell, Daemon, Limits, alone, patience, run, run_within, wait_for};
use crate::reader::Reader;
use crate::stand::Stand;

#[test]
fn a_gigabyte_of_mounts_of_one_reader_delays_nobody() {
    let _turn = alone();
    let limits = Limits {
        memory_bytes: Some(400 << 20),
        cpus: Some(0.5),
        ..Limits::default()
    };
    let mut stand = Stand::with(Daemon::start(&[]), &limits);
    let place = tempfile::tempdir().expect("a directory");
    let mounts = Reader::with_mounts(&stand.big, place.path(), &stand.path("proc/diskstats"));
    stand.assert_unharmed();
    let grown_kb = stand.grown_kb();
    assert!(grown_kb < 32 << 10, "{grown_kb} kB more");
    drop(mounts);
}

/// A process with a file of the daemon over its own.
struct Attached(Child);

impl Attached {
    fn start(daemon: &Daemon) -> Self {
        let script = format!(
            "mount --bind {} /proc/meminfo && exec sleep 1000",
            daemon.arg("proc/meminfo")
        );
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", &script]);
        let attached = Self(command.stdin(Stdio::null()).spawn().expect("unshare"));
        let mounts = format!("/proc/{}/mountinfo", attached.0.id());
        let has_it = || {
            let text = fs::read_to_string(&mounts).ok()?;
            text.contains(" /proc/meminfo ").then_some(())
        };
        wait_for(patience(10), has_it).expect("a mount");
        attached
    }

    fn reads(&self) -> bool {
        let target = self.0.id().to_string();
        let arguments = ["--target", &target, "--mount", "cat", "/proc/meminfo"];
        run(Command::new("nsenter").args(arguments)).succeeded()
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn commands_get_by_where_one_has_a_gigabyte_of_mounts() {
    let _turn = alone();
    let mut dead = Daemon::start(&[]);
    let hostile = Cell::start(&Limits {
        memory_bytes: Some(400 << 20),
        ..Limits::default()
    });
    let place = tempfile::tempdir().expect("a directory");
    let mounts = Reader::with_mounts(&hostile, place.path(), "/proc/version");
    let victim = Attached::start(&dead);
    dead.kill_all();
    assert!(!victim.reads(), "not dead");
    let again = Daemon::start_at(
        &binary(),
        dead.point(),
        &dead.pid_file().with_extension("2"),
        &[],
    );
    // Much less memory than the list has bytes.
    let limited = |command: &str| {
        let point = dead.point().display();
        let script = format!(
            "ulimit -v 500000; exec {} {command}{point}",
            binary().display()
        );
        run_within(Command::new("sh").args(["-c", &script]), patience(60))
    };
    let ran = limited("remount ");
    assert!(ran.out.contains("replaced"), "{ran:?}");
    assert!(ran.out.contains("too many mounts"), "{ran:?}");
    assert!(victim.reads(), "{ran:?}");
    // Its findings depend on the host; it comes to an end.
    let ran = limited("doctor --views=");
    assert!(!ran.out.is_empty(), "{ran:?}");
    drop(again);
    // The process whose list it is, and not the one that has started it.
    let own_namespace = |pid: &i32| {
        let command = fs::read_to_string(format!("/proc/{pid}/comm"));
        command.is_ok_and(|command| command == "sleep\n")
    };
    let bomb = hostile.guests().into_iter().find(own_namespace);
    let bomb = bomb.expect("a process with many mounts");
    let script = format!(
        "ulimit -v 500000; exec {} show {bomb} meminfo --runtime-dir {}",
        binary().display(),
        place.path().display()
    );
    let ran = run_within(Command::new("sh").args(["-c", &script]), patience(60));
    assert!(ran.out.contains("MemTotal:         409600 kB"), "{ran:?}");
    assert!(ran.err.contains("has too many mounts to tell"), "{ran:?}");
    drop(mounts);
}

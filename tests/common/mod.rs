//! What the integration tests and the benchmark share: the daemon under test, containers of several makers and readers
//! of their figures.
//!
//! The tests run unchanged on a cgroup v1, hybrid or v2 machine, with or without systemd. What a machine cannot do is
//! skipped with one line `SKIPPED <test>: <reason>` on the standard error stream.
#![allow(dead_code, unused_imports, unused_macros)]

use std::fs;
use std::io::{Read as _, Seek as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};

pub mod cell;
pub mod cgroup;
pub mod daemon;
pub mod docker;
pub mod figures;
pub mod images;
pub mod load;
pub mod mounts;
pub mod podman;

pub use cell::{Cell, Inside, Limits};
pub use cgroup::Cgroup;
pub use daemon::Daemon;

/// Ends the test with a line that says why this machine cannot run it.
macro_rules! skip {
    ($($reason:tt)*) => {{
        fn here() {}
        $crate::common::say_skipped(std::any::type_name_of_val(&here), &format!($($reason)*));
        return;
    }};
}
pub(crate) use skip;

/// Writes the line that `skip!` promises, past the output capture of the test harness.
pub fn say_skipped(function: &str, reason: &str) {
    let test = function.trim_end_matches("::here");
    // In one write, so that no other thread's words come between.
    let line = format!("SKIPPED {test}: {reason}\n");
    let _ = std::io::stderr().write_all(line.as_bytes());
}

/// Writes a line of figures past the output capture of the test harness.
pub fn report(text: &str) {
    let _ = writeln!(std::io::stderr(), "REPORT {text}");
}

/// Tests that measure time or load take the write side, all others the read side.
static MACHINE: RwLock<()> = RwLock::new(());

/// Waits until no other test runs, and keeps it so.
pub fn alone() -> RwLockWriteGuard<'static, ()> {
    MACHINE.write()
}

/// Lets other tests run at the same time, unless one of them needs the machine alone.
pub fn beside_others() -> RwLockReadGuard<'static, ()> {
    MACHINE.read()
}

/// Whether the machine is gone after the tests, so that they may change all of it.
pub fn thrown_away() -> bool {
    std::env::var_os("LXCFS_TEST_THROWN_AWAY").is_some()
}

/// How many times slower than hardware this machine is: 10 under instruction emulation, else 1.
pub fn slowness() -> u32 {
    static SLOWNESS: LazyLock<u32> = LazyLock::new(|| {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        if cpuinfo.contains("QEMU TCG") { 10 } else { 1 }
    });
    *SLOWNESS
}

/// A time limit given for hardware, stretched for emulation.
pub fn patience(seconds: u64) -> Duration {
    Duration::from_secs(seconds) * slowness()
}

/// A name nothing else on the machine has.
pub fn unique(stem: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("lxcfs-test-{stem}-{}-{number}", std::process::id())
}

/// What a finished command left.
#[derive(Debug)]
pub struct Ran {
    pub command: String,
    /// `None` when a signal ended it.
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Ran {
    pub fn succeeded(&self) -> bool {
        self.code == Some(0)
    }

    /// The output of a command that had to succeed.
    #[track_caller]
    pub fn ok(self) -> String {
        assert!(
            self.succeeded(),
            "{} failed: {:?}\n{}{}",
            self.command,
            self.code,
            self.out,
            self.err
        );
        self.out
    }
}

/// Runs a command to its end and panics when it takes longer than `limit`: a reader that hangs must fail one test only.
#[track_caller]
pub fn run_within(command: &mut Command, limit: Duration) -> Ran {
    let mut out = tempfile::tempfile().expect("a temporary file");
    let mut err = tempfile::tempfile().expect("a temporary file");
    let line = format!("{command:?}");
    let mut child = command
        .stdin(Stdio::null())
        .stdout(out.try_clone().expect("a second handle"))
        .stderr(err.try_clone().expect("a second handle"))
        .spawn()
        .unwrap_or_else(|error| panic!("cannot start {line}: {error}"));
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().expect("waiting for a child") {
            break status;
        }
        if start.elapsed() > limit {
            let _ = child.kill();
            panic!("{line} did not end within {limit:?}");
        }
        std::thread::sleep(Duration::from_millis(3));
    };
    let text = |file: &mut fs::File| {
        let mut bytes = Vec::new();
        file.rewind().expect("rewinding");
        file.read_to_end(&mut bytes)
            .expect("reading what a command wrote");
        String::from_utf8_lossy(&bytes).into_owned()
    };
    Ran {
        command: line,
        code: status.code(),
        out: text(&mut out),
        err: text(&mut err),
    }
}

/// [`run_within`] a time that is long for anything the tests start.
#[track_caller]
pub fn run(command: &mut Command) -> Ran {
    run_within(command, patience(30))
}

/// Runs a shell script.
#[track_caller]
pub fn sh(script: &str) -> Ran {
    run(Command::new("sh").args(["-c", script]))
}

/// Polls until `check` gives a value; `None` after `limit`.
pub fn wait_for<T>(limit: Duration, mut check: impl FnMut() -> Option<T>) -> Option<T> {
    let start = Instant::now();
    loop {
        if let Some(value) = check() {
            return Some(value);
        }
        if start.elapsed() > limit {
            return None;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Whether a program is installed.
pub fn has(program: &str) -> bool {
    let path = std::env::var("PATH").unwrap_or_default();
    path.split(':')
        .chain(["/usr/sbin", "/sbin"])
        .any(|dir| Path::new(dir).join(program).exists())
}

/// The kernel's clock ticks per second as it shows them to programs.
pub const USER_HZ: f64 = 100.0;

/// A process's resident memory in kB, a page that several processes map counted to each by its share.
pub fn pss_kb(pid: i32) -> Option<u64> {
    rollup_kb(pid, "Pss:")
}

/// The part of it that is in no file.
pub fn anonymous_kb(pid: i32) -> Option<u64> {
    rollup_kb(pid, "Pss_Anon:")
}

fn rollup_kb(pid: i32, key: &str) -> Option<u64> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = rollup.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_whitespace().next()?.parse().ok()
}

/// The parent of a process; `None` if there is no such process.
pub fn parent(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(1)?.parse().ok()
}

/// The direct children of a process.
pub fn children(pid: i32) -> Vec<i32> {
    // The lists in /proc/PID/task/TID/children miss some when threads or others of them end meanwhile.
    let names = fs::read_dir("/proc").expect("/proc").flatten();
    names
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|child| parent(*child) == Some(pid))
        .collect()
}

/// How many fds a process has open.
pub fn open_fds(pid: i32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd"))
        .map(Iterator::count)
        .unwrap_or_default()
}

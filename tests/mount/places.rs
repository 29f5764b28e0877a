//! A daemon in a strange place: what containers read is right, or there is one clear sentence, and
//! never the host's figures.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::common::daemon::binary;
use crate::common::{
    Cell, Cgroup, Limits, Ran, beside_others, has, patience, run_within, skip, wait_for,
};

const MEMORY_KB: u64 = 50 << 10;

/// What comes of a daemon in some place.
enum Outcome {
    /// Its figures are right, and its log has these words.
    Right(&'static str),
    /// It finds no limits: memory and CPUs are as many as the host's, the usage is not the host's, and its log has these
    /// words.
    Unlimited(&'static str),
    /// Readers get errors, and its log has these words.
    Errors(&'static str),
    /// It does not start, and says why in one sentence with these words.
    Refuses(&'static str),
}

use Outcome::{Errors, Refuses, Right, Unlimited};

/// That of the distribution, which ends with the daemon.
const FOREIGN: &str = "setpriv --pdeathsig KILL /usr/bin/lxcfs -p DIR/foreign.pid";

/// A daemon in a mount namespace of its own.
struct Placed {
    child: Child,
    dir: TempDir,
}

impl Placed {
    /// Starts it by a shell script, in which `lxcfs` stands for the daemon, in the `cgroup`.
    fn start(namespaces: &str, script: &str, cgroup: &Cgroup) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        fs::create_dir(dir.path().join("mnt")).expect("the mount point");
        let place = dir.path().display();
        let daemon = format!("{} -p {place}/pid {place}/mnt", binary().display());
        let script = format!(
            "{}exec unshare --mount {namespaces} sh -ec '{}'",
            cgroup.enter_script(),
            script
                .replace("lxcfs", &daemon)
                .replace("FOREIGN", FOREIGN)
                .replace("DIR", &place.to_string())
        );
        let log = fs::File::create(dir.path().join("log")).expect("a log");
        let child = Command::new("sh")
            .args(["-ec", &script])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("starting sh");
        Self { child, dir }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// Whether it serves; `false` if it has ended.
    fn serves(&mut self) -> bool {
        let serves = wait_for(patience(20), || {
            let ended = self.child.try_wait().expect("the daemon's state").is_some();
            match self.log().contains("serving ") {
                true => Some(true),
                false => ended.then_some(false),
            }
        });
        serves.unwrap_or_else(|| panic!("it neither serves nor ends: {}", self.log()))
    }

    fn child_is_unshare(&self) -> bool {
        fs::read_link(format!("/proc/{}/exe", self.child.id()))
            .is_ok_and(|program| program.ends_with("unshare"))
    }

    fn read_in(&self, cell: &Cell, file: &str) -> Ran {
        let mounts = format!("--mount=/proc/{}/ns/mnt", self.child.id());
        let path = self.dir.path().join("mnt").join(file);
        let path = path.to_str().expect("ASCII");
        run_within(
            &mut cell.command(&["nsenter", &mounts, "cat", path]),
            patience(20),
        )
    }
}

impl Drop for Placed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the daemon's log:\n{}", self.log());
        }
        let pid = Pid::from_raw(self.child.id().try_into().expect("a pid"));
        // The one in a pid namespace of its own is killed with its parent.
        let is_parent = self.child_is_unshare();
        let signal = if is_parent {
            Signal::SIGKILL
        } else {
            Signal::SIGTERM
        };
        let _ = kill(pid, signal);
        if wait_for(patience(10), || self.child.try_wait().expect("its state")).is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// The kernel accounts memory by cgroup.
pub fn has_memory() -> bool {
    let cgroups = fs::read_to_string("/proc/cgroups").unwrap_or_default();
    let controllers = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
    let enabled = |line: &str| line.starts_with("memory\t") && line.ends_with("\t1");
    cgroups.lines().any(enabled) || controllers.split_whitespace().any(|name| name == "memory")
}

fn number(text: &str, line: &str) -> u64 {
    let line = text.lines().find_map(|text| text.strip_prefix(line));
    let line = line.unwrap_or_else(|| panic!("no {line:?} in {text}"));
    let word = line.split_whitespace().next().expect("a number");
    word.split('.')
        .next()
        .expect("a number")
        .parse()
        .expect("a number")
}

#[track_caller]
fn assert_right(daemon: &Placed, cell: &Cell, started: Instant, finds_limits: bool) {
    let read = |file: &str| daemon.read_in(cell, file).ok();
    let memory = read("proc/meminfo");
    if finds_limits && has_memory() {
        assert_eq!(number(&memory, "MemTotal:"), MEMORY_KB, "{memory}");
    } else {
        let total = number(&memory, "MemTotal:");
        assert_eq!(
            number(&memory, "MemFree:"),
            total,
            "usage of the host: {memory}"
        );
    }
    let cpus = read("proc/cpuinfo");
    let count = cpus
        .lines()
        .filter(|line| line.starts_with("processor"))
        .count();
    assert_eq!(count == 1, finds_limits, "{cpus}");
    let uptime = number(&read("proc/uptime"), "");
    let most = started.elapsed().as_secs() + 1;
    assert!(uptime <= most, "{uptime} s after {most} s");
    let stat = read("proc/stat");
    let ticks: u64 = stat
        .lines()
        .next()
        .expect("a line")
        .split_whitespace()
        .skip(1)
        .map(|word| word.parse::<u64>().expect("ticks"))
        .sum();
    assert!(ticks <= (most + 1) * 100, "time of the host: {stat}");
}

#[track_caller]
fn assert_outcome(name: &str, mut daemon: Placed, beside: Cgroup, outcome: &Outcome) {
    let limits = Limits {
        memory_bytes: has_memory().then_some(MEMORY_KB << 10),
        cpus: Some(1.0),
        cpuset: None,
    };
    if let Refuses(words) = outcome {
        assert!(!daemon.serves(), "{name}: it serves");
        let log = daemon.log();
        assert_eq!(log.lines().count(), 1, "{name}: {log}");
        assert!(log.contains(words), "{name}: {log}");
        beside.remove();
        return;
    }
    assert!(daemon.serves(), "{name}: {}", daemon.log());
    let started = Instant::now();
    let cell = Cell::in_cgroup(beside, &limits);
    let words = match outcome {
        Right(words) | Unlimited(words) => {
            assert_right(&daemon, &cell, started, matches!(outcome, Right(_)));
            words
        }
        Errors(words) | Refuses(words) => {
            for file in ["proc/meminfo", "proc/uptime", "proc/stat"] {
                let ran = daemon.read_in(&cell, file);
                assert!(!ran.succeeded() && ran.out.is_empty(), "{name}: {ran:?}");
            }
            words
        }
    };
    let log = daemon.log();
    let said = log.lines().filter(|line| line.contains(words)).count();
    assert!(said == 1 || words.is_empty(), "{name}, {said} times: {log}");
}

/// Runs the daemon in each place: its namespaces, how it is started there, and what comes of it.
fn each(places: &[(&str, &str, &str, Outcome)]) {
    if !has("setpriv") || !has("unshare") {
        skip!("setpriv and unshare are not installed");
    }
    // As engines have it: the daemon in one of many cgroups below one.
    let parent = Cgroup::create();
    let own = parent.child("cell-of-daemon");
    for (number, (name, namespaces, script, outcome)) in places.iter().enumerate() {
        let daemon = Placed::start(namespaces, script, &own);
        let beside = parent.child(&format!("cell-{number}"));
        assert_outcome(name, daemon, beside, outcome);
    }
    own.remove();
    parent.remove();
}

#[test]
fn a_daemon_with_fewer_rights_is_right_or_says_what_it_lacks() {
    let _turn = beside_others();
    each(&[
        (
            "no CAP_SYS_PTRACE",
            "",
            "exec setpriv --bounding-set=-sys_ptrace lxcfs",
            Right("lacks CAP_SYS_PTRACE: "),
        ),
        (
            "hidepid, no CAP_SYS_PTRACE",
            "",
            "mount -t proc -o hidepid=2,gid=54321 proc /proc; exec setpriv --bounding-set=-sys_ptrace lxcfs",
            Errors("the option hidepid of /proc hides"),
        ),
        (
            "hidepid",
            "",
            "mount -t proc -o hidepid=2,gid=54321 proc /proc; exec lxcfs",
            Right(""),
        ),
        (
            "no CAP_SYS_ADMIN",
            "",
            "exec setpriv --bounding-set=-sys_admin lxcfs",
            Refuses("cannot mount"),
        ),
        (
            "a read-only directory for the pid file",
            "",
            "mount --bind DIR DIR; mount -o remount,bind,ro DIR; exec lxcfs",
            Refuses("cannot open the pid file"),
        ),
        (
            "a read-only /run",
            "",
            "mount -t tmpfs -o ro none /run; exec lxcfs",
            Right("cannot make the control socket"),
        ),
        (
            "16 fds",
            "",
            "exec prlimit --nofile=16:16 lxcfs",
            Refuses("Too many open files"),
        ),
    ]);
}

#[test]
fn a_daemon_in_foreign_namespaces_is_right_or_refuses() {
    let _turn = beside_others();
    each(&[
        ("as it is", "", "exec lxcfs", Right("")),
        ("a cgroup namespace", "--cgroup", "exec lxcfs", Right("")),
        (
            "cgroup and pid namespaces",
            "--cgroup --pid --fork --kill-child=KILL --mount-proc",
            "exec lxcfs",
            Refuses("lies outside of what is mounted"),
        ),
        (
            "a pid namespace",
            "--pid --fork --kill-child=KILL --mount-proc",
            "exec lxcfs",
            Errors("outside of the pid namespace that lxcfs runs in"),
        ),
        (
            "the /proc of another pid namespace",
            "--pid --fork --kill-child=KILL",
            "exec lxcfs",
            Refuses("/proc belongs to another pid namespace"),
        ),
        (
            "a part of the hierarchies",
            "",
            "for dir in /sys/fs/cgroup /sys/fs/cgroup/*; do own=$(sed -n \"s,^[0-9]*:[^:]*:,,p\" /proc/self/cgroup | grep -m 1 cell); \
             [ ! -d $dir$own ] || mount --bind $dir$own $dir; done; exec lxcfs",
            Refuses("lies outside of what is mounted"),
        ),
        (
            "no hierarchy with controllers, as by cgroup_no_v1=all without a v2",
            "",
            "umount --lazy --all --types cgroup,cgroup2; mkdir DIR/named; \
             mount -t cgroup -o none,name=tracked none DIR/named; exec lxcfs",
            Unlimited("no cgroup accounts memory"),
        ),
    ]);
}

#[test]
fn a_daemon_beside_a_foreign_lxcfs_is_right_or_refuses() {
    let _turn = beside_others();
    if !has("lxcfs") {
        skip!("the lxcfs package is not installed");
    }
    each(&[
        (
            "at another place",
            "",
            "mkdir DIR/other; FOREIGN DIR/other > /dev/null 2>&1 & \
             while ! grep -q DIR/other /proc/mounts; do sleep 0.1; done; exec lxcfs",
            Right(""),
        ),
        (
            "at the same place",
            "",
            "FOREIGN DIR/mnt > /dev/null 2>&1 & \
             while ! grep -q DIR/mnt /proc/mounts; do sleep 0.1; done; exec lxcfs",
            Refuses("is served by another lxcfs already; stop that one first"),
        ),
    ]);
}

#[test]
fn doctor_takes_an_error_of_its_own_for_no_silence_of_the_daemon() {
    let _turn = beside_others();
    let own = Cgroup::create();
    // It cannot tell who reads from outside of its pid namespace.
    let namespaces = "--pid --fork --kill-child=KILL --mount-proc";
    let mut daemon = Placed::start(namespaces, "exec lxcfs", &own);
    assert!(daemon.serves(), "{}", daemon.log());
    let script = format!(
        "mount -t proc proc /proc; exec {} doctor --views {}",
        binary().display(),
        daemon.dir.path().join("mnt").display()
    );
    let mut doctor = Command::new("nsenter");
    doctor.arg(format!("--mount=/proc/{}/ns/mnt", daemon.child.id()));
    doctor.args(["unshare", "--mount", "sh", "-ec", &script]);
    let said = run_within(&mut doctor, patience(60)).out;
    assert!(
        said.contains("mnt is served, but cannot be read from here: ESRCH"),
        "{said}"
    );
    for command in ["kill ", "umount ", "setsid "] {
        assert!(!said.contains(command), "{command}: {said}");
    }
    drop(daemon);
    own.remove();
}

//! `lxcfs show`: what it prints is what the process reads.

use std::fs;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::Command;

use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::common::daemon::binary;
use crate::common::figures::keyed;
use crate::common::{Cell, Daemon, Limits, Ran, beside_others, patience, run_within, wait_for};

/// A daemon that can be asked, and a container.
struct Asked {
    dir: TempDir,
    daemon: Daemon,
    cell: Cell,
}

impl Asked {
    fn start(configuration: &str, options: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let config = dir.path().join("lxcfs.toml");
        fs::write(&config, configuration).expect("writing the configuration");
        let mut line = vec!["--config", config.to_str().expect("ASCII")];
        line.extend(["--runtime-dir", dir.path().to_str().expect("ASCII")]);
        line.extend(options);
        let limits = Limits {
            memory_bytes: Some(64 << 20),
            cpus: Some(1.0),
            ..Limits::default()
        };
        Self {
            daemon: Daemon::start(&line),
            cell: Cell::start(&limits),
            dir,
        }
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("lxcfs.sock")
    }

    fn show(&self, arguments: &[&str]) -> Ran {
        self.show_of(self.cell.init, arguments)
    }

    fn show_of(&self, pid: i32, arguments: &[&str]) -> Ran {
        let mut command = Command::new(binary());
        command.args(["show", &pid.to_string(), "--runtime-dir"]);
        command.arg(self.dir.path()).args(arguments);
        run_within(&mut command, patience(10))
    }

    fn total_kb(&self) -> u64 {
        keyed(&self.show(&["meminfo"]).ok())["MemTotal"]
    }

    fn configure(&self, text: &str) {
        fs::write(self.dir.path().join("lxcfs.toml"), text).expect("writing the configuration");
    }

    fn rule(&self, what: &str) -> String {
        let directory = self.cell.cgroup.dir("memory");
        let name = directory.file_name().expect("a name").to_string_lossy();
        format!("[[container]]\ncgroup = \"/{name}\"\n{what}\n")
    }
}

fn host_total_kb() -> u64 {
    keyed(&fs::read_to_string("/proc/meminfo").expect("meminfo"))["MemTotal"]
}

#[test]
fn show_knows_the_options_of_the_daemon() {
    let _turn = beside_others();
    let asked = Asked::start("", &["--cpu-view=host", "--uptime=host"]);
    for file in ["cpuinfo", "swaps"] {
        let read = asked.cell.read(&asked.daemon, &format!("proc/{file}"));
        let shown = asked.show(&[file]);
        assert_eq!(read, shown.out, "{}", shown.err);
    }
    let uptime = asked.show(&["uptime"]).ok();
    let age: f64 = uptime
        .split(' ')
        .next()
        .unwrap_or_default()
        .parse()
        .expect("seconds");
    let hosts = fs::read_to_string("/proc/uptime").expect("the host's uptime");
    let hosts: f64 = hosts
        .split(' ')
        .next()
        .unwrap_or_default()
        .parse()
        .expect("seconds");
    assert!((age - hosts).abs() < 60.0, "{age} of {hosts}");
}

#[test]
fn show_goes_by_what_the_daemon_has_loaded_and_not_by_the_file() {
    let _turn = beside_others();
    let asked = Asked::start("", &[]);
    assert_eq!(asked.total_kb(), 64 << 10);
    asked.configure(&asked.rule("passthrough = true"));
    assert_eq!(asked.total_kb(), 64 << 10, "the file is not loaded yet");
    asked.daemon.signal(Signal::SIGHUP);
    let loaded = || (asked.total_kb() == host_total_kb()).then_some(());
    assert!(wait_for(patience(5), loaded).is_some());
    let explained = asked.show(&["meminfo", "--explain"]).ok();
    assert!(
        explained.contains("\nrule: [[container]] number 1"),
        "{explained}"
    );

    asked.configure("not a configuration");
    asked.daemon.signal(Signal::SIGHUP);
    assert_eq!(
        asked.total_kb(),
        host_total_kb(),
        "a bad file changes nothing"
    );
}

#[test]
fn show_says_that_the_views_are_off() {
    let _turn = beside_others();
    let asked = Asked::start("", &[]);
    asked.daemon.signal(Signal::SIGUSR2);
    let off = || (asked.total_kb() == host_total_kb()).then_some(());
    assert!(wait_for(patience(5), off).is_some());
    let err = asked.show(&["meminfo"]).err;
    assert!(err.contains("switched off by SIGUSR2"), "{err}");
}

#[test]
fn show_says_what_is_not_attached() {
    let _turn = beside_others();
    let asked = Asked::start("", &[]);
    let err = asked.show(&["meminfo"]).err;
    assert!(
        err.contains("not attached") && err.contains("meminfo"),
        "{err}"
    );
    // In a mount namespace of its own: the container shares that of the host.
    let attach = format!(
        "mount --bind {} /proc/meminfo && exec sleep 60",
        asked.daemon.arg("proc/meminfo")
    );
    let mut attached = asked
        .cell
        .spawn(&["unshare", "--mount", "sh", "-ec", &attach]);
    let sleeper = || {
        let is_sleep = |pid: &i32| {
            let command = fs::read_to_string(format!("/proc/{pid}/comm"));
            command.is_ok_and(|command| command == "sleep\n")
        };
        asked.cell.guests().into_iter().find(is_sleep)
    };
    let pid = wait_for(patience(5), sleeper).expect("a process with a view");
    assert_eq!(asked.show_of(pid, &["meminfo"]).err, "");
    let err = asked.show_of(pid, &[]).err;
    assert!(err.contains("stat") && !err.contains("meminfo"), "{err}");
    let sleeper = nix::unistd::Pid::from_raw(pid);
    nix::sys::signal::kill(sleeper, Signal::SIGKILL).expect("ending the process");
    attached.wait().expect("the end of the process");
}

#[test]
fn show_answers_without_a_daemon_and_with_a_bad_file() {
    let _turn = beside_others();
    let mut asked = Asked::start("", &[]);
    asked.daemon.signal(Signal::SIGTERM);
    assert!(asked.daemon.ended().is_some());
    assert!(!asked.socket().exists(), "the socket stays behind");
    let shown = asked.show(&["meminfo", "--config", "/nonexistent/lxcfs.toml"]);
    assert_eq!(keyed(&shown.out)["MemTotal"], 64 << 10);
    assert!(shown.err.contains("no lxcfs answers at"), "{}", shown.err);
    assert!(shown.err.contains("by the defaults"), "{}", shown.err);
}

#[test]
fn a_killed_server_leaves_a_socket_that_the_next_one_takes() {
    let _turn = beside_others();
    let asked = Asked::start("", &[]);
    let server = || {
        let holder = asked.daemon.pid();
        asked
            .daemon
            .processes()
            .into_iter()
            .find(|pid| *pid != holder)
    };
    assert_eq!(asked.total_kb(), 64 << 10);
    let pid = nix::unistd::Pid::from_raw(server().expect("a server"));
    nix::sys::signal::kill(pid, Signal::SIGKILL).expect("killing the server");
    let again = || {
        let shown = asked.show(&["meminfo"]);
        (shown.succeeded() && shown.err.contains("not attached") && !shown.err.contains("no lxcfs"))
            .then_some(())
    };
    assert!(
        wait_for(patience(10), again).is_some(),
        "{:?}",
        asked.show(&["meminfo"])
    );
}

#[test]
fn a_socket_that_does_not_answer_gets_one_sentence() {
    let _turn = beside_others();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let _silent = UnixListener::bind(dir.path().join("lxcfs.sock")).expect("a socket");
    let mut command = Command::new(binary());
    command
        .args(["show", "1", "meminfo", "--runtime-dir"])
        .arg(dir.path());
    let ran = run_within(&mut command, patience(20));
    assert!(
        !ran.succeeded() && ran.err.contains("does not answer at"),
        "{ran:?}"
    );
    assert_eq!(ran.err.lines().count(), 1, "{ran:?}");
}

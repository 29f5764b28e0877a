//! Whatever other users and containers call lxcfs, nothing of it is executed, opened or named for an end.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use lxcfs::daemon;
use lxcfs::host::process::Proc;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use tempfile::TempDir;

use super::Findings;
use crate::common::daemon::binary;
use crate::common::{Daemon, alone, beside_others, children, has, patience, skip, wait_for};

/// How strangers are started.
const STRANGERS: [(&str, &str); 3] = [
    (
        "another user's process",
        "setpriv --reuid=65534 --regid=65534 --clear-groups",
    ),
    (
        "another user's process in namespaces of its own",
        "setpriv --reuid=65534 --regid=65534 --clear-groups \
         unshare --user --map-root-user --mount --pid --fork --kill-child=KILL",
    ),
    (
        "root's process in a container",
        "unshare --mount --pid --fork --kill-child=KILL",
    ),
];

/// Changes its own command line to its arguments and sleeps.
const SCRIPT: &str = r#"$0 = join("\0", @ARGV) . ("\0" x 9999); sleep 100000"#;

/// A copy of perl on a file system that notes each use of it.
struct Program {
    dir: TempDir,
    path: PathBuf,
}

impl Program {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        mount(
            Some("tmpfs"),
            dir.path(),
            Some("tmpfs"),
            MsFlags::MS_STRICTATIME,
            None::<&str>,
        )
        .expect("a file system");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("permissions");
        let path = dir.path().join("program");
        fs::copy("/usr/bin/perl", &path).expect("a program");
        Self { dir, path }
    }

    fn last_use(&self) -> (i64, i64) {
        let metadata = fs::metadata(&self.path).expect("the program");
        (metadata.atime(), metadata.atime_nsec())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = umount2(self.dir.path(), MntFlags::MNT_DETACH);
    }
}

/// A process with a command line of its choice.
struct Stranger {
    starter: Child,
    pid: i32,
}

impl Stranger {
    fn start(how: &str, program: &Path, words: &[&str]) -> Option<Self> {
        let mut line = how.split_whitespace();
        let mut command = Command::new(line.next().expect("a program"));
        command.args(line).arg(program).args(["-e", SCRIPT]);
        command.args(words).stdin(Stdio::null());
        let mut starter = command.spawn().expect("a process");
        let first = i32::try_from(starter.id()).expect("a pid");
        let wanted = words.join("\0");
        let pid = wait_for(patience(10), || {
            let mut all = children(first);
            all.push(first);
            all.into_iter().find(|pid| {
                let line = fs::read_to_string(format!("/proc/{pid}/cmdline"));
                line.is_ok_and(|line| line.trim_end_matches('\0') == wanted)
            })
        });
        if pid.is_none() {
            let _ = starter.kill();
            let _ = starter.wait();
        }
        Some(Self { starter, pid: pid? })
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let _ = self.starter.kill();
        let _ = self.starter.wait();
    }
}

#[test]
fn a_stranger_that_calls_itself_lxcfs_is_neither_executed_nor_read_nor_to_be_killed() {
    if !["setpriv", "perl", "unshare"].iter().all(|tool| has(tool)) {
        skip!("setpriv, perl and unshare are needed");
    }
    let _turn = alone();
    let program = Program::new();
    let point = program.dir.path().join("mnt");
    let (fifo, pid_file) = (
        program.dir.path().join("fifo"),
        program.dir.path().join("pid"),
    );
    mkfifo(&fifo, Mode::S_IRWXU).expect("a FIFO");
    let path = |path: &Path| path.to_str().expect("ASCII").to_owned();
    let (shown, fifo) = (path(&point), path(&fifo));
    let words = [
        "lxcfs",
        "-f",
        "--config",
        &fifo,
        "-p",
        &path(&pid_file),
        &shown,
    ];
    let mut started = 0;
    for (who, how) in STRANGERS {
        let Some(stranger) = Stranger::start(how, &program.path, &words) else {
            // Not everywhere may everybody have a user namespace.
            continue;
        };
        started += 1;
        fs::write(&pid_file, stranger.pid.to_string()).expect("a pid file");
        let proc = Proc::open(Path::new("/proc")).expect("/proc");
        assert!(daemon::holder(&pid_file, &proc).is_none(), "{who}");
        assert!(daemon::Daemon::at(&point, &proc).is_none(), "{who}");
        let last_use = program.last_use();
        let found = Findings::of(&point);
        assert_eq!(program.last_use(), last_use, "{who} was executed");
        let of_lxcfs = found.to_mend("lxcfs");
        assert_eq!(of_lxcfs.len(), 1, "{who}: {found:?}");
        let command = of_lxcfs[0].command.as_deref().unwrap_or_default();
        assert!(
            command.contains("setsid -f ") && !command.contains("kill"),
            "{who}: {command}"
        );
        assert!(!found.speaks_of(&fifo), "{who}: {found:?}");
    }
    assert!(started >= 2, "only {started} strangers could be started");
}

#[test]
fn a_daemon_is_known_with_a_stranger_beside_it() {
    if !["setpriv", "perl"].iter().all(|tool| has(tool)) {
        skip!("setpriv and perl are needed");
    }
    let _turn = alone();
    let daemon = Daemon::start(&["-f"]);
    let program = Program::new();
    let point = daemon.arg("");
    let words = ["lxcfs", "-f", point.trim_end_matches('/')];
    let stranger = Stranger::start(STRANGERS[0].1, &program.path, &words).expect("a process");
    let proc = Proc::open(Path::new("/proc")).expect("/proc");
    let holder = daemon::holder(daemon.pid_file(), &proc).expect("the holder of the pid file");
    assert_eq!(holder.pid, daemon.pid());
    let found = Findings::of(daemon.point());
    assert_eq!(found.to_mend("lxcfs").len(), 0, "{found:?}");
    let name = |pid: i32| format!("process {pid}");
    assert!(found.speaks_of(&name(daemon.pid())), "{found:?}");
    assert!(!found.speaks_of(&name(stranger.pid)), "{found:?}");
}

/// In a pid namespace of its own, where other Docker daemons of this machine do not run.
#[test]
fn a_stranger_called_dockerd_does_not_have_docker_started() {
    if !["setpriv", "perl", "docker", "unshare"]
        .iter()
        .all(|tool| has(tool))
    {
        skip!("setpriv, perl, docker and unshare are needed");
    }
    let _turn = beside_others();
    let program = Program::new();
    let directory = program.dir.path();
    let named = directory.join("dockerd");
    fs::copy(&program.path, &named).expect("a program");
    let (bin, asked) = (directory.join("docker"), directory.join("asked"));
    fs::write(&bin, format!("#!/bin/sh\ntouch {}\n", asked.display())).expect("a script");
    fs::set_permissions(&bin, fs::Permissions::from_mode(0o755)).expect("permissions");
    let has_docker_asked = |how: &str| {
        let script = format!(
            "PATH={dir}:$PATH; {how} {dir}/dockerd -e 'sleep 1000' & \
             until [ \"$(readlink /proc/$!/exe)\" = {dir}/dockerd ]; do sleep 0.01; done; \
             {lxcfs} doctor --views {dir}",
            dir = directory.display(),
            lxcfs = binary().display(),
        );
        let mut command = Command::new("unshare");
        command.args([
            "--mount",
            "--pid",
            "--fork",
            "--mount-proc",
            "sh",
            "-c",
            &script,
        ]);
        Findings::by(&mut command);
        fs::remove_file(&asked).is_ok()
    };
    assert!(!has_docker_asked(STRANGERS[0].1), "docker was asked");
    // The same process of root is a daemon that is asked.
    assert!(has_docker_asked(""), "docker was not asked");
}

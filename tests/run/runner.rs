//! Starting `lxcfs run`, and finding what belongs to one.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::common::daemon::binary;
use crate::common::{self, Ran, children, patience, unique, wait_for};

macro_rules! needs_root {
    () => {
        if !nix::unistd::Uid::effective().is_root() {
            crate::common::skip!("needs root");
        }
    };
}
pub(crate) use needs_root;

/// Environment variable by which the processes of one run are found.
pub const MARK: &str = "LXCFS_TEST_RUN";

/// Starts a program in a mount namespace without any lxcfs, so that a run has to serve
/// the views itself.
pub const WITHOUT_DAEMONS: &str = r#"
    grep ' fuse.lxcfs ' /proc/mounts | cut -d ' ' -f 2 | while read -r point; do
        umount -l "$point" 2>/dev/null
    done
    exec "$@""#;

/// `lxcfs run` with these options.
pub fn command(options: &[&str], argv: &[&str]) -> Command {
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "sh", "-c", WITHOUT_DAEMONS, "sh"])
        .arg(binary())
        .arg("run")
        .args(options)
        .arg("--")
        .args(argv)
        .stdin(Stdio::null());
    command
}

#[track_caller]
pub fn run(options: &[&str], argv: &[&str]) -> Ran {
    common::run(&mut command(options, argv))
}

#[track_caller]
pub fn sh(options: &[&str], script: &str) -> Ran {
    run(options, &["sh", "-c", script])
}

/// A run that is going on.
pub struct Run {
    pub front: Pid,
    pub mark: String,
    child: Child,
}

impl Run {
    pub fn start(options: &[&str], argv: &[&str]) -> Self {
        let mark = unique("run");
        let child = command(options, argv)
            .env(MARK, &mark)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Self {
            front: Pid::from_raw(child.id().try_into().unwrap()),
            mark,
            child,
        }
    }

    /// Starts a script and waits for the line `ready` of it.
    #[track_caller]
    pub fn ready(script: &str) -> Self {
        let mut run = Self::start(&[], &["sh", "-c", script]);
        let output = run.child.stdout.as_mut().unwrap();
        let mut line = [0; 6];
        output.read_exact(&mut line).unwrap();
        assert_eq!(line, *b"ready\n");
        run
    }

    pub fn exit_code(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }

    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Kills the child of the front process that leads a session of its own.
    #[track_caller]
    pub fn kill_janitor(&self) {
        let leads_session = |pid: &i32| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let fields = stat.rsplit_once(") ").map_or("", |parts| parts.1);
            fields.split(' ').nth(3) == Some(&pid.to_string())
        };
        let janitor = wait_for(patience(10), || {
            children(self.front.as_raw())
                .into_iter()
                .find(leads_session)
        });
        kill(Pid::from_raw(janitor.unwrap()), Signal::SIGKILL).unwrap();
    }

    pub fn cgroups(&self) -> Vec<PathBuf> {
        cgroups_of(self.front)
    }

    #[track_caller]
    pub fn assert_nothing_left(&self) {
        assert_nothing_left(self.front, &self.mark);
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        // Only a test that failed leaves anything to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The cgroups of the run whose front process has, or had, this pid.
pub fn cgroups_of(front: Pid) -> Vec<PathBuf> {
    let prefix = format!("lxcfs-run-{front}-");
    let top = PathBuf::from("/sys/fs/cgroup");
    let hierarchies = fs::read_dir(&top)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    hierarchies
        .chain([top.clone()])
        .filter(|path| path.is_dir() && !path.is_symlink())
        .flat_map(|path| fs::read_dir(path).into_iter().flatten().flatten())
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix))
        .map(|entry| entry.path())
        .collect()
}

/// The living processes with this mark in their environment.
pub fn marked(mark: &str) -> Vec<String> {
    let entry = format!("{MARK}={mark}");
    let has_mark = |path: &PathBuf| {
        fs::read(path.join("environ")).is_ok_and(|environment| {
            environment
                .split(|byte| *byte == 0)
                .any(|variable| variable == entry.as_bytes())
        })
    };
    fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .map(|process| process.path())
        .filter(has_mark)
        .map(|path| fs::read_to_string(path.join("cmdline")).unwrap_or_default())
        .collect()
}

#[track_caller]
pub fn assert_nothing_left(front: Pid, mark: &str) {
    let gone = wait_for(patience(10), || {
        (cgroups_of(front).is_empty() && marked(mark).is_empty()).then_some(())
    });
    assert!(
        gone.is_some(),
        "left: {:?} {:?}",
        cgroups_of(front),
        marked(mark)
    );
}

pub fn await_line(reader: &mut BufReader<ChildStdout>, wanted: &str) {
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    assert_eq!(line.trim_end(), wanted);
}

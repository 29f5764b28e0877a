//! The daemon under test, on a mount point of its own.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::{children, patience, pss_kb, wait_for};

/// The binary under test: `LXCFS_BIN`, else the one cargo built.
pub fn binary() -> PathBuf {
    std::env::var_os("LXCFS_BIN")
        .map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_lxcfs")), PathBuf::from)
}

/// The type and options of the topmost mount at a path.
#[derive(Debug)]
pub struct Mounted {
    pub kind: String,
    pub source: String,
    /// Of the mount and of the file system.
    pub options: Vec<String>,
}

/// What is mounted exactly here, if anything is.
pub fn mounted_at(point: &Path) -> Option<Mounted> {
    let mountinfo = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let line = mountinfo
        .lines()
        .rfind(|line| line.split(' ').nth(4) == point.to_str())?;
    let (front, back) = line.split_once(" - ")?;
    let mut back = back.split(' ');
    let (kind, source, superblock) = (
        back.next()?.to_owned(),
        back.next()?.to_owned(),
        back.next()?,
    );
    let options = front
        .split(' ')
        .nth(5)?
        .split(',')
        .chain(superblock.split(','))
        .map(str::to_owned)
        .collect();
    Some(Mounted {
        kind,
        source,
        options,
    })
}

/// A running daemon; ended and unmounted when dropped, also by a panic.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    point: PathBuf,
    pid_file: PathBuf,
    dir: Option<TempDir>,
}

impl Daemon {
    /// Starts the daemon in a new directory and waits until it answers.
    #[track_caller]
    pub fn start(args: &[&str]) -> Self {
        Self::start_as(&binary(), args)
    }

    /// Starts the daemon with some variables in its environment.
    #[track_caller]
    pub fn start_with(args: &[&str], variables: &[(&str, &str)]) -> Self {
        Self::start_program_with(&binary(), args, variables)
    }

    /// Starts another binary with the same command line.
    #[track_caller]
    pub fn start_as(binary: &Path, args: &[&str]) -> Self {
        Self::start_program_with(binary, args, &[])
    }

    /// Starts another binary with some variables in its environment.
    #[track_caller]
    pub fn start_program_with(binary: &Path, args: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut command = Command::new(binary);
        command.envs(variables.iter().copied());
        Self::start_command(command, args)
    }

    /// Starts the daemon by a command that lacks its arguments.
    #[track_caller]
    pub fn start_command(command: Command, args: &[&str]) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("lxcfs-test-")
            .tempdir()
            .expect("a temporary directory");
        let point = dir.path().join("mnt");
        fs::create_dir(&point).expect("making the mount point");
        let mut daemon = Self::launch(command, &point, &dir.path().join("pid"), args);
        daemon.dir = Some(dir);
        daemon
    }

    /// Starts the daemon at a given mount point.
    #[track_caller]
    pub fn start_at(binary: &Path, point: &Path, pid_file: &Path, args: &[&str]) -> Self {
        Self::launch(Command::new(binary), point, pid_file, args)
    }

    #[track_caller]
    fn launch(mut command: Command, point: &Path, pid_file: &Path, args: &[&str]) -> Self {
        let log = pid_file.with_extension("log");
        let child = command
            .args(args)
            .arg("-p")
            .arg(pid_file)
            .arg(point)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(&log).expect("a log file"))
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let mut daemon = Self {
            child,
            point: point.to_owned(),
            pid_file: pid_file.to_owned(),
            dir: None,
        };
        let answers = wait_for(patience(10), || {
            let ended = daemon.child.try_wait().expect("the state of the daemon");
            assert!(
                ended.is_none(),
                "the daemon ended with {ended:?}: {}",
                daemon.log()
            );
            daemon.answers().then_some(())
        });
        assert!(
            answers.is_some(),
            "the daemon does not answer: {}",
            daemon.log()
        );
        daemon
    }

    /// Whether the mount is there and serves `proc/meminfo`.
    pub fn answers(&self) -> bool {
        // Other file systems may have been there before.
        mounted_at(&self.point).is_some_and(|mounted| mounted.kind.starts_with("fuse"))
            && fs::read_to_string(self.path("proc/meminfo"))
                .is_ok_and(|text| text.starts_with("MemTotal:"))
    }

    pub fn point(&self) -> &Path {
        &self.point
    }

    pub fn pid_file(&self) -> &Path {
        &self.pid_file
    }

    /// A path below the mount point.
    pub fn path(&self, below: &str) -> PathBuf {
        self.point.join(below)
    }

    /// A path below the mount point as an argument.
    pub fn arg(&self, below: &str) -> String {
        self.path(below).to_str().expect("an ASCII path").to_owned()
    }

    /// The file as this process sees it: the test is no container.
    #[track_caller]
    pub fn read(&self, below: &str) -> String {
        let path = self.path(below);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("a pid")
    }

    /// The daemon's processes: the one started and its children.
    pub fn processes(&self) -> Vec<i32> {
        let mut all = vec![self.pid()];
        all.extend(children(self.pid()));
        all
    }

    /// Resident memory of all of its processes, with what they share counted once.
    pub fn rss_kb(&self) -> u64 {
        self.processes().into_iter().filter_map(pss_kb).sum()
    }

    /// What it wrote to its standard error stream.
    pub fn log(&self) -> String {
        fs::read_to_string(self.pid_file.with_extension("log")).unwrap_or_default()
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).expect("signalling the daemon");
    }

    pub fn is_running(&mut self) -> bool {
        self.child
            .try_wait()
            .expect("the state of the daemon")
            .is_none()
    }

    /// Waits for the daemon's own end.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        wait_for(patience(10), || {
            self.child.try_wait().expect("the state of the daemon")
        })
    }

    /// Kills all of its processes as a crash would, which leaves a dead mount.
    pub fn kill_all(&mut self) {
        let processes = self.processes();
        for pid in &processes {
            let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
        }
        let status = self.child.wait().expect("the end of the daemon");
        assert_eq!(status.signal(), Some(Signal::SIGKILL as i32));
        // What reads while one of them is about to end gets another error.
        let has_ended = |pid: &i32| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
            stat.map_or(true, |stat| stat.contains(") Z"))
        };
        let gone = wait_for(patience(5), || {
            processes.iter().all(has_ended).then_some(())
        });
        assert!(gone.is_some(), "a process of the daemon does not end");
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let processes = self.processes();
        if self.is_running() {
            self.signal(Signal::SIGTERM);
            if self.ended().is_none() {
                for pid in processes {
                    let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
                }
                let _ = self.child.wait();
            }
        }
        while mounted_at(&self.point).is_some()
            && umount2(&self.point, MntFlags::MNT_DETACH).is_ok()
        {}
        if std::thread::panicking() {
            eprintln!("the daemon's log:\n{}", self.log());
        }
    }
}

//! A mountpoint whose daemon dies and is followed by another, and containers that have its files.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::common::daemon::binary;
pub use crate::common::mounts::{mounts, options_at, read, total_mib, wait_until_it_sleeps};
use crate::common::{Cell, Daemon, Inside, Limits, Ran, run};

/// LXCFS as Debian packages it.
const DEBIANS: &str = "/usr/bin/lxcfs";

/// What a read from a dead FUSE mount fails with.
pub const DEAD: &str = "Transport endpoint is not connected";

/// The program to be followed by ours, or why there is none.
pub fn debians() -> Result<PathBuf, String> {
    let path = PathBuf::from(DEBIANS);
    if path.exists() {
        Ok(path)
    } else {
        Err("Debian's lxcfs is not installed".to_owned())
    }
}

/// A mountpoint and its daemons.
#[derive(Debug)]
pub struct Host {
    new: Option<Daemon>,
    pub old: Daemon,
}

impl Host {
    #[track_caller]
    pub fn served_by(binary: &Path) -> Self {
        Self {
            new: None,
            old: Daemon::start_as(binary, &[]),
        }
    }

    pub fn point(&self) -> &Path {
        self.old.point()
    }

    /// Kills the daemon and starts ours in its place.
    #[track_caller]
    pub fn follow(&mut self) {
        match self.new.as_mut() {
            Some(new) => new.kill_all(),
            None => self.old.kill_all(),
        }
        self.new = None;
        let pid_file = self.old.pid_file().with_file_name("pid-of-new");
        let _ = fs::remove_file(&pid_file);
        self.new = Some(Daemon::start_at(&binary(), self.point(), &pid_file, &[]));
    }

    pub fn remount(&self, options: &[&str]) -> Ran {
        let mut command = Command::new(binary());
        run(command.arg("remount").args(options).arg(self.point()))
    }
}

/// A container without an engine that has a mount namespace of its own: 64 MB and what `script` mounts. The script finds
/// the daemon's files below `$1`.
#[track_caller]
pub fn cell(host: &Host, script: &str) -> Cell {
    cell_with(host, "private", script)
}

/// The same with other propagation (man: unshare(1)).
#[track_caller]
pub fn cell_with(host: &Host, propagation: &str, script: &str) -> Cell {
    let limits = Limits {
        memory_bytes: Some(64 << 20),
        ..Limits::default()
    };
    let script = format!("{script}\nexec sleep 100000");
    let argv = [
        "unshare",
        "--mount",
        "--propagation",
        propagation,
        "sh",
        "-ec",
        &script,
        "sh",
        host.point().to_str().expect("an ASCII path"),
    ];
    let argv: Vec<_> = argv.iter().map(Path::new).collect();
    let cell = Cell::with_init(&limits, &argv, true);
    wait_until_it_sleeps(cell.init);
    cell
}

/// Signals all processes of a daemon; one that has ended meanwhile does not matter.
pub fn signal_all(daemon: &Daemon, signal: Signal) {
    for pid in daemon.processes() {
        let _ = kill(Pid::from_raw(pid), signal);
    }
}

#[track_caller]
pub fn assert_dead(inside: &Inside, path: &str) {
    let ran = read(inside, path);
    assert!(ran.err.contains(DEAD), "{path}: {ran:?}");
}

/// What a run of the command says of one mount of a process.
#[track_caller]
pub fn result(ran: &Ran, pid: i32, path: &str) -> String {
    let pid = pid.to_string();
    let line = ran.out.lines().find_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        (words.next() == Some(&pid) && words.next() == Some(path))
            .then(|| words.collect::<Vec<_>>().join(" "))
    });
    line.unwrap_or_else(|| panic!("nothing about {path} of {pid}: {ran:?}"))
}

/// Whether a run of the command says anything about a process.
pub fn mentions(ran: &Ran, pid: i32) -> bool {
    let pid = pid.to_string();
    ran.out
        .lines()
        .any(|line| line.split_whitespace().nth(1) == Some(&pid))
}

/// Runs the command ten times; none changes any mount of these processes or speaks of them.
#[track_caller]
pub fn assert_settled(host: &Host, pids: &[i32]) {
    let before: Vec<_> = pids.iter().map(|pid| mounts(*pid)).collect();
    for _ in 0..10 {
        let ran = host.remount(&[]);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert!(pids.iter().all(|pid| !mentions(&ran, *pid)), "{ran:?}");
    }
    let after: Vec<_> = pids.iter().map(|pid| mounts(*pid)).collect();
    assert_eq!(after, before);
}

//! The daemons of this host, as other processes find them.
//!
//! A daemon that is believed is root's, in the namespaces of this process, and either runs the
//! program that is installed or holds the lock of its pid file. Whatever else calls itself lxcfs
//! is nobody's daemon: it is not asked, and none of its files is opened.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::Parser;

use crate::attach::INSTALLED;
use crate::cli::{Cli, Command, DaemonArgs};
use crate::host::process::Proc;
use crate::ops::control;
use crate::ops::protocol::{Request, Status, StatusRequest};
use crate::places::trust::{self, Trust};
use crate::session::held;
use crate::session::in_force::{InForce, State};

/// What a command line of ours starts with.
const NAME: &str = "lxcfs";

/// State of a process in `/proc/PID/stat` that SIGSTOP has stopped.
const STOPPED: u8 = b'T';

/// A daemon.
#[derive(Debug)]
pub struct Daemon {
    /// Its number; it is the holder's.
    pub pid: i32,
    /// Where its program lies, or lay.
    pub program: PathBuf,
    /// Its arguments.
    pub args: DaemonArgs,
    /// Its options as they were written, without the mountpoint.
    pub options: String,
    /// Where it mounts.
    pub mountpoint: PathBuf,
    /// The file that it was told to read its configuration from.
    pub config: Option<PathBuf>,
    /// Where its control socket is.
    pub runtime_dir: PathBuf,
}

impl Daemon {
    /// The daemons of this host.
    ///
    /// # Errors
    /// What listing the processes fails with.
    pub fn all(proc: &Proc) -> std::io::Result<Vec<Self>> {
        let mut pids = proc.pids()?;
        pids.sort_unstable();
        Ok(pids
            .into_iter()
            .filter_map(|pid| Self::of(pid, proc))
            .collect())
    }

    /// The daemon that mounts at this path.
    #[must_use]
    pub fn at(mountpoint: &Path, proc: &Proc) -> Option<Self> {
        let wanted = resolved(mountpoint);
        let all = Self::all(proc).unwrap_or_default();
        all.into_iter().find(|daemon| daemon.mountpoint == wanted)
    }

    fn of(pid: i32, proc: &Proc) -> Option<Self> {
        let trust = Trust::new(proc);
        if !trust.is_roots_here(pid) {
            return None;
        }
        let program = trust.program(pid)?;
        let own = std::env::current_exe().unwrap_or_default();
        let runs_ours = [own.as_path(), INSTALLED.as_ref()].map(|path| trust.runs(pid, path));
        if !runs_ours.contains(&true) && !trust.holds_pid_file(pid) {
            return None;
        }
        let (words, cli) = command_line(pid, proc)?;
        let args = cli.command.is_none().then_some(cli.daemon)?;
        let base = proc.read_link(&format!("{pid}/cwd")).ok()?;
        Some(Self {
            pid,
            program,
            options: words.get(1..words.len() - 1).unwrap_or_default().join(" "),
            mountpoint: resolved(&base.join(args.mountpoint.as_ref()?)),
            config: args.config.as_ref().map(|path| base.join(path)),
            runtime_dir: base.join(&args.runtime_dir),
            args,
        })
    }

    /// What it goes by now; `None` if it is LXCFS, or of a version that has no such memory.
    #[must_use]
    pub fn in_force(&self, proc: &Proc) -> Option<InForce> {
        let is_memory = |fd: &String| {
            let link = proc.read_link(&format!("{}/fd/{fd}", self.pid));
            link.is_ok_and(|link| held::is_config(&link))
        };
        let fd = proc.open_fds(self.pid).ok()?.into_iter().find(is_memory)?;
        let file = File::options()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(proc.path_of(self.pid, &format!("fd/{fd}")));
        Some(InForce::new(file.ok()?.into()))
    }

    /// What it says of itself.
    #[must_use]
    pub fn state(&self, proc: &Proc) -> Option<State> {
        self.in_force(proc)?.state()
    }

    /// What it answers on its control socket; `None` if it does not, or is of a version that is
    /// not asked that.
    #[must_use]
    pub fn status(&self) -> Option<Status> {
        let socket = control::path(&self.runtime_dir);
        let status: Option<Status> =
            control::ask(&socket, Request::Status(StatusRequest {})).ok()?;
        // Daemons that share a directory have one socket.
        status.filter(|status| status.pid == self.pid)
    }

    /// Whether another file lies by now where its program was: a newer version.
    #[must_use]
    pub fn is_outdated(&self, proc: &Proc) -> bool {
        self.program.exists() && !Trust::new(proc).runs(self.pid, &self.program)
    }

    /// Those of its processes that have been stopped (SIGSTOP).
    #[must_use]
    pub fn stopped(&self, proc: &Proc) -> Vec<i32> {
        let children = proc.read(self.pid, &format!("task/{}/children", self.pid));
        let children = children.unwrap_or_default();
        let servers = children
            .split_ascii_whitespace()
            .filter_map(|word| word.parse().ok());
        let all = [self.pid].into_iter().chain(servers);
        let is_stopped = |pid: &i32| proc.stat(*pid).is_some_and(|stat| stat.state == STOPPED);
        all.filter(is_stopped).collect()
    }
}

/// Who holds a pid file.
#[derive(Debug)]
pub struct Holder {
    /// Its number.
    pub pid: i32,
    /// Where its program lies, or lay.
    pub program: PathBuf,
}

/// The process of this host's root that holds the lock of a pid file and is named by it, of
/// whichever make of lxcfs.
#[must_use]
pub fn holder(pid_file: &Path, proc: &Proc) -> Option<Holder> {
    let trust = Trust::new(proc);
    let pid = trust::named_by(pid_file)?;
    let is_believed = trust.is_roots_here(pid) && trust.holds(pid, pid_file);
    let program = trust.program(pid).filter(|_| is_believed)?;
    Some(Holder { pid, program })
}

/// Whether a plugin of engines runs, by itself or in the process that has installed lxcfs.
#[must_use]
pub fn has_plugin(proc: &Proc) -> bool {
    let trust = Trust::new(proc);
    let is_plugin = |pid: &i32| {
        let command = trust
            .is_called(*pid, NAME)
            .then(|| command_line(*pid, proc))
            .flatten();
        matches!(
            command.and_then(|(_, cli)| cli.command),
            Some(Command::Nri(_) | Command::Deploy(_))
        )
    };
    proc.pids().unwrap_or_default().iter().any(is_plugin)
}

/// The words of a believed process's command line and what they mean, if it is one of ours.
fn command_line(pid: i32, proc: &Proc) -> Option<(Vec<String>, Cli)> {
    let text = proc.read(pid, "cmdline").ok()?;
    let words = text.trim_end_matches('\0').split('\0');
    let words: Vec<_> = words.map(str::to_owned).collect();
    let program = Path::new(words.first()?).file_name()?;
    if !program.to_string_lossy().starts_with(NAME) {
        return None;
    }
    let cli = Cli::try_parse_from(&words).ok()?;
    Some((words, cli))
}

/// The path without symbolic links, as far as it can be looked up: of a dead mount even the
/// name may be out of reach.
#[must_use]
pub fn resolved(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let parent = absolute.parent().map(std::fs::canonicalize);
    match (parent, absolute.file_name()) {
        (Some(Ok(parent)), Some(name)) => parent.join(name),
        _ => absolute,
    }
}

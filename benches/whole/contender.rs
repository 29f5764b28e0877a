//! Who is measured: the kernel's own files, the floor, the daemon, and LXCFS where it is installed.

use std::fs;
use std::time::Duration;

use crate::common::daemon::binary;
use crate::common::{Cell, Cgroup, Daemon, Limits, open_fds, pss_kb};
use crate::floor::Floor;

const PEER: &str = "/usr/bin/lxcfs";

/// Who can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Who {
    /// The kernel's own files.
    Native,
    /// An empty file system.
    Floor,
    /// The daemon that is built here.
    Ours,
    /// LXCFS of the distribution, where it is installed.
    Lxcfs,
    /// Another build of the daemon: the program that `LXCFS_OTHER` names.
    Other,
}

impl Who {
    /// The word on the command line and in the tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Floor => "floor",
            Self::Ours => "ours",
            Self::Lxcfs => "lxcfs",
            Self::Other => "other",
        }
    }

    /// Starts it, if there is such a program, to be read the given files of.
    pub fn start(self, files: &[&str]) -> Option<Contender> {
        let (program, args): (_, &[_]) = match self {
            Self::Native => return Some(Contender::new(self, Files::Native)),
            Self::Floor => return Some(Contender::floor(files)),
            Self::Ours => (binary(), &[]),
            // The load average is what the others show too.
            Self::Lxcfs => (PEER.into(), &["-l"]),
            Self::Other => (std::env::var_os("LXCFS_OTHER")?.into(), &[]),
        };
        if !program.exists() {
            println!("{} is not installed", program.display());
            return None;
        }
        let daemon = Daemon::start_as(&program, args);
        Some(Contender::new(self, Files::Daemon(daemon)))
    }
}

/// What a contender reads from.
#[derive(Debug)]
enum Files {
    Native,
    Floor(Floor),
    Daemon(Daemon),
}

/// One who answers reads, with CPU accounting of its own.
#[derive(Debug)]
pub struct Contender {
    pub who: Who,
    files: Files,
    accounting: Cgroup,
}

impl Contender {
    fn new(who: Who, files: Files) -> Self {
        let accounting = Cgroup::create();
        let pids = match &files {
            Files::Native => Vec::new(),
            Files::Floor(floor) => vec![floor.pid()],
            Files::Daemon(daemon) => daemon.processes(),
        };
        let controller = if accounting.is_v1("cpuacct") {
            "cpuacct"
        } else {
            "cpu"
        };
        for pid in pids {
            let list = accounting.dir(controller).join("cgroup.procs");
            fs::write(list, pid.to_string()).expect("moving a daemon");
        }
        Self {
            who,
            files,
            accounting,
        }
    }

    /// Constant texts of the length that the daemon's have in a container.
    fn floor(files: &[&str]) -> Self {
        let (daemon, cell) = (Daemon::start(&[]), container());
        let texts = files.iter().map(|name| {
            let text = cell.read(&daemon, &format!("proc/{name}"));
            ((*name).to_owned(), text)
        });
        Self::new(Who::Floor, Files::Floor(Floor::start(texts)))
    }

    /// Where a file below `/proc` is read.
    pub fn path(&self, name: &str) -> String {
        match &self.files {
            Files::Native => format!("/proc/{name}"),
            Files::Floor(floor) => floor.path(name),
            Files::Daemon(daemon) => daemon.arg(&format!("proc/{name}")),
        }
    }

    /// CPU time that its processes have used.
    pub fn cpu_time(&self) -> Duration {
        self.accounting.cpu_time()
    }

    /// Resident memory of all of its processes, shared pages counted once.
    pub fn rss_kb(&self) -> u64 {
        match &self.files {
            Files::Daemon(daemon) => daemon.rss_kb(),
            Files::Floor(floor) => pss_kb(floor.pid()).unwrap_or_default(),
            Files::Native => 0,
        }
    }

    /// File descriptors of all of its processes.
    pub fn open_fds(&self) -> usize {
        match &self.files {
            Files::Daemon(daemon) => {
                let processes = daemon.processes().into_iter();
                processes.map(open_fds).sum()
            }
            Files::Floor(floor) => open_fds(floor.pid()),
            Files::Native => 0,
        }
    }
}

impl Drop for Contender {
    fn drop(&mut self) {
        self.files = Files::Native;
        self.accounting.remove();
    }
}

/// A container as most are: with a limit of memory.
pub fn container() -> Cell {
    Cell::start(&Limits {
        memory_bytes: Some(512 << 20),
        ..Limits::default()
    })
}

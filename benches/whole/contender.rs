//! Who is measured: the kernel's own files, the floor, the daemon, and LXCFS where it is installed.

use std::fs;
use std::time::Duration;

use crate::common::daemon::binary;
use crate::common::{Cell, Cgroup, Daemon, Limits};
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

    /// Starts it, if there is such a program. `cell` is where the floor takes the length of its files from.
    pub fn start(self, cell: &Cell, files: &[String]) -> Option<Contender> {
        match self {
            Self::Native => Some(Contender::new(self, Files::Native)),
            Self::Floor => Some(Contender::floor(cell, files)),
            Self::Ours | Self::Lxcfs | Self::Other => self.start_daemon(),
        }
    }

    /// Starts one of the daemons, if there is such a program.
    pub fn start_daemon(self) -> Option<Contender> {
        let (program, args): (_, &[_]) = match self {
            Self::Native | Self::Floor => return None,
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

/// Which daemons are measured and for how long.
#[derive(Debug, clap::Args)]
pub struct DaemonOptions {
    /// Who is read
    #[arg(long, value_enum, value_delimiter = ',', default_value = "lxcfs,ours")]
    who: Vec<Who>,
    /// How long each is watched
    #[arg(long, default_value_t = 20)]
    pub seconds: u64,
}

impl DaemonOptions {
    /// Starts one after the other.
    pub fn daemons(&self) -> impl Iterator<Item = Contender> {
        self.who.iter().filter_map(|who| who.start_daemon())
    }

    pub fn time(&self) -> Duration {
        Duration::from_secs(self.seconds)
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
    fn floor(cell: &Cell, files: &[String]) -> Self {
        let daemon = Daemon::start(&[]);
        let texts = files.iter().map(|name| {
            let text = cell.read(&daemon, &format!("proc/{name}"));
            (name.clone(), text)
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
            Files::Native | Files::Floor(_) => 0,
        }
    }

    /// File descriptors of all of its processes.
    pub fn open_fds(&self) -> usize {
        match &self.files {
            Files::Daemon(daemon) => {
                let processes = daemon.processes().into_iter();
                processes.map(crate::common::open_fds).sum()
            }
            Files::Native | Files::Floor(_) => 0,
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

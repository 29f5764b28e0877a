//! Who is measured: the kernel's own files, the floor, the daemon, and LXCFS where it is installed.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::common::daemon::binary;
use crate::common::{Cell, Cgroup, Daemon, Limits};
use crate::floor::Floor;

const PEER: &str = "/usr/bin/lxcfs";

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
    pub name: &'static str,
    files: Files,
    accounting: Cgroup,
}

impl Contender {
    fn new(name: &'static str, files: Files) -> Self {
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
            name,
            files,
            accounting,
        }
    }

    /// The kernel's own files.
    pub fn native() -> Self {
        Self::new("native", Files::Native)
    }

    /// The daemon that is built here.
    pub fn ours() -> Self {
        Self::new("ours", Files::Daemon(Daemon::start_as(&binary(), &[])))
    }

    /// LXCFS of the distribution.
    pub fn peer() -> Option<Self> {
        let program = Path::new(PEER);
        if !program.exists() {
            println!("{PEER} is not installed: nothing to compare with");
            return None;
        }
        // The load average is what the others show too.
        let daemon = Daemon::start_as(program, &["-l"]);
        Some(Self::new("lxcfs", Files::Daemon(daemon)))
    }

    /// Constant texts of the length that the daemon's have in a container.
    pub fn floor(ours: &Self, cell: &Cell, files: &[&'static str]) -> Self {
        let read = |name: &&'static str| (*name, cell.run(&["cat", &ours.path(name)]).ok());
        let texts: Vec<_> = files.iter().map(read).collect();
        Self::new("floor", Files::Floor(Floor::start(&texts)))
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

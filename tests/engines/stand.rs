//! A big or hostile container, and a bystander who is to be hardly delayed by it.

use std::path::Path;
use std::time::Duration;

use crate::common::load::Figures;
use crate::common::{Cell, Daemon, Limits, children, patience, slowness, wait_for};
use crate::reader::{Hammer, Reader};

/// What is left to chance where the machine is not busy.
const CHANCE: Duration = Duration::from_millis(5);

/// Resident memory that the daemon may have beside it.
const MOST_KB: u64 = 200 << 10;

/// A daemon, a big container and a bystander.
pub struct Stand {
    pub daemon: Daemon,
    pub big: Cell,
    servers: Vec<i32>,
    bystander: Cell,
    calm: Figures,
    before_kb: u64,
}

impl Stand {
    pub fn new() -> Self {
        Self::with(Daemon::start(&[]), &Limits::default())
    }

    /// The big one has these limits.
    pub fn with(daemon: Daemon, limits: &Limits) -> Self {
        let (big, bystander) = (Cell::start(limits), Cell::start(&Limits::default()));
        Self {
            servers: children(daemon.pid()),
            calm: bystander_reads(&daemon, &bystander),
            before_kb: daemon.rss_kb(),
            daemon,
            big,
            bystander,
        }
    }

    pub fn path(&self, file: &str) -> String {
        self.daemon.arg(file)
    }

    /// Has readers in the big one, until they are dropped or for so long.
    pub fn hammer(&self, file: &str, readers: usize) -> Reader {
        let time = Duration::from_secs(10) * slowness();
        let reader = Reader::hammer(&self.big, &self.path(file), Hammer { readers, time });
        self.await_threads(readers);
        reader
    }

    pub fn await_threads(&self, count: usize) {
        let threads = || {
            let threads = |pid: &i32| std::fs::read_dir(format!("/proc/{pid}/task")).ok();
            let all = self.big.guests();
            let count_of = |pid| threads(pid).map_or(0, Iterator::count);
            (all.iter().map(count_of).sum::<usize>() > count).then_some(())
        };
        wait_for(patience(40), threads).expect("threads in the container");
    }

    /// The bystander reads as fast as without the other one, nearly, and nothing has broken.
    ///
    /// What it waits for a CPU is the kernel's doing: as long as a read beside the other one may
    /// take what it takes there to talk to another process as often as a read does.
    #[track_caller]
    pub fn assert_unharmed(&mut self) {
        let beside = bystander_reads(&self.daemon, &self.bystander);
        let talk = talks(&self.bystander);
        let told = format!("{beside:?}, alone {:?}, talks {talk:?}", self.calm);
        println!("{told}");
        assert_eq!(beside.errors, 0, "{told}");
        let chance = (CHANCE * slowness()).max(talk.p50 * 2);
        assert!(beside.p50 <= self.calm.p50 * 2 + chance, "{told}");
        assert!(beside.longest < patience(1) + talk.longest, "{told}");
        assert_eq!(
            children(self.daemon.pid()),
            self.servers,
            "{}",
            self.daemon.log()
        );
        let kb = self.daemon.rss_kb();
        assert!(kb < MOST_KB, "{kb} kB, before {}", self.before_kb);
    }

    /// Resident memory that has come since there were the two.
    pub fn grown_kb(&self) -> u64 {
        self.daemon.rss_kb().saturating_sub(self.before_kb)
    }
}

fn one_reader() -> Hammer {
    let time = Duration::from_secs(2) * slowness();
    Hammer { readers: 1, time }
}

fn bystander_reads(daemon: &Daemon, bystander: &Cell) -> Figures {
    Reader::hammer(bystander, &daemon.arg("proc/meminfo"), one_reader()).figures()
}

/// What it takes to wake another process and be woken by it, three times.
fn talks(bystander: &Cell) -> Figures {
    let nothing = Path::new("/dev/null").to_str().expect("an ASCII path");
    Reader::ask(bystander, "talk", nothing, one_reader()).figures()
}

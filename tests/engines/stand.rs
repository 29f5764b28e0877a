//! A big or hostile container, and a bystander who is to be hardly delayed by it.

use std::time::Duration;

use crate::common::load::Figures;
use crate::common::{Cell, Daemon, Limits, children, patience, slowness, wait_for};
use crate::reader::{Hammer, Reader};

/// What is left to chance.
const CHANCE: Duration = Duration::from_micros(500);

/// Resident memory that the daemon may have beside it.
const MOST_KB: u64 = 200 << 10;

/// A daemon, a big container and a bystander.
pub struct Stand {
    pub daemon: Daemon,
    pub big: Cell,
    /// One that only the bystander reads from.
    apart: Daemon,
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
            apart: Daemon::start(&[]),
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
    /// What it waits for a CPU is the kernel's doing: a daemon of its own would not save it that.
    #[track_caller]
    pub fn assert_unharmed(&mut self) {
        let beside = bystander_reads(&self.daemon, &self.bystander);
        let apart = bystander_reads(&self.apart, &self.bystander);
        let told = format!("{beside:?}, alone {:?}, apart {apart:?}", self.calm);
        println!("{told}");
        assert_eq!(beside.errors, 0, "{told}");
        let normal = self.calm.p50.max(apart.p50);
        assert!(beside.p50 <= normal * 2 + CHANCE * slowness(), "{told}");
        assert!(beside.longest < patience(1) + apart.longest, "{told}");
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

fn bystander_reads(daemon: &Daemon, bystander: &Cell) -> Figures {
    let time = Duration::from_secs(2) * slowness();
    let one = Hammer { readers: 1, time };
    Reader::hammer(bystander, &daemon.arg("proc/meminfo"), one).figures()
}

//! A container that is just big, or wants to be in the way: another one hardly notices.

use std::time::Duration;

use lxcfs::host::kernel_is_since;

use crate::common::load::Figures;
use crate::common::{Cell, Daemon, Limits, alone, children, patience, skip, slowness, wait_for};
use crate::reader::{Hammer, Reader};

/// What is left to chance: the machine has few CPUs, and the readers of the big one use them too.
const CHANCE: Duration = Duration::from_millis(5);

/// Resident memory that the daemon may have beside it.
const MOST_KB: u64 = 200 << 10;

/// Readers of the big one where there are thousands.
fn many() -> usize {
    6000 / slowness() as usize
}

/// A daemon, a big container and a bystander.
struct Stand {
    daemon: Daemon,
    servers: Vec<i32>,
    big: Cell,
    bystander: Cell,
    calm: Figures,
}

impl Stand {
    fn new() -> Self {
        Self::with(Daemon::start(&[]))
    }

    fn with(daemon: Daemon) -> Self {
        let [big, bystander] = [(); 2].map(|()| Cell::start(&Limits::default()));
        Self {
            servers: children(daemon.pid()),
            calm: bystander_reads(&daemon, &bystander),
            daemon,
            big,
            bystander,
        }
    }

    fn path(&self, file: &str) -> String {
        self.daemon.arg(file)
    }

    /// Has readers in the big one, until they are dropped or for so long.
    fn hammer(&self, file: &str, readers: usize) -> Reader {
        let time = Duration::from_secs(10) * slowness();
        let reader = Reader::hammer(&self.big, &self.path(file), Hammer { readers, time });
        self.await_threads(readers);
        reader
    }

    fn await_threads(&self, count: usize) {
        let threads = || {
            let threads = |pid: &i32| std::fs::read_dir(format!("/proc/{pid}/task")).ok();
            let all = self.big.guests();
            let count_of = |pid| threads(pid).map_or(0, Iterator::count);
            (all.iter().map(count_of).sum::<usize>() > count).then_some(())
        };
        wait_for(patience(40), threads).expect("threads in the container");
    }

    /// The bystander reads as fast as without the other one, nearly, and nothing has broken.
    #[track_caller]
    fn assert_unharmed(&mut self) {
        let beside = bystander_reads(&self.daemon, &self.bystander);
        println!("alone {:?}, beside the other {beside:?}", self.calm);
        assert_eq!(beside.errors, 0, "{beside:?}");
        assert!(
            beside.p50 <= self.calm.p50 * 2 + CHANCE * slowness(),
            "{beside:?}, alone {:?}",
            self.calm
        );
        // The first one finds the queue as long as the big one has made it while it was alone.
        assert!(beside.longest < patience(5), "{beside:?}");
        assert_eq!(
            children(self.daemon.pid()),
            self.servers,
            "{}",
            self.daemon.log()
        );
        let kb = self.daemon.rss_kb();
        assert!(kb < MOST_KB, "{kb} kB");
    }
}

fn bystander_reads(daemon: &Daemon, bystander: &Cell) -> Figures {
    let time = Duration::from_secs(2) * slowness();
    let one = Hammer { readers: 1, time };
    Reader::hammer(bystander, &daemon.arg("proc/meminfo"), one).figures()
}

#[test]
fn nobody_waits_for_the_threads_of_another_container_to_be_counted() {
    let _turn = alone();
    let mut stand = Stand::new();
    // Of two processes, as one may not have so many stacks.
    let idle = || Reader::idle(&stand.big, 10_000 / slowness() as usize);
    let _idle = [idle(), idle()];
    let _readers = [
        stand.hammer("proc/loadavg", 4),
        stand.hammer("proc/stat", 4),
    ];
    stand.assert_unharmed();
}

#[test]
fn nobody_queues_behind_6000_readers_and_the_server_lives() {
    if !kernel_is_since(6, 9) {
        skip!("a kernel before 6.9 cannot send requests again");
    }
    let _turn = alone();
    let mut stand = Stand::new();
    let _readers = stand.hammer("proc/stat", many());
    stand.assert_unharmed();
}

#[test]
fn nobody_queues_behind_threads_that_ask_for_something_else_than_to_read() {
    if !kernel_is_since(6, 9) {
        skip!("a kernel before 6.9 cannot send requests again");
    }
    let _turn = alone();
    for request in ["ioctl", "lookup"] {
        let mut stand = Stand::new();
        let (readers, time) = (
            3000 / slowness() as usize,
            Duration::from_secs(6) * slowness(),
        );
        let path = stand.path("proc/uptime");
        let _asking = Reader::ask(&stand.big, request, &path, Hammer { readers, time });
        stand.await_threads(readers);
        stand.assert_unharmed();
    }
}

#[test]
fn nobody_waits_for_files_of_another_container_that_take_long_to_make() {
    if std::env::var_os("LXCFS_BIN").is_some() {
        skip!("a release build has no files that take long");
    }
    if !kernel_is_since(6, 9) {
        skip!("a kernel before 6.9 cannot send requests again");
    }
    let _turn = alone();
    let fault = ("LXCFS_TEST_FAULT", "loadavg:delay=300");
    let mut stand = Stand::with(Daemon::start_with(&[], &[fault]));
    let _readers = stand.hammer("proc/loadavg", 8);
    stand.assert_unharmed();
}

//! A server that dies, and one that takes its place: what readers see goes on.

use std::cell::Cell;
use std::fs;
use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use lxcfs::cgroup::account::Memory;
use lxcfs::container::cpu_time::{Cpu, Times};
use lxcfs::container::policy::Policy;
use lxcfs::container::{Activity, Container, CpuView, Journal, TICK_NSEC};
use lxcfs::freshness::Moment;
use lxcfs::host::Host;
use lxcfs::reader::Readers;
use lxcfs::sys::clock::boottime_nsec;

use crate::tree::{Tree, copy};

const READER: i32 = 4242;
const INIT: i32 = 4241;

/// A disk's age for its busy time; any that grows will do.
const AGE_NSEC: u64 = 100_000_000_000;

/// After this the host's files are read anew.
const NEXT_SNAPSHOT: Duration = Duration::from_millis(120);

/// One server process as far as containers go.
struct Server {
    host: Arc<Host>,
    readers: Readers,
}

/// What a reader has seen at one moment.
#[derive(Debug, Clone)]
struct Shown {
    activity: Activity,
    disks: Vec<u64>,
    load: [u64; 3],
    memory: Memory,
}

impl Server {
    fn start(tree: &Tree, journal: Journal) -> Self {
        let host = Arc::new(Host::open(&tree.root).unwrap());
        Self {
            readers: Readers::new(
                Arc::clone(&host),
                tree.layout(),
                Policy::default(),
                journal,
                None,
            ),
            host,
        }
    }

    fn container(&self) -> Arc<Container> {
        Arc::clone(
            &self
                .readers
                .identify(READER, true)
                .unwrap()
                .resolved
                .container,
        )
    }

    fn read(&self, age_nsec: u64) -> Shown {
        let resolved = self.readers.identify(READER, true).unwrap().resolved;
        let container = &resolved.container;
        let memory = container.memory(&self.host).unwrap();
        let shown = container
            .cpus_shown(&self.host, CpuView::Quota, Moment::default())
            .unwrap();
        let activity = container.activity(&self.host, &shown).unwrap();
        let tasks = container
            .tasks(&self.host, READER, Moment::default())
            .unwrap();
        let load = container.load(tasks.active(), resolved.started_nsec);
        let disks = container.disks(&self.host.diskstats(), age_nsec).unwrap();
        let disks = disks.iter().flat_map(|disk| {
            let (io, time) = (disk.io, disk.time);
            [
                [io.major.into(), io.minor.into(), io.reads, io.writes],
                [io.read_bytes, io.written_bytes, time.read_msec, 0],
                [
                    time.write_msec,
                    time.discard_msec,
                    time.io_msec,
                    time.weighted_msec,
                ],
            ]
            .concat()
        });
        Shown {
            activity,
            disks: disks.collect(),
            load: load.averages(),
            memory,
        }
    }
}

impl Shown {
    fn total(&self) -> Times {
        let sum = |part: fn(&Times) -> u64| {
            let cpus = self.activity.cpus.iter().chain(&self.activity.away);
            cpus.map(|cpu| part(&cpu.times)).sum()
        };
        Times {
            user_nsec: sum(|times| times.user_nsec),
            nice_nsec: sum(|times| times.nice_nsec),
            system_nsec: sum(|times| times.system_nsec),
            idle_nsec: sum(|times| times.idle_nsec),
            steal_nsec: sum(|times| times.steal_nsec),
        }
    }

    /// All that only ever grows, with the time that a later reader has more of at the end.
    fn counters(&self) -> Vec<u64> {
        let total = self.total();
        let activity = &self.activity;
        [
            &[total.user_nsec, total.nice_nsec, total.system_nsec][..],
            &[activity.interrupts, activity.context_switches],
            &[activity.forks],
            &activity.softirqs,
            &self.disks,
            &[total.steal_nsec, total.idle_nsec, activity.idle_nsec],
        ]
        .concat()
    }

    fn assert_follows(&self, earlier: &Self) {
        let (before, after) = (earlier.counters(), self.counters());
        assert_eq!(before.len(), after.len());
        let pairs = before.iter().zip(&after);
        assert!(
            pairs.clone().all(|(before, after)| before <= after),
            "{earlier:?}\n{self:?}"
        );
    }

    /// The same figures as those of a reader that came `late_nsec` before.
    fn assert_same(&self, other: &Self, late_nsec: u64) {
        let tolerance_nsec = TICK_NSEC + self.activity.cpus.len() as u64 * late_nsec;
        let (own, others) = (self.counters(), other.counters());
        let timed = own.len() - 3;
        let near = |(own, other): (&u64, &u64)| own.abs_diff(*other) <= tolerance_nsec;
        assert!(
            own[..3].iter().zip(&others).all(near)
                && own[3..timed] == others[3..timed]
                && own[timed..].iter().zip(&others[timed..]).all(near),
            "{self:?}\n{other:?}"
        );
        let ids = |shown: &Self| -> Vec<usize> {
            let cpus = shown.activity.cpus.iter();
            cpus.map(|cpu: &Cpu| cpu.id).collect()
        };
        assert_eq!(ids(self), ids(other));
        assert_eq!(self.load, other.load);
        assert_eq!(self.memory, other.memory);
    }
}

/// A file that goes from server to server.
fn journal_file() -> fs::File {
    tempfile::tempfile().unwrap()
}

fn resumed(file: &fs::File) -> Journal {
    Journal::resume(file.try_clone().unwrap())
}

/// Changes a file as the kernel does: nobody sees it empty.
fn write(tree: &Tree, path: &str, text: &str) {
    use std::os::unix::fs::FileExt;
    let file = fs::OpenOptions::new()
        .write(true)
        .open(tree.root.join(path))
        .unwrap();
    file.write_all_at(text.as_bytes(), 0).unwrap();
    file.set_len(text.len() as u64).unwrap();
}

/// Adds to the numbers of the line that begins with `key`.
fn add(tree: &Tree, path: &str, key: &str, increment: u64) {
    let text = tree.read(path);
    let lines = text.lines().map(|line| {
        let mut words: Vec<String> = line.split_ascii_whitespace().map(str::to_owned).collect();
        if words.first().is_some_and(|word| word == key) {
            for word in &mut words[1..] {
                let number = |text: &str| (text.parse::<u64>().unwrap() + increment).to_string();
                *word = match word.split_once('=') {
                    Some((name, text)) => format!("{name}={}", number(text)),
                    None => number(word),
                };
            }
        }
        words.join(" ") + "\n"
    });
    write(tree, path, &lines.collect::<String>());
}

fn set_state(tree: &Tree, pid: i32, state: char) {
    let path = format!("proc/{pid}/task/{pid}/stat");
    let text = tree.read(&path);
    let (start, end) = text.split_once(") ").unwrap();
    write(tree, &path, &format!("{start}) {state}{}", &end[1..]));
}

/// What the host does besides: so many ticks, and interrupts and the like with them.
fn host_works(tree: &Tree, ticks: u64) {
    add(tree, "proc/stat", "cpu", ticks);
    for key in ["intr", "ctxt", "processes", "softirq"] {
        add(tree, "proc/stat", key, 50 * ticks);
    }
}

const V2: &str = "sys/fs/cgroup/system.slice/docker-c0ffee.scope";

fn container_works_on_v2(tree: &Tree) {
    let cpu_stat = format!("{V2}/cpu.stat");
    add(tree, &cpu_stat, "user_usec", 40_000);
    add(tree, &cpu_stat, "system_usec", 20_000);
    add(tree, &cpu_stat, "throttled_usec", 30_000);
    add(tree, &format!("{V2}/io.stat"), "254:0", 700);
}

fn container_works_on_v1(tree: &Tree) {
    let path = |file| format!("sys/fs/cgroup/cpuacct/docker/c0ffee/{file}");
    add(tree, &path("cpuacct.stat"), "user", 4);
    write(tree, &path("cpuacct.usage_percpu"), "0 1280609224 \n");
    write(tree, &path("cpuacct.usage"), "1280609224\n");
}

/// One that dies after every read, beside one that goes on.
fn check_continuity(fixture: &str, container_works: impl Fn(&Tree)) {
    let tree = Tree::copy_of(fixture);
    let file = journal_file();
    let lasting = Server::start(&tree, Journal::none());
    let mut earlier: Option<Shown> = None;
    for round in 0..6 {
        // The load began with a thread that ran, and the host has been busy since.
        set_state(&tree, INIT, if round == 0 { 'R' } else { 'S' });
        let age_nsec = AGE_NSEC * (round + 1);
        let before_nsec = boottime_nsec();
        let expected = lasting.read(age_nsec);
        let shown = Server::start(&tree, resumed(&file)).read(age_nsec);
        shown.assert_same(&expected, boottime_nsec() - before_nsec);
        if let Some(earlier) = &earlier {
            shown.assert_follows(earlier);
        }
        earlier = Some(shown);
        container_works(&tree);
        host_works(&tree, 1_000 * round);
        sleep(NEXT_SNAPSHOT);
    }
    // Without the journal it would not have been so.
    let fresh = Server::start(&tree, Journal::none()).read(7 * AGE_NSEC);
    let last = earlier.unwrap();
    assert!(fresh.activity.interrupts < last.activity.interrupts);
    assert_ne!(fresh.load, last.load);
}

#[test]
fn counters_go_on_when_the_server_dies_after_every_read() {
    check_continuity("debian13-v2", container_works_on_v2);
}

#[test]
fn counters_go_on_when_the_server_dies_after_every_read_on_v1() {
    check_continuity("debian12-v1", container_works_on_v1);
}

/// Does one kind of read with a server that dies after it, then once more with the next one,
/// to which the sources tell something else.
fn before_and_after<T>(read: impl Fn(&Server, &Container) -> T) -> [T; 2] {
    let tree = Tree::copy_of("debian13-v2");
    let file = journal_file();
    let read = |tree: &Tree| {
        let server = Server::start(tree, resumed(&file));
        read(&server, &server.container())
    };
    let before = read(&tree);
    host_works(&tree, 100_000);
    // That a directory cannot be read is an error of the source.
    let io_stat = tree.root.join(V2).join("io.stat");
    fs::remove_file(&io_stat).unwrap();
    fs::create_dir(&io_stat).unwrap();
    [before, read(&tree)]
}

#[test]
fn reading_nothing_but_cpu_time_saves_it() {
    let [before, after] = before_and_after(|server, container| {
        let activity = container.activity(&server.host, &server.host.online());
        activity.unwrap().interrupts
    });
    assert_eq!(before, after);
}

#[test]
fn reading_nothing_but_the_load_saves_it() {
    let active = Cell::new(3);
    let [before, after] =
        before_and_after(|_, container| container.load(active.replace(0), 0).averages());
    assert_eq!(before, after);
}

#[test]
fn reading_nothing_but_disks_saves_them() {
    let [before, after] = before_and_after(|server, container| {
        let disks = container.disks(&server.host.diskstats(), AGE_NSEC);
        disks.unwrap()
    });
    assert_eq!(before.len(), 2);
    assert_eq!(before, after);
}

#[test]
fn counters_of_memory_management_go_on_when_their_source_starts_anew() {
    let tree = Tree::copy_of("debian13-v2");
    let file = journal_file();
    let faults = || {
        let server = Server::start(&tree, resumed(&file));
        let counters = server
            .container()
            .vm_counters(&server.host, &Memory::default(), 4);
        counters.unwrap().get("pgfault")
    };
    assert_eq!(faults(), 9_284);
    // The controller was switched off and on.
    write(&tree, &format!("{V2}/memory.stat"), "pgfault 5\n");
    assert_eq!(faults(), 9_284);
    write(&tree, &format!("{V2}/memory.stat"), "pgfault 15\n");
    assert_eq!(faults(), 9_294);
    write(&tree, &format!("{V2}/memory.stat"), "unreadable\n");
    assert_eq!(faults(), 9_294);
    // Reading a directory is an error of the source.
    let events = tree.root.join(V2).join("memory.events");
    fs::remove_file(&events).unwrap();
    fs::create_dir(&events).unwrap();
    assert_eq!(faults(), 9_294);
}

#[test]
fn another_set_of_cpus_after_a_takeover_takes_no_time_away() {
    let tree = Tree::copy_of("debian13-v2");
    let file = journal_file();
    let before = Server::start(&tree, resumed(&file)).read(AGE_NSEC);
    write(&tree, &format!("{V2}/cpuset.cpus.effective"), "2-3\n");
    let after = Server::start(&tree, resumed(&file)).read(AGE_NSEC);
    assert_eq!(after.activity.cpus[0].id, 2);
    after.assert_follows(&before);
}

#[test]
fn a_cpu_that_comes_back_after_takeovers_goes_on_where_it_was() {
    let tree = Tree::copy_of("debian13-v2");
    let file = journal_file();
    let read = |cpus: &str| {
        write(&tree, &format!("{V2}/cpuset.cpus.effective"), cpus);
        Server::start(&tree, resumed(&file)).read(AGE_NSEC)
    };
    let before = read("0\n");
    let elsewhere = read("1,3\n");
    let after = read("0\n");
    elsewhere.assert_follows(&before);
    after.assert_follows(&elsewhere);
    let times = |shown: &Shown| {
        let cpu = shown.activity.cpus[0];
        assert_eq!(cpu.id, 0);
        [
            cpu.times.user_nsec,
            cpu.times.system_nsec,
            cpu.times.idle_nsec,
        ]
    };
    let (old, new) = (times(&before), times(&after));
    assert!(old[2] > 0 && old.iter().zip(&new).all(|(old, new)| old <= new));
}

#[test]
fn a_source_that_fails_after_a_takeover_leaves_the_last_good_value() {
    let tree = Tree::copy_of("debian13-v2");
    let file = journal_file();
    let old = Server::start(&tree, resumed(&file));
    let before = old.container().memory(&old.host).unwrap();
    assert_ne!(before.usage_bytes, 0);
    // Nobody reads anything else; the next tick saves it.
    old.container().keep_up(&old.host);
    write(&tree, &format!("{V2}/memory.current"), "unreadable\n");
    let new = Server::start(&tree, resumed(&file));
    assert_eq!(new.container().memory(&new.host).unwrap(), before);
}

/// The interrupts that a new server shows. After the host worked and the container did not,
/// one that begins anew shows fewer.
fn interrupts(tree: &Tree, journal: &fs::File) -> u64 {
    Server::start(tree, resumed(journal))
        .read(AGE_NSEC)
        .activity
        .interrupts
}

#[test]
fn a_new_cgroup_under_the_old_path_starts_anew() {
    let tree = Tree::copy_of("debian13-v2");
    let file = journal_file();
    let before = interrupts(&tree, &file);
    host_works(&tree, 100_000);
    assert_eq!(interrupts(&tree, &file), before);
    let (old, new) = (tree.root.join(V2), tree.root.join("new"));
    fs::create_dir(&new).unwrap();
    copy(&old, &new);
    fs::rename(&old, tree.root.join("old")).unwrap();
    fs::rename(&new, &old).unwrap();
    assert!(interrupts(&tree, &file) < before);
}

#[test]
fn what_is_left_of_a_container_goes_when_its_cgroup_has_gone_and_not_before() {
    let tree = Tree::copy_of("debian13-v2");
    let file = journal_file();
    let before = interrupts(&tree, &file);
    host_works(&tree, 100_000);
    // Nobody reads from these servers.
    let clean_up = || Server::start(&tree, resumed(&file)).readers.clean_up();
    clean_up();
    assert_eq!(interrupts(&tree, &file), before);
    let length = file.metadata().unwrap().len();
    let (here, away) = (tree.root.join(V2), tree.root.join("away"));
    fs::rename(&here, &away).unwrap();
    clean_up();
    fs::rename(&away, &here).unwrap();
    drop(resumed(&file));
    assert!(file.metadata().unwrap().len() < length);
    assert!(interrupts(&tree, &file) < before);
}

#[test]
fn a_container_that_was_forgotten_by_mistake_goes_on() {
    let tree = Tree::copy_of("debian13-v2");
    let server = Server::start(&tree, resumed(&journal_file()));
    let before = server.read(AGE_NSEC);
    host_works(&tree, 100_000);
    sleep(NEXT_SNAPSHOT);
    server.readers.forget(&server.container());
    server.read(AGE_NSEC).assert_follows(&before);
}

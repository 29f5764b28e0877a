//! For how long a reader is taken for what it was: every limit of time, and its end with an epoch.

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

use lxcfs::container::Journal;
use lxcfs::container::policy::Policy;
use lxcfs::freshness::{Clock, FakeTime};
use lxcfs::host::Host;
use lxcfs::reader::{Readers, Resolved, Subject};

use crate::tree::Tree;

const READER: i32 = 4242;
/// Another thread in the same cgroups.
const OTHER: i32 = 77;
const MSEC: u64 = 1_000_000;
const SEC: u64 = 1000 * MSEC;

/// A machine whose time stands still.
struct Machine {
    tree: Tree,
    time: Arc<FakeTime>,
    readers: Readers,
}

impl Machine {
    fn new() -> Self {
        let tree = Tree::copy_of("debian13-v2");
        let memberships = tree.read(&format!("proc/{READER}/cgroup"));
        for thread in [READER, OTHER] {
            let directory = tree.root.join(format!("proc/{thread}"));
            fs::create_dir_all(directory.join("ns")).unwrap();
            fs::write(directory.join("cgroup"), &memberships).unwrap();
            fs::write(directory.join("oom_score_adj"), "0\n").unwrap();
        }
        let time = Arc::new(FakeTime::default());
        time.nsec.store(1000 * SEC, Ordering::Relaxed);
        let readers = Readers::by_clock(
            Arc::new(Host::open(&tree.root).unwrap()),
            tree.layout(),
            Policy::default(),
            Journal::none(),
            None,
            Clock::fake(Arc::clone(&time)),
        );
        Self {
            tree,
            time,
            readers,
        }
    }

    fn pass(&self, nsec: u64) {
        self.time.nsec.fetch_add(nsec, Ordering::Relaxed);
    }

    fn begin_epoch(&self) {
        self.time.epoch.fetch_add(1, Ordering::Relaxed);
    }

    fn identify(&self, tid: i32) -> Subject {
        self.readers.identify(tid, true).unwrap()
    }

    fn is_cached(&self, tid: i32) -> bool {
        self.identify(tid).known_since_nsec() != u64::MAX
    }

    fn container(&self, tid: i32) -> Arc<Resolved> {
        self.identify(tid).resolved
    }

    /// Has a thread read until it is known by its kept files.
    fn make_known(&self, tid: i32) {
        self.identify(tid);
        self.identify(tid);
        assert!(self.is_cached(tid));
    }

    /// Moves a thread into another container.
    fn move_to_other(&self, tid: i32) {
        let memberships = self.tree.read("proc/4343/cgroup");
        let file = self.tree.root.join(format!("proc/{tid}/cgroup"));
        fs::write(file, memberships).unwrap();
    }

    fn path(&self, tid: i32) -> String {
        let container = &self.container(tid).container;
        format!("{:?}", container.cgroup.identity())
    }
}

#[test]
fn a_thread_that_is_moved_is_seen_in_the_next_epoch() {
    let machine = Machine::new();
    machine.make_known(READER);
    let before = machine.path(READER);
    machine.move_to_other(READER);
    // Nobody can have been moved in the same epoch: it is not looked for.
    assert_eq!(machine.path(READER), before);
    machine.begin_epoch();
    assert_ne!(machine.path(READER), before);
}

#[test]
fn a_thread_that_the_kernel_itself_moves_is_seen_after_two_seconds() {
    let machine = Machine::new();
    machine.make_known(READER);
    let before = machine.path(READER);
    machine.move_to_other(READER);
    machine.pass(2 * SEC - 1);
    assert_eq!(machine.path(READER), before);
    machine.pass(1);
    assert_ne!(machine.path(READER), before);
}

#[test]
fn a_thread_that_enters_another_namespace_is_seen_after_two_milliseconds() {
    let machine = Machine::new();
    machine.make_known(READER);
    let link = machine.tree.root.join(format!("proc/{READER}/ns/cgroup"));
    symlink("cgroup:[7]", link).unwrap();
    machine.pass(2 * MSEC - 1);
    assert!(machine.is_cached(READER));
    machine.pass(1);
    // There is no such namespace, so that it cannot be told whose it is.
    assert!(machine.readers.identify(READER, true).is_err());
}

/// A thread of this process that lives until it is told to end.
struct Living {
    tid: i32,
    end: Sender<()>,
    thread: JoinHandle<()>,
}

impl Living {
    fn start() -> Self {
        let ((tell, told), (end, ended)) = (channel(), channel());
        let thread = std::thread::spawn(move || {
            tell.send(nix::unistd::gettid().as_raw()).unwrap();
            let _ = ended.recv();
        });
        Self {
            tid: told.recv().unwrap(),
            end,
            thread,
        }
    }

    fn end(self) {
        drop(self.end);
        self.thread.join().unwrap();
    }
}

#[test]
fn a_thread_that_gets_the_number_of_another_one_is_looked_at_anew() {
    let machine = Machine::new();
    let living = Living::start();
    let file = machine
        .tree
        .root
        .join(format!("proc/{READER}/oom_score_adj"));
    fs::remove_file(&file).unwrap();
    let kernels = format!("/proc/{}/oom_score_adj", living.tid);
    symlink(kernels, file).unwrap();
    machine.make_known(READER);
    // By now its sign of life is kept.
    assert!(machine.is_cached(READER));
    living.end();
    assert!(
        !machine.is_cached(READER),
        "the next thread with this number"
    );
}

#[test]
fn threads_with_the_same_slot_are_not_taken_for_each_other() {
    let machine = Machine::new();
    let same_slot = READER + 4096;
    let directory = machine.tree.root.join(format!("proc/{same_slot}"));
    fs::create_dir_all(directory.join("ns")).unwrap();
    let memberships = machine.tree.read("proc/4343/cgroup");
    fs::write(directory.join("cgroup"), memberships).unwrap();
    machine.make_known(READER);
    assert_ne!(machine.path(same_slot), machine.path(READER));
}

#[test]
fn the_container_of_readers_is_looked_up_anew_after_five_seconds_or_five_minutes() {
    let machine = Machine::new();
    let is_same = |first: &Arc<Resolved>, tid| Arc::ptr_eq(first, &machine.container(tid));
    let first = machine.container(READER);
    machine.pass(300 * SEC - 1);
    assert!(is_same(&first, OTHER), "in the same epoch");
    machine.pass(1);
    assert!(!is_same(&first, OTHER));

    let first = machine.container(READER);
    machine.begin_epoch();
    machine.pass(5 * SEC - 1);
    assert!(is_same(&first, OTHER), "in another one");
    machine.pass(1);
    assert!(!is_same(&first, OTHER));
}

#[test]
fn a_container_that_is_known_by_its_thread_is_looked_up_anew_as_well() {
    let machine = Machine::new();
    machine.make_known(READER);
    let first = machine.container(READER);
    for _ in 0..299 {
        machine.pass(SEC);
        assert!(machine.is_cached(READER));
    }
    machine.pass(SEC);
    assert!(!Arc::ptr_eq(&first, &machine.container(READER)));
}

#[test]
fn another_policy_holds_from_the_next_read_on() {
    let machine = Machine::new();
    machine.make_known(READER);
    let first = machine.container(READER);
    machine.readers.set_policy(Policy::default());
    assert!(!Arc::ptr_eq(&first, &machine.container(READER)));
}

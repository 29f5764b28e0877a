//! CPUs come and go: what a container is shown of them is never empty and never apart.

use std::fs;
use std::thread::sleep;
use std::time::Duration;

use lxcfs::container::policy::Policy;
use lxcfs::container::{CpuView, Journal};
use lxcfs::freshness::Moment;
use lxcfs::host::Host;
use lxcfs::parse::cpu_list::CpuSet;
use lxcfs::parse::cpuinfo::CpuInfo;
use lxcfs::reader::Readers;
use lxcfs::view;

use crate::tree::Tree;
use std::sync::Arc;

const READER: i32 = 4242;
const V2: &str = "sys/fs/cgroup/system.slice/docker-c0ffee.scope";

/// After this the host's CPUs are read anew.
const NEXT_SNAPSHOT: Duration = Duration::from_millis(15);

/// A host whose CPUs can be plugged.
struct Machine {
    tree: Tree,
    cpuinfo: CpuInfo,
    host: Arc<Host>,
    readers: Readers,
}

impl Machine {
    fn new() -> Self {
        let tree = Tree::copy_of("debian13-v2");
        let node = tree.root.join("sys/devices/system/node");
        fs::create_dir_all(node.join("node0")).unwrap();
        fs::write(node.join("online"), "0\n").unwrap();
        fs::write(node.join("node0/cpulist"), "0-3\n").unwrap();
        fs::write(node.join("node0/meminfo"), "Node 0 MemTotal: 8 kB\n").unwrap();
        let host = Arc::new(Host::open(&tree.root).unwrap());
        let policy = Policy::default();
        let layout = tree.layout();
        let journal = Journal::none();
        Self {
            cpuinfo: CpuInfo::parse(tree.read("proc/cpuinfo").into_bytes()),
            readers: Readers::new(Arc::clone(&host), layout, policy, journal, None),
            host,
            tree,
        }
    }

    fn write(&self, path: &str, content: &[u8]) {
        fs::write(self.tree.root.join(path), content).unwrap();
    }

    /// As the kernel does: all files of the host tell at once, the cpuset later.
    fn plug(&self, online: &str, effective: &str) {
        let mut cpuinfo = Vec::new();
        view::cpuinfo::render(&self.cpuinfo, &set(online), &mut cpuinfo);
        self.write("proc/cpuinfo", &cpuinfo);
        let list = format!("{online}\n");
        self.write("sys/devices/system/node/node0/cpulist", list.as_bytes());
        self.write("sys/devices/system/cpu/online", list.as_bytes());
        let effective = format!("{effective}\n");
        self.write(&format!("{V2}/cpuset.cpus.effective"), effective.as_bytes());
    }

    fn shown(&self) -> CpuSet {
        let resolved = self.readers.identify(READER, true).unwrap().resolved;
        let container = &resolved.container;
        container
            .cpus_shown(&self.host, CpuView::Cpuset, Moment::default())
            .unwrap()
    }

    fn check(&self, expected: &str) {
        // The CPUs of a moment ago may still be shown, by all files alike.
        let before = self.shown();
        assert!(self.host.cpuinfo().has(&before) || self.shown() != before);
        sleep(NEXT_SNAPSHOT);
        let cpuinfo = self.host.cpuinfo();
        let nodes = self.host.nodes();
        let shown = self.shown();
        assert_eq!(shown, set(expected));
        assert!(
            cpuinfo.has(&shown),
            "{:?} has not {shown:?}",
            cpuinfo.cpus()
        );
        assert_eq!(nodes[0].cpus, *self.host.online());
    }
}

fn set(list: &str) -> CpuSet {
    CpuSet::parse("test", list).unwrap()
}

#[test]
fn all_cpus_of_a_container_go_and_one_comes_back() {
    let machine = Machine::new();
    machine.plug("0-3", "1-2");
    machine.check("1-2");
    // The nearest ancestor that has one left says where its threads run.
    machine.plug("0,3", "1-2");
    machine.check("0,3");
    machine.plug("0,3", "0,3");
    machine.check("0,3");
    machine.plug("0-1,3", "0,3");
    machine.check("0,3");
    machine.plug("0-1,3", "1");
    machine.check("1");
}

#[test]
fn a_cpuset_that_cannot_be_understood_never_shows_all_cpus_of_the_host() {
    for bad in ["all", "0-3\n\0", ""] {
        let machine = Machine::new();
        machine.plug("0-3", bad);
        assert_eq!(
            machine.shown(),
            set(if bad.is_empty() { "0-3" } else { "0" }),
            "{bad:?}"
        );
    }
}

#[test]
fn a_list_of_online_cpus_that_cannot_be_understood_leaves_those_of_stat() {
    let machine = Machine::new();
    machine.plug("0-3", "0-3");
    machine.write("sys/devices/system/cpu/online", b"0-3\n\0");
    sleep(NEXT_SNAPSHOT);
    assert_eq!(machine.shown(), set("0-3"));
}

//! Memory by node, on a machine with three of them: two with memory, one with CPUs only.

use std::fs;
use std::sync::Arc;

use lxcfs::cgroup::Limit;
use lxcfs::container::Journal;
use lxcfs::container::policy::Policy;
use lxcfs::host::Host;
use lxcfs::parse::cpu_list::CpuSet;
use lxcfs::parse::meminfo::MemInfo;
use lxcfs::reader::{Readers, Resolved};
use lxcfs::view::{meminfo, node_memory, swaps::SwapView};

use crate::tree::Tree;

/// A container's cgroup files in the trees of v1 and v2.
struct Layout {
    tree: &'static str,
    memory: &'static str,
    limit: &'static str,
    unlimited: &'static str,
    mems: &'static str,
    numa_stat: &'static str,
}

const LAYOUTS: [Layout; 2] = [
    Layout {
        tree: "debian12-v1",
        memory: "memory/docker/c0ffee",
        limit: "memory.limit_in_bytes",
        unlimited: "9223372036854771712\n",
        mems: "cpuset/docker/c0ffee/cpuset.effective_mems",
        numa_stat: "total=4166 N0=100 N1=50\nhierarchical_total=4166 N0=3000 N1=1000\n\
                    hierarchical_file=4116 N0=2950 N1=1000\nhierarchical_anon=50 N0=50 N1=0\n\
                    hierarchical_unevictable=0 N0=0 N1=0\n",
    },
    Layout {
        tree: "debian13-v2",
        memory: "system.slice/docker-c0ffee.scope",
        limit: "memory.max",
        unlimited: "max\n",
        mems: "system.slice/docker-c0ffee.scope/cpuset.mems.effective",
        numa_stat: "anon N0=30000000 N1=10075264\nfile N0=7647232 N1=0\nslab_reclaimable N0=0 N1=409600\n",
    },
];

const READER: i32 = 4242;

impl Layout {
    /// The machine with nodes, of which the container may use the memory of some.
    fn machine(&self, mems: &str) -> Tree {
        let tree = Tree::copy_of(self.tree);
        let host = MemInfo::parse(&tree.read("proc/meminfo"));
        let total_kb = host.get("MemTotal").unwrap();
        let nodes = tree.root.join("sys/devices/system/node");
        for (node, cpus, size_kb) in [
            (0, "0\n", total_kb / 4),
            (1, "1\n", total_kb - total_kb / 4),
            (2, "2\n", 0),
        ] {
            let node_dir = nodes.join(format!("node{node}"));
            fs::create_dir_all(&node_dir).unwrap();
            fs::write(node_dir.join("cpulist"), cpus).unwrap();
            let text = format!("Node {node} MemTotal: {size_kb} kB\nNode {node} MemFree: 7 kB\n");
            fs::write(node_dir.join("meminfo"), text).unwrap();
        }
        fs::write(nodes.join("online"), "0-2\n").unwrap();
        self.write(&tree, self.mems, mems);
        self.write(
            &tree,
            &format!("{}/memory.numa_stat", self.memory),
            self.numa_stat,
        );
        tree
    }

    fn write(&self, tree: &Tree, file: &str, content: &str) {
        fs::write(tree.root.join("sys/fs/cgroup").join(file), content).unwrap();
    }

    fn set_no_limit(&self, tree: &Tree) {
        let file = format!("{}/{}", self.memory, self.limit);
        self.write(tree, &file, self.unlimited);
        // On v1 it stands there too.
        let file = format!("{}/memory.stat", self.memory);
        let stat = tree.read(&format!("sys/fs/cgroup/{file}"));
        let lines = stat.lines().map(|line| match line.split_once(' ') {
            Some((key @ "hierarchical_memory_limit", _)) => format!("{key} {}", self.unlimited),
            _ => format!("{line}\n"),
        });
        self.write(tree, &file, &lines.collect::<String>());
    }
}

fn set(list: &str) -> CpuSet {
    CpuSet::parse("nodes", list).unwrap()
}

fn open(tree: &Tree) -> (Arc<Host>, Arc<Resolved>) {
    let host = Arc::new(Host::open(&tree.root).unwrap());
    let (policy, journal) = (Policy::default(), Journal::none());
    let readers = Readers::new(Arc::clone(&host), tree.layout(), policy, journal, None);
    let resolved = readers.identify(READER, true).unwrap().resolved;
    (host, resolved)
}

#[test]
fn the_total_is_no_more_than_the_nodes_have() {
    for layout in LAYOUTS {
        let tree = layout.machine("0\n");
        let (host, resolved) = open(&tree);
        let limited = resolved.container.memory(&host).unwrap().limit_bytes;
        assert!(matches!(limited, Limit::Value(1..)), "{limited:?}");
        layout.set_no_limit(&tree);
        let unlimited = resolved.container.memory(&host).unwrap().limit_bytes;
        let size_kb = host.nodes()[0].total_kb();
        assert_eq!(unlimited, Limit::Value(size_kb * 1024), "{}", layout.tree);

        let tree = layout.machine("0-1\n");
        layout.set_no_limit(&tree);
        let (host, resolved) = open(&tree);
        let unlimited = resolved.container.memory(&host).unwrap().limit_bytes;
        assert_eq!(unlimited, Limit::Max, "{}", layout.tree);
    }
}

#[test]
// The cgroups above have node 0, as the captured machine has no other.
fn a_node_without_memory_has_none_for_the_container() {
    for layout in LAYOUTS {
        for (mems, expected) in [
            ("0-2\n", "0-1"),
            ("1\n", "1"),
            ("2\n", "0-1"),
            ("\n", "0"),
            ("x\n", "0-1"),
        ] {
            let tree = layout.machine(mems);
            let (host, resolved) = open(&tree);
            let nodes = resolved.container.memory_nodes(&host).unwrap();
            assert_eq!(nodes, set(expected), "{mems:?} of {}", layout.tree);
        }
    }
}

#[test]
fn nodes_that_cannot_be_read_any_more_stay() {
    for layout in LAYOUTS {
        let tree = layout.machine("1\n");
        let (host, resolved) = open(&tree);
        let nodes = || resolved.container.memory_nodes(&host).unwrap();
        assert_eq!(nodes(), set("1"));
        layout.write(&tree, layout.mems, "garbage\n");
        assert_eq!(nodes(), set("1"), "{}", layout.tree);
    }
}

#[test]
fn each_node_shows_what_lies_there() {
    for layout in LAYOUTS {
        let tree = layout.machine("0-1\n");
        layout.set_no_limit(&tree);
        let (host, resolved) = open(&tree);
        let memory = resolved.container.memory(&host).unwrap();
        let mut own = Vec::new();
        let host_meminfo = host.meminfo();
        let input = meminfo::Input {
            host: &host_meminfo,
            memory: &memory,
            swap: SwapView::new(0, None),
            hide_zswap: false,
        };
        meminfo::render(&input, &mut own);
        let own = MemInfo::parse(std::str::from_utf8(&own).unwrap());
        let input = node_memory::Input {
            host: &host.nodes(),
            memory: &resolved.container.memory_nodes(&host).unwrap(),
            own: &own,
            stat: &resolved.container.numa_stat().unwrap(),
            hugetlb: &[],
            page_kb: 4,
            huge_page_kb: 2048,
        };
        let lines = "Node 0 MemTotal: 1 kB\nNode 0 AnonPages: 1 kB\nNode 0 FilePages: 1 kB\n";
        let nodes = [0, 1, 2].map(|node| {
            let text = node_memory::render(&input, node, "meminfo", lines);
            MemInfo::parse_node(&text)
        });
        let of = |node: usize, key| nodes[node].get(key).unwrap();
        let name = layout.tree;
        assert_eq!(
            of(0, "MemTotal") + of(1, "MemTotal"),
            own.get("MemTotal").unwrap(),
            "{name}"
        );
        assert_eq!(
            of(0, "AnonPages") + of(1, "AnonPages"),
            own.get("AnonPages").unwrap(),
            "{name}"
        );
        assert!(of(0, "AnonPages") > of(1, "AnonPages"), "{name}");
        assert!(of(0, "FilePages") > of(1, "FilePages"), "{name}");
        assert!(nodes[2].lines.iter().all(|line| line.value == 0), "{name}");
    }
}

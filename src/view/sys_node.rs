//! `/sys/devices/system/node`: the host's tree without the CPUs that are not shown
//! and the nodes that have nothing for the container (kernel:
//! Documentation/ABI/stable/sysfs-devices-node and admin-guide/mm/numaperf.rst).
//!
//! Paths are relative to that directory, e.g. `node1/cpulist`.

use super::sysfs::{Notation, Seen, numbered, without_counts};
use crate::host::NumaNode;
use crate::parse::cpu_list::CpuSet;

/// Which nodes a reader is shown, and what of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shown {
    /// CPUs.
    pub cpus: CpuSet,
    /// Nodes whose memory the container may use.
    pub memory: CpuSet,
    /// Nodes with such memory or with CPUs that are shown.
    pub nodes: CpuSet,
    /// Nodes with CPUs that are shown.
    pub with_cpus: CpuSet,
    /// The CPUs shown of each node that the host has online, by its id.
    online: Vec<(usize, CpuSet)>,
}

impl Shown {
    /// What of the `host`'s nodes is shown to a reader with these CPUs and memory nodes.
    #[must_use]
    pub fn new(host: &[NumaNode], cpus: CpuSet, memory: CpuSet) -> Self {
        let those = |keep: &dyn Fn(&NumaNode) -> bool| {
            let nodes = host.iter().filter(|node| keep(node));
            nodes.map(|node| node.id).collect::<CpuSet>()
        };
        let with_cpus = those(&|node| node.cpus.intersection_len(&cpus) > 0);
        let online = host.iter();
        Self {
            nodes: those(&|node| memory.contains(node.id) || with_cpus.contains(node.id)),
            online: online
                .map(|node| (node.id, node.cpus.intersection(&cpus)))
                .collect(),
            with_cpus,
            memory,
            cpus,
        }
    }

    /// The CPUs shown of a node.
    fn cpus_of(&self, node: usize) -> CpuSet {
        let found = self.online.iter().find(|(id, _)| *id == node);
        found.map(|(_, cpus)| cpus.clone()).unwrap_or_default()
    }
}

/// What an entry belongs to; it is there where all of that is shown.
#[derive(Debug, Default)]
struct Owners {
    nodes: [Option<usize>; 2],
    /// A node whose memory the entry is about.
    memory: Option<usize>,
    cpu: Option<usize>,
}

/// Whether `path` is not there for the reader: what belongs to a node that he is not
/// shown, the link to a CPU, to another node or, where he may use no memory of the node, to a
/// piece of memory.
#[must_use]
pub fn hides(path: &str, shown: &Shown) -> bool {
    let owners = owners(path);
    let lacks = |set: &CpuSet, id: Option<usize>| id.is_some_and(|id| !set.contains(id));
    owners.nodes.into_iter().any(|id| lacks(&shown.nodes, id))
        || lacks(&shown.memory, owners.memory)
        || lacks(&shown.cpus, owners.cpu)
}

/// Whether `path` is there for some readers only, so that its attributes must not be
/// cached. What is below a node is reached through it.
#[must_use]
pub fn depends_on_reader(path: &str) -> bool {
    let owners = owners(path);
    match path.matches('/').count() {
        0 => owners.nodes != [None; 2],
        1 => owners.cpu.is_some() || owners.memory.is_some(),
        _ => path.rsplit('/').next().is_some_and(is_node),
    }
}

/// The file of a node that shows how its memory is used: its number and the name.
#[must_use]
pub fn figures(path: &str) -> Option<(usize, &str)> {
    let (node, name) = path.split_once('/')?;
    let is_figures = ["meminfo", "vmstat"].contains(&name)
        || (name.starts_with("hugepages/") && name.ends_with("_hugepages"));
    Some((numbered(node, "node")?, name)).filter(|_| is_figures)
}

/// What is to be seen of the file `path`: nothing of what is not shown. Counts of the
/// host's activity, which no cgroup accounts by node, are zero. For [`figures`] see
/// [`super::node_memory`].
///
/// The lists of nodes and CPUs that are there follow from `shown` alone, so that all files
/// agree while CPUs come and go. `possible` is the host's: masks of nodes that are given to
/// the kernel must have room for all of its nodes (get_mempolicy(2)).
#[must_use]
pub fn narrow<'a>(path: &str, content: &'a [u8], shown: &Shown) -> Seen<'a> {
    let list = |nodes: &CpuSet| Seen::own(Notation::List.text(nodes, content));
    let counts = || Seen::own(without_counts(path, &String::from_utf8_lossy(content)));
    let kept = |nodes| Seen::kept(Notation::List, content, nodes, &CpuSet::new());
    match path.split('/').collect::<Vec<_>>().as_slice() {
        ["online"] => list(&shown.nodes),
        ["has_cpu"] => list(&shown.with_cpus),
        ["has_memory" | "has_normal_memory" | "has_high_memory"] => kept(&shown.memory),
        ["has_generic_initiator"] => kept(&shown.nodes),
        [node, name @ ("cpulist" | "cpumap")] => {
            let cpus = numbered(node, "node").map(|node| shown.cpus_of(node));
            let notation = match *name {
                "cpumap" => Notation::Mask,
                _ => Notation::List,
            };
            Seen::own(notation.text(&cpus.unwrap_or_default(), content))
        }
        [_, "distance"] => Seen::own(distances(&String::from_utf8_lossy(content), shown)),
        [_, "numastat"] | [_, "memory_failure", _] => counts(),
        [.., "power", name] if name.starts_with("runtime_") && name.ends_with("_time") => counts(),
        _ => Seen::host(content),
    }
}

/// One distance for each node shown: the kernel has one for each that is online.
fn distances(text: &str, shown: &Shown) -> String {
    let columns = text.split_ascii_whitespace().zip(&shown.online);
    let columns = columns.filter(|(_, (node, _))| shown.nodes.contains(*node));
    let columns: Vec<&str> = columns.map(|(distance, _)| distance).collect();
    columns.join(" ") + "\n"
}

fn is_node(name: &str) -> bool {
    numbered(name, "node").is_some()
}

fn owners(path: &str) -> Owners {
    let mut parts = path.split('/');
    let node = parts.next().and_then(|name| numbered(name, "node"));
    let below = parts.next().unwrap_or_default();
    // Links of the nodes nearest to each other: nodeN/access0/initiators/nodeM.
    let other = parts.next_back().and_then(|name| numbered(name, "node"));
    Owners {
        nodes: [node, other],
        memory: node.filter(|_| numbered(below, "memory").is_some()),
        cpu: node.and_then(|_| numbered(below, "cpu")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(list: &str) -> CpuSet {
        CpuSet::parse("set", list).unwrap()
    }

    /// Nodes 0 and 2 with four CPUs each, node 3 with memory only, node 4 with CPUs only.
    fn shown(cpus: &str, memory: &str) -> Shown {
        let node = |id, cpus| NumaNode {
            id,
            cpus: set(cpus),
            ..NumaNode::default()
        };
        let host = [node(0, "0-3"), node(2, "4-7"), node(3, ""), node(4, "8-9")];
        Shown::new(&host, set(cpus), set(memory))
    }

    fn seen(path: &str, content: &str, shown: &Shown) -> String {
        let seen = narrow(path, content.as_bytes(), shown);
        assert!(!seen.is_unknown, "{path}");
        String::from_utf8(seen.content.into_owned()).unwrap()
    }

    #[test]
    fn a_node_is_shown_for_its_cpus_or_its_memory() {
        assert_eq!(shown("4-5", "2").nodes, set("2"));
        assert_eq!(shown("4-5", "0").nodes, set("0,2"));
        assert_eq!(shown("8", "3").nodes, set("3-4"));
        assert_eq!(shown("0-9", "0,2-3").nodes, set("0,2-4"));
    }

    #[test]
    fn hides_other_nodes_and_links_to_what_is_hidden() {
        let shown = shown("5,8", "2-3");
        for path in [
            "node0",
            "node0/meminfo",
            "node2/cpu4",
            "node4/memory17",
            "node2/access0/initiators/node0",
            "node99999999999999999999",
        ] {
            assert!(hides(path, &shown), "{path}");
        }
        for path in [
            "",
            "node2/cpu5",
            "node2/cpulist",
            "node2/memory8",
            "node3",
            "node4/cpu8",
            "node2/access0/initiators/node4",
            "power/control",
            "online",
        ] {
            assert!(!hides(path, &shown), "{path}");
        }
    }

    #[test]
    fn only_nodes_and_links_come_and_go() {
        for path in [
            "node0",
            "node2/cpu1",
            "node2/memory8",
            "node2/access0/targets/node0",
        ] {
            assert!(depends_on_reader(path), "{path}");
        }
        for path in ["", "online", "node2/cpulist", "node2/hugepages", "power"] {
            assert!(!depends_on_reader(path), "{path}");
        }
    }

    #[test]
    fn lists_have_what_is_shown_only() {
        let shown = shown("5,8", "2-3");
        for (path, host, expected) in [
            ("online", "0,2-4\n", "2-4\n"),
            ("possible", "0-7\n", "0-7\n"),
            ("has_cpu", "0,2,4\n", "2,4\n"),
            ("has_memory", "0,2-3\n", "2-3\n"),
            ("has_normal_memory", "0,2-3\n", "2-3\n"),
            ("has_generic_initiator", "\n", "\n"),
            ("node2/cpulist", "4-7\n", "5\n"),
            ("node2/cpumap", "00f0\n", "0020\n"),
            ("node3/cpulist", "\n", "\n"),
            ("node2/distance", "20 10 30 40\n", "10 30 40\n"),
            // CPU 5 has just come.
            ("node2/cpulist", "4,6-7\n", "5\n"),
            ("node2/cpumap", "00d0\n", "0020\n"),
        ] {
            assert_eq!(seen(path, host, &shown), expected, "{path}");
        }
    }

    #[test]
    fn a_list_of_an_unknown_form_is_never_the_hosts() {
        let shown = shown("5,8", "2-3");
        for text in ["0-4\n\0", "all\n"] {
            assert_eq!(seen("node2/cpulist", text, &shown), "5\n");
            assert_eq!(seen("node2/cpumap", text, &shown), "20\n");
            assert_eq!(seen("online", text, &shown), "2-4\n");
            assert_eq!(seen("has_cpu", text, &shown), "2,4\n");
            for path in ["has_memory", "has_generic_initiator"] {
                let seen = narrow(path, text.as_bytes(), &shown);
                assert!(seen.is_unknown, "{path} {text:?}");
                assert_eq!(*seen.content, *b"\n", "{path} {text:?}");
            }
        }
    }

    #[test]
    fn the_hosts_activity_does_not_show() {
        let shown = shown("0-9", "0,2-3");
        let numastat = "numa_hit 233304253\nlocal_node 12\n";
        assert_eq!(
            seen("node0/numastat", numastat, &shown),
            "numa_hit 0\nlocal_node 0\n"
        );
        assert_eq!(seen("node0/memory_failure/total", "3\n", &shown), "0\n");
        assert_eq!(seen("node0/uevent", "X=3\n", &shown), "X=3\n");
    }

    #[test]
    fn figures_of_memory_are_told_from_facts() {
        assert_eq!(figures("node2/meminfo"), Some((2, "meminfo")));
        assert_eq!(figures("node2/vmstat"), Some((2, "vmstat")));
        let pool = "hugepages/hugepages-2048kB/free_hugepages";
        assert_eq!(figures(&format!("node0/{pool}")), Some((0, pool)));
        for path in [
            "node2",
            "node2/numastat",
            "meminfo",
            "node2/hugepages/hugepages-2048kB/demote",
        ] {
            assert_eq!(figures(path), None, "{path}");
        }
    }
}

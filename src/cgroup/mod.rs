//! Limits and accounting of one cgroup: v1, v2 and hybrid behind one type.

pub mod account;
mod hugetlb;
mod layout;
mod memory;
mod node;
mod paths;
mod pressure;
mod reach;
mod sources;
mod v1;
mod v2;
pub mod vm_events;

use std::sync::Arc;

pub use self::layout::{Controller, Directory, Layout, Version};
pub use self::node::{Error, FdBudget, Node};
pub use self::paths::Paths;
pub use self::sources::Source;
pub use crate::parse::limit::Limit;

use self::account::{CpuUsage, DeviceIo};
use crate::parse::cpu_list::CpuSet;

/// Cgroups below a container in which threads are looked for.
const MOST_CGROUPS: usize = 4096;

/// The directories of one cgroup, one in each mounted hierarchy.
#[derive(Debug)]
pub struct Cgroup {
    layout: Arc<Layout>,
    nodes: Vec<Option<Arc<Node>>>,
    paths: Paths,
}

impl Cgroup {
    fn node(&self, controller: Controller) -> Option<(Version, &Node)> {
        let index = self.layout.index_of(controller)?;
        let version = self.layout.hierarchies.get(index)?.version;
        Some((version, self.nodes.get(index)?.as_deref()?))
    }

    /// The node of `controller` if it is a cgroup of its own. The root cgroup is the
    /// whole machine: what it accounts is everybody's.
    fn accounted(&self, controller: Controller) -> Option<(Version, &Node)> {
        self.node(controller).filter(|(_, node)| !node.is_root())
    }

    /// Inode numbers of the directories. They name this cgroup and no other one, also
    /// not a later one with the same path.
    #[must_use]
    pub fn identity(&self) -> Vec<u64> {
        self.nodes
            .iter()
            .map(|node| node.as_ref().map_or(0, |node| node.inode()))
            .collect()
    }

    /// The same directories as another process can find them again; those that are the
    /// root of their hierarchy, which always exist, are left out.
    #[must_use]
    pub fn directories(&self) -> Vec<Directory> {
        let hierarchies = self.layout.hierarchies.iter();
        hierarchies
            .zip(self.nodes.iter().zip(self.paths.iter()))
            .filter(|(_, (node, _))| !node.as_ref().is_some_and(|node| node.is_root()))
            .filter_map(|(hierarchy, (node, path))| {
                Some(Directory {
                    hierarchy: hierarchy.name(),
                    path: path?.to_owned(),
                    inode: node.as_ref().map_or(0, |node| node.inode()),
                })
            })
            .collect()
    }

    /// Whether it is the root cgroup for every controller, with the host's own processes.
    #[must_use]
    pub fn is_root(&self) -> bool {
        let mut hierarchies = Controller::ALL
            .iter()
            .filter_map(|controller| self.layout.index_of(*controller))
            .filter(|index| self.paths.get(*index).is_some())
            .peekable();
        let is_root = |index: usize| {
            let node = self.nodes.get(index).and_then(Option::as_deref);
            node.is_some_and(Node::is_root)
        };
        hierarchies.peek().is_some() && hierarchies.all(is_root)
    }

    /// Whether all directories still exist.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.nodes
            .iter()
            .zip(self.paths.iter())
            .all(|(node, path)| match node {
                Some(node) => node.is_root() || node.is_alive(),
                None => path.is_none(),
            })
    }

    /// CPU time used; `None` if no cgroup of its own accounts it: every one of v2 does, also
    /// beside the controllers of v1. Throttled time, which takes a file of its own on v1, is left
    /// out there unless it is asked for.
    ///
    /// # Errors
    /// As [`Cgroup::memory`].
    pub fn cpu_usage(&self, asks_throttled: bool) -> Result<Option<CpuUsage>, Error> {
        let accounted = self.accounted(Controller::Cpuacct);
        let unified = || self.unified_node().map(|(node, _)| (Version::V2, node));
        let Some((version, node)) = accounted.or_else(unified) else {
            return Ok(None);
        };
        match version {
            Version::V1 => {
                let usage = v1::cpu_usage(node)?;
                let throttled_nsec = match self.accounted(Controller::Cpu) {
                    Some((Version::V1, cpu)) if asks_throttled => v1::throttled_nsec(cpu)?,
                    _ => 0,
                };
                Ok(usage.map(|usage| CpuUsage {
                    throttled_nsec,
                    ..usage
                }))
            }
            Version::V2 => v2::cpu_usage(node),
        }
    }

    /// The strictest CPU bandwidth limit on the way to the root, in thousandths of a
    /// CPU (`cpu.max` quota / period).
    ///
    /// # Errors
    /// As [`Cgroup::memory`].
    pub fn cpu_limit_millis(&self) -> Result<Limit, Error> {
        match self.node(Controller::Cpu) {
            Some((Version::V1, node)) => v1::cpu_limit_millis(node),
            Some((Version::V2, node)) => v2::cpu_limit_millis(node),
            None => Ok(Limit::Max),
        }
    }

    /// The CPUs on which the cgroup may run; `None` if no cpuset says.
    ///
    /// # Errors
    /// As [`Cgroup::memory`].
    pub fn cpuset(&self) -> Result<Option<CpuSet>, Error> {
        self.cpuset_with(|list| !list.is_empty())
    }

    /// Those of them that are `online`. When the last one has gone the kernel has the
    /// threads run where the nearest ancestor may that has one left.
    ///
    /// # Errors
    /// As [`Cgroup::memory`].
    pub fn cpuset_online(&self, online: &CpuSet) -> Result<Option<CpuSet>, Error> {
        let cpuset = self.cpuset_with(|list| list.intersection_len(online) > 0)?;
        Ok(cpuset.map(|cpuset| cpuset.intersection(online)))
    }

    fn cpuset_with(&self, is_usable: impl Fn(&CpuSet) -> bool) -> Result<Option<CpuSet>, Error> {
        let (v1, v2) = ("cpuset.effective_cpus", "cpuset.cpus.effective");
        self.effective(v1, v2, is_usable)
    }

    /// The nodes from which the cgroup may have memory; `None` if no cpuset says.
    ///
    /// # Errors
    /// As [`Cgroup::memory`].
    pub fn memory_nodes(&self) -> Result<Option<CpuSet>, Error> {
        let (v1, v2) = ("cpuset.effective_mems", "cpuset.mems.effective");
        self.effective(v1, v2, |list| !list.is_empty())
    }

    /// The list in a file of the cpuset controller, named for v1 and v2, in the nearest
    /// cgroup where it is usable.
    fn effective(
        &self,
        v1: &'static str,
        v2: &'static str,
        is_usable: impl Fn(&CpuSet) -> bool,
    ) -> Result<Option<CpuSet>, Error> {
        let Some((version, node)) = self.node(Controller::Cpuset) else {
            return Ok(None);
        };
        let file = match version {
            Version::V1 => v1,
            Version::V2 => v2,
        };
        for node in node.self_and_ancestors() {
            if let Some(text) = node.read(file)? {
                let list = CpuSet::parse(file, &text)?;
                if is_usable(&list) {
                    return Ok(Some(list));
                }
            }
        }
        Ok(None)
    }

    /// I/O by device; empty if no cgroup of its own accounts it.
    ///
    /// # Errors
    /// As [`Cgroup::memory`].
    pub fn io(&self) -> Result<Vec<DeviceIo>, Error> {
        match self.accounted(Controller::Blkio) {
            Some((Version::V1, node)) => v1::io(node),
            Some((Version::V2, node)) => v2::io(node),
            None => Ok(Vec::new()),
        }
    }

    /// Thread ids in this cgroup and those below it, of which the first 4096 are visited.
    /// The root cgroup has none of its own:
    /// its threads are the host's.
    ///
    /// # Errors
    /// As [`Cgroup::memory`].
    pub fn threads(&self) -> Result<Vec<i32>, Error> {
        self.threads_in(self.own())
    }

    fn threads_in(&self, hierarchy: Option<usize>) -> Result<Vec<i32>, Error> {
        let known = hierarchy.and_then(|index| {
            let version = self.layout.hierarchies.get(index)?.version;
            Some((version, self.nodes.get(index)?.as_ref()?))
        });
        known.map_or_else(
            || Ok(Vec::new()),
            |(version, node)| threads_below(version, node),
        )
    }

    /// Whether the threads that [`Cgroup::thread_count`] counts are in the same hierarchy as
    /// those of [`Cgroup::threads`], or are just these `threads`.
    ///
    /// # Errors
    /// As [`Cgroup::memory`].
    pub fn counts(&self, threads: &[i32]) -> Result<bool, Error> {
        let counting = self.layout.index_of(Controller::Pids);
        if counting.is_none() || counting == self.own() {
            return Ok(counting.is_some());
        }
        let mut counted = self.threads_in(counting)?;
        let mut threads = threads.to_vec();
        counted.sort_unstable();
        threads.sort_unstable();
        Ok(counted == threads)
    }

    /// The first hierarchy in which this is not the root cgroup.
    fn own(&self) -> Option<usize> {
        let is_own = |node: &Option<Arc<Node>>| node.as_ref().is_some_and(|node| !node.is_root());
        self.nodes.iter().position(is_own)
    }

    /// How many threads there are in this cgroup and those below it, with those that have
    /// ended and wait for their parent, which [`Cgroup::threads`] does not tell of
    /// (kernel: `pids.current`). `None` if no cgroup of the same path counts them.
    ///
    /// # Errors
    /// As [`Cgroup::memory`].
    pub fn thread_count(&self) -> Result<Option<u64>, Error> {
        let Some((_, node)) = self.accounted_for_own(Controller::Pids) else {
            return Ok(None);
        };
        let file = "pids.current";
        node.read(file)?.map(|text| number(file, &text)).transpose()
    }

    /// CPU time that the threads of [`Cgroup::threads`] have used; it stands still only while
    /// none of them runs. `None` if no cgroup of the same path accounts it.
    ///
    /// # Errors
    /// As [`Cgroup::memory`].
    pub fn cpu_used_nsec(&self) -> Result<Option<u64>, Error> {
        match self.accounted_for_own(Controller::Cpuacct) {
            Some((Version::V1, node)) => v1::cpu_used_nsec(node),
            Some((Version::V2, node)) => v2::cpu_used_nsec(node),
            None => Ok(None),
        }
    }

    /// The node of `controller` if it is about the threads of [`Cgroup::threads`]. Where its
    /// hierarchy is coarser, it is about others too.
    fn accounted_for_own(&self, controller: Controller) -> Option<(Version, &Node)> {
        let path = |index: Option<usize>| self.paths.get(index?);
        let is_same = path(self.layout.index_of(controller)) == path(self.own());
        self.accounted(controller).filter(|_| is_same)
    }
}

/// Thread ids in the cgroup and those below it, of which the first 4096 are visited.
fn threads_below(version: Version, node: &Arc<Node>) -> Result<Vec<i32>, Error> {
    let file = match version {
        Version::V1 => "tasks",
        Version::V2 => "cgroup.threads",
    };
    let mut threads = Vec::new();
    let mut pending = Vec::new();
    let mut add = |node: &Arc<Node>, pending: &mut Vec<_>| {
        let (list, children) = node.read_list(file)?;
        threads.extend(list.lines().filter_map(|line| line.parse::<i32>().ok()));
        pending.extend(children.into_iter().map(|name| (Arc::clone(node), name)));
        Ok::<_, Error>(())
    };
    add(node, &mut pending)?;
    for _ in 0..MOST_CGROUPS {
        let Some((parent, name)) = pending.pop() else {
            break;
        };
        // A child that vanishes meanwhile has no threads.
        if let Ok(node) = parent.open_child(parent.child_path(&name).into()) {
            let _ = add(&node, &mut pending);
        }
    }
    Ok(threads)
}

/// The smallest of the limits that `file` sets on the way from `node` to the root.
fn smallest_limit(node: &Node, file: &'static str) -> Result<Limit, Error> {
    let mut smallest = Limit::Max;
    for node in node.self_and_ancestors() {
        if let Some(text) = node.read(file)? {
            smallest = smallest.min(Limit::parse(file, &text)?);
        }
    }
    Ok(smallest)
}

/// The number in `file` of the nearest cgroup that has the file.
fn nearest_number(node: &Node, file: &'static str) -> Result<Option<u64>, Error> {
    for node in node.self_and_ancestors().filter(|node| !node.is_root()) {
        if let Some(text) = node.read(file)? {
            return number(file, &text).map(Some);
        }
    }
    Ok(None)
}

/// The content of `file` in the nearest cgroup, except the root, that has the file.
fn nearest_text(node: &Node, file: &'static str) -> Result<Option<String>, Error> {
    for node in node.self_and_ancestors().filter(|node| !node.is_root()) {
        if let Some(text) = node.read(file)? {
            return Ok(Some(text));
        }
    }
    Ok(None)
}

fn number(file: &'static str, text: &str) -> Result<u64, Error> {
    text.trim()
        .parse()
        .map_err(|_| crate::parse::ParseError::new(file, "number", text).into())
}

/// Thousandths of a CPU for a quota per period; a quota of less than one counts as one.
fn cpu_millis(quota_usec: u64, period_usec: u64) -> Limit {
    match quota_usec.saturating_mul(1000).checked_div(period_usec) {
        Some(millis) => Limit::Value(millis.max(1)),
        None => Limit::Max,
    }
}

//! Which files a figure comes from, to be shown to people who wonder about it.

use std::path::PathBuf;

use super::{Cgroup, Controller, Version};

/// A file of a cgroup and its present content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Path of the file.
    pub path: PathBuf,
    /// What the kernel gave.
    pub content: String,
}

impl Cgroup {
    /// The files that the figures of `controller` come from, with their present content:
    /// the limits of this cgroup and of all above it, and what this one accounts.
    #[must_use]
    pub fn sources(&self, controller: Controller) -> Vec<Source> {
        let Some(index) = self.layout.index_of(controller) else {
            return Vec::new();
        };
        let hierarchy = self.layout.hierarchies.get(index);
        let node = self.nodes.get(index).and_then(Option::as_deref);
        let path = self.paths.get(index);
        let (Some(hierarchy), Some(node), Some(path)) = (hierarchy, node, path) else {
            return Vec::new();
        };
        let (limits, accounts) = files(controller, hierarchy.version);
        let mut directory = hierarchy.directory(path);
        let mut found = Vec::new();
        for (height, node) in node.self_and_ancestors().enumerate() {
            // What the root accounts is everybody's.
            let is_accounted = height == 0 && !node.is_root();
            let files = limits
                .iter()
                .chain(accounts.iter().filter(|_| is_accounted));
            found.extend(files.filter_map(|file| {
                let content = node.read(file).ok().flatten()?;
                Some(Source {
                    path: directory.join(file),
                    content,
                })
            }));
            directory.pop();
        }
        found
    }
}

type Files = &'static [&'static str];

/// Files of limits, which count on all levels, and files of accounting.
const fn files(controller: Controller, version: Version) -> (Files, Files) {
    match (controller, version) {
        (Controller::Memory, Version::V1) => (
            &[
                "memory.limit_in_bytes",
                "memory.soft_limit_in_bytes",
                "memory.memsw.limit_in_bytes",
            ],
            &["memory.usage_in_bytes", "memory.stat", "memory.oom_control"],
        ),
        (Controller::Memory, Version::V2) => (
            &["memory.max", "memory.high", "memory.swap.max"],
            &[
                "memory.current",
                "memory.swap.current",
                "memory.stat",
                "memory.events",
            ],
        ),
        (Controller::Cpu, Version::V1) => {
            (&["cpu.cfs_quota_us", "cpu.cfs_period_us"], &["cpu.stat"])
        }
        (Controller::Cpu, Version::V2) => (&["cpu.max"], &[]),
        (Controller::Cpuacct, Version::V1) => (&[], &["cpuacct.usage_percpu", "cpuacct.stat"]),
        (Controller::Cpuacct, Version::V2) => (&[], &["cpu.stat"]),
        (Controller::Cpuset, Version::V1) => (&[], &["cpuset.effective_cpus"]),
        (Controller::Cpuset, Version::V2) => (&[], &["cpuset.cpus.effective"]),
        (Controller::Blkio, Version::V1) => (
            &[],
            &[
                "blkio.throttle.io_serviced_recursive",
                "blkio.throttle.io_service_bytes_recursive",
            ],
        ),
        (Controller::Blkio, Version::V2) => (&[], &["io.stat"]),
        (Controller::Hugetlb, _) => (&[], &[]),
        (Controller::Pids, _) => (&[], &["pids.current"]),
    }
}

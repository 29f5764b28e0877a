//! What can be found in the hierarchies as they are mounted here.

use std::io;
use std::path::Path;

use super::layout::Hierarchy;
use super::{Controller, Layout, Paths, Version};

impl Layout {
    /// The first of these paths, of a hierarchy with controllers, that lies outside of what is
    /// mounted, and where that is.
    fn outside<'a>(&self, paths: &'a Paths) -> Option<(&'a str, &Path)> {
        let hierarchies = self.hierarchies.iter().zip(paths.iter());
        let mut outside = hierarchies.filter_map(|(hierarchy, path)| {
            let path = path.filter(|path| hierarchy.below(path).is_none())?;
            (!hierarchy.is_named()).then_some((path, hierarchy.mount_point.as_path()))
        });
        outside.next()
    }

    /// Whether the cgroups of a process can be found, by the text of its `/proc/PID/cgroup`.
    ///
    /// # Errors
    /// One sentence about the cgroup that is not.
    pub fn reaches(&self, pid_cgroup: &str) -> io::Result<()> {
        self.check(&self.paths(pid_cgroup))
    }

    pub(super) fn check(&self, paths: &Paths) -> io::Result<()> {
        match self.outside(paths) {
            None => Ok(()),
            Some((path, mount_point)) => Err(io::Error::other(format!(
                "the cgroup {path} lies outside of what is mounted at {}; lxcfs needs the \
                 hierarchies of the host and the cgroup namespace that they are mounted in \
                 (docker run --cgroupns host -v /sys/fs/cgroup:/sys/fs/cgroup)",
                mount_point.display()
            ))),
        }
    }

    /// What no cgroup can tell on this machine.
    #[must_use]
    pub fn limits(&self) -> Option<&'static str> {
        let memory = self
            .index_of(Controller::Memory)
            .and_then(|index| self.hierarchies.get(index));
        let has_memory = memory.is_some_and(|hierarchy| match hierarchy.version {
            Version::V1 => true,
            Version::V2 => hierarchy.has_controller("memory"),
        });
        (!has_memory).then_some(
            "no cgroup accounts memory, as with cgroup_disable=memory, or cgroup_no_v1=all where \
             cgroup2 is not mounted: containers are shown the size of the host's and nothing of it \
             in use",
        )
    }
}

impl Hierarchy {
    /// Whether the v2 hierarchy has the controller.
    fn has_controller(&self, name: &str) -> bool {
        let list = self.root.read("cgroup.controllers");
        let list = list.ok().flatten().unwrap_or_default();
        list.split_ascii_whitespace().any(|known| known == name)
    }

    /// Whether it is one without controllers, for keeping track of processes.
    fn is_named(&self) -> bool {
        let is_name = |name: &String| name.starts_with("name=");
        self.version == Version::V1 && self.controllers.iter().all(is_name)
    }
}

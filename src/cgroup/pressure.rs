//! Pressure of one cgroup. Only the v2 hierarchy has it, whether or not a controller
//! lives there (kernel: Documentation/admin-guide/cgroup-v2.rst, "PSI").

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use nix::errno::Errno;

use super::{Cgroup, Directory, Error, Layout, Node, Source, Version};
use crate::parse::pressure::{Pressure, Resource};

/// The name of a resource's file.
const fn file(resource: Resource) -> &'static str {
    match resource {
        Resource::Cpu => "cpu.pressure",
        Resource::Io => "io.pressure",
        Resource::Irq => "irq.pressure",
        Resource::Memory => "memory.pressure",
    }
}

impl Cgroup {
    /// The cgroup's pressure; none without a cgroup of its own in the v2 hierarchy, or one
    /// for which it is switched off. That of an ancestor would tell of neighbours.
    ///
    /// # Errors
    /// As [`Cgroup::memory`].
    pub fn pressure(&self, resource: Resource) -> Result<Pressure, Error> {
        let text = match self.unified_node() {
            Some((node, _)) => node.read(file(resource))?,
            None => None,
        };
        Ok(text.as_deref().map(Pressure::parse).unwrap_or_default())
    }

    /// The file that [`Cgroup::pressure`] comes from.
    #[must_use]
    pub fn pressure_source(&self, resource: Resource) -> Option<Source> {
        let (node, directory) = self.unified_node()?;
        Some(Source {
            path: directory.join(file(resource)),
            content: node.read(file(resource)).ok()??,
        })
    }

    pub(super) fn unified_node(&self) -> Option<(&Node, PathBuf)> {
        let hierarchies = self.layout.hierarchies.iter();
        let mut places = hierarchies.zip(self.nodes.iter().zip(self.paths.iter()));
        let (hierarchy, (node, path)) =
            places.find(|(hierarchy, _)| hierarchy.version == Version::V2)?;
        let node = node.as_deref().filter(|node| !node.is_root())?;
        Some((node, hierarchy.directory(path?)))
    }

    /// The cgroup's own directory in the v2 hierarchy, if it has one.
    #[must_use]
    pub fn unified(&self) -> Option<Directory> {
        let directories = self.directories().into_iter();
        directories
            .filter(|directory| directory.inode != 0)
            .find(|directory| directory.hierarchy.is_empty())
    }
}

impl Layout {
    /// Opens the file in a directory to which triggers are written; `None` if pressure is
    /// switched off there.
    ///
    /// # Errors
    /// `ENODEV` when the cgroup has been removed, else what open(2) says.
    pub fn open_pressure(
        &self,
        directory: &Directory,
        resource: Resource,
    ) -> Result<Option<OwnedFd>, Errno> {
        let mut hierarchies = self.hierarchies.iter();
        let node = hierarchies
            .find(|hierarchy| hierarchy.name() == directory.hierarchy)
            .and_then(|hierarchy| hierarchy.open(&directory.path.as_str().into()).ok())
            .filter(|node| node.inode() == directory.inode)
            .ok_or(Errno::ENODEV)?;
        node.open_to_write(file(resource))
    }
}

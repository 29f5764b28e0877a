//! Which controller lives in which hierarchy: cgroup v1, v2 or both (hybrid).

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use parking_lot::RwLock;
use procfs::process::MountInfo;

use super::node::{FdBudget, Node};
use super::{Cgroup, Paths};
use crate::parse::pid_cgroup::{Membership, memberships};

/// Version of a hierarchy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// One of several hierarchies, each with controllers of its own.
    V1,
    /// The unified hierarchy.
    V2,
}

/// What is read from a cgroup, named after the v1 controllers.
#[allow(missing_docs, reason = "the kernel's own names")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Controller {
    Memory,
    Cpu,
    Cpuacct,
    Cpuset,
    Blkio,
    Hugetlb,
    Pids,
}

impl Controller {
    pub(super) const ALL: [Self; 7] = [
        Self::Memory,
        Self::Cpu,
        Self::Cpuacct,
        Self::Cpuset,
        Self::Blkio,
        Self::Hugetlb,
        Self::Pids,
    ];

    /// The name in mount options and in `/proc/PID/cgroup`.
    #[must_use]
    pub const fn v1_name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Cpu => "cpu",
            Self::Cpuacct => "cpuacct",
            Self::Cpuset => "cpuset",
            Self::Blkio => "blkio",
            Self::Hugetlb => "hugetlb",
            Self::Pids => "pids",
        }
    }
}

/// A mounted hierarchy.
#[derive(Debug)]
pub(super) struct Hierarchy {
    pub(super) version: Version,
    /// v1 controllers, or the name as `name=systemd`; empty for v2.
    pub(super) controllers: Vec<String>,
    pub(super) mount_point: PathBuf,
    /// The cgroup that is mounted there; `/` but for a mount of a part.
    mounted_path: String,
    pub(super) root: Arc<Node>,
    /// By their paths below the root.
    nodes: RwLock<HashMap<Arc<str>, Weak<Node>>>,
}

/// A cgroup directory by what names it in every process of this boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directory {
    /// The hierarchy by its v1 controllers or its name, as `cpu,cpuacct` or
    /// `name=systemd`; empty for v2.
    pub hierarchy: String,
    /// Its path there, as in `/proc/PID/cgroup`.
    pub path: String,
    /// Its inode number; 0 for one that could not be opened.
    pub inode: u64,
}

/// The host's hierarchies.
#[derive(Debug)]
pub struct Layout {
    pub(super) hierarchies: Vec<Hierarchy>,
    by_controller: [Option<usize>; Controller::ALL.len()],
    budget: Arc<FdBudget>,
}

impl Layout {
    /// Finds the hierarchies in the text of a `mountinfo` file. `prefix` is put in
    /// front of every mount point (`/` on a live system).
    ///
    /// # Errors
    /// When one cannot be opened, or there is none.
    pub fn detect(mountinfo: &str, prefix: &Path, budget: &Arc<FdBudget>) -> io::Result<Self> {
        let mut hierarchies: Vec<Hierarchy> = Vec::new();
        for mount in mountinfo
            .lines()
            .filter_map(|line| MountInfo::from_line(line).ok())
        {
            let Some((version, controllers)) = kind_of(&mount) else {
                continue;
            };
            // The same hierarchy may be mounted several times; the widest mount serves.
            let known = hierarchies
                .iter()
                .position(|known| known.version == version && known.controllers == controllers);
            if known.is_some_and(|index| {
                hierarchies
                    .get(index)
                    .is_some_and(|known| known.mounted_path.len() <= mount.root.len())
            }) {
                continue;
            }
            let relative = mount
                .mount_point
                .strip_prefix("/")
                .unwrap_or(&mount.mount_point);
            let mount_point = prefix.join(relative);
            let root = match Node::open_root(&mount_point, Arc::clone(budget)) {
                Ok(root) => root,
                // Something else lies over the way to it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => {
                    let point = mount_point.display();
                    let text = format!("cannot open the cgroup mount {point}: {error}");
                    return Err(io::Error::new(error.kind(), text));
                }
            };
            if prefix == Path::new("/") && !root.is_on_mount(mount.mnt_id) {
                continue;
            }
            if let Some(index) = known {
                hierarchies.remove(index);
            }
            hierarchies.push(Hierarchy {
                version,
                controllers,
                mount_point,
                mounted_path: mount.root,
                root,
                nodes: RwLock::default(),
            });
        }
        if hierarchies.is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::NotFound,
                "no cgroup file system is mounted; mount cgroup2 on /sys/fs/cgroup",
            ));
        }
        let unified = hierarchies
            .iter()
            .position(|hierarchy| hierarchy.version == Version::V2);
        let by_controller = Controller::ALL.map(|controller| {
            hierarchies
                .iter()
                .position(|hierarchy| {
                    hierarchy
                        .controllers
                        .iter()
                        .any(|name| name == controller.v1_name())
                })
                .or(unified)
        });
        Ok(Self {
            hierarchies,
            by_controller,
            budget: Arc::clone(budget),
        })
    }

    /// The mounted hierarchies: version, v1 controllers (or the name, as
    /// `name=systemd`) and mount point.
    pub fn mounts(&self) -> impl Iterator<Item = (Version, &[String], &Path)> {
        self.hierarchies.iter().map(|hierarchy| {
            (
                hierarchy.version,
                hierarchy.controllers.as_slice(),
                hierarchy.mount_point.as_path(),
            )
        })
    }

    pub(super) fn index_of(&self, controller: Controller) -> Option<usize> {
        self.by_controller
            .get(controller as usize)
            .copied()
            .flatten()
    }

    /// The path of the process in each hierarchy, from the text of its
    /// `/proc/PID/cgroup`.
    #[must_use]
    pub fn paths(&self, pid_cgroup: &str) -> Paths {
        self.hierarchies
            .iter()
            .map(|hierarchy| {
                let found = memberships(pid_cgroup).find(|line| hierarchy.matches(line))?;
                Some(found.path)
            })
            .collect()
    }

    /// Opens the cgroup with these paths (see [`Layout::paths`]). A hierarchy in which there
    /// is no such directory is left out, as if it were not mounted.
    ///
    /// # Errors
    /// When a directory that is there cannot be opened, or one lies outside of what is mounted:
    /// what is limited there is not known.
    pub fn open(self: &Arc<Self>, paths: &Paths) -> io::Result<Cgroup> {
        self.check(paths)?;
        let hierarchies = self.hierarchies.iter().zip(paths.shared());
        let nodes = hierarchies.map(|(hierarchy, path)| {
            let Some(path) = path else { return Ok(None) };
            match hierarchy.open(path) {
                Ok(node) => Ok(Some(node)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(error),
            }
        });
        let nodes = nodes.collect::<io::Result<_>>()?;
        Ok(Cgroup {
            layout: Arc::clone(self),
            nodes,
            paths: paths.clone(),
        })
    }

    /// Whether the directory still exists. It need not be one that was opened here.
    #[must_use]
    pub fn has(&self, directory: &Directory) -> bool {
        self.hierarchies
            .iter()
            .find(|hierarchy| hierarchy.name() == directory.hierarchy)
            .is_some_and(|hierarchy| {
                let below = hierarchy.below(&directory.path);
                below.is_some_and(|below| hierarchy.root.has_below(below, directory.inode))
            })
    }

    /// How many fds may be kept open.
    #[must_use]
    pub fn budget(&self) -> &Arc<FdBudget> {
        &self.budget
    }

    /// Closes all cgroup files that are kept open, and keeps only half as many from now on.
    pub fn keep_fewer(&self) {
        for hierarchy in &self.hierarchies {
            hierarchy.root.close_kept();
            let nodes: Vec<_> = hierarchy.nodes.read().values().cloned().collect();
            nodes
                .iter()
                .filter_map(Weak::upgrade)
                .for_each(|node| node.close_kept());
        }
        self.budget.lower();
    }

    /// Takes back one [`keep_fewer`](Self::keep_fewer).
    pub fn keep_more(&self) {
        self.budget.raise();
    }

    /// Drops the entries of cgroups that nobody holds any more.
    pub fn forget_unused(&self) {
        for hierarchy in &self.hierarchies {
            let mut nodes = hierarchy.nodes.write();
            nodes.retain(|_, node| node.strong_count() > 0);
            let used = nodes.len();
            nodes.shrink_to(used.saturating_mul(2));
        }
    }
}

impl Hierarchy {
    fn matches(&self, line: &Membership<'_>) -> bool {
        match self.version {
            Version::V2 => line.is_v2(),
            Version::V1 => line
                .controllers
                .split(',')
                .any(|name| self.controllers.iter().any(|own| own == name)),
        }
    }

    /// See [`Directory::hierarchy`].
    pub(super) fn name(&self) -> String {
        self.controllers.join(",")
    }

    /// The directory of the cgroup `path`.
    pub(super) fn directory(&self, path: &str) -> PathBuf {
        self.mount_point.join(self.below(path).unwrap_or_default())
    }

    /// The path relative to the mount point; `None` if it lies outside of what is mounted.
    pub(super) fn below<'a>(&self, path: &'a str) -> Option<&'a str> {
        let below = path.strip_prefix(self.mounted_path.trim_end_matches('/'))?;
        let is_inside = below.is_empty() || below.starts_with('/');
        let climbs = below.split('/').any(|name| name == "..");
        (is_inside && !climbs).then(|| below.trim_start_matches('/'))
    }

    /// Opens `path` and, as its parents, all directories on the way.
    pub(super) fn open(&self, path: &Arc<str>) -> io::Result<Arc<Node>> {
        let below = self.below(path).ok_or(io::ErrorKind::NotFound)?;
        let mut node = Arc::clone(&self.root);
        for name in below.split('/').filter(|name| !name.is_empty()) {
            let child_path = node.child_path(name);
            let nodes = self.nodes.read();
            let known = nodes.get(child_path.as_str()).and_then(Weak::upgrade);
            drop(nodes);
            // A cgroup that was removed and made again under its old name is another one.
            node = match known.filter(|known| known.is_alive()) {
                Some(known) => known,
                None => {
                    // The same one for all hierarchies, if it can be.
                    let child_path = match child_path == **path {
                        true => Arc::clone(path),
                        false => child_path.into(),
                    };
                    let opened = node.open_child(child_path)?;
                    let mut nodes = self.nodes.write();
                    nodes.insert(Arc::clone(opened.path()), Arc::downgrade(&opened));
                    drop(nodes);
                    opened
                }
            };
        }
        Ok(node)
    }
}

/// Version and controllers of a cgroup mount, `None` for any other mount.
fn kind_of(mount: &MountInfo) -> Option<(Version, Vec<String>)> {
    match mount.fs_type.as_str() {
        "cgroup2" => Some((Version::V2, Vec::new())),
        "cgroup" => {
            let mut controllers: Vec<String> = mount
                .super_options
                .iter()
                .filter_map(|(option, value)| match value {
                    None => Some(option.clone()),
                    Some(value) if option == "name" => Some(format!("name={value}")),
                    Some(_) => None,
                })
                .filter(|option| {
                    !matches!(
                        option.as_str(),
                        "rw" | "ro" | "xattr" | "noprefix" | "clone_children"
                    )
                })
                .collect();
            controllers.sort_unstable();
            Some((Version::V1, controllers))
        }
        _ => None,
    }
}

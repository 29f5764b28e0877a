//! The host's `/sys` as each reader sees it.

use std::borrow::Cow;
use std::ffi::OsString;
use std::sync::Arc;

use nix::errno::Errno;
use nix::sys::stat::FileStat;

use super::sysfs::{Child, Part, SysTree};
use super::views::Views;
use crate::container::report_unknown;
use crate::parse::cpu_list::CpuSet;
use crate::parse::keyed;
use crate::view::sysfs::Seen;
use crate::view::{sys_block, sys_cpu, sys_node};

/// What a file that can be read at all has of this in its mode.
const READABLE: libc::mode_t = 0o444;

/// The directories of `/sys`, without what a reader is not shown.
#[derive(Debug)]
pub struct SysViews {
    views: Arc<Views>,
    tree: SysTree,
}

/// Attributes on the host, and whether the entry is there for some readers only.
pub type Attributes = (FileStat, bool);

/// What decides whether an entry is there.
enum Shown {
    Everything,
    Cpus(CpuSet),
    Nodes(sys_node::Shown),
}

impl SysViews {
    /// The views of the host's `tree`.
    pub const fn new(views: Arc<Views>, tree: SysTree) -> Self {
        Self { views, tree }
    }

    /// Whether the host has no directory for a fixed inode number.
    pub fn lacks(&self, inode: u64) -> bool {
        self.tree.lacks(inode)
    }

    /// The child of a directory. The answer is the same for every reader, whatever is
    /// hidden from him: the kernel has one cache of names for all, and an ENOENT here would
    /// take away what others have mounted there.
    ///
    /// # Errors
    /// `ENOENT`, or what fstatat(2) says.
    pub fn look_up(&self, parent: u64, name: &str) -> Result<(u64, Attributes), Errno> {
        let (inode, stat) = self.tree.look_up(&self.tree.path(parent)?, name)?;
        let depends = depends_on_reader(&self.tree.path(inode)?);
        Ok((inode, (stat, depends)))
    }

    /// The attributes of an entry.
    ///
    /// # Errors
    /// `ENOENT` if it is not there for the reader, or what fstatat(2) says.
    pub fn attributes(&self, inode: u64, reader: i32) -> Result<Attributes, Errno> {
        let path = self.tree.path(inode)?;
        let depends = depends_on_reader(&path);
        if depends {
            self.check_shown(&path, reader)?;
        }
        Ok((self.tree.stat(&path)?, depends))
    }

    /// The attributes of an entry, whoever is shown it.
    ///
    /// # Errors
    /// What fstatat(2) says.
    pub fn attributes_of_all(&self, inode: u64) -> Result<Attributes, Errno> {
        let path = self.tree.path(inode)?;
        Ok((self.tree.stat(&path)?, depends_on_reader(&path)))
    }

    /// The path of an entry below `/sys`.
    ///
    /// # Errors
    /// `ENOENT` if there is no such entry.
    pub fn path(&self, inode: u64) -> Result<Arc<str>, Errno> {
        self.tree.path(inode)
    }

    /// Whether the reader can open a file.
    ///
    /// # Errors
    /// `ENOENT` if it is not there for the reader; `EACCES` if it is for writing only.
    pub fn check_open(&self, inode: u64, reader: i32) -> Result<(), Errno> {
        let path = self.tree.path(inode)?;
        self.check_shown(&path, reader)?;
        if self.tree.stat(&path)?.st_mode & READABLE == 0 {
            return Err(Errno::EACCES);
        }
        Ok(())
    }

    /// The target of a symbolic link.
    ///
    /// # Errors
    /// `ENOENT` if it is not there for the reader, or what readlinkat(2) says.
    pub fn link_target(&self, inode: u64, reader: i32) -> Result<OsString, Errno> {
        let path = self.tree.path(inode)?;
        self.check_shown(&path, reader)?;
        self.tree.link_target(&path)
    }

    /// The entries of a directory that the reader is shown.
    ///
    /// # Errors
    /// `ENOENT` if it is not there for the reader, or what openat(2) says.
    pub fn list(&self, inode: u64, reader: i32) -> Result<Vec<Child>, Errno> {
        let path = self.tree.path(inode)?;
        let shown = self.shown(&path, reader)?;
        if self.hides(&path, &shown) {
            return Err(Errno::ENOENT);
        }
        let mut children = self.tree.list(&path)?;
        children.retain(|child| !self.hides(&child.path, &shown));
        Ok(children)
    }

    /// What the reader sees in a file.
    ///
    /// # Errors
    /// What openat(2) and read(2) say, or what [`Views::cpus_shown`] fails with.
    pub fn read(&self, inode: u64, reader: i32) -> Result<Arc<[u8]>, Errno> {
        let path = self.tree.path(inode)?;
        let content = self.tree.read(&path)?;
        let Some((part, below)) = Part::of(&path) else {
            return Ok(Arc::from(content));
        };
        let seen: Option<Cow<'_, [u8]>> = match part {
            Part::Cpu => {
                let shown = self.views.cpus_shown(reader)?;
                shown.map(|shown| known(&path, sys_cpu::narrow(below, &content, &shown)))
            }
            Part::Node => match sys_node::figures(below) {
                Some((node, name)) => {
                    let figures = self.views.node_memory(reader, node, name, &content)?;
                    figures.map(Cow::Owned)
                }
                None => {
                    let shown = self.views.nodes_shown(reader)?;
                    shown.map(|shown| known(&path, sys_node::narrow(below, &content, &shown)))
                }
            },
            Part::Block => self.block_file(below, &content, reader)?,
        };
        Ok(seen.map_or_else(|| Arc::from(content.as_slice()), Arc::from))
    }

    /// `None` for the host's own content.
    fn block_file<'a>(
        &self,
        below: &str,
        content: &'a [u8],
        reader: i32,
    ) -> Result<Option<Cow<'a, [u8]>>, Errno> {
        let Some(disk) = sys_block::disk_of_stat(below) else {
            let own = self.views.disks_are_hosts(reader)?;
            return Ok((!own).then(|| sys_block::narrow(below, content)));
        };
        let number = self.tree.read(&format!("block/{disk}/dev"))?;
        let number = keyed::device(String::from_utf8_lossy(&number).trim());
        let used = self.views.disk(reader, number.ok_or(Errno::EIO)?)?;
        Ok(used.map(|used| Cow::Owned(sys_block::stat(&used, content))))
    }

    /// `ENOENT` if `path` belongs to what the reader is not shown.
    fn check_shown(&self, path: &str, reader: i32) -> Result<(), Errno> {
        let shown = self.shown(path, reader)?;
        if self.hides(path, &shown) {
            return Err(Errno::ENOENT);
        }
        Ok(())
    }

    /// What decides about `path` and what is below it.
    fn shown(&self, path: &str, reader: i32) -> Result<Shown, Errno> {
        let shown = match Part::of(path) {
            Some((Part::Cpu, _)) => self.views.cpus_shown(reader)?.map(Shown::Cpus),
            Some((Part::Node, _)) => self.views.nodes_shown(reader)?.map(Shown::Nodes),
            _ => None,
        };
        Ok(shown.unwrap_or(Shown::Everything))
    }

    fn hides(&self, path: &str, shown: &Shown) -> bool {
        let below = Part::of(path).map_or("", |(_, below)| below);
        match shown {
            Shown::Everything => false,
            Shown::Cpus(shown) => sys_cpu::hides(below, shown, |policy| self.related_cpus(policy)),
            Shown::Nodes(shown) => sys_node::hides(below, shown),
        }
    }

    fn related_cpus(&self, policy: usize) -> Option<CpuSet> {
        let file = format!("devices/system/cpu/cpufreq/policy{policy}/related_cpus");
        let content = String::from_utf8(self.tree.read(&file).ok()?).ok()?;
        CpuSet::parse("related_cpus", &content).ok()
    }
}

/// The content; that the file has a form that is not known is logged.
fn known<'a>(path: &str, seen: Seen<'a>) -> Cow<'a, [u8]> {
    if seen.is_unknown {
        // Without the number: the same file of another CPU is the same cause.
        let name = path.rsplit('/').next().unwrap_or_default();
        report_unknown(&format!("{name} below /sys"));
    }
    seen.content
}

fn depends_on_reader(path: &str) -> bool {
    match Part::of(path) {
        Some((Part::Cpu, below)) => sys_cpu::depends_on_reader(below),
        Some((Part::Node, below)) => sys_node::depends_on_reader(below),
        _ => false,
    }
}

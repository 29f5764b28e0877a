//! Directories of the host's `/sys`, passed through.
//!
//! Only what lies below them is ever opened, by names that a directory listing has given;
//! symbolic links are handed out, never followed, but for those in `/sys/block`. Contents
//! are read by the daemon, so access is left to the modes, which the kernel checks for the
//! caller (`default_permissions`); write permission is taken off them.

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstatat};
use parking_lot::RwLock;

use super::tree::{BLOCK, CPU, NODE};
use crate::sys::file::read_whole;

/// Set in every inode number of these directories, so that it is none of the fixed ones.
const INODE_MARK: u64 = 1 << 63;

/// A directory of `/sys` that is passed through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// `/sys/devices/system/cpu`
    Cpu,
    /// `/sys/devices/system/node`
    Node,
    /// `/sys/block`, with directories where the host has links to them. So they can be
    /// mounted over those links, thus in their real places, and over `/sys/block` as well.
    Block,
}

impl Part {
    const ALL: [Self; 3] = [Self::Cpu, Self::Node, Self::Block];

    /// Its path below `/sys`.
    const fn top(self) -> &'static str {
        match self {
            Self::Cpu => "devices/system/cpu",
            Self::Node => "devices/system/node",
            Self::Block => "block",
        }
    }

    const fn inode(self) -> u64 {
        match self {
            Self::Cpu => CPU,
            Self::Node => NODE,
            Self::Block => BLOCK,
        }
    }

    /// The part to which a path below `/sys` belongs, and the rest of it.
    #[must_use]
    pub fn of(path: &str) -> Option<(Self, &str)> {
        Self::ALL.into_iter().find_map(|part| {
            let rest = path.strip_prefix(part.top())?;
            let below = rest.strip_prefix('/');
            below
                .or(Some(rest).filter(|rest| rest.is_empty()))
                .map(|below| (part, below))
        })
    }

    fn by_inode(inode: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|part| part.inode() == inode)
    }
}

/// The directories and the inode numbers given out for what is in them. All paths are
/// relative to `/sys`.
#[derive(Debug)]
pub struct SysTree {
    dir: OwnedFd,
    paths: RwLock<HashMap<u64, Arc<str>>>,
}

/// An entry of a directory.
#[derive(Debug, Clone)]
pub struct Child {
    /// Path below `/sys`.
    pub path: String,
    /// Inode number.
    pub inode: u64,
    /// Kind as in `d_type`.
    pub kind: SFlag,
}

impl Child {
    /// The last part of the path.
    #[must_use]
    pub fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }
}

impl SysTree {
    /// Opens `/sys`.
    ///
    /// # Errors
    /// What open(2) says.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let dir = openat(AT_FDCWD, path, flags, Mode::empty())?;
        Ok(Self {
            dir,
            paths: RwLock::default(),
        })
    }

    /// Whether the host has no directory for a fixed inode number.
    #[must_use]
    pub fn lacks(&self, inode: u64) -> bool {
        Part::by_inode(inode).is_some_and(|part| self.stat(part.top()).is_err())
    }

    /// The path with this inode number. A number that an earlier server gave out is found
    /// by searching the directories.
    ///
    /// # Errors
    /// `ENOENT` if there is no such entry.
    pub fn path(&self, inode: u64) -> Result<Arc<str>, Errno> {
        if let Some(part) = Part::by_inode(inode) {
            return Ok(Arc::from(part.top()));
        }
        if let Some(path) = self.paths.read().get(&inode) {
            return Ok(Arc::clone(path));
        }
        if inode & INODE_MARK == 0 {
            return Err(Errno::ENOENT);
        }
        // What engines mount lies near the top.
        let mut open = VecDeque::from(Part::ALL.map(|part| part.top().to_owned()));
        while let Some(directory) = open.pop_front() {
            for child in self.list(&directory).unwrap_or_default() {
                if child.inode == inode {
                    return Ok(self.remember(&child.path, inode));
                }
                if child.kind == SFlag::S_IFDIR {
                    open.push_back(child.path);
                }
            }
        }
        Err(Errno::ENOENT)
    }

    /// The child `name` of a directory, with its attributes on the host.
    ///
    /// # Errors
    /// `ENOENT`, or what fstatat(2) says.
    pub fn look_up(&self, directory: &str, name: &str) -> Result<(u64, FileStat), Errno> {
        if matches!(name, "" | "." | "..") || name.contains('/') {
            return Err(Errno::ENOENT);
        }
        let path = format!("{directory}/{name}");
        let stat = self.stat(&path)?;
        let inode = inode_of(&path);
        self.remember(&path, inode);
        Ok((inode, stat))
    }

    /// Attributes on the host. The content is not read for them.
    ///
    /// # Errors
    /// What fstatat(2) says.
    pub fn stat(&self, path: &str) -> Result<FileStat, Errno> {
        fstatat(&self.dir, &*self.place(path)?, AtFlags::AT_SYMLINK_NOFOLLOW)
    }

    /// The entries of a directory.
    ///
    /// # Errors
    /// What openat(2) says.
    pub fn list(&self, directory: &str) -> Result<Vec<Child>, Errno> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let place = self.place(directory)?;
        let mut dir = Dir::openat(&self.dir, &*place, flags, Mode::empty())?;
        let of_disks = directory == Part::Block.top();
        let children = dir.iter().flatten().filter_map(|entry| {
            let name = entry.file_name().to_str().ok()?;
            let kind = match entry.file_type()? {
                Type::Directory => SFlag::S_IFDIR,
                Type::Symlink if of_disks => SFlag::S_IFDIR,
                Type::File => SFlag::S_IFREG,
                Type::Symlink => SFlag::S_IFLNK,
                _ => return None,
            };
            if matches!(name, "." | "..") {
                return None;
            }
            let path = format!("{directory}/{name}");
            Some(Child {
                inode: inode_of(&path),
                path,
                kind,
            })
        });
        Ok(children.collect())
    }

    /// The content of a file.
    ///
    /// # Errors
    /// What openat(2) and read(2) say.
    pub fn read(&self, path: &str) -> Result<Vec<u8>, Errno> {
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        read_whole(openat(
            &self.dir,
            &*self.place(path)?,
            flags,
            Mode::empty(),
        )?)
    }

    /// The target of a symbolic link. Those of disks are absolute, as they must lead to the
    /// same from either place where the disk's directory is seen.
    ///
    /// # Errors
    /// What readlinkat(2) says.
    pub fn link_target(&self, path: &str) -> Result<OsString, Errno> {
        let place = self.place(path)?;
        let target = readlinkat(&self.dir, &*place)?;
        match (Part::of(path), target.to_str()) {
            (Some((Part::Block, _)), Some(target)) => Ok(absolute(&place, target).into()),
            _ => Ok(target),
        }
    }

    /// Where the host has `path`: what belongs to a disk, behind the link in `/sys/block`.
    fn place<'a>(&self, path: &'a str) -> Result<Cow<'a, str>, Errno> {
        let Some((Part::Block, below)) = Part::of(path).filter(|(_, below)| !below.is_empty())
        else {
            return Ok(Cow::Borrowed(path));
        };
        let disk_end = below.find('/').unwrap_or(below.len());
        let (disk, rest) = below.split_at(disk_end);
        let target = readlinkat(&self.dir, &*format!("{}/{disk}", Part::Block.top()))?;
        let place = target
            .to_str()
            .and_then(|target| target.strip_prefix("../"));
        match place {
            Some(place) if !place.split('/').any(|part| part == "..") => {
                Ok(Cow::Owned(format!("{place}{rest}")))
            }
            _ => Err(Errno::ENOENT),
        }
    }

    fn remember(&self, path: &str, inode: u64) -> Arc<str> {
        if let Some(known) = self.paths.read().get(&inode) {
            return Arc::clone(known);
        }
        let path: Arc<str> = Arc::from(path);
        self.paths.write().insert(inode, Arc::clone(&path));
        path
    }
}

/// The target of the link at `place`, as an absolute path.
fn absolute(place: &str, target: &str) -> String {
    let mut parts: Vec<&str> = place.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            ".." => drop(parts.pop()),
            "" | "." => {}
            part => parts.push(part),
        }
    }
    format!("/sys/{}", parts.join("/"))
}

/// Inode numbers follow from the path alone, by the 64-bit FNV-1a hash: a new server, also
/// one of a later version, must find the entries that the kernel knows from the old one.
/// The first release had CPUs only, and their paths below that directory.
fn inode_of(path: &str) -> u64 {
    let path = match Part::of(path) {
        Some((Part::Cpu, below)) => below,
        _ => path,
    };
    const OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x100_0000_01b3;
    let hash = path.bytes().fold(OFFSET_BASIS, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(PRIME)
    });
    hash | INODE_MARK
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> (tempfile::TempDir, SysTree) {
        let dir = tempfile::tempdir().unwrap();
        let disk = dir.path().join("devices/pci0/block/sda");
        let cpu = dir.path().join("devices/system/cpu/cpu0");
        for directory in [
            &cpu.join("topology"),
            &disk.join("sda1"),
            &dir.path().join("block"),
        ] {
            std::fs::create_dir_all(directory).unwrap();
        }
        std::fs::write(cpu.join("topology/core_id"), "0\n").unwrap();
        std::fs::write(disk.join("sda1/stat"), "7\n").unwrap();
        let link = |target: &str, at: &Path| std::os::unix::fs::symlink(target, at).unwrap();
        link("../../secret", &cpu.join("out"));
        link("../../../pci0", &disk.join("device"));
        link("../devices/pci0/block/sda", &dir.path().join("block/sda"));
        link("../../secret", &dir.path().join("block/out"));
        let tree = SysTree::open(dir.path()).unwrap();
        (dir, tree)
    }

    const CORE_ID: &str = "devices/system/cpu/cpu0/topology/core_id";

    #[test]
    fn inode_numbers_are_those_of_the_first_release() {
        assert_eq!(inode_of("devices/system/cpu/online"), 0xabf0_e099_159a_8caa);
    }

    #[test]
    fn an_inode_of_an_earlier_server_is_found_again() {
        let (_dir, tree) = tree();
        for path in [CORE_ID, "block/sda/sda1/stat"] {
            assert_eq!(&*tree.path(inode_of(path)).unwrap(), path);
        }
        assert_eq!(tree.read(CORE_ID).unwrap(), b"0\n");
        assert_eq!(
            tree.path(inode_of("devices/system/cpu/cpu7")),
            Err(Errno::ENOENT)
        );
        assert_eq!(tree.path(12345), Err(Errno::ENOENT));
    }

    #[test]
    fn no_name_leads_out_of_the_tree() {
        let (_dir, tree) = tree();
        for name in ["..", ".", "", "../secret", "cpu0/topology"] {
            assert_eq!(
                tree.look_up(Part::Cpu.top(), name).map(|_| ()),
                Err(Errno::ENOENT),
                "{name:?}"
            );
        }
        let out = "devices/system/cpu/cpu0/out";
        assert_eq!(tree.read(out), Err(Errno::ELOOP));
        assert_eq!(tree.link_target(out).unwrap(), "../../secret");
        assert_eq!(tree.stat("block/out").map(|_| ()), Err(Errno::ENOENT));
    }

    #[test]
    fn a_disk_is_a_directory_whose_links_lead_to_the_same_from_anywhere() {
        let (_dir, tree) = tree();
        let disks = tree.list("block").unwrap();
        assert!(disks.iter().all(|disk| disk.kind == SFlag::S_IFDIR));
        let (_, stat) = tree.look_up("block", "sda").unwrap();
        assert_eq!(stat.st_mode & SFlag::S_IFMT.bits(), SFlag::S_IFDIR.bits());
        assert_eq!(tree.read("block/sda/sda1/stat").unwrap(), b"7\n");
        let target = tree.link_target("block/sda/device").unwrap();
        assert_eq!(target, "/sys/devices/pci0");
    }

    #[test]
    fn a_directory_that_the_host_lacks_is_known_to_be_missing() {
        let (_dir, tree) = tree();
        assert!(tree.lacks(NODE));
        assert!(!tree.lacks(CPU) && !tree.lacks(BLOCK) && !tree.lacks(2));
    }
}

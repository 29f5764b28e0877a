//! The host's `/sys/devices/system/cpu`, passed through.
//!
//! Only what lies below the directory is ever opened, by names that a directory
//! listing has given; symbolic links are handed out, never followed. Contents are read
//! by the daemon, so access is left to the modes, which the kernel checks for the caller
//! (`default_permissions`); write permission is taken off them.

use std::collections::HashMap;
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

use super::tree::CPU;
use crate::sys::file::read_whole;

/// Set in every inode number of this part, so that it is none of the fixed ones.
const INODE_MARK: u64 = 1 << 63;

/// The tree and the inode numbers given out for it.
#[derive(Debug)]
pub struct SysTree {
    dir: OwnedFd,
    paths: RwLock<HashMap<u64, Arc<str>>>,
}

/// An entry of a directory.
#[derive(Debug, Clone)]
pub struct Child {
    /// Path below the tree's top.
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
    /// Opens the tree's top directory.
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

    /// The path with this inode number; empty for the top. A number that an earlier
    /// server gave out is found by searching the tree.
    ///
    /// # Errors
    /// `ENOENT` if there is no such entry.
    pub fn path(&self, inode: u64) -> Result<Arc<str>, Errno> {
        if inode == CPU {
            return Ok(Arc::from(""));
        }
        if let Some(path) = self.paths.read().get(&inode) {
            return Ok(Arc::clone(path));
        }
        if inode & INODE_MARK == 0 {
            return Err(Errno::ENOENT);
        }
        let mut open = vec![String::new()];
        while let Some(directory) = open.pop() {
            for child in self.list(&directory).unwrap_or_default() {
                if child.inode == inode {
                    return Ok(self.remember(&child.path, inode));
                }
                if child.kind == SFlag::S_IFDIR {
                    open.push(child.path);
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
        let path = join(directory, name);
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
        fstatat(&self.dir, here(path), AtFlags::AT_SYMLINK_NOFOLLOW)
    }

    /// The entries of a directory.
    ///
    /// # Errors
    /// What openat(2) says.
    pub fn list(&self, directory: &str) -> Result<Vec<Child>, Errno> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let mut dir = Dir::openat(&self.dir, here(directory), flags, Mode::empty())?;
        let children = dir.iter().flatten().filter_map(|entry| {
            let name = entry.file_name().to_str().ok()?;
            let kind = match entry.file_type()? {
                Type::Directory => SFlag::S_IFDIR,
                Type::File => SFlag::S_IFREG,
                Type::Symlink => SFlag::S_IFLNK,
                _ => return None,
            };
            if matches!(name, "." | "..") {
                return None;
            }
            let path = join(directory, name);
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
        read_whole(openat(&self.dir, path, flags, Mode::empty())?)
    }

    /// The target of a symbolic link.
    ///
    /// # Errors
    /// What readlinkat(2) says.
    pub fn link_target(&self, path: &str) -> Result<OsString, Errno> {
        readlinkat(&self.dir, path)
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

/// The name of a directory for calls that take none for "this one".
fn here(path: &str) -> &str {
    if path.is_empty() { "." } else { path }
}

fn join(directory: &str, name: &str) -> String {
    if directory.is_empty() {
        name.to_owned()
    } else {
        format!("{directory}/{name}")
    }
}

/// Inode numbers follow from the path alone, by the 64-bit FNV-1a hash: a new server, also
/// one of a later version, must find the entries that the kernel knows from the old one.
fn inode_of(path: &str) -> u64 {
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
        std::fs::create_dir_all(dir.path().join("cpu0/topology")).unwrap();
        std::fs::write(dir.path().join("cpu0/topology/core_id"), "0\n").unwrap();
        std::os::unix::fs::symlink("../../secret", dir.path().join("cpu0/out")).unwrap();
        let tree = SysTree::open(dir.path()).unwrap();
        (dir, tree)
    }

    #[test]
    fn inode_numbers_are_those_of_the_first_release() {
        assert_eq!(inode_of("online"), 0xabf0_e099_159a_8caa);
    }

    #[test]
    fn an_inode_of_an_earlier_server_is_found_again() {
        let (_dir, tree) = tree();
        let inode = inode_of("cpu0/topology/core_id");
        assert_eq!(&*tree.path(inode).unwrap(), "cpu0/topology/core_id");
        assert_eq!(tree.read("cpu0/topology/core_id").unwrap(), b"0\n");
        assert_eq!(tree.path(inode_of("cpu7")), Err(Errno::ENOENT));
        assert_eq!(tree.path(12345), Err(Errno::ENOENT));
    }

    #[test]
    fn no_name_leads_out_of_the_tree() {
        let (_dir, tree) = tree();
        for name in ["..", ".", "", "../secret", "cpu0/topology"] {
            assert_eq!(
                tree.look_up("", name).map(|_| ()),
                Err(Errno::ENOENT),
                "{name:?}"
            );
        }
        assert_eq!(tree.read("cpu0/out"), Err(Errno::ELOOP));
        assert_eq!(tree.link_target("cpu0/out").unwrap(), "../../secret");
    }
}

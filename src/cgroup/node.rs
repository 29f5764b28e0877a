//! One cgroup directory and kept fds of its files.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat};
use parking_lot::RwLock;

use crate::sys::file::{AT_ONCE, read_text};

/// Why a cgroup file could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The cgroup has been removed.
    #[error("the cgroup has been removed")]
    Gone,
    /// The kernel refused; a lacking file is not an error but `None`.
    #[error("{file}: {cause}")]
    Io {
        /// Name of the file.
        file: &'static str,
        /// What the kernel answered.
        cause: io::Error,
    },
    /// The content is not what the kernel documents.
    #[error(transparent)]
    Parse(#[from] crate::parse::ParseError),
}

/// How many fds may be kept open for cgroup files, so that a full fd table never
/// stands in the way of a request. Beyond it files are opened for each read.
#[derive(Debug)]
pub struct FdBudget {
    most: usize,
    limit: AtomicUsize,
    used: AtomicUsize,
}

impl FdBudget {
    /// A budget of `limit` kept fds.
    #[must_use]
    pub const fn new(limit: usize) -> Self {
        Self {
            most: limit,
            limit: AtomicUsize::new(limit),
            used: AtomicUsize::new(0),
        }
    }

    /// Whether there is room for so many more, which are then taken.
    #[must_use]
    pub fn take(&self, count: usize) -> bool {
        let limit = self.limit.load(Ordering::Relaxed);
        self.used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                (used + count <= limit).then_some(used + count)
            })
            .is_ok()
    }

    /// Makes room for so many that have been taken.
    pub fn give_back(&self, count: usize) {
        self.used.fetch_sub(count, Ordering::Relaxed);
    }

    /// Halves the budget. What has been taken beyond it stays until it is given back.
    pub(super) fn lower(&self) {
        let limit = self.limit.load(Ordering::Relaxed);
        self.limit.store(limit / 2, Ordering::Relaxed);
    }

    /// Takes back one [`lower`](Self::lower).
    pub(super) fn raise(&self) {
        let limit = self.limit.load(Ordering::Relaxed);
        let doubled = limit.saturating_mul(2).max(1).min(self.most);
        self.limit.store(doubled, Ordering::Relaxed);
    }
}

/// Links of a directory of the kernel's that has no others in it.
const NLINK_WITHOUT_CHILDREN: u64 = 2;

/// For looking up what is in a directory.
const DIRECTORY: OFlag = OFlag::O_PATH
    .union(OFlag::O_DIRECTORY)
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_CLOEXEC);

/// The root of a hierarchy.
#[derive(Debug)]
struct Root {
    dir: Arc<OwnedFd>,
    budget: Arc<FdBudget>,
}

/// A cgroup directory. It is found by its path and known by its inode number, so that one
/// that nobody reads takes no fd.
#[derive(Debug)]
pub struct Node {
    root: Arc<Root>,
    /// Below the root, as `/a/b`; empty for the root itself.
    path: Arc<str>,
    inode: u64,
    parent: Option<Arc<Node>>,
    kept: RwLock<Vec<(&'static str, Arc<OwnedFd>)>>,
}

/// The name of a directory in itself.
const ITSELF: &str = ".";

impl Node {
    /// Opens the root of a hierarchy by its mount point.
    ///
    /// # Errors
    /// What open(2) and fstat(2) say.
    pub fn open_root(path: &Path, budget: Arc<FdBudget>) -> io::Result<Arc<Self>> {
        let dir = openat(AT_FDCWD, path, DIRECTORY, Mode::empty())?;
        let inode = fstat(&dir)?.st_ino;
        let dir = Arc::new(dir);
        Ok(Arc::new(Self {
            root: Arc::new(Root { dir, budget }),
            path: Arc::default(),
            inode,
            parent: None,
            kept: RwLock::default(),
        }))
    }

    /// Whether this, the root, is what was mounted under this number, and nothing lies over that.
    /// Taken for granted where the kernel does not tell.
    #[must_use]
    pub fn is_on_mount(&self, mount_id: i32) -> bool {
        let info = format!("/proc/self/fdinfo/{}", self.root.dir.as_raw_fd());
        let info = std::fs::read_to_string(info).unwrap_or_default();
        let line = info.lines().find_map(|line| line.strip_prefix("mnt_id:"));
        line.is_none_or(|id| id.trim() == mount_id.to_string())
    }

    /// The path of the child directory `name`.
    #[must_use]
    pub fn child_path(&self, name: &str) -> String {
        format!("{}/{name}", self.path)
    }

    /// The child directory with this [`child_path`](Self::child_path).
    ///
    /// # Errors
    /// What stat(2) says.
    pub fn open_child(self: &Arc<Self>, path: Arc<str>) -> io::Result<Arc<Self>> {
        let mut child = Self {
            root: Arc::clone(&self.root),
            path,
            inode: 0,
            parent: Some(Arc::clone(self)),
            kept: RwLock::default(),
        };
        let stat = child.stat()?;
        if SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) != SFlag::S_IFDIR {
            return Err(Errno::ENOTDIR.into());
        }
        child.inode = stat.st_ino;
        Ok(Arc::new(child))
    }

    /// The path below the root of the hierarchy, as `/a/b`.
    #[must_use]
    pub fn path(&self) -> &Arc<str> {
        &self.path
    }

    /// The same for calls that take a path relative to the root's directory.
    fn relative_path(&self) -> &str {
        self.path.trim_start_matches('/')
    }

    /// The directory's inode number. The kernel gives every cgroup of a boot another
    /// one (64-bit kernels), so it tells a re-created cgroup from the old one.
    #[must_use]
    pub fn inode(&self) -> u64 {
        self.inode
    }

    /// Whether this is the root of its hierarchy (as far as it is mounted).
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.parent.is_none()
    }

    /// This cgroup, then its parent, up to the hierarchy's root.
    pub fn self_and_ancestors(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(Some(self), |node| node.parent.as_deref())
    }

    /// Whether the directory still exists.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.stat().is_ok_and(|stat| stat.st_ino == self.inode)
    }

    /// What is there under its path by now.
    fn stat(&self) -> Result<FileStat, Errno> {
        match self.is_root() {
            true => fstat(&self.root.dir),
            false => fstatat(
                &self.root.dir,
                self.relative_path(),
                AtFlags::AT_SYMLINK_NOFOLLOW,
            ),
        }
    }

    /// Whether the directory `path` below this one, the root, is still the one with this
    /// `inode`.
    #[must_use]
    pub fn has_below(&self, path: &str, inode: u64) -> bool {
        fstatat(&self.root.dir, path, AtFlags::AT_SYMLINK_NOFOLLOW)
            .is_ok_and(|stat| stat.st_ino == inode)
    }

    /// The content of `file`, a list of threads, and the names of the child cgroups. The file
    /// is opened for each call: through an fd that is kept, v1 gives the list of the first read
    /// again for about a second.
    ///
    /// # Errors
    /// As [`Node::read`].
    pub fn read_list(&self, file: &'static str) -> Result<(String, Vec<String>), Error> {
        let path = match self.is_root() {
            true => file.into(),
            false => format!("{}/{file}", self.relative_path()),
        };
        let list = openat(&self.root.dir, path.as_str(), AT_ONCE, Mode::empty());
        // After that: what was there under the path before this directory has been removed.
        let stat = self.stat().ok().filter(|stat| stat.st_ino == self.inode);
        let stat = stat.ok_or(Error::Gone)?;
        let text = match list {
            Err(Errno::ENOENT) => String::new(),
            list => finish(file, list.and_then(read_text))?,
        };
        // Each child adds a link. Nearly all directories have none, and listing takes eight calls.
        let children = match stat.st_nlink {
            NLINK_WITHOUT_CHILDREN => Vec::new(),
            _ => self.children(),
        };
        Ok((text, children))
    }

    fn children(&self) -> Vec<String> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let dir = self.dir();
        let dir = dir.and_then(|dir| nix::dir::Dir::openat(&dir, ITSELF, flags, Mode::empty()));
        let Ok(mut dir) = dir else {
            return Vec::new();
        };
        dir.iter()
            .flatten()
            .filter(|entry| entry.file_type() == Some(nix::dir::Type::Directory))
            .filter_map(|entry| entry.file_name().to_str().ok().map(str::to_owned))
            .filter(|name| name != ITSELF && name != "..")
            .collect()
    }

    /// The directory; `ENODEV` when the cgroup has been removed.
    fn dir(&self) -> Result<Arc<OwnedFd>, Errno> {
        if self.is_root() {
            return Ok(Arc::clone(&self.root.dir));
        }
        let gone = |errno| match errno {
            Errno::ENOENT => Errno::ENODEV,
            errno => errno,
        };
        let dir = openat(
            &self.root.dir,
            self.relative_path(),
            DIRECTORY,
            Mode::empty(),
        )
        .map_err(gone)?;
        // A cgroup that was removed and made again under its old name is another one.
        if fstat(&dir)?.st_ino != self.inode {
            return Err(Errno::ENODEV);
        }
        Ok(Arc::new(dir))
    }

    fn kept(&self, file: &str) -> Option<Arc<OwnedFd>> {
        let kept = self.kept.read();
        // Nearly always it is the same constant.
        let same = kept.iter().find(|(name, _)| std::ptr::eq(*name, file));
        let (_, fd) = same.or_else(|| kept.iter().find(|(name, _)| *name == file))?;
        Some(Arc::clone(fd))
    }

    /// The content of `file`, or `None` if this cgroup has no such file.
    ///
    /// # Errors
    /// [`Error::Gone`] when the cgroup has been removed, else what the kernel says.
    pub fn read(&self, file: &'static str) -> Result<Option<String>, Error> {
        if let Some(fd) = self.kept(file) {
            match read_text(fd.as_fd()) {
                // The file went away with its cgroup or, on v2, with its controller.
                Err(Errno::ENODEV) => self.forget(file),
                result => return finish(file, result).map(Some),
            }
        }
        let Some(fd) = self.open_file(file)? else {
            return Ok(None);
        };
        let text = finish(file, read_text(fd.as_fd()))?;
        self.keep(file, Arc::new(fd));
        Ok(Some(text))
    }

    fn open_file(&self, file: &'static str) -> Result<Option<OwnedFd>, Error> {
        finish(file, self.open(file, OFlag::O_RDONLY))
    }

    /// Opens `file` for reading and writing; `None` if this cgroup has no such file.
    ///
    /// # Errors
    /// `ENODEV` when the cgroup has been removed, else what open(2) says.
    pub fn open_to_write(&self, file: &str) -> Result<Option<OwnedFd>, Errno> {
        self.open(file, OFlag::O_RDWR)
    }

    fn open(&self, file: &str, flags: OFlag) -> Result<Option<OwnedFd>, Errno> {
        let dir = self.dir()?;
        match openat(&dir, file, flags | AT_ONCE, Mode::empty()) {
            Ok(fd) => Ok(Some(fd)),
            Err(Errno::ENOENT | Errno::ENODEV) if self.is_alive() => Ok(None),
            Err(Errno::ENOENT) => Err(Errno::ENODEV),
            Err(errno) => Err(errno),
        }
    }

    fn keep(&self, file: &'static str, fd: Arc<OwnedFd>) {
        let mut kept = self.kept.write();
        if !kept.iter().any(|(name, _)| *name == file) && self.root.budget.take(1) {
            // Most have one or two, and there are many of them.
            kept.reserve_exact(1);
            kept.push((file, fd));
        }
    }

    fn forget(&self, file: &'static str) {
        let mut kept = self.kept.write();
        let before = kept.len();
        kept.retain(|(name, _)| *name != file);
        self.root.budget.give_back(before - kept.len());
    }

    /// Closes the files that are kept open. Those that are read again may be kept again.
    pub fn close_kept(&self) {
        let closed = std::mem::take(&mut *self.kept.write());
        self.root.budget.give_back(closed.len());
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.root.budget.give_back(self.kept.get_mut().len());
    }
}

fn finish<T>(file: &'static str, result: Result<T, Errno>) -> Result<T, Error> {
    result.map_err(|errno| match errno {
        Errno::ENODEV => Error::Gone,
        errno => Error::Io {
            file,
            cause: errno.into(),
        },
    })
}

//! One cgroup directory: a kept directory fd and kept fds of its files.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, fstat, fstatat};
use parking_lot::RwLock;

use crate::sys::file::read_text;

/// Why a cgroup file could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The cgroup has been removed.
    #[error("the cgroup has been removed")]
    Gone,
    /// The kernel refused; a lacking file is not an error but `None`.
    #[error("{file}: {source}")]
    Io {
        /// Name of the file.
        file: &'static str,
        /// What the kernel answered.
        source: io::Error,
    },
    /// The content is not what the kernel documents.
    #[error(transparent)]
    Parse(#[from] crate::parse::ParseError),
}

/// How many fds may be kept open for cgroup files, so that a full fd table never
/// stands in the way of a request. Beyond it files are opened for each read.
#[derive(Debug)]
pub struct FdBudget {
    limit: usize,
    used: AtomicUsize,
}

impl FdBudget {
    /// A budget of `limit` kept fds.
    #[must_use]
    pub const fn new(limit: usize) -> Self {
        Self {
            limit,
            used: AtomicUsize::new(0),
        }
    }

    /// Whether there is room for one more, which is then taken.
    #[must_use]
    pub fn take(&self) -> bool {
        self.used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                (used < self.limit).then_some(used + 1)
            })
            .is_ok()
    }

    /// Makes room for so many that have been taken.
    pub fn give_back(&self, count: usize) {
        self.used.fetch_sub(count, Ordering::Relaxed);
    }
}

/// Links of a directory of the kernel's that has no others in it.
const NLINK_WITHOUT_CHILDREN: u64 = 2;

/// A cgroup directory. Its ancestors up to the hierarchy's root stay open with it.
#[derive(Debug)]
pub struct Node {
    dir: OwnedFd,
    inode: u64,
    parent: Option<Arc<Node>>,
    kept: RwLock<Vec<(&'static str, Arc<OwnedFd>)>>,
    budget: Arc<FdBudget>,
}

impl Node {
    /// Opens the root of a hierarchy by its mount point.
    ///
    /// # Errors
    /// What open(2) and fstat(2) say.
    pub fn open_root(path: &Path, budget: Arc<FdBudget>) -> io::Result<Arc<Self>> {
        Self::open_at(nix::fcntl::AT_FDCWD, path, None, budget)
    }

    /// Opens the child directory `name`.
    ///
    /// # Errors
    /// What openat(2) and fstat(2) say.
    pub fn open_child(self: &Arc<Self>, name: &str) -> io::Result<Arc<Self>> {
        let parent = Some(Arc::clone(self));
        Self::open_at(
            self.dir.as_fd(),
            Path::new(name),
            parent,
            Arc::clone(&self.budget),
        )
    }

    fn open_at(
        at: BorrowedFd<'_>,
        path: &Path,
        parent: Option<Arc<Self>>,
        budget: Arc<FdBudget>,
    ) -> io::Result<Arc<Self>> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let dir = openat(at, path, flags, Mode::empty())?;
        let inode = fstat(&dir)?.st_ino;
        Ok(Arc::new(Self {
            dir,
            inode,
            parent,
            kept: RwLock::default(),
            budget,
        }))
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
        fstatat(&self.dir, "cgroup.procs", AtFlags::empty()).is_ok()
    }

    /// Whether the child directory `name` is still the one with this `inode`.
    #[must_use]
    pub fn has_child(&self, name: &str, inode: u64) -> bool {
        fstatat(&self.dir, name, AtFlags::AT_SYMLINK_NOFOLLOW)
            .is_ok_and(|stat| stat.st_ino == inode)
    }

    /// Names of the child cgroups.
    #[must_use]
    pub fn children(&self) -> Vec<String> {
        // Where each child adds a link, nearly all have none, and listing takes eight calls.
        if fstat(&self.dir).is_ok_and(|stat| stat.st_nlink == NLINK_WITHOUT_CHILDREN) {
            return Vec::new();
        }
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let Ok(mut dir) = nix::dir::Dir::openat(&self.dir, ".", flags, Mode::empty()) else {
            return Vec::new();
        };
        dir.iter()
            .flatten()
            .filter(|entry| entry.file_type() == Some(nix::dir::Type::Directory))
            .filter_map(|entry| entry.file_name().to_str().ok().map(str::to_owned))
            .filter(|name| name != "." && name != "..")
            .collect()
    }

    /// The content of `file`, or `None` if this cgroup has no such file.
    ///
    /// # Errors
    /// [`Error::Gone`] when the cgroup has been removed, else what the kernel says.
    pub fn read(&self, file: &'static str) -> Result<Option<String>, Error> {
        let kept = self
            .kept
            .read()
            .iter()
            .find(|(name, _)| *name == file)
            .map(|(_, fd)| Arc::clone(fd));
        if let Some(fd) = kept {
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

    /// The same for a list of threads. Through an fd that is kept, v1 gives the list of
    /// the first read again for about a second.
    ///
    /// # Errors
    /// As [`Node::read`].
    pub fn read_list(&self, file: &'static str) -> Result<Option<String>, Error> {
        match self.open_file(file)? {
            Some(fd) => finish(file, read_text(fd)).map(Some),
            None => Ok(None),
        }
    }

    fn open_file(&self, file: &'static str) -> Result<Option<OwnedFd>, Error> {
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        match openat(&self.dir, file, flags, Mode::empty()) {
            Ok(fd) => Ok(Some(fd)),
            Err(Errno::ENOENT | Errno::ENODEV) if self.is_alive() => Ok(None),
            Err(Errno::ENOENT | Errno::ENODEV) => Err(Error::Gone),
            Err(errno) => Err(Error::Io {
                file,
                source: errno.into(),
            }),
        }
    }

    /// Opens `file` for reading and writing; `None` if this cgroup has no such file.
    ///
    /// # Errors
    /// `ENODEV` when the cgroup has been removed, else what open(2) says.
    pub fn open_to_write(&self, file: &str) -> Result<Option<OwnedFd>, Errno> {
        let flags = OFlag::O_RDWR | OFlag::O_CLOEXEC;
        match openat(&self.dir, file, flags, Mode::empty()) {
            Ok(fd) => Ok(Some(fd)),
            Err(Errno::ENOENT | Errno::ENODEV) if self.is_alive() => Ok(None),
            Err(Errno::ENOENT) => Err(Errno::ENODEV),
            Err(errno) => Err(errno),
        }
    }

    fn keep(&self, file: &'static str, fd: Arc<OwnedFd>) {
        let mut kept = self.kept.write();
        if !kept.iter().any(|(name, _)| *name == file) && self.budget.take() {
            kept.push((file, fd));
        }
    }

    fn forget(&self, file: &'static str) {
        let mut kept = self.kept.write();
        let before = kept.len();
        kept.retain(|(name, _)| *name != file);
        self.budget.give_back(before - kept.len());
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.budget.give_back(self.kept.get_mut().len());
    }
}

fn finish(file: &'static str, result: Result<String, Errno>) -> Result<String, Error> {
    result.map_err(|errno| match errno {
        Errno::ENODEV => Error::Gone,
        errno => Error::Io {
            file,
            source: errno.into(),
        },
    })
}

//! One path of the mount namespace that the calling thread is in.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::unistd::fchdir;

use super::inside::errno;
use crate::host::mounts::Limit;
use crate::host::process::Proc;
use crate::parse::mountinfo::{Line, Mount};
use crate::session::mount::FS_TYPE;

/// A name in a directory, and what is topmost there. Neither is opened for reading, and no
/// file system is asked for it beyond the way to it.
#[derive(Debug)]
pub struct Spot {
    directory: OwnedFd,
    name: OsString,
    top: OwnedFd,
}

impl Spot {
    /// Goes to `path`, which mountinfo gave and which therefore has no symbolic link in it.
    ///
    /// # Errors
    /// What openat2(2) says: `ELOOP` if there is a link now, `ENOSYS` before Linux 5.6,
    /// `EBUSY` for the root directory.
    pub fn find(path: &Path) -> Result<Self, Errno> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(Errno::EBUSY);
        };
        Self::in_directory(open(AT_FDCWD, parent, OFlag::O_DIRECTORY)?, name)
    }

    /// Goes to `path` below an open directory, where it leads through no other mount.
    ///
    /// # Errors
    /// As [`Spot::find`]; `EXDEV` if there is another mount on the way.
    pub fn beneath(directory: impl AsFd, path: &Path) -> Result<Self, Errno> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(Errno::EBUSY);
        };
        let how = OpenHow::new()
            .flags(OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
            .resolve(
                ResolveFlag::RESOLVE_BENEATH
                    | ResolveFlag::RESOLVE_NO_SYMLINKS
                    | ResolveFlag::RESOLVE_NO_XDEV,
            );
        let directory = openat2(directory, &Path::new(".").join(parent), how)?;
        Self::in_directory(directory, name)
    }

    fn in_directory(directory: OwnedFd, name: &OsStr) -> Result<Self, Errno> {
        let top = open(&directory, Path::new(name), OFlag::empty())?;
        Ok(Self {
            directory,
            name: name.to_owned(),
            top,
        })
    }

    /// What is topmost; after a change, what was.
    pub fn top(&self) -> &OwnedFd {
        &self.top
    }

    /// The same name, looked up again.
    ///
    /// # Errors
    /// What openat2(2) says.
    pub fn again(self) -> Result<Self, Errno> {
        let top = open(&self.directory, Path::new(&self.name), OFlag::empty())?;
        Ok(Self { top, ..self })
    }

    /// Unmounts the topmost mount, whoever uses it.
    ///
    /// # Errors
    /// What umount2(2) says: `EINVAL` if the mount is locked (man: mount_namespaces(7)).
    pub fn unmount(&self) -> Result<(), Errno> {
        fchdir(&self.directory)?;
        let flags = MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW;
        umount2(Path::new(&self.name), flags)
    }

    /// Covers the directory with an empty one.
    ///
    /// # Errors
    /// What mount(2) says.
    pub fn cover(&self) -> Result<(), Errno> {
        fchdir(&self.directory)?;
        let flags =
            MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        let kind = Some("tmpfs");
        mount(kind, Path::new(&self.name), kind, flags, Some("size=4k"))
    }
}

fn open(directory: impl AsFd, path: &Path, flags: OFlag) -> Result<OwnedFd, Errno> {
    let how = OpenHow::new()
        .flags(flags | OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_NO_SYMLINKS);
    openat2(directory, path, how)
}

/// The mounts of the calling thread's namespace that it can reach from its root and that are
/// wanted.
///
/// # Errors
/// What reading mountinfo fails with; `EFBIG` if there are too many to be looked at.
pub fn table(proc: &Proc, is_wanted: impl Fn(&Line<'_>) -> bool) -> Result<Vec<Mount>, Errno> {
    proc.mounts("thread-self/mountinfo", is_wanted)
}

/// Whether the mount is one of lxcfs, dead or alive.
pub fn is_of_lxcfs(line: &Line<'_>) -> bool {
    line.fs_type == FS_TYPE.as_bytes()
}

/// The groups of mounts in such a file of `/proc`: what is mounted on one of them is mounted on
/// all others of its group.
///
/// # Errors
/// What reading it fails with.
pub fn peer_groups(proc: &Proc, name: &str) -> Result<BTreeSet<u32>, Errno> {
    let mut groups = BTreeSet::new();
    proc.visit_mounts(name, Limit::THOROUGH, |line| groups.extend(line.peer_group))?;
    Ok(groups)
}

/// The number that `table` has for the mount of an open file.
///
/// # Errors
/// What reading `/proc/thread-self/fdinfo` fails with.
pub fn mount_id(proc: &Proc, file: impl AsFd) -> Result<u32, Errno> {
    let name = format!("thread-self/fdinfo/{}", file.as_fd().as_raw_fd());
    let text = proc.read_file(&name).map_err(|error| errno(&error))?;
    let text = String::from_utf8_lossy(&text);
    text.lines()
        .find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse().ok())
        .ok_or(Errno::ENOSYS)
}

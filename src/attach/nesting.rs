//! What containers inside the container need.
//!
//! In a user namespace the kernel refuses a new procfs or sysfs unless the mount namespace has one
//! of which nothing but empty directories is covered: a new one would show what is covered
//! (`mount_too_revealing()` in fs/namespace.c). The kernel cannot tell views from what hides
//! something. So where it would allow a new one but for the views, the container gets one more
//! mount of its own procfs or sysfs, with the same options and nothing on it. No path leads there.

use std::collections::BTreeSet;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};

use crate::host::process::Proc;
use crate::parse::mountinfo::{Line, Mount};
use crate::places::spot::{self, Spot, is_of_lxcfs, mount_id};
use crate::session::mount::FS_TYPE;
use crate::sys::file::lists_attributes;
use crate::sys::mounts::{Attributes, Layer, attach, detached_copy, detached_tree, restrict};

/// A file system that containers mount anew.
#[derive(Debug)]
struct Kind {
    /// Its type in mountinfo.
    fs_type: &'static str,
    /// Where it belongs, below a container's root.
    place: &'static str,
    /// A directory of it that is always there and that nobody mounts anything on. The clean
    /// mount lies beneath a copy of it.
    cache: &'static str,
}

const KINDS: [Kind; 2] = [
    Kind {
        fs_type: "proc",
        place: "proc",
        // Empty for decades, and kept for programs that expect it.
        cache: "tty/ldisc",
    },
    Kind {
        fs_type: "sysfs",
        place: "sys",
        // It is there where FUSE is.
        cache: "fs/fuse",
    },
];

/// A container with the views.
#[derive(Debug)]
pub struct Nest<'a> {
    /// Its root directory.
    pub root: &'a OwnedFd,
    /// A `/proc` in which this thread finds itself.
    pub proc: &'a Proc,
    /// What its engine is going to cover, as the container names it.
    pub masked: &'a [PathBuf],
}

impl Nest<'_> {
    /// Mounts what is missing. `is_hosts` says of a mount whether it is shared with the host.
    ///
    /// # Errors
    /// What looking at mounts or making them fails with.
    pub fn keep_possible(&self, is_hosts: impl Fn(&Mount) -> bool) -> Result<(), Errno> {
        let table = table(self.proc)?;
        let root = self.path_of(self.root)?;
        for kind in &KINDS {
            let Some(top) = follow(self.root, Path::new(kind.place))? else {
                continue;
            };
            let (id, path) = (mount_id(self.proc, &top)?, self.path_of(&top)?);
            let is_own = |mount: &&Mount| {
                mount.id == id
                    && mount.fs_type == kind.fs_type
                    && mount.mount_point == path
                    && is_whole(mount)
                    && !is_hosts(mount)
            };
            if let Some(own) = table.iter().find(is_own) {
                let clean = clean_copy(&top)?;
                if self.is_wanted(
                    kind,
                    own,
                    &Scene {
                        table: &table,
                        root: &root,
                    },
                    &clean,
                )? {
                    add(kind, &top, clean)?;
                }
            }
        }
        Ok(())
    }

    /// Whether views are all that keeps the kernel from allowing a new one.
    fn is_wanted(
        &self,
        kind: &Kind,
        own: &Mount,
        scene: &Scene<'_>,
        clean: &OwnedFd,
    ) -> Result<bool, Errno> {
        let on = |id: u32| scene.table.iter().filter(move |mount| mount.parent == id);
        let (views, others): (Vec<_>, Vec<_>) =
            on(own.id).partition(|mount| mount.fs_type == FS_TYPE);
        if views.is_empty() {
            return Ok(false);
        }
        let mut covers = others
            .into_iter()
            .chain(views.iter().flat_map(|view| on(view.id)));
        if covers.any(|cover| !is_harmless(clean, own, cover)) {
            return Ok(false);
        }
        let place = Path::new("/").join(kind.place);
        let masked = self
            .masked
            .iter()
            .filter_map(|path| path.strip_prefix(&place).ok());
        for path in masked {
            if !matches!(
                is_empty_for_ever(clean, path),
                Ok(true) | Err(Errno::ENOENT)
            ) {
                return Ok(false);
            }
        }
        // The container's configuration may have made one, as that of LXC does for nesting.
        let serves = |mount: &&Mount| {
            mount.fs_type == kind.fs_type
                && is_whole(mount)
                && mount.mount_point.starts_with(scene.root)
                && (own.has_option("ro") || !mount.has_option("ro"))
        };
        let is_clean = |mount: &Mount| on(mount.id).all(|cover| is_harmless(clean, mount, cover));
        Ok(!scene.table.iter().filter(serves).any(is_clean))
    }

    fn path_of(&self, file: &OwnedFd) -> Result<PathBuf, Errno> {
        let name = format!("thread-self/fd/{}", file.as_raw_fd());
        self.proc.read_link(&name)
    }
}

/// Mounts of these file systems and of lxcfs, and what lies on them.
fn table(proc: &Proc) -> Result<Vec<Mount>, Errno> {
    let is_of_kind = |line: &Line<'_>| {
        let kinds = KINDS.iter();
        is_of_lxcfs(line)
            || kinds
                .map(|kind| kind.fs_type.as_bytes())
                .any(|known| known == line.fs_type)
    };
    let found = spot::table(proc, is_of_kind)?;
    let ids: BTreeSet<_> = found.iter().map(|mount| mount.id).collect();
    spot::table(proc, |line| {
        ids.contains(&line.id) || ids.contains(&line.parent)
    })
}

/// What is mounted, and where the container's root is in that.
struct Scene<'a> {
    table: &'a [Mount],
    root: &'a Path,
}

/// Takes away what [`Nest::keep_possible`] has added where no views are left. What cannot be
/// taken away stays: nobody sees it.
///
/// # Errors
/// What listing the mounts fails with.
pub fn forget(proc: &Proc) -> Result<(), Errno> {
    let table = table(proc)?;
    for base in table.iter().filter(|mount| is_base(mount, &table)) {
        let has_views = |mount: &Mount| mount.parent == base.parent && mount.fs_type == FS_TYPE;
        if !table.iter().any(has_views) {
            take(base, &table, proc);
        }
    }
    Ok(())
}

/// Whether it is the lowest of the mounts that [`add`] makes: the same file system as the one
/// it lies on, whole, in the place where nobody else mounts anything.
fn is_base(mount: &Mount, table: &[Mount]) -> bool {
    let of = |id| table.iter().find(|mount: &&Mount| mount.id == id);
    let is_on = |mount: &Mount, below: &Mount| {
        let kind = KINDS.iter().find(|kind| kind.fs_type == mount.fs_type);
        kind.is_some_and(|kind| mount.mount_point == below.mount_point.join(kind.cache))
            && mount.device == below.device
            && is_whole(mount)
            && is_whole(below)
    };
    let Some(below) = of(mount.parent).filter(|below| is_on(mount, below)) else {
        return false;
    };
    !of(below.parent).is_some_and(|lowest| is_on(below, lowest))
}

fn take(base: &Mount, table: &[Mount], proc: &Proc) {
    let is_layer = |id| {
        let is = |mount: &Mount| mount.id == id && mount.mount_point == base.mount_point;
        id == base.id
            || table
                .iter()
                .any(|mount| mount.parent == base.id && is(mount))
    };
    while let Ok(spot) = Spot::find(&base.mount_point) {
        match mount_id(proc, spot.top()) {
            Ok(id) if is_layer(id) && spot.unmount().is_ok() => {}
            _ => return,
        }
    }
}

/// Whether it shows its file system from the root.
fn is_whole(mount: &Mount) -> bool {
    mount.root == Path::new("/")
}

/// Whether `cover`, which lies on `mount`, hides nothing; unless it is known to, it does.
fn is_harmless(clean: &OwnedFd, mount: &Mount, cover: &Mount) -> bool {
    let path = cover.mount_point.strip_prefix(&mount.mount_point);
    path.is_ok_and(|path| is_empty_for_ever(clean, path) == Ok(true))
}

/// Whether it is a directory that the kernel keeps empty, to be mounted on. Such a one does not
/// even list extended attributes, unlike all others.
fn is_empty_for_ever(clean: &OwnedFd, path: &Path) -> Result<bool, Errno> {
    let directory = beneath(clean, path, OFlag::O_RDONLY | OFlag::O_DIRECTORY)?;
    Ok(!lists_attributes(directory)?)
}

/// What `path` leads to in the container; `None` if it has none.
fn follow(root: &OwnedFd, path: &Path) -> Result<Option<OwnedFd>, Errno> {
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    match openat2(root, path, how) {
        Ok(found) => Ok(Some(found)),
        Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// A file of the mount whose root is `mount`, and of no other one.
fn beneath(mount: &OwnedFd, path: &Path, flags: OFlag) -> Result<OwnedFd, Errno> {
    let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(
        ResolveFlag::RESOLVE_BENEATH
            | ResolveFlag::RESOLVE_NO_SYMLINKS
            | ResolveFlag::RESOLVE_NO_XDEV,
    );
    openat2(mount, &Path::new(".").join(path), how)
}

/// The mount without what lies on it, attached nowhere.
fn clean_copy(top: &OwnedFd) -> Result<OwnedFd, Errno> {
    let copy = detached_copy(top)?;
    restrict(&copy, Attributes::default())?;
    Ok(copy)
}

/// Mounts `clean` on a copy of its own, and over that what was there before.
fn add(kind: &Kind, top: &OwnedFd, clean: OwnedFd) -> Result<(), Errno> {
    let cache = Path::new(kind.cache);
    let place = match beneath(top, cache, OFlag::O_PATH | OFlag::O_DIRECTORY) {
        Ok(place) => place,
        // Not there, or something is mounted there.
        Err(Errno::ENOENT | Errno::EXDEV) => return Ok(()),
        Err(errno) => return Err(errno),
    };
    let cover = detached_tree(&place)?;
    restrict(&cover, Attributes::default())?;
    let base = clean_copy(top)?;
    attach(&base, &place, Layer::Above)?;
    let done = beneath(&base, cache, OFlag::O_PATH)
        .and_then(|inner| attach(clean, inner, Layer::Above))
        .and_then(|()| attach(cover, &base, Layer::Above));
    if done.is_err() {
        // It must not stay in sight.
        let _ = Spot::beneath(top, cache).and_then(|spot| spot.unmount());
    }
    done
}

//! The lxcfs whose files are put into place.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::statfs::fstatfs;

use super::health::Device;
use super::inside;
use super::spot::{Spot, is_of_lxcfs, mount_id, table};
use crate::host::process::Proc;
use crate::parse::mountinfo::Mount;
use crate::sys::mounts::detached_copy;

/// How long it may take to answer: it may just have been started, and nothing can be done
/// without it.
const PATIENCE: Duration = Duration::from_secs(10);

/// A live lxcfs in this process's mount namespace.
#[derive(Debug)]
pub struct Source {
    /// Its mountpoint, without symbolic links.
    pub mountpoint: PathBuf,
    /// Its superblock.
    pub device: Device,
}

impl Source {
    /// Looks at what is mounted at `path`.
    ///
    /// # Errors
    /// One sentence if that is no lxcfs which answers.
    pub fn at(path: &Path, proc: &Arc<Proc>) -> anyhow::Result<Self> {
        let shown = path.display();
        let (wanted, proc) = (path.to_owned(), Arc::clone(proc));
        let found = inside::run(&None, PATIENCE, move || look(&wanted, &proc));
        let Ok(found) = found else {
            bail!("the lxcfs at {shown} does not answer; start it again first");
        };
        match found {
            Ok((mount, Ok(()))) => Ok(Self {
                mountpoint: mount.mount_point,
                device: mount.device,
            }),
            Ok((_, Err(Errno::ENOTCONN | Errno::ECONNABORTED))) => {
                bail!("the lxcfs at {shown} is dead; start it again first")
            }
            Ok((_, Err(errno))) => Err(errno).context(format!("cannot use {shown}")),
            Err(error) => Err(error),
        }
    }

    /// A mount of each path of the tree, attached nowhere, or why there is none: `ENOENT`
    /// for what the tree does not have.
    ///
    /// # Errors
    /// One sentence if it does not answer any more or the kernel is too old.
    pub fn copies(&self, paths: Vec<PathBuf>) -> anyhow::Result<Vec<Result<OwnedFd, Errno>>> {
        let shown = self.mountpoint.display();
        let mountpoint = self.mountpoint.clone();
        let copy_all = move || -> Result<Vec<_>, Errno> {
            let tree = Spot::find(&mountpoint)?;
            Ok(paths.iter().map(|path| copy(tree.top(), path)).collect())
        };
        let copies = inside::run(&None, PATIENCE, copy_all)
            .with_context(|| format!("the lxcfs at {shown} does not answer any more"))?
            .with_context(|| format!("cannot use {shown}"))?;
        ensure!(
            !copies.iter().any(|copy| matches!(copy, Err(Errno::ENOSYS))),
            "this needs Linux 5.12 or newer; restart the containers instead"
        );
        Ok(copies)
    }
}

/// `path` can be a container's invention, so it must not lead out of the tree.
fn copy(tree: &OwnedFd, path: &Path) -> Result<OwnedFd, Errno> {
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
        .resolve(
            ResolveFlag::RESOLVE_BENEATH
                | ResolveFlag::RESOLVE_NO_SYMLINKS
                | ResolveFlag::RESOLVE_NO_XDEV,
        );
    let below = path.strip_prefix("/").unwrap_or(path);
    detached_copy(openat2(tree, &Path::new(".").join(below), how)?)
}

/// The mount at `path`, and whether it answers.
fn look(path: &Path, proc: &Proc) -> anyhow::Result<(Mount, Result<(), Errno>)> {
    let shown = path.display();
    let no_lxcfs =
        || format!("no lxcfs is mounted at {shown}; start it, or name the directory where it is");
    let path = resolve(path).with_context(|| format!("cannot use {shown}"))?;
    ensure!(path.parent().is_some(), no_lxcfs());
    let spot = Spot::find(&path).with_context(|| format!("cannot use {shown}"))?;
    let id = mount_id(proc, spot.top()).with_context(|| format!("cannot use {shown}"))?;
    let table = table(proc, is_of_lxcfs).context("cannot list the mounts")?;
    let is_wanted = |mount: &Mount| mount.id == id && mount.mount_point == path;
    let mount = table
        .into_iter()
        .find(|mount| is_wanted(mount) && mount.root == Path::new("/"))
        .with_context(no_lxcfs)?;
    Ok((mount, fstatfs(spot.top()).map(drop)))
}

/// The path without symbolic links. Of a dead mount even the name may be out of reach, so
/// the directory above comes first.
///
/// # Errors
/// What looking it up fails with.
pub fn resolve(path: &Path) -> io::Result<PathBuf> {
    let path = std::path::absolute(path)?;
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) if !path.is_symlink() => Ok(parent.canonicalize()?.join(name)),
        _ => path.canonicalize(),
    }
}

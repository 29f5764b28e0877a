//! What is found under the mountpoint while no lxcfs is mounted there.
//!
//! An engine refuses to start a container with a mount whose source is missing; Docker makes
//! an empty directory of that name, which then cannot be mounted over a file. So there are
//! links to the host's own files: a container that starts meanwhile sees what it would see
//! without lxcfs.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::Context;
use nix::mount::{MntFlags, umount2};
use nix::sys::statfs::{PROC_SUPER_MAGIC, SYSFS_MAGIC, statfs};

use super::within::within;
use super::{Binding, bindings};
use crate::host::process::Proc;
use crate::parse::mountinfo::Line;
use crate::places::source::resolve;
use crate::session::mount::FS_TYPE;
use crate::sys::apart::unshare_mounts;

/// LXC's mount hook lays directories of `proc` over the container's own, so this one, of
/// which there is a single file, would hide the others.
const NOT_LINKED: &str = "proc/spl";

/// Makes the directory `mountpoint` with links to the host's own files, under whatever lxcfs is
/// mounted there.
///
/// # Errors
/// One sentence about what cannot be made.
pub fn prepare(mountpoint: &Path) -> anyhow::Result<()> {
    if is_covered(mountpoint)? {
        within(mountpoint, || {
            uncover(mountpoint)?;
            fill(mountpoint)
        })
    } else {
        fill(mountpoint)
    }
}

/// The same for a daemon, at its start and its end, unless there is no such directory. It serves
/// in any case, so a failure is only noted.
pub fn keep_ready(mountpoint: &Path) {
    let done = is_covered(mountpoint).and_then(|is_covered| match is_covered {
        false if !mountpoint.is_dir() => Ok(()),
        _ => prepare(mountpoint),
    });
    if let Err(error) = done {
        log::warn!("containers that start while lxcfs is stopped can lack its files: {error:#}");
    }
}

fn fill(mountpoint: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(mountpoint)
        .with_context(|| format!("cannot create {}", mountpoint.display()))?;
    for binding in bindings(&[]) {
        if !binding.path.starts_with(NOT_LINKED) {
            let place = binding.source(mountpoint);
            link(&binding, &place).with_context(|| format!("cannot make {}", place.display()))?;
        }
    }
    Ok(())
}

/// Whether an lxcfs is mounted there, which need not answer.
fn is_covered(mountpoint: &Path) -> anyhow::Result<bool> {
    // What is mounted has a directory above it.
    let Ok(wanted) = resolve(mountpoint) else {
        return Ok(false);
    };
    let proc = Proc::open(Path::new("/proc")).context("cannot open /proc")?;
    let is_there = |line: &Line<'_>| line.mount_point() == wanted;
    let mounts = proc.mounts("self/mountinfo", is_there);
    let mounts = mounts.context("cannot list the mounts")?;
    Ok(mounts.last().is_some_and(|mount| mount.fs_type == FS_TYPE))
}

/// Takes each lxcfs away that is mounted there, in a mount namespace that only this process is in.
fn uncover(mountpoint: &Path) -> anyhow::Result<()> {
    unshare_mounts().context("cannot make a mount namespace")?;
    while is_covered(mountpoint)? {
        umount2(mountpoint, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW)
            .with_context(|| format!("cannot look under {}", mountpoint.display()))?;
    }
    Ok(())
}

/// Whether `path` leads to the host's own file, as the links do, and not to one of lxcfs.
#[must_use]
pub fn is_hosts_own(path: &Path) -> bool {
    statfs(path)
        .is_ok_and(|found| [PROC_SUPER_MAGIC, SYSFS_MAGIC].contains(&found.filesystem_type()))
}

fn link(binding: &Binding, place: &Path) -> io::Result<()> {
    if let Some(parent) = place.parent() {
        fs::create_dir_all(parent)?;
    }
    // Docker's doing; one with something in it is somebody else's.
    if place.is_dir() && !place.is_symlink() {
        fs::remove_dir(place)?;
    }
    match symlink(binding.target(), place) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_lead_to_the_hosts_files_and_are_made_once() {
        let dir = tempfile::tempdir().unwrap();
        let mountpoint = dir.path().join("lxcfs");
        prepare(&mountpoint).unwrap();
        prepare(&mountpoint).unwrap();
        let meminfo = mountpoint.join("proc/meminfo");
        assert_eq!(fs::read_link(&meminfo).unwrap(), Path::new("/proc/meminfo"));
        assert!(is_hosts_own(&meminfo));
        assert!(mountpoint.join("sys/devices/system/cpu/online").exists());
        assert!(!is_hosts_own(dir.path()));
    }

    #[test]
    fn a_directory_that_docker_made_gives_way_and_no_other() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("proc/meminfo")).unwrap();
        prepare(dir.path()).unwrap();
        assert!(dir.path().join("proc/meminfo").is_symlink());

        let dir = tempfile::tempdir().unwrap();
        let foreign = dir.path().join("proc/stat/somebody's");
        fs::create_dir_all(&foreign).unwrap();
        let error = prepare(dir.path()).unwrap_err();
        assert!(error.to_string().contains("proc/stat"), "{error:#}");
        assert!(foreign.is_dir());
    }
}

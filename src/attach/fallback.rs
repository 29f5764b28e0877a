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
use nix::sys::statfs::{PROC_SUPER_MAGIC, SYSFS_MAGIC, statfs};

use super::{Binding, bindings};
use crate::host::process::Proc;
use crate::parse::mountinfo::Line;

/// LXC's mount hook lays directories of `proc` over the container's own, so this one, of
/// which there is a single file, would hide the others.
const NOT_LINKED: &str = "proc/spl";

/// Makes the directory `mountpoint` with links to the host's own files, unless something is
/// mounted there.
///
/// # Errors
/// One sentence about what cannot be made.
pub fn prepare(mountpoint: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(mountpoint)
        .with_context(|| format!("cannot create {}", mountpoint.display()))?;
    if is_mounted(mountpoint)? {
        return Ok(());
    }
    for binding in bindings(&[]) {
        if !binding.path.starts_with(NOT_LINKED) {
            let place = binding.source(mountpoint);
            link(&binding, &place).with_context(|| format!("cannot make {}", place.display()))?;
        }
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

/// Whether `directory` is the root of a mount.
fn is_mounted(directory: &Path) -> anyhow::Result<bool> {
    let wanted = directory
        .canonicalize()
        .with_context(|| format!("cannot use {}", directory.display()))?;
    let proc = Proc::open(Path::new("/proc")).context("cannot open /proc")?;
    let is_it = |line: &Line<'_>| line.mount_point() == wanted;
    let mounts = proc.mounts("self/mountinfo", is_it);
    Ok(!mounts.context("cannot list the mounts")?.is_empty())
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

    #[test]
    fn nothing_is_made_in_what_is_mounted() {
        prepare(Path::new("/proc")).unwrap();
    }
}

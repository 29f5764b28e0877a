//! Laying views over files. Runs in a thread that has entered the container's mount namespace.

use std::collections::BTreeSet;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2};

use super::{Outcome, Outcomes, refusal};
use crate::attach::nesting::Nest;
use crate::host::process::Proc;
use crate::parse::mountinfo::Mount;
use crate::places::health::Device;
use crate::places::spot::{Spot, mount_id, table};
use crate::session::mount::FS_TYPE;
use crate::sys::mounts::{Layer, attach, detached_copy};

/// What is to be laid over one path.
#[derive(Debug)]
pub struct Task {
    /// The path, as the container sees it.
    pub target: PathBuf,
    /// A mount that is attached nowhere yet.
    pub fresh: OwnedFd,
}

/// What must be known for that.
#[derive(Debug)]
pub struct Layers {
    /// The host's `/proc`.
    pub proc: Arc<Proc>,
    /// The lxcfs that is to be attached.
    pub views: Device,
    /// Groups of mounts that the host is in.
    pub hosts: BTreeSet<u32>,
}

impl Layers {
    /// Does the tasks; paths that the container does not have, have no outcome.
    ///
    /// # Errors
    /// What reading the container's mounts fails with.
    pub fn lay(&self, tasks: Vec<Task>) -> Result<Outcomes, Errno> {
        let mut outcomes = Outcomes::new();
        for task in tasks {
            let outcome = match self.lay_one(&task) {
                Ok(outcome) => outcome,
                Err(Errno::ENOENT | Errno::ENOTDIR) => continue,
                Err(errno) => Outcome::Failed(format!("nothing can be mounted there: {errno}")),
            };
            outcomes.push((task.target, outcome));
        }
        self.keep_nesting_possible();
        Ok(outcomes)
    }

    /// The views are there in any case, so a failure is only noted.
    fn keep_nesting_possible(&self) {
        let how = OpenHow::new().flags(OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC);
        let done = openat2(AT_FDCWD, "/", how).and_then(|root| {
            let nest = Nest {
                root: &root,
                proc: &self.proc,
                masked: &[],
            };
            nest.keep_possible(|mount| refusal(mount, &self.hosts).is_some())
        });
        if let Err(errno) = done {
            log::warn!("containers in this container may not start: {errno}");
        }
    }

    fn lay_one(&self, task: &Task) -> Result<Outcome, Errno> {
        let path = self.followed(&task.target)?;
        let spot = Spot::find(&path)?;
        let id = mount_id(&self.proc, spot.top())?;
        let table = table(&self.proc, |line| line.id == id || line.parent == id)?;
        let Some(mount) = table.iter().find(|mount| mount.id == id) else {
            return Err(Errno::ENOENT);
        };
        if mount.fs_type == FS_TYPE {
            let is_ours = mount.device == self.views;
            return Ok(if is_ours {
                Outcome::Present
            } else {
                Outcome::Foreign
            });
        }
        if !is_kernels_own(mount, &path) {
            return Ok(Outcome::Hidden);
        }
        if let Some(refusal) = refusal(mount, &self.hosts) {
            return Ok(refusal);
        }
        let hidden = self.hidden_below(&path, id, &table);
        attach(&task.fresh, spot.top(), Layer::Above)?;
        for (path, cover) in hidden {
            // What the views do not have needs no hiding.
            if let Ok(spot) = Spot::find(&path) {
                attach(&cover, spot.top(), Layer::Above)?;
            }
        }
        Ok(Outcome::Attached)
    }

    /// The path without symbolic links, which disks in `/sys/block` are. It stays within the
    /// container's root, whatever the container has made of it.
    fn followed(&self, path: &Path) -> Result<PathBuf, Errno> {
        let how = OpenHow::new()
            .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_NO_MAGICLINKS);
        let file = openat2(AT_FDCWD, path, how)?;
        self.proc
            .read_link(&format!("thread-self/fd/{}", file.as_raw_fd()))
    }

    /// Copies of what engines hide parts of a directory with.
    fn hidden_below(&self, path: &Path, id: u32, table: &[Mount]) -> Vec<(PathBuf, OwnedFd)> {
        let covers = table.iter().filter(|cover| {
            cover.parent == id
                && cover.mount_point.starts_with(path)
                && cover.mount_point != path
                && cover.fs_type != FS_TYPE
        });
        let copies = covers.filter_map(|cover| {
            let spot = Spot::find(&cover.mount_point).ok()?;
            let is_topmost = mount_id(&self.proc, spot.top()) == Ok(cover.id);
            let copy = is_topmost.then(|| detached_copy(spot.top()))?.ok()?;
            Some((cover.mount_point.clone(), copy))
        });
        copies.collect()
    }
}

/// Whether the mount shows at `path` what the kernel has there, as the root of procfs or
/// sysfs does, and so does a part of it in its own place.
fn is_kernels_own(mount: &Mount, path: &Path) -> bool {
    let usual = match mount.fs_type.as_str() {
        "proc" => "/proc",
        "sysfs" => "/sys",
        _ => return false,
    };
    match (
        path.strip_prefix(usual),
        path.strip_prefix(&mount.mount_point),
    ) {
        (Ok(name), Ok(below)) => Path::new("/").join(name) == joined(&mount.root, below),
        _ => false,
    }
}

/// The two joined, without a slash at the end where the second one is empty.
fn joined(root: &Path, below: &Path) -> PathBuf {
    if below.as_os_str().is_empty() {
        root.to_owned()
    } else {
        root.join(below)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::mountinfo::mounts;

    fn is_own(line: &str, path: &str) -> bool {
        let mount = mounts(line.as_bytes()).next().unwrap();
        is_kernels_own(&mount, Path::new(path))
    }

    #[test]
    fn the_kernels_own_files_may_be_covered() {
        for (line, path) in [
            ("2 1 0:5 / /proc rw - proc proc rw", "/proc/meminfo"),
            (
                "2 1 0:5 /meminfo /proc/meminfo rw - proc proc rw",
                "/proc/meminfo",
            ),
            (
                "2 1 0:6 / /sys rw - sysfs sysfs rw",
                "/sys/devices/system/cpu",
            ),
            (
                "2 1 0:6 /devices /sys/devices rw - sysfs sysfs rw",
                "/sys/devices/system/cpu",
            ),
            (
                "2 1 0:6 /devices/system/cpu /sys/devices/system/cpu rw - sysfs sysfs rw",
                "/sys/devices/system/cpu",
            ),
        ] {
            assert!(is_own(line, path), "{line}");
        }
    }

    #[test]
    fn what_somebody_put_there_may_not() {
        for (line, path) in [
            (
                "2 1 0:7 /null /proc/interrupts rw - devtmpfs udev rw",
                "/proc/interrupts",
            ),
            (
                "2 1 0:5 /version /proc/meminfo rw - proc proc rw",
                "/proc/meminfo",
            ),
            ("2 1 0:8 / /proc rw - tmpfs none rw", "/proc/meminfo"),
            ("2 1 0:5 / /srv rw - proc proc rw", "/srv/meminfo"),
            ("2 1 0:6 / /proc rw - sysfs sysfs rw", "/proc/meminfo"),
        ] {
            assert!(!is_own(line, path), "{line}");
        }
    }
}

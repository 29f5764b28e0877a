//! Mount namespaces that processes of a container have made for themselves, as systemd does for
//! services with `PrivateTmp=` and the like. What is mounted in the container later does not get
//! there by itself, unless the container shares its mounts with them.

use std::collections::{BTreeMap, BTreeSet};

use nix::errno::Errno;

use super::Target;
use crate::host::process::{Namespace, Proc};
use crate::parse::pid_cgroup::memberships;
use crate::places::containers::hosts_own;
use crate::reader::boundary::{is_within, of_init};

/// More than any container has that means well.
const MOST: usize = 256;

/// A process in each mount namespace, other than the target's, of processes that are in its pid
/// namespace and in its cgroups or below. Containers in it, and others of its pod, are left alone.
///
/// # Errors
/// What listing the processes fails with.
pub fn of(target: &Target, proc: &Proc) -> Result<Vec<i32>, Errno> {
    let processes = proc.namespace(target.pid, Namespace::Pid);
    let own = hosts_own(proc, Namespace::Pid);
    let Some(processes) = processes.filter(|inode| !own.contains(inode)) else {
        return Ok(Vec::new());
    };
    let boundary = cgroups(target.pid, proc)?;
    let boundary: BTreeMap<_, _> = boundary
        .iter()
        .map(|(hierarchy, path)| (hierarchy.as_str(), of_init(path)))
        .collect();
    let is_inside = |pid: &i32| {
        proc.namespace(*pid, Namespace::Pid) == Some(processes)
            && cgroups(*pid, proc).is_ok_and(|paths| {
                paths.iter().all(|(hierarchy, path)| {
                    let root = boundary.get(hierarchy.as_str());
                    root.is_some_and(|root| is_within(path, root))
                })
            })
    };
    let mut seen = BTreeSet::from([target.inode]);
    let mut found = Vec::new();
    for pid in proc.pids().map_err(|_| Errno::EIO)? {
        let inode = proc.namespace(pid, Namespace::Mount);
        if inode.is_none_or(|inode| seen.contains(&inode)) || !is_inside(&pid) {
            continue;
        }
        if found.len() == MOST {
            log::warn!(
                "the container of {} has more than {MOST} mount namespaces; the others are not changed",
                target.shown
            );
            break;
        }
        seen.extend(inode);
        found.push(pid);
    }
    Ok(found)
}

/// The cgroups of a process, by hierarchy.
fn cgroups(pid: i32, proc: &Proc) -> Result<Vec<(String, String)>, Errno> {
    let text = proc.read(pid, "cgroup")?;
    let owned = memberships(&text).map(|one| (one.controllers.to_owned(), one.path.to_owned()));
    Ok(owned.collect())
}

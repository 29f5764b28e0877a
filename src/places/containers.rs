//! Which containers run, whatever engine made them.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::io;

use nix::unistd::getpid;

use super::name;
use crate::host::process::{Namespace, Proc};

/// A container, or a process that has a pid and a mount namespace of its own without one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// Its name or its whole id; `None` if no cgroup tells.
    pub name: Option<String>,
    /// Its init.
    pub pid: i32,
}

/// What one container is told from others by: its name, else its pid namespace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Named(String),
    PidNamespace(u64),
}

/// How far a process is from being the init: pid namespaces that it is in, its number in the
/// innermost one, and on the host.
type Distance = (usize, i32, i32);

/// The containers of this host, by name.
///
/// # Errors
/// What reading `/proc` fails with.
pub fn running(proc: &Proc) -> io::Result<Vec<Container>> {
    let hosts_mounts = hosts_own(proc, Namespace::Mount);
    let hosts_pids = hosts_own(proc, Namespace::Pid);
    let mut inits: BTreeMap<Key, Distance> = BTreeMap::new();
    for pid in proc.pids()? {
        let mounts = proc.namespace(pid, Namespace::Mount);
        if mounts.is_none_or(|inode| hosts_mounts.contains(&inode)) {
            continue;
        }
        let named = name::whole(&proc.read(pid, "cgroup").unwrap_or_default());
        let key = match (named, proc.namespace(pid, Namespace::Pid)) {
            (Some(name), _) => Key::Named(name),
            (None, Some(inode)) if !hosts_pids.contains(&inode) => Key::PidNamespace(inode),
            _ => continue,
        };
        let numbers = proc.pids_by_namespace(pid);
        let Some(innermost) = numbers.last() else {
            continue;
        };
        let distance = (numbers.len(), *innermost, pid);
        let nearest = inits.entry(key).or_insert(distance);
        *nearest = distance.min(*nearest);
    }
    let containers = inits.into_iter().map(|(key, (_, _, pid))| Container {
        name: match key {
            Key::Named(name) => Some(name),
            Key::PidNamespace(_) => None,
        },
        pid,
    });
    Ok(containers.collect())
}

/// The inode numbers of the namespaces that are the host's: that of this process, and that of
/// its init, if this one has been given another.
#[must_use]
pub fn hosts_own(proc: &Proc, namespace: Namespace) -> BTreeSet<u64> {
    let processes = [getpid().as_raw(), 1];
    let inodes = processes.map(|pid| proc.namespace(pid, namespace));
    inodes.into_iter().flatten().collect()
}

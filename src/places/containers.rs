//! Which containers run, whatever engine made them.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::io;

use nix::unistd::getpid;

use super::makers::Makers;
use super::name;
use crate::host::process::{Namespace, Proc};

/// A container, or a process that has a pid and a mount namespace of its own without one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// Its name or its whole id; `None` if no cgroup tells.
    pub name: Option<String>,
    /// Whether only root can have given it that name; anybody can whom a cgroup is delegated to.
    pub is_roots_name: bool,
    /// Its init.
    pub pid: i32,
}

/// What one container is told from others by: its name, else its pid namespace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    /// With whether the name is root's.
    Named(String, bool),
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
    let makers = Makers::new(proc);
    let mut inits: BTreeMap<Key, Distance> = BTreeMap::new();
    for pid in proc.pids()? {
        let mounts = proc.namespace(pid, Namespace::Mount);
        if mounts.is_none_or(|inode| hosts_mounts.contains(&inode)) {
            continue;
        }
        let named = name::vouched(&proc.read(pid, "cgroup").unwrap_or_default(), &makers);
        let key = match (named, proc.namespace(pid, Namespace::Pid)) {
            (Some((name, is_roots)), _) => Key::Named(name, is_roots),
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
        is_roots_name: matches!(key, Key::Named(_, true)),
        name: match key {
            Key::Named(name, _) => Some(name),
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

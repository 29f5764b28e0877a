//! Which mount namespaces have lxcfs mounts, and where.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use nix::sys::stat::fstat;
use nix::unistd::getpid;

use super::inside::{self, Namespace, PATIENCE, Trouble};
use super::name;
use super::spot::table;
use crate::host::process::{self, Proc};
use crate::parse::mountinfo::Mount;
use crate::session::mount::FS_TYPE;

/// A mount namespace with lxcfs mounts in it.
#[derive(Debug)]
pub struct Place {
    /// One of its processes, by the lowest number: mostly the container's init.
    pub pid: i32,
    /// What people call the container.
    pub container: Option<String>,
    /// How to get there.
    pub namespace: Namespace,
    /// Its inode number; `None` for that of this process.
    pub inode: Option<u64>,
    /// Its lxcfs mounts.
    pub views: Vec<Mount>,
    /// What is mounted on files and directories of these.
    pub covers: Vec<Mount>,
}

/// A mount namespace that could not be looked at.
#[derive(Debug)]
pub struct Closed {
    /// One of its processes.
    pub pid: i32,
    /// What people call the container.
    pub container: Option<String>,
    /// Why.
    pub trouble: Trouble,
}

/// What became of one mount in one mount namespace.
#[derive(Debug)]
pub struct Row<O> {
    /// What people call the container; `None` if it has no name.
    pub container: Option<String>,
    /// One of its processes.
    pub pid: i32,
    /// Where the mount is, as the container sees it; `None` if that could not be found out.
    pub path: Option<PathBuf>,
    /// What became of it.
    pub outcome: O,
}

impl Place {
    /// What became of the mounts at these paths.
    pub fn rows<O>(&self, outcomes: Vec<(PathBuf, O)>) -> impl Iterator<Item = Row<O>> {
        outcomes.into_iter().map(|(path, outcome)| Row {
            container: self.container.clone(),
            pid: self.pid,
            path: Some(path),
            outcome,
        })
    }
}

impl Closed {
    /// That nobody knows what became of its mounts.
    pub fn row<O>(self, failed: impl FnOnce(String) -> O) -> Row<O> {
        Row {
            container: self.container,
            pid: self.pid,
            path: None,
            outcome: failed(self.trouble.to_string()),
        }
    }
}

/// Every mount namespace on this host that a process is in.
///
/// # Errors
/// What reading `/proc` fails with.
pub fn places(proc: &Arc<Proc>) -> io::Result<(Vec<Place>, Vec<Closed>)> {
    let own = proc.namespace(getpid().as_raw(), process::Namespace::Mount);
    let mut seen = BTreeSet::new();
    let (mut places, mut closed) = (Vec::new(), Vec::new());
    let mut pids = proc.pids()?;
    pids.sort_unstable();
    for pid in pids {
        let inode = proc.namespace(pid, process::Namespace::Mount);
        let Some(inode) = inode.filter(|inode| !seen.contains(inode)) else {
            continue;
        };
        let namespace = if Some(inode) == own {
            None
        } else {
            // Another process of the namespace stands for it if this one is gone.
            let fd = proc.hold_namespace(pid, process::Namespace::Mount).ok();
            match fd.filter(|fd| fstat(fd).is_ok_and(|stat| stat.st_ino == inode)) {
                Some(fd) => Some(Arc::new(fd)),
                None => continue,
            }
        };
        seen.insert(inode);
        let container = || match namespace {
            None => Some("host".to_owned()),
            Some(_) => name::container(&proc.read(pid, "cgroup").unwrap_or_default()),
        };
        match mounts(&namespace, proc) {
            Ok((views, _)) if views.is_empty() => {}
            Ok((views, covers)) => places.push(Place {
                pid,
                container: container(),
                inode: namespace.is_some().then_some(inode),
                namespace,
                views,
                covers,
            }),
            Err(trouble) => closed.push(Closed {
                pid,
                container: container(),
                trouble,
            }),
        }
    }
    Ok((places, closed))
}

/// The lxcfs mounts of the namespace, and what lies on them.
fn mounts(namespace: &Namespace, proc: &Arc<Proc>) -> Result<(Vec<Mount>, Vec<Mount>), Trouble> {
    let reader = Arc::clone(proc);
    let all = inside::run(namespace, PATIENCE, move || table(&reader))?.map_err(Trouble::Closed)?;
    let (views, mut others): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|mount| mount.fs_type == FS_TYPE);
    let ids: BTreeSet<_> = views.iter().map(|view| view.id).collect();
    others.retain(|mount| ids.contains(&mount.parent));
    Ok((views, others))
}

//! Namespaces of readers. Each one is held open while it is known, so that its inode
//! number cannot be given to another namespace meanwhile.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, OnceLock, Weak};

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use nix::sys::stat::fstat;
use nix::unistd::gettid;
use parking_lot::Mutex;

use super::boundary;
use crate::cgroup::{Layout, Paths};
use crate::host::process::{Namespace, Proc};
use crate::sys::nsfs;

/// A pid namespace other than the daemon's.
#[derive(Debug)]
pub(super) struct PidNamespace {
    fd: OwnedFd,
    /// Its init, by the daemon's numbering. No other process gets the number while the
    /// namespace has a living member, and only such a member can be a reader.
    pub(super) init: Option<i32>,
}

impl PidNamespace {
    fn new(fd: OwnedFd, proc: &Proc) -> Self {
        let init = match nsfs::process_in_namespace(&fd, 1) {
            Ok(init) if init > 0 => Some(init),
            Err(Errno::ENOTTY | Errno::EINVAL) => search_init(&fd, proc),
            _ => None,
        };
        Self { fd, init }
    }

    /// Whether no process is in it any more: it goes with its init. An init that cannot be asked
    /// for (before Linux 6.11), and whose number another process has by now, counts as there.
    pub(super) fn has_ended(&self, proc: &Proc) -> bool {
        match nsfs::process_in_namespace(&self.fd, 1) {
            Ok(_) => false,
            Err(Errno::ESRCH) => true,
            Err(_) => self.init.is_some_and(|init| proc.stat(init).is_none()),
        }
    }

    /// The namespace around this one, unless that is the daemon's own.
    pub(super) fn parent(&self, own_inode: u64, proc: &Proc) -> Option<Self> {
        let fd = nsfs::parent(&self.fd).ok()?;
        let inode = fstat(&fd).ok()?.st_ino;
        (inode != own_inode).then(|| Self::new(fd, proc))
    }
}

/// Finds the init of a pid namespace on kernels that cannot be asked (before 6.11).
fn search_init(fd: &OwnedFd, proc: &Proc) -> Option<i32> {
    let inode = fstat(fd).ok()?.st_ino;
    let pids = proc.pids().ok()?;
    pids.into_iter().find(|pid| {
        proc.namespace(*pid, Namespace::Pid) == Some(inode)
            && proc.pids_by_namespace(*pid).last() == Some(&1)
    })
}

/// A cgroup namespace other than the daemon's.
#[derive(Debug)]
pub(super) struct CgroupNamespace {
    fd: OwnedFd,
    roots: OnceLock<Paths>,
}

impl CgroupNamespace {
    /// The root of the namespace in each hierarchy of `layout`. `outer` are the paths of
    /// the member `tid` as the daemon sees them. `None` where they do not tell, because
    /// the member has left the namespace's root.
    pub(super) fn roots(
        &self,
        tid: i32,
        outer: &Paths,
        layout: &Layout,
        proc: &Proc,
    ) -> io::Result<Paths> {
        if let Some(known) = self.roots.get() {
            return Ok(known.clone());
        }
        let inner = layout.paths(&self.memberships(tid, proc)?);
        let roots: Paths = outer
            .iter()
            .zip(inner.iter())
            .map(|(outer, inner)| boundary::namespace_root(outer?, inner?))
            .collect();
        if roots.cover(outer) {
            let _ = self.roots.set(roots.clone());
        }
        Ok(roots)
    }

    /// `/proc/PID/cgroup` as the members of this namespace see it.
    fn memberships(&self, pid: i32, proc: &Proc) -> io::Result<String> {
        let _visit = Visit::to(self.fd.as_fd(), proc)?;
        Ok(proc.read(pid, "cgroup")?)
    }
}

/// The time for which this thread, and no other one of the process, is in another cgroup
/// namespace.
#[derive(Debug)]
struct Visit {
    home: OwnedFd,
}

impl Visit {
    fn to(namespace: BorrowedFd<'_>, proc: &Proc) -> Result<Self, Errno> {
        let home = proc.hold_namespace(gettid().as_raw(), Namespace::Cgroup)?;
        // The way back needs rights in the user namespace that home belongs to, which the
        // root of another one lacks.
        setns(&home, CloneFlags::CLONE_NEWCGROUP)?;
        setns(namespace, CloneFlags::CLONE_NEWCGROUP)?;
        Ok(Self { home })
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        // A thread that stayed there would take readers for those of another container. The
        // kernel only refuses when it has no memory at all.
        if let Err(errno) = setns(&self.home, CloneFlags::CLONE_NEWCGROUP) {
            log::error!("cannot return from a container's cgroup namespace: {errno}");
            std::process::abort();
        }
    }
}

/// The namespaces that are in use, by inode number.
#[derive(Debug)]
pub(super) struct Registry<T> {
    known: Mutex<HashMap<u64, Weak<T>>>,
}

impl<T> Registry<T> {
    pub(super) fn new() -> Self {
        Self {
            known: Mutex::default(),
        }
    }

    /// Drops the entries that nobody uses any more.
    pub(super) fn forget_unused(&self) {
        let mut known = self.known.lock();
        known.retain(|_, namespace| namespace.strong_count() > 0);
        let used = known.len();
        known.shrink_to(used.saturating_mul(2));
    }

    fn get_or_hold(&self, inode: u64, hold: impl FnOnce() -> io::Result<T>) -> io::Result<Arc<T>> {
        if let Some(known) = self.known.lock().get(&inode).and_then(Weak::upgrade) {
            return Ok(known);
        }
        let namespace = Arc::new(hold()?);
        self.known.lock().insert(inode, Arc::downgrade(&namespace));
        Ok(namespace)
    }
}

impl Registry<PidNamespace> {
    pub(super) fn of(&self, tid: i32, inode: u64, proc: &Proc) -> io::Result<Arc<PidNamespace>> {
        self.get_or_hold(inode, || {
            Ok(PidNamespace::new(
                hold(tid, inode, Namespace::Pid, proc)?,
                proc,
            ))
        })
    }
}

impl Registry<CgroupNamespace> {
    pub(super) fn of(&self, tid: i32, inode: u64, proc: &Proc) -> io::Result<Arc<CgroupNamespace>> {
        self.get_or_hold(inode, || {
            let fd = hold(tid, inode, Namespace::Cgroup, proc)?;
            Ok(CgroupNamespace {
                fd,
                roots: OnceLock::new(),
            })
        })
    }
}

fn hold(tid: i32, inode: u64, namespace: Namespace, proc: &Proc) -> io::Result<OwnedFd> {
    let fd = proc.hold_namespace(tid, namespace)?;
    if fstat(&fd)?.st_ino == inode {
        Ok(fd)
    } else {
        Err(io::Error::other("the reader changed its namespace"))
    }
}

//! What readers of the same container have in common, and what tells them from others.

use std::os::fd::AsFd;
use std::sync::Arc;

use crate::host::process::{Namespace, Proc, namespace_in};

/// All that the container of a reader follows from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct ReaderKey {
    pub(super) namespaces: Namespaces,
    /// The text of `/proc/TID/cgroup`.
    pub(super) memberships: Arc<str>,
}

/// The namespaces of a thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Namespaces {
    pub(super) pid: Seen,
    pub(super) cgroup: Seen,
    pub(super) time: Seen,
}

/// What is seen of a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Seen {
    /// Its inode number; 0 where the kernel has no such namespaces.
    Inode(u64),
    /// The kernel does not let this process look: it lacks `CAP_SYS_PTRACE`, or a security
    /// module forbids it. Of a time namespace its offset is known, which is no secret.
    Hidden(i64),
}

impl Seen {
    /// Its inode number, unless it is the daemon's `own` or hidden.
    pub(super) fn other_than(self, own: Self) -> Option<u64> {
        match self {
            Self::Inode(inode) if self != own => Some(inode),
            _ => None,
        }
    }

    /// Its inode number; 0 where there is none to be seen.
    pub(super) const fn inode(self) -> u64 {
        match self {
            Self::Inode(inode) => inode,
            Self::Hidden(_) => 0,
        }
    }

    pub(super) const fn is_hidden(self) -> bool {
        matches!(self, Self::Hidden(_))
    }
}

impl Namespaces {
    /// Those of this process.
    pub(super) fn of_daemon(pid: i32, proc: &Proc) -> Self {
        let inode = |namespace| Seen::Inode(proc.namespace(pid, namespace).unwrap_or(0));
        Self {
            pid: inode(Namespace::Pid),
            cgroup: inode(Namespace::Cgroup),
            time: inode(Namespace::Time),
        }
    }

    /// Those of the thread `tid`. `own` are the daemon's.
    pub(super) fn of(tid: i32, own: Self, proc: &Proc) -> Self {
        let see = |namespace, own| match proc.see_namespace(tid, namespace) {
            Ok(inode) => inode.map_or(own, Seen::Inode),
            Err(_) => Seen::Hidden(0),
        };
        Self {
            pid: match see(Namespace::Pid, own.pid) {
                Seen::Hidden(_) if proc.pids_by_namespace(tid).len() == 1 => own.pid,
                seen => seen,
            },
            cgroup: see(Namespace::Cgroup, own.cgroup),
            time: match see(Namespace::Time, own.time) {
                Seen::Hidden(_) => match proc.boottime_offset_nsec(tid) {
                    0 => own.time,
                    offset_nsec => Seen::Hidden(offset_nsec),
                },
                seen => seen,
            },
        }
    }

    /// The same thread's by now, by the directory of its namespaces; `None` if they cannot be
    /// seen. That of time is looked at if that is asked for.
    pub(super) fn again(self, directory: impl AsFd, asks_time: bool, own: Self) -> Option<Self> {
        let inode = |namespace| namespace_in(&directory, namespace).map(Seen::Inode);
        Some(Self {
            // A thread is in the same one for all its life: pid_namespaces(7).
            pid: self.pid,
            cgroup: inode(Namespace::Cgroup)?,
            time: match asks_time {
                true => inode(Namespace::Time).unwrap_or(own.time),
                false => self.time,
            },
        })
    }

    /// Whether any of them cannot be seen.
    pub(super) const fn are_hidden(&self) -> bool {
        self.pid.is_hidden() || self.cgroup.is_hidden() || self.time.is_hidden()
    }
}

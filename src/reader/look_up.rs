//! The container of readers that are not known yet: its boundary, its start, its cgroups.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::boundary;
use super::key::Seen;
use super::namespaces::{CgroupNamespace, PidNamespace};
use super::texts::TextCache;
use super::{HIDDEN, Identity, Namespaces, ReaderKey, Readers, Reason, Resolved};
use crate::cgroup::{Cgroup, Paths};
use crate::container::inits::Init;
use crate::container::policy::Uptime;
use crate::container::{Container, fallback};
use crate::freshness::{Cached, Moment};
use crate::host::process::Namespace;

/// Threads that are asked whether they are the init of a container, at the most.
const MOST_ASKED: usize = 1000;

/// The namespaces that a reader is in, other than the daemon's.
pub(super) struct Around {
    pub(super) pid: Option<Arc<PidNamespace>>,
    pub(super) cgroup: Option<Arc<CgroupNamespace>>,
}

impl Readers {
    /// Finds out everything about the readers with a key, of whom the thread `tid` is one.
    ///
    /// # Errors
    /// When a namespace cannot be held or a cgroup not be opened.
    pub(super) fn look_up(&self, tid: i32, key: &ReaderKey, now: Moment) -> io::Result<Resolved> {
        let proc = &self.host.proc;
        let namespaces = &key.namespaces;
        let (pid, time) = (namespaces.pid, namespaces.time);
        if namespaces.are_hidden() {
            fallback::warn(HIDDEN);
        }
        let Around {
            pid: pid_namespace,
            cgroup: cgroup_namespace,
        } = self.around(tid, namespaces)?;
        let time_namespace = time
            .other_than(self.own.time)
            .map(|_| proc.hold_namespace(tid, Namespace::Time))
            .transpose()?;
        let init = pid_namespace
            .as_deref()
            .and_then(|namespace| namespace.init);
        let paths = self.boundary(tid, key, cgroup_namespace.as_deref(), init)?;
        let cgroup = self.layout.open(&paths)?;
        let started_by = match &pid_namespace {
            Some(namespace) => self.init(namespace, key, &paths),
            None => pid.is_hidden().then(|| self.init_by_numbers(tid, &cgroup)),
        };
        let started_by = started_by.and_then(|pid| Init::of(pid, proc));
        let started_nsec = started_by.map_or(0, |init| init.started_nsec);
        let time_offset_nsec = match time == self.own.time {
            true => 0,
            false => proc.boottime_offset_nsec(tid),
        };
        let policy = Arc::clone(&self.policy.read());
        let options = policy.options_for(&paths);
        // CPU time is to add up to the uptime that is shown.
        let counted_since_nsec = match (time_offset_nsec, options.uptime) {
            (0, Uptime::Container) => started_nsec,
            (0, Uptime::Host) => 0,
            (offset, _) => 0_u64.saturating_add_signed(offset.saturating_neg()),
        };
        let on_host = (pid, namespaces.cgroup) == (self.own.pid, self.own.cgroup);
        let container = self.container(cgroup, &paths, counted_since_nsec, on_host);
        if let (Some(init), false) = (started_by, pid.is_hidden()) {
            container.begin(init, counted_since_nsec, proc);
        }
        Ok(Resolved {
            reason: match (&cgroup_namespace, init) {
                _ if namespaces.are_hidden() => Reason::HiddenNamespaces,
                (Some(_), _) => Reason::CgroupNamespace,
                (None, Some(init)) => Reason::PidNamespace(init),
                (None, None) => Reason::OwnCgroup,
            },
            options,
            rules: policy.rules_for(&paths),
            policy,
            container,
            started_nsec,
            time_offset_nsec,
            texts: TextCache::new(),
            key: key.clone(),
            looked_up: Cached::new((), now),
            last_used_nsec: AtomicU64::new(now.nsec),
            has_pid_namespace: pid != self.own.pid,
            pid_namespace,
            _cgroup_namespace: cgroup_namespace,
            _time_namespace: time_namespace,
        })
    }

    /// The namespaces of the thread `tid` that are not the daemon's.
    pub(super) fn around(&self, tid: i32, namespaces: &Namespaces) -> io::Result<Around> {
        let proc = &self.host.proc;
        let hold_pid = |inode| self.pid_namespaces.of(tid, inode, proc);
        let hold_cgroup = |inode| self.cgroup_namespaces.of(tid, inode, proc);
        let pid = namespaces.pid.other_than(self.own.pid);
        let cgroup = namespaces.cgroup.other_than(self.own.cgroup);
        Ok(Around {
            pid: pid.map(hold_pid).transpose()?,
            cgroup: cgroup.map(hold_cgroup).transpose()?,
        })
    }

    /// The boundary cgroup of a reader by its cgroup namespace and the `init` of its pid
    /// namespace, if these are not the daemon's.
    pub(super) fn boundary(
        &self,
        tid: i32,
        key: &ReaderKey,
        cgroup_namespace: Option<&CgroupNamespace>,
        init: Option<i32>,
    ) -> io::Result<Paths> {
        let own = self.layout.paths(&key.memberships);
        match cgroup_namespace {
            Some(namespace) => self.within_cgroup_namespace(tid, &own, namespace, init, key),
            None => Ok(self.by_init(own, init)),
        }
    }

    /// Boundary of a reader in a cgroup namespace: the namespace's root. A reader that has
    /// been moved out of it cannot tell; the init of its pid namespace may.
    fn within_cgroup_namespace(
        &self,
        tid: i32,
        own: &Paths,
        namespace: &CgroupNamespace,
        init: Option<i32>,
        key: &ReaderKey,
    ) -> io::Result<Paths> {
        let proc = &self.host.proc;
        let mut roots = match namespace.roots(tid, own, &self.layout, proc) {
            // Without CAP_SYS_ADMIN there.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                fallback::warn(HIDDEN);
                return Ok(own.clone());
            }
            roots => roots?,
        };
        if roots.cover(own) {
            return Ok(roots);
        }
        if let Some(init) = init.filter(|init| self.shares_cgroup_namespace(*init, key)) {
            let outer = self.layout.paths(&proc.read(init, "cgroup")?);
            roots = namespace.roots(init, &outer, &self.layout, proc)?;
        }
        let pairs = roots.iter().zip(own.iter());
        Ok(pairs.map(|(root, own)| root.or(own)).collect())
    }

    /// Boundary of a reader in the daemon's cgroup namespace.
    fn by_init(&self, own: Paths, init: Option<i32>) -> Paths {
        let Some(text) = init.and_then(|init| self.host.proc.read(init, "cgroup").ok()) else {
            return own;
        };
        let of_init = self.layout.paths(&text);
        own.iter()
            .zip(of_init.iter())
            .map(|pair| match pair {
                (Some(reader), Some(init)) => Some(boundary::of_reader(reader, init)),
                (reader, _) => reader,
            })
            .collect()
    }

    /// The container's init. A sandbox with a pid namespace of its own inside
    /// the container is not a container: as long as the init of the pid namespace around
    /// it has the same boundary, that init is the one that counts.
    fn init(&self, namespace: &Arc<PidNamespace>, key: &ReaderKey, paths: &Paths) -> Option<i32> {
        let proc = &self.host.proc;
        let mut init = namespace.init;
        let mut around = namespace.parent(self.own.pid.inode(), proc);
        while let Some(outer) = around {
            match outer.init {
                Some(outer_init) if self.has_boundary(outer_init, key, paths) => {
                    init = Some(outer_init);
                }
                _ => break,
            }
            around = outer.parent(self.own.pid.inode(), proc);
        }
        init
    }

    /// The same for a reader whose pid namespace cannot be seen: the process with the number 1
    /// beside it, else the reader itself, as the container is no younger.
    fn init_by_numbers(&self, tid: i32, cgroup: &Cgroup) -> i32 {
        let proc = &self.host.proc;
        let level = proc.pids_by_namespace(tid).len();
        let is_init = |thread: &i32| {
            let numbers = proc.pids_by_namespace(*thread);
            numbers.len() == level && numbers.last() == Some(&1)
        };
        let threads = cgroup.threads().unwrap_or_default();
        let init = threads.into_iter().take(MOST_ASKED).find(is_init);
        init.unwrap_or(tid)
    }

    fn shares_cgroup_namespace(&self, pid: i32, key: &ReaderKey) -> bool {
        let inode = self.host.proc.namespace(pid, Namespace::Cgroup);
        inode.map(Seen::Inode) == Some(key.namespaces.cgroup)
    }

    fn has_boundary(&self, init: i32, key: &ReaderKey, paths: &Paths) -> bool {
        let proc = &self.host.proc;
        if !self.shares_cgroup_namespace(init, key) {
            return false;
        }
        if key.namespaces.cgroup != self.own.cgroup {
            return true;
        }
        let Ok(text) = proc.read(init, "cgroup") else {
            return false;
        };
        let of_init = self.layout.paths(&text);
        of_init
            .iter()
            .zip(paths.iter())
            .all(|(init, path)| init.map(boundary::of_init) == path)
    }

    fn container(
        &self,
        cgroup: Cgroup,
        paths: &Paths,
        started_nsec: u64,
        on_host: bool,
    ) -> Arc<Container> {
        let directories = cgroup.identity();
        let places = paths.iter().enumerate().zip(&directories);
        let unopened = places
            .filter(|(_, inode)| **inode == 0)
            .filter_map(|((place, path), _)| Some((place, path?.to_owned())));
        let identity = Identity {
            unopened: unopened.collect(),
            directories,
            on_host,
        };
        let mut known = self.by_identity.lock();
        let container = known.entry(identity).or_insert_with(|| {
            let (journal, budget) = (&self.journal, self.layout.budget());
            Arc::new(Container::new(
                cgroup,
                on_host,
                started_nsec,
                journal,
                budget,
            ))
        });
        Arc::clone(container)
    }
}

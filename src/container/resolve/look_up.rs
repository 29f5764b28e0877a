//! The container of readers that are not known yet: its boundary, its start, its cgroups.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::{Containers, Identity, Place, Reason, Resolved};
use crate::cgroup::Paths;
use crate::container::moves::Lull;
use crate::container::namespaces::{CgroupNamespace, PidNamespace};
use crate::container::policy::Uptime;
use crate::container::recent::Recent;
use crate::container::{Container, TICK_NSEC, boundary};
use crate::host::boottime_nsec;
use crate::host::process::Namespace;

impl Containers {
    /// Finds out everything about readers in a place, of whom the thread `tid` is one.
    ///
    /// # Errors
    /// When a namespace cannot be held or a cgroup not be opened.
    pub(super) fn look_up(
        &self,
        tid: i32,
        place: &Place,
        lull: Option<Lull>,
    ) -> io::Result<Resolved> {
        let proc = &self.host.proc;
        let now_nsec = boottime_nsec();
        let pid_namespace = (place.namespaces.pid != self.own.pid)
            .then(|| self.pid_namespaces.of(tid, place.namespaces.pid, proc))
            .transpose()?;
        let cgroup_namespace = (place.namespaces.cgroup != self.own.cgroup)
            .then(|| {
                self.cgroup_namespaces
                    .of(tid, place.namespaces.cgroup, proc)
            })
            .transpose()?;
        let time_namespace = (place.namespaces.time != self.own.time)
            .then(|| proc.hold_namespace(tid, Namespace::Time))
            .transpose()?;
        let init = pid_namespace
            .as_deref()
            .and_then(|namespace| namespace.init);
        let own = self.layout.paths(&place.memberships);
        let paths = match &cgroup_namespace {
            Some(namespace) => self.within_cgroup_namespace(tid, &own, namespace, init, place)?,
            None => self.by_init(own, init),
        };
        let started_nsec = match &pid_namespace {
            Some(namespace) => self.started(namespace, place, &paths),
            None => 0,
        };
        let time_offset_nsec = time_namespace
            .as_ref()
            .map_or(0, |_| proc.boottime_offset_nsec(tid));
        let policy = Arc::clone(&self.policy.read());
        let options = policy.options_for(&paths);
        // CPU time is to add up to the uptime that is shown.
        let counted_since_nsec = match (time_offset_nsec, options.uptime) {
            (0, Uptime::Container) => started_nsec,
            (0, Uptime::Host) => 0,
            (offset, _) => 0_u64.saturating_add_signed(offset.saturating_neg()),
        };
        let on_host = pid_namespace.is_none() && cgroup_namespace.is_none();
        Ok(Resolved {
            reason: match (&cgroup_namespace, init) {
                (Some(_), _) => Reason::CgroupNamespace,
                (None, Some(init)) => Reason::PidNamespace(init),
                (None, None) => Reason::OwnCgroup,
            },
            options,
            rules: policy.rules_for(&paths),
            policy,
            container: self.container(&paths, counted_since_nsec, on_host)?,
            started_nsec,
            time_offset_nsec,
            recent: Recent::new(),
            place: place.clone(),
            looked_up_nsec: now_nsec,
            lull,
            last_used_nsec: AtomicU64::new(now_nsec),
            pid_namespace,
            _cgroup_namespace: cgroup_namespace,
            _time_namespace: time_namespace,
        })
    }

    /// Boundary of a reader in a cgroup namespace: the namespace's root. A reader that has
    /// been moved out of it cannot tell; the init of its pid namespace may.
    fn within_cgroup_namespace(
        &self,
        tid: i32,
        own: &Paths,
        namespace: &CgroupNamespace,
        init: Option<i32>,
        place: &Place,
    ) -> io::Result<Paths> {
        let proc = &self.host.proc;
        let mut roots = namespace.roots(tid, own, &self.layout, proc)?;
        if roots.cover(own) {
            return Ok(roots);
        }
        if let Some(init) = init.filter(|init| {
            proc.namespace(*init, Namespace::Cgroup) == Some(place.namespaces.cgroup)
        }) {
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

    /// Start of the container's init. A sandbox with a pid namespace of its own inside
    /// the container is not a container: as long as the init of the pid namespace around
    /// it has the same boundary, that init is the one that counts.
    fn started(&self, namespace: &Arc<PidNamespace>, place: &Place, paths: &Paths) -> u64 {
        let proc = &self.host.proc;
        let mut init = namespace.init;
        let mut around = namespace.parent(self.own.pid, proc);
        while let Some(outer) = around {
            match outer.init {
                Some(outer_init) if self.has_boundary(outer_init, place, paths) => {
                    init = Some(outer_init);
                }
                _ => break,
            }
            around = outer.parent(self.own.pid, proc);
        }
        let stat = init.and_then(|init| proc.stat(init));
        stat.map_or(0, |stat| stat.starttime_ticks.saturating_mul(TICK_NSEC))
    }

    fn has_boundary(&self, init: i32, place: &Place, paths: &Paths) -> bool {
        let proc = &self.host.proc;
        if proc.namespace(init, Namespace::Cgroup) != Some(place.namespaces.cgroup) {
            return false;
        }
        if place.namespaces.cgroup != self.own.cgroup {
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
        paths: &Paths,
        started_nsec: u64,
        on_host: bool,
    ) -> io::Result<Arc<Container>> {
        let cgroup = self.layout.open(paths)?;
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
        Ok(Arc::clone(container))
    }
}

//! Drops containers that have ended, and the keys that nobody reads with any more.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use nix::sys::resource::{Resource, getrlimit};

use super::{ReaderKey, Readers, Resolved};
use crate::container::Container;
use crate::sys::memory;

/// How long an unused key is remembered.
const KEEP_UNUSED_NSEC: u64 = 60_000_000_000;

/// When so many containers have ended at once, the memory that they took is given back.
const MANY_ENDED: usize = 256;

/// Of those that have ended so many are dropped together.
const AT_ONCE: usize = 512;

/// With fewer containers than this, those that have ended wait for the regular clean-up.
pub(super) const FEW_CONTAINERS: usize = 256;

impl Readers {
    /// Before one more key is remembered: drops what has ended if there is much of it, and
    /// what can be spared if files become scarce.
    pub(super) fn keep_within_bounds(&self) {
        if self.known() >= self.many_containers.load(Ordering::Relaxed) {
            self.forget_ended();
            let many = FEW_CONTAINERS.max(self.known().saturating_mul(2));
            self.many_containers.store(many, Ordering::Relaxed);
        }
        if self.is_crowded() {
            self.make_room();
        }
    }

    /// Forgets where readers stand, so that the next request looks everything up anew.
    /// For a container whose cgroup turned out to have been removed.
    pub fn forget(&self, container: &Container) {
        self.cache.clear();
        self.by_key
            .write()
            .retain(|_, resolved| !std::ptr::eq(Arc::as_ptr(&resolved.container), container));
        container.retire();
        self.by_identity
            .lock()
            .retain(|_, known| !std::ptr::eq(Arc::as_ptr(known), container));
    }

    /// How many containers are known now.
    fn known(&self) -> usize {
        self.by_identity.lock().len()
    }

    /// Whether three quarters of the fds that this process may have are in use. The kernel
    /// gives out the lowest number that is free.
    fn is_crowded(&self) -> bool {
        let Ok((limit, _)) = getrlimit(Resource::RLIMIT_NOFILE) else {
            return false;
        };
        let number = File::open("/").map(|file| u64::try_from(file.as_raw_fd()).unwrap_or(0));
        number.map_or(true, |number| number >= limit / 4 * 3)
    }

    /// Closes the files of containers that have ended, then those that need not be kept open,
    /// then those of containers that were not read from for the longest time. They go on from
    /// the journal when they are read from again.
    fn make_room(&self) {
        self.forget_ended();
        if !self.is_crowded() {
            return;
        }
        self.layout.keep_fewer();
        for container in self.all() {
            container.close_kept();
        }
        if !self.is_crowded() {
            return;
        }
        self.cache.clear();
        forget_older_half(&mut self.by_key.write());
        self.by_identity.lock().retain(|_, container| {
            // Only the map still has it, which nobody else can look into now.
            let is_used = Arc::strong_count(container) > 1;
            if !is_used {
                container.retire();
            }
            is_used
        });
        self.pid_namespaces.forget_unused();
        self.cgroup_namespaces.forget_unused();
        self.layout.forget_unused();
    }

    /// Closes the files of readers that have ended, and drops texts that nobody is given any
    /// more.
    pub fn forget_idle_readers(&self) {
        let now = self.clock.now();
        self.cache.forget_idle(now);
        for resolved in self.by_key.read().values() {
            resolved.texts.forget_old(now);
        }
    }

    /// Lets go of containers that have ended, and of keys whose last process has: an fd of a
    /// file keeps the kernel's own record of a cgroup or namespace. To be called every few
    /// seconds. Within an epoch no cgroup is removed.
    pub fn let_go(&self) {
        self.forget_ended_namespaces();
        let epoch = self.watch.epoch();
        let before = std::mem::replace(&mut *self.let_go_in.lock(), epoch);
        if !epoch.is_same(before) {
            self.forget_ended();
        }
    }

    /// Drops what is not needed any more: keys that nobody has read with lately, and
    /// containers whose cgroup has been removed.
    pub fn clean_up(&self) {
        let now_nsec = self.clock.now().nsec;
        self.cache.clear();
        self.by_key.write().retain(|_, resolved| {
            now_nsec.saturating_sub(resolved.last_used_nsec.load(Ordering::Relaxed))
                < KEEP_UNUSED_NSEC
        });
        self.forget_ended();
        if !self.is_crowded() {
            self.layout.keep_more();
        }
    }

    /// Drops keys in pid namespaces without any process.
    fn forget_ended_namespaces(&self) {
        let known: Vec<_> = self.by_key.read().values().cloned().collect();
        let has_ended = |resolved: &&Arc<Resolved>| {
            let namespace = resolved.pid_namespace.as_ref();
            namespace.is_some_and(|namespace| namespace.has_ended(&self.host.proc))
        };
        let ended: HashSet<_> = known.iter().filter(has_ended).map(Arc::as_ptr).collect();
        if !ended.is_empty() {
            self.cache.clear();
            let mut by_key = self.by_key.write();
            by_key.retain(|_, resolved| !ended.contains(&Arc::as_ptr(resolved)));
        }
    }

    /// Drops containers whose cgroup has been removed.
    fn forget_ended(&self) {
        let mut ended = self.all();
        ended.retain(|container| !container.cgroup.is_alive());
        let count = ended.len();
        loop {
            // Each leaves its record in memory until it turns out that nobody will claim it.
            let some = ended.split_off(ended.len().saturating_sub(AT_ONCE));
            self.forget_all(&some);
            drop(some);
            self.journal.forget_ended(|owner| {
                let mut directories = owner.directories.iter();
                directories.all(|directory| self.layout.has(directory))
            });
            if ended.is_empty() {
                break;
            }
        }
        self.pid_namespaces.forget_unused();
        self.cgroup_namespaces.forget_unused();
        self.layout.forget_unused();
        if count >= MANY_ENDED {
            memory::give_back();
        }
    }

    fn forget_all(&self, ended: &[Arc<Container>]) {
        if ended.is_empty() {
            return;
        }
        self.cache.clear();
        let ended: HashSet<_> = ended
            .iter()
            .inspect(|one| one.retire())
            .map(Arc::as_ptr)
            .collect();
        let has_ended = |container: &Arc<Container>| ended.contains(&Arc::as_ptr(container));
        // What is dropped under a lock closes nothing while these are held.
        let resolved = self.by_key.read().values().cloned().collect::<Vec<_>>();
        let _held = resolved
            .into_iter()
            .filter(|resolved| has_ended(&resolved.container))
            .collect::<Vec<_>>();
        let mut by_key = self.by_key.write();
        by_key.retain(|_, resolved| !has_ended(&resolved.container));
        by_key.shrink_to(FEW_CONTAINERS);
        drop(by_key);
        let mut known = self.by_identity.lock();
        known.retain(|_, container| !has_ended(container));
        known.shrink_to(FEW_CONTAINERS);
    }
}

/// Drops the keys that were not read with for the longest time.
pub(super) fn forget_older_half(by_key: &mut HashMap<ReaderKey, Arc<Resolved>>) {
    let last_used = |resolved: &Resolved| resolved.last_used_nsec.load(Ordering::Relaxed);
    let mut times: Vec<_> = by_key
        .values()
        .map(|resolved| last_used(resolved))
        .collect();
    if times.is_empty() {
        return;
    }
    let middle = times.len() / 2;
    let (_, median, _) = times.select_nth_unstable(middle);
    let median = *median;
    by_key.retain(|_, resolved| last_used(resolved) > median);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Containers stay known for longer than the keys of their readers.
    #[test]
    fn room_can_be_made_where_no_key_is_known() {
        let mut by_key = HashMap::new();
        forget_older_half(&mut by_key);
        assert!(by_key.is_empty());
    }
}

//! From a reader to its container: who asks, by the thread id that the kernel gives.
//!
//! What a container is shown is not decided here but in `view` and, of figures, in `container`.

pub(crate) mod boundary;
mod cache;
mod clean_up;
mod key;
mod look_up;
mod namespaces;
mod rules;
mod texts;
mod watch;

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use nix::errno::Errno;
use nix::unistd::getpid;
use parking_lot::{Mutex, RwLock};

use self::cache::{ReaderCache, Thread};
use self::clean_up::{FEW_CONTAINERS, forget_older_half};
use self::key::{Namespaces, ReaderKey};
use self::namespaces::{CgroupNamespace, PidNamespace, Registry};
use self::texts::TextCache;
use self::watch::CgroupWatch;
use crate::cgroup::Layout;
use crate::container::policy::{Options, Policy, Rule};
use crate::container::{Container, Journal, Tasks, fallback};
use crate::freshness::{Cached, Clock, Epoch, Moment, validity};
use crate::host::Host;
use crate::host::process::Proc;
use crate::sys::write_watch::WriteWatch;

/// Keys that are remembered. A container can make new namespaces as fast as it likes,
/// and each one that is remembered holds file descriptors.
const MOST_KEYS: usize = 4096;

/// Files whose latest texts are kept for each key.
const MOST_FILES: usize = 24;

/// A reader without a number here.
const OUTSIDE: &str = "a reader is outside of the pid namespace that lxcfs runs in, so its \
    container cannot be told; start lxcfs in the host's (docker run --pid host, hostPID: true)";

/// Readers that lxcfs may not look at closely.
const HIDDEN: &str = "the namespaces of a reader cannot be seen, since CAP_SYS_PTRACE is missing \
    or a security module forbids it; it is shown the figures of its own cgroup";

/// What makes two containers the same one: the directories, and whether readers are
/// processes of the host that see it as such. Paths tell apart what could not be opened.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Identity {
    directories: Vec<u64>,
    /// By place in `directories`.
    unopened: Vec<(usize, String)>,
    on_host: bool,
}

/// Why a cgroup is taken for the boundary of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// It is the root of the reader's cgroup namespace.
    CgroupNamespace,
    /// The init of the reader's pid namespace, this process, is in it.
    PidNamespace(i32),
    /// The reader is in it, and in the daemon's own namespaces.
    OwnCgroup,
    /// The reader is in it; its namespaces cannot be seen.
    HiddenNamespaces,
}

/// The container of the readers with one key.
#[derive(Debug)]
pub struct Resolved {
    /// Why it is this one.
    pub reason: Reason,
    /// The container.
    pub container: Arc<Container>,
    /// `CLOCK_BOOTTIME` at the start of the container's init; 0 where that is the host's.
    pub started_nsec: u64,
    /// What the readers' time namespace adds to `CLOCK_BOOTTIME`.
    pub time_offset_nsec: i64,
    /// What the operator wants them to be shown.
    pub options: Options,
    /// What they have read a moment ago, by file.
    pub texts: TextCache<MOST_FILES>,
    key: ReaderKey,
    /// Where the options are from.
    policy: Arc<Policy>,
    /// Positions of the rules in it that are about the container.
    rules: Box<[usize]>,
    looked_up: Cached<()>,
    last_used_nsec: AtomicU64,
    has_pid_namespace: bool,
    // Held so that the inode numbers of the key stay these namespaces' own.
    pid_namespace: Option<Arc<PidNamespace>>,
    _cgroup_namespace: Option<Arc<CgroupNamespace>>,
    _time_namespace: Option<OwnedFd>,
}

impl Resolved {
    /// Whether the readers count pids of their own.
    #[must_use]
    pub const fn has_pid_namespace(&self) -> bool {
        self.has_pid_namespace
    }

    /// The operator's rules for the container, with their numbers in the configuration.
    pub fn rules(&self) -> impl Iterator<Item = (usize, &Rule)> {
        let rule = |position: &usize| Some((position + 1, self.policy.rules.get(*position)?));
        self.rules.iter().filter_map(rule)
    }

    /// Whether readers with the key may still be taken for readers of this container.
    fn is_fresh(&self, now: Moment) -> bool {
        self.looked_up.is_fresh(now, validity::CONTAINER)
    }
}

/// Whom an answer is for: a reader, its container, and the moment at which both were seen.
#[derive(Debug)]
pub struct Subject {
    /// The thread.
    pub tid: i32,
    /// The container.
    pub resolved: Arc<Resolved>,
    /// What is found out for the answer is found out then.
    pub now: Moment,
    /// None for a thread that may have just been started.
    thread: Option<Arc<Thread>>,
}

impl Subject {
    /// `CLOCK_BOOTTIME` at a moment at which the thread was there already; `u64::MAX` for one
    /// that may have just been started.
    #[must_use]
    pub fn known_since_nsec(&self) -> u64 {
        self.thread
            .as_ref()
            .map_or(u64::MAX, |thread| thread.known_since_nsec)
    }

    /// The newest pid among `tasks` in the reader's pid namespace. A thread that is about to enter
    /// the container, or in a namespace beside the reader's, has none there.
    #[must_use]
    pub fn last_pid(&self, tasks: &Tasks, proc: &Proc) -> u64 {
        let own_by_namespace = match &self.thread {
            Some(thread) => thread.pids_by_namespace(self.tid, proc),
            None => &proc.pids_by_namespace(self.tid),
        };
        let own = own_by_namespace.last().copied().unwrap_or(0);
        let level = own_by_namespace.len().saturating_sub(1);
        let newest = self.resolved.container.pid_of_newest(tasks, level, proc);
        u64::try_from(newest.unwrap_or(own).max(own)).unwrap_or(0)
    }
}

/// All readers that are known, and their containers.
#[derive(Debug)]
pub struct Readers {
    host: Arc<Host>,
    layout: Arc<Layout>,
    own: Namespaces,
    pid_namespaces: Registry<PidNamespace>,
    cgroup_namespaces: Registry<CgroupNamespace>,
    clock: Clock,
    watch: CgroupWatch,
    cache: ReaderCache,
    by_key: RwLock<HashMap<ReaderKey, Arc<Resolved>>>,
    by_identity: Mutex<HashMap<Identity, Arc<Container>>>,
    /// So many containers are looked through for those that have ended.
    many_containers: AtomicUsize,
    /// The epoch in which those that have ended were let go the last time.
    let_go_in: Mutex<Epoch>,
    journal: Journal,
    policy: RwLock<Arc<Policy>>,
}

impl Readers {
    /// No readers yet and no containers, but for what the journal has of them. With a `watch` readers that
    /// come again and again are known at once.
    #[must_use]
    pub fn new(
        host: Arc<Host>,
        layout: Arc<Layout>,
        policy: Policy,
        journal: Journal,
        watch: Option<WriteWatch>,
    ) -> Self {
        Self::by_clock(host, layout, policy, journal, watch, Clock::default())
    }

    /// The same, to whom this clock tells the time.
    #[must_use]
    pub fn by_clock(
        host: Arc<Host>,
        layout: Arc<Layout>,
        policy: Policy,
        journal: Journal,
        watch: Option<WriteWatch>,
        clock: Clock,
    ) -> Self {
        Self {
            own: Namespaces::of_daemon(getpid().as_raw(), &host.proc),
            clock,
            watch: CgroupWatch::new(watch, layout.mounts().map(|(.., path)| path)),
            cache: ReaderCache::new(Arc::clone(layout.budget())),
            host,
            layout,
            pid_namespaces: Registry::new(),
            cgroup_namespaces: Registry::new(),
            by_key: RwLock::default(),
            by_identity: Mutex::default(),
            many_containers: AtomicUsize::new(FEW_CONTAINERS),
            let_go_in: Mutex::default(),
            journal,
            policy: RwLock::new(Arc::new(policy)),
        }
    }

    /// Has everything that is read from now on follow another policy.
    pub fn set_policy(&self, policy: Policy) {
        *self.policy.write() = Arc::new(policy);
    }

    /// Who the thread `tid` is: its container, and what else is known of it. Its time namespace is
    /// not looked at unless that is asked for.
    ///
    /// # Errors
    /// `ESRCH` when there is no such thread, or when it is not visible here: `tid` is 0
    /// then, since its pid namespace is not below the daemon's.
    pub fn identify(&self, tid: i32, asks_time: bool) -> Result<Subject, Errno> {
        if tid <= 0 {
            fallback::warn(OUTSIDE);
            return Err(Errno::ESRCH);
        }
        let now = self.now();
        let proc = &self.host.proc;
        let see = |directory: &OwnedFd, before: Namespaces, asks_time| {
            before.again(directory, asks_time, self.own)
        };
        let cached = self.cache.get(tid, now, asks_time, proc, see);
        if let Some((resolved, thread)) = cached.filter(|(resolved, _)| self.is_current(resolved)) {
            return Ok(Subject {
                tid,
                resolved,
                now,
                thread: Some(thread),
            });
        }
        let resolved = self.find(tid, now)?;
        self.cache.remember(tid, &resolved, now, proc);
        Ok(Subject {
            tid,
            resolved,
            now,
            thread: None,
        })
    }

    fn now(&self) -> Moment {
        let Moment { nsec, epoch } = self.clock.now();
        Moment {
            nsec,
            epoch: epoch.or_else(|| self.watch.epoch()),
        }
    }

    /// A number of the container that the thread with this number was in the last time,
    /// whichever thread has it now.
    #[must_use]
    pub fn seen_last(&self, tid: i32) -> Option<usize> {
        self.cache.seen_last(tid)
    }

    /// Whether readers are to be shown what they were when they were looked up.
    fn is_current(&self, resolved: &Resolved) -> bool {
        Arc::ptr_eq(&resolved.policy, &self.policy.read())
    }

    /// The container of a thread that is not in the cache, by its key.
    fn find(&self, tid: i32, now: Moment) -> Result<Arc<Resolved>, Errno> {
        let memberships = self.host.proc.read(tid, "cgroup").map_err(|errno| {
            fallback::warn(&format!(
                "cannot read which cgroup a reader is in: {errno}; without CAP_SYS_PTRACE the \
                 option hidepid of /proc forbids it"
            ));
            Errno::ESRCH
        })?;
        let key = ReaderKey {
            memberships: memberships.into(),
            namespaces: Namespaces::of(tid, self.own, &self.host.proc),
        };
        if let Some(known) = self.by_key.read().get(&key) {
            if known.is_fresh(now) && self.is_current(known) {
                known.last_used_nsec.store(now.nsec, Ordering::Relaxed);
                return Ok(Arc::clone(known));
            }
        }
        self.keep_within_bounds();
        let resolved = Arc::new(self.look_up(tid, &key, now).map_err(|error| {
            fallback::warn(&format!("cannot tell the container of a reader: {error}"));
            Errno::EIO
        })?);
        let mut by_key = self.by_key.write();
        if by_key.len() >= MOST_KEYS {
            forget_older_half(&mut by_key);
        }
        // As a key it would stay the one of the first look-up: the same text twice.
        by_key.remove(&key);
        by_key.insert(key, Arc::clone(&resolved));
        Ok(resolved)
    }

    /// All containers that are known now.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Container>> {
        self.by_identity.lock().values().cloned().collect()
    }
}

//! From a reader to its container.

mod clean_up;
mod look_up;
mod place;
mod rules;

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use nix::errno::Errno;
use nix::unistd::getpid;
use parking_lot::{Mutex, RwLock};

use self::clean_up::{FEW_CONTAINERS, forget_older_half};
pub(super) use self::place::{Namespaces, Place};
use super::fallback;
use super::familiar::{Familiar, Thread};
use super::moves::{Lull, Moves};
use super::namespaces::{CgroupNamespace, PidNamespace, Registry};
use super::policy::{Options, Policy, Rule};
use super::recent::Recent;
use super::tasks::Tasks;
use super::{Container, Journal};
use crate::cgroup::Layout;
use crate::host::process::Proc;
use crate::host::{Host, boottime_nsec};
use crate::sys::write_watch::WriteWatch;

/// How long a reader's place is taken for the container found last. What it follows from
/// beside the place, such as the cgroup of the init, hardly ever changes.
const TRUST_NSEC: u64 = 5_000_000_000;

/// The same while nobody writes to a cgroup file or removes a cgroup: nobody is moved then, and
/// a cgroup that gets another name changes the place.
const TRUST_IN_LULL_NSEC: u64 = 300_000_000_000;

/// Places that are remembered. A container can make new namespaces as fast as it likes,
/// and each one that is remembered holds file descriptors.
const MOST_PLACES: usize = 4096;

/// Files of which readers may be given a recent text.
const RECENT_FILES: usize = 24;

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

/// The container of readers in one place.
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
    pub recent: Recent<RECENT_FILES>,
    pub(super) place: Place,
    /// Where the options are from.
    policy: Arc<Policy>,
    /// Positions of the rules in it that are about the container.
    rules: Box<[usize]>,
    looked_up_nsec: u64,
    /// The lull in which it was looked up.
    lull: Option<Lull>,
    last_used_nsec: AtomicU64,
    has_pid_namespace: bool,
    // Held so that the inode numbers of the place stay these namespaces' own.
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

    /// Whether readers in the place may still be taken for readers of this container.
    /// `lull` is the present one.
    pub(super) fn is_trusted(&self, now_nsec: u64, lull: Option<Lull>) -> bool {
        let trust_nsec = if lull.is_some() && lull == self.lull {
            TRUST_IN_LULL_NSEC
        } else {
            TRUST_NSEC
        };
        now_nsec.saturating_sub(self.looked_up_nsec) < trust_nsec
    }
}

/// What is known of a reader.
#[derive(Debug)]
pub struct Reader {
    /// The thread.
    pub tid: i32,
    /// The container.
    pub resolved: Arc<Resolved>,
    /// The present lull, if that can be told: limits that are read from now on are what they
    /// are as long as it lasts.
    pub lull: Option<Lull>,
    /// None for a thread that may have just been started.
    thread: Option<Arc<Thread>>,
}

impl Reader {
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

/// All known containers.
#[derive(Debug)]
pub struct Containers {
    host: Arc<Host>,
    layout: Arc<Layout>,
    own: Namespaces,
    pid_namespaces: Registry<PidNamespace>,
    cgroup_namespaces: Registry<CgroupNamespace>,
    moves: Moves,
    familiar: Familiar,
    places: RwLock<HashMap<Place, Arc<Resolved>>>,
    by_identity: Mutex<HashMap<Identity, Arc<Container>>>,
    /// So many containers are looked through for those that have ended.
    many_containers: AtomicUsize,
    /// The lull in which those that have ended were let go the last time.
    let_go_in: Mutex<Option<Lull>>,
    journal: Journal,
    policy: RwLock<Arc<Policy>>,
}

impl Containers {
    /// No containers yet, but for what the journal has of them. With a `watch` readers that
    /// come again and again are known at once.
    #[must_use]
    pub fn new(
        host: Arc<Host>,
        layout: Arc<Layout>,
        policy: Policy,
        journal: Journal,
        watch: Option<WriteWatch>,
    ) -> Self {
        Self {
            own: Namespaces::of_daemon(getpid().as_raw(), &host.proc),
            moves: Moves::new(watch, layout.mounts().map(|(.., path)| path)),
            familiar: Familiar::new(Arc::clone(layout.budget())),
            host,
            layout,
            pid_namespaces: Registry::new(),
            cgroup_namespaces: Registry::new(),
            places: RwLock::default(),
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

    /// The container of thread `tid`.
    ///
    /// # Errors
    /// `ESRCH` when there is no such thread, or when it is not visible here: `tid` is 0
    /// then, since its pid namespace is not below the daemon's.
    pub fn resolve(&self, tid: i32) -> Result<Arc<Resolved>, Errno> {
        self.recognize(tid, true).map(|reader| reader.resolved)
    }

    /// The same, and what else is known of the thread. Its time namespace is not looked at
    /// unless that is asked for.
    ///
    /// # Errors
    /// As [`Containers::resolve`].
    pub fn recognize(&self, tid: i32, asks_time: bool) -> Result<Reader, Errno> {
        if tid <= 0 {
            fallback::warn(OUTSIDE);
            return Err(Errno::ESRCH);
        }
        let lull = self.moves.lull();
        let proc = &self.host.proc;
        let see = |directory: &OwnedFd, before: Namespaces, asks_time| {
            before.again(directory, asks_time, self.own)
        };
        let familiar = self.familiar.get(tid, lull, asks_time, proc, see);
        if let Some((resolved, thread)) = familiar {
            if self.is_current(&resolved) {
                return Ok(Reader {
                    tid,
                    resolved,
                    lull,
                    thread: Some(thread),
                });
            }
        }
        let resolved = self.identify(tid, lull)?;
        self.familiar.remember(tid, &resolved, proc);
        Ok(Reader {
            tid,
            resolved,
            lull,
            thread: None,
        })
    }

    /// A number of the container that the thread with this number was in the last time,
    /// whichever thread has it now.
    #[must_use]
    pub fn seen_last(&self, tid: i32) -> Option<usize> {
        self.familiar.seen_last(tid)
    }

    /// Whether readers are to be shown what they were when they were looked up.
    fn is_current(&self, resolved: &Resolved) -> bool {
        Arc::ptr_eq(&resolved.policy, &self.policy.read())
    }

    fn identify(&self, tid: i32, lull: Option<Lull>) -> Result<Arc<Resolved>, Errno> {
        let memberships = self.host.proc.read(tid, "cgroup").map_err(|errno| {
            fallback::warn(&format!(
                "cannot read which cgroup a reader is in: {errno}; without CAP_SYS_PTRACE the \
                 option hidepid of /proc forbids it"
            ));
            Errno::ESRCH
        })?;
        let place = Place {
            memberships: memberships.into(),
            namespaces: Namespaces::of(tid, self.own, &self.host.proc),
        };
        let now_nsec = boottime_nsec();
        if let Some(known) = self.places.read().get(&place) {
            if known.is_trusted(now_nsec, lull) && self.is_current(known) {
                known.last_used_nsec.store(now_nsec, Ordering::Relaxed);
                return Ok(Arc::clone(known));
            }
        }
        self.keep_within_bounds();
        let resolved = Arc::new(self.look_up(tid, &place, lull).map_err(|error| {
            fallback::warn(&format!("cannot tell the container of a reader: {error}"));
            Errno::EIO
        })?);
        let mut places = self.places.write();
        if places.len() >= MOST_PLACES {
            forget_older_half(&mut places);
        }
        // As a key it would stay the one of the first look-up: the same text twice.
        places.remove(&place);
        places.insert(place, Arc::clone(&resolved));
        Ok(resolved)
    }

    /// All containers that are known now.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Container>> {
        self.by_identity.lock().values().cloned().collect()
    }
}

//! Which mount namespaces have lxcfs mounts, and where.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::stat::fstat;
use nix::unistd::getpid;

use super::inside::{self, Namespace, PATIENCE, Trouble};
use super::name;
use super::spot::is_of_lxcfs;
use crate::host::mounts::{Extent, Limit};
use crate::host::process::{self, Proc};
use crate::parse::mountinfo::{Line, Mount};

/// Views, and mounts on them, in one namespace: a container has some twenty.
const MOST_VIEWS: usize = 2048;
/// How long all namespaces with long lists are looked at together.
const TIME_FOR_LARGE: Duration = Duration::from_secs(10);

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

/// The mount namespaces of this host.
#[derive(Debug, Default)]
pub struct Survey {
    /// Those with lxcfs mounts in them.
    pub places: Vec<Place>,
    /// Those that could not be looked at.
    pub closed: Vec<Closed>,
    large: Vec<Unseen>,
}

/// A mount namespace that has been found and not been looked at, or not at all of it.
#[derive(Debug)]
struct Unseen {
    pid: i32,
    container: Option<String>,
    namespace: Namespace,
    inode: Option<u64>,
}

/// The lxcfs mounts of a namespace and what lies on them, as far as that has been read.
struct Seen {
    views: Vec<Mount>,
    covers: Vec<Mount>,
    extent: Extent,
}

/// Every mount namespace on this host that a process is in, whose inode number is wanted.
/// Those with long lists of mounts are left for [`Survey::look_at_large`].
///
/// # Errors
/// What reading `/proc` fails with.
pub fn survey(proc: &Arc<Proc>, is_wanted: impl Fn(Option<u64>) -> bool) -> io::Result<Survey> {
    let own = proc.namespace(getpid().as_raw(), process::Namespace::Mount);
    let mut seen = BTreeSet::new();
    let mut survey = Survey::default();
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
        let shown = namespace.is_some().then_some(inode);
        if !is_wanted(shown) {
            continue;
        }
        let container = match namespace {
            None => Some("host".to_owned()),
            Some(_) => name::container(&proc.read(pid, "cgroup").unwrap_or_default()),
        };
        let unseen = Unseen {
            pid,
            container,
            namespace,
            inode: shown,
        };
        if let Some(large) = survey.look(unseen, Limit::BRIEF, proc) {
            survey.large.push(large);
        }
    }
    Ok(survey)
}

/// The same, with those that have long lists of mounts.
///
/// # Errors
/// What reading `/proc` fails with.
pub fn whole(proc: &Arc<Proc>) -> io::Result<Survey> {
    let survey = survey(proc, |_| true)?;
    let (mut all, large) = survey.split();
    let large = large.look_at_large(proc);
    all.places.extend(large.places);
    all.closed.extend(large.closed);
    Ok(all)
}

impl Survey {
    /// What has been looked at, and what has not.
    #[must_use]
    pub fn split(mut self) -> (Self, Self) {
        let large = std::mem::take(&mut self.large);
        let rest = Self {
            large,
            ..Self::default()
        };
        (self, rest)
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.places.is_empty() && self.closed.is_empty() && self.large.is_empty()
    }

    /// Looks at those with long lists of mounts, as long as time allows; what has a list without
    /// an end is closed.
    #[must_use]
    pub fn look_at_large(mut self, proc: &Arc<Proc>) -> Self {
        let deadline = Instant::now() + TIME_FOR_LARGE;
        for unseen in std::mem::take(&mut self.large) {
            let has_time = Instant::now() < deadline;
            let left = match has_time {
                true => self.look(unseen, Limit::THOROUGH, proc),
                false => Some(unseen),
            };
            self.closed.extend(left.map(|unseen| Closed {
                pid: unseen.pid,
                container: unseen.container,
                trouble: Trouble::TooLong,
            }));
        }
        self
    }

    /// Returns what has a list that is longer than `limit`.
    fn look(&mut self, unseen: Unseen, limit: Limit, proc: &Arc<Proc>) -> Option<Unseen> {
        let reader = Arc::clone(proc);
        let seen = inside::run(&unseen.namespace, PATIENCE, move || mounts(&reader, limit));
        match seen.and_then(|seen| seen.map_err(Trouble::Closed)) {
            Ok(seen) if seen.extent == Extent::Part => return Some(unseen),
            Ok(seen) if seen.views.is_empty() => {}
            Ok(Seen { views, covers, .. }) => self.places.push(Place {
                pid: unseen.pid,
                container: unseen.container,
                inode: unseen.inode,
                namespace: unseen.namespace,
                views,
                covers,
            }),
            Err(trouble) => self.closed.push(Closed {
                pid: unseen.pid,
                container: unseen.container,
                trouble,
            }),
        }
        None
    }
}

/// Looks at the namespace that the calling thread is in.
fn mounts(proc: &Proc, limit: Limit) -> Result<Seen, Errno> {
    let read = |is_wanted: &dyn Fn(&Line<'_>) -> bool| {
        let (mut found, mut is_full) = (Vec::new(), false);
        let extent = proc.visit_mounts("thread-self/mountinfo", limit, |line| {
            if is_wanted(line) {
                is_full = found.len() >= MOST_VIEWS;
                if !is_full {
                    found.push(line.to_mount());
                }
            }
        })?;
        Ok::<_, Errno>((found, if is_full { Extent::Part } else { extent }))
    };
    let (views, extent) = read(&is_of_lxcfs)?;
    let (covers, extent) = match (views.is_empty(), extent) {
        (false, Extent::Whole) => {
            let ids: BTreeSet<_> = views.iter().map(|view| view.id).collect();
            // One that was moved there stands before what it lies on.
            read(&|line| ids.contains(&line.parent) && !is_of_lxcfs(line))?
        }
        _ => (Vec::new(), extent),
    };
    Ok(Seen {
        views,
        covers,
        extent,
    })
}

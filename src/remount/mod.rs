//! Finding and repairing the mounts that a dead lxcfs left in containers.
//!
//! A fresh mount is made on the host and put where the dead one is, from outside (see
//! [`crate::places`]). Linux 5.12 or newer; from 6.5 on the fresh mount slips under the dead
//! one, so that the kernel's own file never shows.

mod repair;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use nix::errno::Errno;

pub use self::repair::Outcome;
use self::repair::{Repair, Task};
use crate::host::process::Proc;
use crate::parse::mountinfo::Mount;
use crate::places::health::{self, Device, Health};
use crate::places::inside::{Round, Trouble};
use crate::places::source::{self, Source};
use crate::places::survey::{Place, Row, Survey, survey};

/// How long one that is being started may take until it serves.
const START_TIMEOUT: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(50);

/// Mounts of a namespace that are repaired together: each takes an open file. All others have
/// their turn before more of the same one.
const AT_ONCE: usize = 64;

/// What the mounts of one namespace came to, by their paths.
type Outcomes = Vec<(PathBuf, Outcome)>;

/// What is to be repaired, and how.
#[derive(Debug, Clone, Copy)]
pub struct Order<'a> {
    /// Where the lxcfs is mounted whose files are put into place.
    pub mountpoint: &'a Path,
    /// Where another one is mounted whose files are replaced though it may be alive. There may
    /// be none at the mountpoint yet.
    pub from: Option<&'a Path>,
    /// Whether to change nothing.
    pub dry_run: bool,
}

/// Puts files of the lxcfs at the mountpoint in place of all that a dead one left, in every
/// mount namespace of the host. Threads that wait for stopped servers may be left when it
/// returns.
///
/// # Errors
/// One sentence if no lxcfs serves at the mountpoint, none is mounted where another one should
/// be, or the host's processes cannot be listed.
pub fn run(order: Order) -> anyhow::Result<Vec<Row<Outcome>>> {
    let proc = Arc::new(Proc::open(Path::new("/proc")).context("cannot open /proc")?);
    let mut source = Source::at(order.mountpoint, &proc);
    let deadline = Instant::now() + START_TIMEOUT;
    while source.is_err() && order.from.is_some() && Instant::now() < deadline {
        thread::sleep(POLL);
        source = Source::at(order.mountpoint, &proc);
    }
    let source = source?;
    let survey = survey(&proc, |_| true).context("cannot list the processes")?;
    let (quick, large) = survey.split();
    let replaced = order.from.map(|path| Replaced::at(path, &quick.places));
    let replaced = replaced.transpose()?;
    let repair_all = |survey| repair_all(survey, &source, replaced.clone(), &proc, order.dry_run);
    let mut rows = repair_all(quick)?;
    if !large.is_empty() {
        rows.extend(repair_all(large.look_at_large(&proc))?);
    }
    Ok(rows)
}

fn repair_all(
    survey: Survey,
    source: &Source,
    replaced: Option<Replaced>,
    proc: &Arc<Proc>,
    dry_run: bool,
) -> anyhow::Result<Vec<Row<Outcome>>> {
    let Survey { places, closed, .. } = survey;
    let closed = closed.into_iter().map(|one| one.row(Outcome::Failed));
    let mut rows: Vec<_> = closed.collect();
    let connections = Connections::examine(&places, source, replaced, proc);
    rows.extend(repair(&places, |_| true, source, &connections, dry_run)?);
    Ok(rows)
}

/// Another lxcfs, which is replaced though it may be alive.
#[derive(Clone)]
struct Replaced {
    mountpoint: PathBuf,
    device: Device,
}

impl Replaced {
    fn at(path: &Path, places: &[Place]) -> anyhow::Result<Self> {
        let shown = path.display();
        let mountpoint = source::resolve(path).with_context(|| format!("cannot use {shown}"))?;
        let hosts = places.iter().filter(|place| place.namespace.is_none());
        let mut views = hosts.flat_map(|place| &place.views);
        let view = views
            .rfind(|view| view.root == Path::new("/") && view.mount_point == mountpoint)
            .with_context(|| format!("no lxcfs is mounted at {shown}"))?;
        Ok(Self {
            device: view.device,
            mountpoint,
        })
    }

    fn is_there(&self, place: &Place, view: &Mount) -> bool {
        place.namespace.is_none() && view.mount_point == self.mountpoint
    }
}

/// The same in the mount namespace with this inode number only.
///
/// # Errors
/// One sentence if the host's processes cannot be listed.
pub fn run_in(
    namespace: u64,
    source: &Source,
    proc: &Arc<Proc>,
) -> anyhow::Result<Vec<Row<Outcome>>> {
    // The host's own tells what is mounted at the mountpoint.
    let is_needed = |inode: Option<u64>| inode.is_none_or(|inode| inode == namespace);
    let survey = survey(proc, is_needed).context("cannot list the processes")?;
    let places = survey.look_at_large(proc).places;
    let is_wanted = |place: &Place| place.inode == Some(namespace);
    if !places.iter().any(is_wanted) {
        return Ok(Vec::new());
    }
    let connections = Connections::examine(&places, source, None, proc);
    repair(&places, is_wanted, source, &connections, false)
}

fn repair(
    places: &[Place],
    is_wanted: impl Fn(&Place) -> bool,
    source: &Source,
    connections: &Connections,
    dry_run: bool,
) -> anyhow::Result<Vec<Row<Outcome>>> {
    let (mut rows, mut left) = (Vec::new(), Vec::new());
    for place in places.iter().filter(|place| is_wanted(place)) {
        let (mut mounts, outcomes) = connections.judge(place, source);
        rows.extend(place.rows(outcomes));
        // What lies on a dead mount is out of reach until that is replaced.
        mounts.sort_by(|one, other| one.mount_point.cmp(&other.mount_point));
        left.push((place, mounts));
    }
    loop {
        left.retain(|(_, mounts)| !mounts.is_empty());
        if left.is_empty() {
            return Ok(rows);
        }
        let mut round = Round::default();
        for (place, mut mounts) in left {
            let later = mounts.split_off(mounts.len().min(AT_ONCE));
            let (tasks, outcomes) = tasks(&mounts, place, source)?;
            rows.extend(place.rows(outcomes));
            let path = |task: &Task| task.mount.mount_point.clone();
            let paths: Vec<_> = tasks.iter().map(path).collect();
            let repair = Repair {
                proc: Arc::clone(&connections.proc),
                fresh: source.device,
                stale: Arc::clone(&connections.stale),
                dry_run,
            };
            let key = (place, paths, later);
            round.next(key, &place.namespace, move || repair.run(tasks));
        }
        left = Vec::new();
        for ((place, mut paths, later), done) in round.results() {
            if done.is_ok() {
                left.push((place, later));
            } else {
                paths.extend(later.iter().map(|mount| mount.mount_point.clone()));
            }
            rows.extend(place.rows(conclude(paths, done)));
        }
    }
}

/// What became of the mounts at `paths`, or that nobody knows.
fn conclude(paths: Vec<PathBuf>, done: Result<Outcomes, Trouble>) -> Outcomes {
    done.unwrap_or_else(|trouble| {
        let failed = |path| (path, Outcome::Failed(trouble.to_string()));
        paths.into_iter().map(failed).collect()
    })
}

/// What is known of all lxcfs file systems but the one whose files are put into place.
struct Connections {
    proc: Arc<Proc>,
    /// Dead, or replaced by that one.
    stale: Arc<BTreeSet<Device>>,
    /// Neither known to be dead nor alive.
    silent: BTreeSet<Device>,
    replaced: Option<Replaced>,
}

impl Connections {
    fn examine(
        places: &[Place],
        source: &Source,
        replaced: Option<Replaced>,
        proc: &Arc<Proc>,
    ) -> Self {
        let mut others = BTreeSet::new();
        let mut stale: BTreeSet<_> = replaced.iter().map(|other| other.device).collect();
        stale.remove(&source.device);
        for place in places {
            for view in place
                .views
                .iter()
                .filter(|view| view.device != source.device)
            {
                if is_at_mountpoint(place, view, source) {
                    // It lies under the one that serves there now.
                    stale.insert(view.device);
                } else {
                    others.insert(view.device);
                }
            }
        }
        let others: BTreeSet<_> = others.difference(&stale).copied().collect();
        let mut silent = BTreeSet::new();
        for (device, health) in health::ask(places, &others, proc) {
            match health {
                Health::Dead => stale.insert(device),
                Health::Silent => silent.insert(device),
                Health::Alive | Health::Hidden => false,
            };
        }
        Self {
            proc: Arc::clone(proc),
            stale: Arc::new(stale),
            silent,
            replaced,
        }
    }

    /// Which mounts of the namespace are to be repaired, and what there is to say of others.
    fn judge<'a>(&self, place: &'a Place, source: &Source) -> (Vec<&'a Mount>, Outcomes) {
        let (mut tasks, mut outcomes) = (Vec::new(), Outcomes::new());
        for view in &place.views {
            let is_kept = |other: &Replaced| other.is_there(place, view);
            if self.replaced.as_ref().is_some_and(is_kept) {
                continue;
            }
            let mut say = |outcome| outcomes.push((view.mount_point.clone(), outcome));
            if self.silent.contains(&view.device) {
                say(Outcome::Silent);
            } else if !self.stale.contains(&view.device) || is_at_mountpoint(place, view, source) {
            } else if place.namespace.is_none() && view.root == Path::new("/") {
                say(Outcome::Elsewhere);
            } else {
                tasks.push(view);
            }
        }
        (tasks, outcomes)
    }
}

/// Whether this is a mount at the very mountpoint on the host, under the present one.
fn is_at_mountpoint(place: &Place, view: &Mount, source: &Source) -> bool {
    place.namespace.is_none()
        && view.root == Path::new("/")
        && view.mount_point == source.mountpoint
}

/// What is to be done, with the fresh mounts that it takes, and what cannot be.
fn tasks(
    mounts: &[&Mount],
    place: &Place,
    source: &Source,
) -> anyhow::Result<(Vec<Task>, Outcomes)> {
    let (mut tasks, mut outcomes) = (Vec::new(), Outcomes::new());
    let copies = source.copies(mounts.iter().map(|mount| mount.root.clone()).collect())?;
    for (mount, copy) in mounts.iter().zip(copies) {
        let fresh = match copy {
            Ok(fresh) => Some(fresh),
            Err(Errno::ENOENT | Errno::ENOTDIR) => None,
            Err(errno) => {
                let why = format!("lxcfs does not give its file: {errno}");
                outcomes.push((mount.mount_point.clone(), Outcome::Failed(why)));
                continue;
            }
        };
        let covers = place.covers.iter().filter(|cover| cover.parent == mount.id);
        tasks.push(Task {
            mount: (*mount).clone(),
            fresh,
            covers: covers.cloned().collect(),
        });
    }
    Ok((tasks, outcomes))
}

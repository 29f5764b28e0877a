//! Attaching to containers that run already, and detaching from them.

mod everywhere;
mod lay;
mod services;
mod take;
mod target;

use std::collections::BTreeSet;
use std::fmt;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use nix::errno::Errno;
use nix::unistd::{chroot, fchdir};

pub use self::everywhere::detach_everywhere;
pub use self::target::{Target, find_pid};

use self::lay::{Layers, Task};
use super::Binding;
use crate::host::process::Proc;
use crate::parse::mountinfo::Mount;
use crate::places::inside::{self, Round};
use crate::places::source::Source;
use crate::places::spot::peer_groups;
use crate::sys::mounts::{Attributes, restrict};

/// How long the work in one container may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// The files in which triggers are set.
const PRESSURE: &str = "proc/pressure";

/// What became of one path of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The views are there now.
    Attached,
    /// They have been there.
    Present,
    /// Views of another lxcfs are there.
    Foreign,
    /// Something else is mounted there, such as what an engine hides a file with.
    Hidden,
    /// The views are gone.
    Detached,
    /// Views of a lxcfs that may be alive are there.
    Silent,
    /// It is as it was; one sentence says why.
    Failed(String),
}

impl fmt::Display for Outcome {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Attached => write!(out, "attached"),
            Self::Present => write!(out, "attached already"),
            Self::Foreign => write!(out, "left alone: another lxcfs is attached"),
            Self::Hidden => write!(out, "left alone: something else is mounted there"),
            Self::Detached => write!(out, "detached"),
            Self::Silent => write!(out, "left alone: its lxcfs does not answer"),
            Self::Failed(why) => write!(out, "not done: {why}"),
        }
    }
}

/// What became of the paths of a container.
pub type Outcomes = Vec<(PathBuf, Outcome)>;

/// Lays the `bindings` over the files and directories that the container has, unless
/// something is mounted there already. What it does not have is left out. Processes with mounts
/// of their own get the same; of these only failures are told.
///
/// # Errors
/// One sentence if lxcfs or the container's file systems do not answer.
pub fn attach(
    target: &Target,
    source: &Source,
    bindings: &[Binding],
    proc: &Arc<Proc>,
) -> anyhow::Result<Outcomes> {
    let hosts = hosts_peer_groups(proc)?;
    let lay = |target: &Target| {
        let (tasks, outcomes) = tasks(source, bindings)?;
        let layers = Layers {
            proc: Arc::clone(proc),
            views: source.device,
            hosts: hosts.clone(),
        };
        anyhow::Ok((as_root_of(target, move || layers.lay(tasks)), outcomes))
    };
    let (work, mut outcomes) = lay(target)?;
    outcomes.extend(in_container(target, work)?);
    // Those that are made from now on are copies of what has the views.
    outcomes.extend(in_services(target, proc, |service| Ok(lay(service)?.0))?);
    outcomes.sort_by(|(one, _), (other, _)| one.cmp(other));
    Ok(outcomes)
}

/// Takes away all views of lxcfs that the container has, dead ones too.
///
/// # Errors
/// One sentence if the container's file systems do not answer.
pub fn detach(target: &Target, proc: &Arc<Proc>) -> anyhow::Result<Outcomes> {
    let hosts = hosts_peer_groups(proc)?;
    let take = |target: &Target| {
        let (proc, hosts) = (Arc::clone(proc), hosts.clone());
        as_root_of(target, move || take::views(|_| true, &proc, &hosts))
    };
    let mut outcomes = in_container(target, take(target))?;
    outcomes.extend(in_services(target, proc, |service| Ok(take(service)))?);
    Ok(outcomes)
}

/// Does the work for the processes of the container that have mounts of their own. Returns what
/// could not be done.
fn in_services<W>(
    target: &Target,
    proc: &Arc<Proc>,
    work: impl Fn(&Target) -> anyhow::Result<W>,
) -> anyhow::Result<Outcomes>
where
    W: FnOnce() -> Result<Outcomes, Errno> + Send + 'static,
{
    let shown = &target.shown;
    let pids = services::of(target, proc)
        .with_context(|| format!("cannot list the processes of {shown}"))?;
    let (mut round, mut outcomes) = (Round::default(), Outcomes::new());
    for pid in pids {
        let shown = format!("process {pid}");
        // It may have ended.
        let Ok(service) = Target::of(pid, &shown, proc) else {
            continue;
        };
        // Of these all are tried, though there may be no more open files for one.
        match work(&service) {
            Ok(work) => round.next(shown, &Some(service.namespace), work),
            Err(error) => outcomes.push(failure("/".into(), &shown, &format!("{error:#}"))),
        }
    }
    for (shown, done) in round.results() {
        match done {
            Ok(Ok(done)) => outcomes.extend(done.into_iter().filter_map(|(path, outcome)| {
                let Outcome::Failed(why) = outcome else {
                    return None;
                };
                Some(failure(path, &shown, &why))
            })),
            Ok(Err(errno)) => outcomes.push(failure("/".into(), &shown, &errno.to_string())),
            Err(trouble) => outcomes.push(failure("/".into(), &shown, &trouble.to_string())),
        }
    }
    Ok(outcomes)
}

/// What could not be done for a process with mounts of its own.
fn failure(path: PathBuf, shown: &str, why: &str) -> (PathBuf, Outcome) {
    let why = format!("for {shown}, which has mounts of its own: {why}");
    (path, Outcome::Failed(why))
}

/// What is to be laid where, and what cannot be.
fn tasks(source: &Source, bindings: &[Binding]) -> anyhow::Result<(Vec<Task>, Outcomes)> {
    let paths = bindings.iter().map(|binding| binding.path.clone());
    let copies = source.copies(paths.collect())?;
    let mut tasks = Vec::new();
    let mut outcomes = Outcomes::new();
    for (binding, copy) in bindings.iter().zip(copies) {
        match copy {
            Ok(fresh) => match limit(&fresh, &binding.path) {
                Ok(()) => tasks.push(Task {
                    target: binding.target(),
                    fresh,
                }),
                Err(errno) => {
                    let why = format!("its options cannot be set: {errno}");
                    outcomes.push((binding.target(), Outcome::Failed(why)));
                }
            },
            Err(Errno::ENOENT | Errno::ENOTDIR) => {}
            Err(errno) => {
                let why = format!("lxcfs does not give its file: {errno}");
                outcomes.push((binding.target(), Outcome::Failed(why)));
            }
        }
    }
    Ok((tasks, outcomes))
}

/// Nobody can change anything through the views, but for setting triggers.
fn limit(fresh: &OwnedFd, path: &Path) -> Result<(), Errno> {
    let attributes = Attributes {
        read_only: path != Path::new(PRESSURE),
        no_suid: true,
        no_devices: true,
        no_programs: true,
    };
    restrict(fresh, attributes)
}

/// The work, done with the target's root directory as root.
fn as_root_of<F>(
    target: &Target,
    work: F,
) -> impl FnOnce() -> Result<Outcomes, Errno> + Send + use<F>
where
    F: FnOnce() -> Result<Outcomes, Errno> + Send,
{
    let root = Arc::clone(&target.root);
    move || {
        // The root of a process need not be that of its mount namespace.
        fchdir(&root)?;
        chroot(".")?;
        work()
    }
}

fn in_container(
    target: &Target,
    work: impl FnOnce() -> Result<Outcomes, Errno> + Send + 'static,
) -> anyhow::Result<Outcomes> {
    let done = inside::run(&Some(Arc::clone(&target.namespace)), PATIENCE, work);
    let shown = &target.shown;
    done.with_context(|| format!("cannot change the mounts of {shown}"))?
        .with_context(|| format!("cannot change the mounts of {shown}"))
}

/// The groups of mounts that the host is in: what is mounted on one of them in a container is
/// mounted on the host too.
fn hosts_peer_groups(proc: &Proc) -> anyhow::Result<BTreeSet<u32>> {
    let own = peer_groups(proc, "thread-self/mountinfo");
    let mut groups = own.context("cannot list the mounts of the host")?;
    // This process can have been given mounts of its own.
    groups.extend(peer_groups(proc, "1/mountinfo").unwrap_or_default());
    Ok(groups)
}

/// Why nothing may be mounted on, or taken from, a mount.
fn refusal(mount: &Mount, hosts: &BTreeSet<u32>) -> Option<Outcome> {
    mount
        .peer_group
        .filter(|group| hosts.contains(group))
        .map(|_| Outcome::Failed("its mounts are shared with the host".to_owned()))
}

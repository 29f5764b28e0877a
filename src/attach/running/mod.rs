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
    let mut round = Round::default();
    // Those that are made from now on are copies of what has the views.
    for service in in_services(target, proc)? {
        let (work, _) = lay(&service)?;
        let namespace = Some(Arc::clone(&service.namespace));
        round.next(service, &namespace, work);
    }
    outcomes.extend(failures(round));
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
    let mut round = Round::default();
    for service in in_services(target, proc)? {
        let work = take(&service);
        let namespace = Some(Arc::clone(&service.namespace));
        round.next(service, &namespace, work);
    }
    outcomes.extend(failures(round));
    Ok(outcomes)
}

fn in_services(target: &Target, proc: &Proc) -> anyhow::Result<Vec<Target>> {
    let shown = &target.shown;
    services::of(target, proc).with_context(|| format!("cannot list the processes of {shown}"))
}

/// What could not be done for processes with mounts of their own.
fn failures(round: Round<Target, Result<Outcomes, Errno>>) -> Outcomes {
    let mut failures = Outcomes::new();
    for (Target { shown, .. }, done) in round.results() {
        let outcomes = match done {
            Ok(Ok(outcomes)) => outcomes,
            Ok(Err(errno)) => vec![("/".into(), Outcome::Failed(errno.to_string()))],
            Err(trouble) => vec![("/".into(), Outcome::Failed(trouble.to_string()))],
        };
        for (path, outcome) in outcomes {
            if let Outcome::Failed(why) = outcome {
                let why = format!("for {shown}, which has mounts of its own: {why}");
                failures.push((path, Outcome::Failed(why)));
            }
        }
    }
    failures
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

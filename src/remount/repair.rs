//! Changes in one mount namespace. Runs in a thread that has entered it.

use std::collections::BTreeSet;
use std::fmt;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use nix::errno::Errno;

use crate::host::process::Proc;
use crate::parse::mountinfo::{Line, Mount};
use crate::places::health::Device;
use crate::places::spot::{Spot, is_of_lxcfs, mount_id, table};
use crate::sys::mounts::{Attributes, Layer, attach, restrict};

const TOO_OLD: &str = "this needs Linux 5.12 or newer";

/// What is to become of one mount.
#[derive(Debug)]
pub struct Task {
    /// The mount of a dead or replaced lxcfs.
    pub mount: Mount,
    /// What takes its place; `None` if the new lxcfs has no such file.
    pub fresh: Option<OwnedFd>,
    /// What lies on it and goes away with it.
    pub covers: Vec<Mount>,
}

/// What became of one mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// A fresh one is in its place.
    Replaced,
    /// A fresh one lies over it, as the old one cannot be taken away.
    Covered,
    /// It is gone, and what was there before shows.
    Unmounted,
    /// It is gone; it lay over another mount of a dead lxcfs.
    Unstacked,
    /// What would be done with it: a fresh one would take its place.
    WouldReplace,
    /// What would be done with it: it would be gone.
    WouldUnmount,
    /// Left alone, as its server may be alive.
    Silent,
    /// Left alone, as it is where another lxcfs gets mounted.
    Elsewhere,
    /// It is as it was; one sentence says why.
    Failed(String),
}

impl fmt::Display for Outcome {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Replaced => write!(out, "replaced"),
            Self::Covered => write!(out, "replaced (over the old one, which is locked)"),
            Self::Unmounted => write!(out, "unmounted: this lxcfs has no such file"),
            Self::Unstacked => write!(out, "unmounted: it lay over another one"),
            Self::WouldReplace => write!(out, "would be replaced"),
            Self::WouldUnmount => {
                write!(out, "would be unmounted: this lxcfs has no such file")
            }
            Self::Silent => write!(out, "left alone: its lxcfs does not answer"),
            Self::Elsewhere => write!(out, "left alone: the mountpoint of another lxcfs"),
            Self::Failed(why) => write!(out, "not repaired: {why}"),
        }
    }
}

/// What the repair of a namespace needs to know.
#[derive(Debug)]
pub struct Repair {
    /// The host's `/proc`.
    pub proc: Arc<Proc>,
    /// The lxcfs that is to be mounted everywhere.
    pub fresh: Device,
    /// Those whose mounts are to go.
    pub stale: Arc<BTreeSet<Device>>,
    /// Whether to change nothing.
    pub dry_run: bool,
}

/// How far a task has come.
enum Step {
    Done(Outcome),
    /// The mount is gone: what was done to a peer was done to it too.
    Gone,
    /// Something lies over the mount, so that nobody sees it.
    Hidden,
}

impl Repair {
    /// Does the tasks; mounts that are gone or that nobody sees have no outcome.
    pub fn run(&self, mut tasks: Vec<Task>) -> Vec<(PathBuf, Outcome)> {
        // What lies on a dead mount is out of reach until that is replaced.
        tasks.sort_by(|one, other| one.mount.mount_point.cmp(&other.mount.mount_point));
        let mut orphans = BTreeSet::new();
        let mut done = Vec::new();
        loop {
            let before = done.len();
            // One look in a round: the list can be a long one.
            let table = self.table(&tasks);
            tasks.retain(|task| {
                let step = table
                    .as_ref()
                    .map_err(String::clone)
                    .and_then(|table| self.attempt(task, table, &mut orphans))
                    .unwrap_or_else(|why| Step::Done(Outcome::Failed(why)));
                match step {
                    Step::Done(outcome) => done.push((task.mount.mount_point.clone(), outcome)),
                    Step::Gone => {}
                    Step::Hidden => return true,
                }
                false
            });
            if done.len() == before || tasks.is_empty() {
                return done;
            }
        }
    }

    /// `orphans` are the mounts that went away with the one they lay on.
    fn attempt(
        &self,
        task: &Task,
        table: &[Mount],
        orphans: &mut BTreeSet<u32>,
    ) -> Result<Step, String> {
        let Task { mount, fresh, .. } = task;
        let orphan = orphans.contains(&mount.id);
        if !orphan && !table.iter().any(|known| is_same(known, mount)) {
            return Ok(Step::Gone);
        }
        let spot = match Spot::find(&mount.mount_point) {
            Ok(spot) => spot,
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP | Errno::ENOTCONN) => {
                return Ok(Step::Hidden);
            }
            Err(errno) => return Err(cannot_follow(errno)),
        };
        if orphan {
            let Some(fresh) = fresh else {
                return Ok(Step::Gone);
            };
            like(mount, fresh)?;
            attach(fresh, spot.top(), Layer::Above).map_err(cannot_mount)?;
            task.covers.iter().try_for_each(restore)?;
            return Ok(Step::Done(Outcome::Replaced));
        }
        if self.id(&spot)? != mount.id {
            return Ok(Step::Hidden);
        }
        if self.dry_run {
            let outcome = match fresh {
                Some(_) => Outcome::WouldReplace,
                None => Outcome::WouldUnmount,
            };
            return Ok(Step::Done(outcome));
        }
        if let Some(outcome) = self.unstack(mount, table, &spot)? {
            return Ok(Step::Done(outcome));
        }
        let on_it = table.iter().filter(|other| other.parent == mount.id);
        orphans.extend(on_it.map(|other| other.id));
        match fresh {
            Some(fresh) => {
                like(mount, fresh)?;
                Self::replace(task, fresh, spot).map(Step::Done)
            }
            None => match spot.unmount() {
                Ok(()) => Ok(Step::Done(Outcome::Unmounted)),
                Err(Errno::EINVAL) => Err(
                    "this lxcfs has no such file and the mount is locked; restart the container"
                        .to_owned(),
                ),
                Err(errno) => Err(cannot_unmount(errno)),
            },
        }
    }

    /// Takes the mount away if it lies over another one that is fresh, or that has its own
    /// turn. A locked one stays.
    fn unstack(
        &self,
        mount: &Mount,
        table: &[Mount],
        spot: &Spot,
    ) -> Result<Option<Outcome>, String> {
        let below = table
            .iter()
            .find(|below| below.id == mount.parent && below.mount_point == mount.mount_point);
        let outcome = match below {
            Some(below) if below.device == self.fresh && below.root == mount.root => {
                Outcome::Replaced
            }
            Some(below) if self.stale.contains(&below.device) => Outcome::Unstacked,
            _ => return Ok(None),
        };
        match spot.unmount() {
            Ok(()) => Ok(Some(outcome)),
            Err(Errno::EINVAL) => Ok(None),
            Err(errno) => Err(cannot_unmount(errno)),
        }
    }

    fn replace(task: &Task, fresh: &OwnedFd, spot: Spot) -> Result<Outcome, String> {
        let outcome = match attach(fresh, spot.top(), Layer::Beneath) {
            Ok(()) => {
                spot.unmount().map_err(cannot_unmount)?;
                Outcome::Replaced
            }
            // Before Linux 6.5, for a locked mount, and with some kinds of propagation.
            Err(_) => match spot.unmount() {
                Ok(()) => {
                    let spot = spot.again().map_err(cannot_follow)?;
                    attach(fresh, spot.top(), Layer::Above).map_err(cannot_mount)?;
                    Outcome::Replaced
                }
                Err(Errno::EINVAL) => {
                    attach(fresh, spot.top(), Layer::Above).map_err(cannot_mount)?;
                    Outcome::Covered
                }
                Err(errno) => return Err(cannot_unmount(errno)),
            },
        };
        task.covers.iter().try_for_each(restore)?;
        Ok(outcome)
    }

    /// The mounts of all lxcfs, and what lies on those that have a task.
    fn table(&self, tasks: &[Task]) -> Result<Vec<Mount>, String> {
        let ids: BTreeSet<_> = tasks.iter().map(|task| task.mount.id).collect();
        let is_wanted = |line: &Line<'_>| is_of_lxcfs(line) || ids.contains(&line.parent);
        table(&self.proc, is_wanted)
            .map_err(|errno| format!("its mounts cannot be listed: {errno}"))
    }

    fn id(&self, spot: &Spot) -> Result<u32, String> {
        mount_id(&self.proc, spot.top())
            .map_err(|errno| format!("its mount cannot be identified: {errno}"))
    }
}

/// Gives a fresh mount the options of the old one.
fn like(old: &Mount, fresh: &OwnedFd) -> Result<(), String> {
    let attributes = Attributes {
        read_only: old.has_option("ro"),
        no_suid: old.has_option("nosuid"),
        no_devices: old.has_option("nodev"),
        no_programs: old.has_option("noexec"),
    };
    restrict(fresh, attributes).map_err(|errno| match errno {
        Errno::ENOSYS => TOO_OLD.to_owned(),
        errno => format!("its options cannot be set: {errno}"),
    })
}

fn cannot_follow(errno: Errno) -> String {
    match errno {
        Errno::ENOSYS => TOO_OLD.to_owned(),
        errno => format!("its path cannot be followed: {errno}"),
    }
}

fn cannot_mount(errno: Errno) -> String {
    format!("nothing can be mounted there: {errno}")
}

fn cannot_unmount(errno: Errno) -> String {
    format!("it cannot be unmounted: {errno}")
}

fn is_same(one: &Mount, other: &Mount) -> bool {
    one.id == other.id && one.device == other.device && one.mount_point == other.mount_point
}

/// Engines hide directories under empty ones. The way to such a cover leads through the
/// dead file system, so it cannot be moved, but an empty directory is soon made.
fn restore(cover: &Mount) -> Result<(), String> {
    let shown = cover.mount_point.display();
    if cover.fs_type != "tmpfs" || !cover.has_option("ro") {
        return Err(format!(
            "it was replaced, but what was mounted on {shown} is gone"
        ));
    }
    match Spot::find(&cover.mount_point).and_then(|spot| spot.cover()) {
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(errno) => Err(format!(
            "it was replaced, but {shown} cannot be hidden again: {errno}"
        )),
    }
}

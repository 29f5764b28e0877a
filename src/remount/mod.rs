//! Finding and repairing the mounts that a dead lxcfs left in containers.
//!
//! Nothing runs in a container and none of its files is opened: a fresh mount is made on
//! the host, carried into the container's mount namespace as a file descriptor, and put
//! where the dead one is. So it does not matter what is in the container's image, whether
//! it is frozen, or who owns it. Linux 5.12 or newer; from 6.5 on the fresh mount slips
//! under the dead one, so that the kernel's own file never shows.

mod health;
mod inside;
mod name;
mod repair;
mod source;
mod spot;
mod survey;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use nix::errno::Errno;

use self::health::{Device, Health};
pub use self::repair::Outcome;
use self::repair::{Repair, Task};
use self::source::Source;
use self::survey::{Closed, Place};
use crate::host::process::Proc;
use crate::parse::mountinfo::Mount;

/// What became of one mount in one mount namespace.
#[derive(Debug)]
pub struct Row {
    /// What people call the container; `None` if it has no name.
    pub container: Option<String>,
    /// One of its processes.
    pub pid: i32,
    /// Where the mount is, as the container sees it; `None` if that could not be found out.
    pub path: Option<PathBuf>,
    /// What became of it.
    pub outcome: Outcome,
}

/// Puts files of the lxcfs at `mountpoint` in place of all that a dead one left, in every
/// mount namespace of the host; changes nothing if `dry_run`. Threads that wait for stopped
/// servers may be left when it returns.
///
/// # Errors
/// One sentence if no lxcfs serves at `mountpoint`, or the host's processes cannot be listed.
pub fn run(mountpoint: &Path, dry_run: bool) -> anyhow::Result<Vec<Row>> {
    let proc = Arc::new(Proc::open(Path::new("/proc")).context("cannot open /proc")?);
    let source = Source::at(mountpoint, &proc)?;
    let (places, closed) = survey::places(&proc).context("cannot list the processes")?;
    let connections = Connections::examine(&places, &source, &proc);
    let mut rows: Vec<_> = closed.into_iter().map(unknown).collect();
    for place in places {
        let (tasks, outcomes) = connections.judge(&place, &source);
        let repair = Repair {
            proc: Arc::clone(&proc),
            fresh: source.device,
            stale: Arc::clone(&connections.stale),
            dry_run,
        };
        let outcomes = outcomes
            .into_iter()
            .chain(carry_out(&tasks, &place, &source, repair)?);
        rows.extend(outcomes.map(|(path, outcome)| Row {
            container: place.container.clone(),
            pid: place.pid,
            path: Some(path),
            outcome,
        }));
    }
    Ok(rows)
}

fn unknown(closed: Closed) -> Row {
    Row {
        container: closed.container,
        pid: closed.pid,
        path: None,
        outcome: Outcome::Failed(closed.trouble.to_string()),
    }
}

/// What is known of all lxcfs file systems but the one whose files are put into place.
struct Connections {
    /// Dead, or replaced by that one.
    stale: Arc<BTreeSet<Device>>,
    /// Neither known to be dead nor alive.
    silent: BTreeSet<Device>,
}

impl Connections {
    fn examine(places: &[Place], source: &Source, proc: &Arc<Proc>) -> Self {
        let mut others = BTreeSet::new();
        let mut stale = BTreeSet::new();
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
            stale: Arc::new(stale),
            silent,
        }
    }

    /// Which mounts of the namespace are to be repaired, and what there is to say of others.
    fn judge<'a>(
        &self,
        place: &'a Place,
        source: &Source,
    ) -> (Vec<&'a Mount>, Vec<(PathBuf, Outcome)>) {
        let (mut tasks, mut outcomes) = (Vec::new(), Vec::new());
        for view in &place.views {
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

fn carry_out(
    mounts: &[&Mount],
    place: &Place,
    source: &Source,
    repair: Repair,
) -> anyhow::Result<Vec<(PathBuf, Outcome)>> {
    if mounts.is_empty() {
        return Ok(Vec::new());
    }
    let copies = source.copies(mounts.iter().map(|mount| mount.root.clone()).collect())?;
    let (mut tasks, mut outcomes) = (Vec::new(), Vec::new());
    for (mount, copy) in mounts.iter().zip(copies) {
        let fresh = match copy {
            Ok(fresh) => Some(fresh),
            Err(Errno::ENOENT) => None,
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
    match inside::run(&place.namespace, move || repair.run(tasks)) {
        Ok(done) => outcomes.extend(done),
        Err(trouble) => outcomes.extend(mounts.iter().map(|mount| {
            let why = trouble.to_string();
            (mount.mount_point.clone(), Outcome::Failed(why))
        })),
    }
    Ok(outcomes)
}

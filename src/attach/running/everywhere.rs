//! Taking views away from all containers, for the end of a lxcfs or after it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use nix::errno::Errno;

use super::take::{self, is_view};
use super::{Outcome, Outcomes, hosts_peer_groups};
use crate::host::process::{Namespace, Proc};
use crate::places::containers::hosts_own;
use crate::places::health::{self, Device, Health};
use crate::places::inside::{Round, Trouble};
use crate::places::source::resolve;
use crate::places::survey::{self, Place, Row, Survey};

/// Takes the views of the lxcfs at `mountpoint`, which need not serve any more, away from all
/// containers, and those that dead ones left. The host keeps its mounts.
///
/// # Errors
/// One sentence if the host's processes or mounts cannot be listed.
pub fn detach_everywhere(mountpoint: &Path, proc: &Arc<Proc>) -> anyhow::Result<Vec<Row<Outcome>>> {
    let survey = survey::whole(proc).context("cannot list the processes")?;
    let Survey { places, closed, .. } = survey;
    let condemned = Condemned::find(&places, mountpoint, proc);
    let hosts = Arc::new(hosts_peer_groups(proc)?);
    let own = hosts_own(proc, Namespace::Mount);
    let is_container = |place: &&Place| place.inode.is_some_and(|inode| !own.contains(&inode));
    let closed = closed.into_iter().map(|one| one.row(Outcome::Failed));
    let mut rows: Vec<_> = closed.collect();
    let mut round = Round::default();
    for place in places.iter().filter(is_container) {
        let (paths, silent) = condemned.judge(place);
        rows.extend(place.rows(silent));
        if paths.is_empty() {
            continue;
        }
        let (devices, hosts) = (Arc::clone(&condemned.devices), Arc::clone(&hosts));
        let proc = Arc::clone(proc);
        let work = move || take::views(|device| devices.contains(&device), &proc, &hosts);
        round.next((place, paths), &place.namespace, work);
    }
    for ((place, paths), done) in round.results() {
        rows.extend(place.rows(conclude(paths, done)));
    }
    Ok(rows)
}

/// What became of the views at `paths`, or that nobody knows.
fn conclude(paths: Vec<PathBuf>, done: Result<Result<Outcomes, Errno>, Trouble>) -> Outcomes {
    let why = match done {
        Ok(Ok(outcomes)) => return outcomes,
        Ok(Err(errno)) => format!("its mounts cannot be listed: {errno}"),
        Err(trouble) => trouble.to_string(),
    };
    let failed = |path| (path, Outcome::Failed(why.clone()));
    paths.into_iter().map(failed).collect()
}

/// The lxcfs whose views go.
struct Condemned {
    devices: Arc<BTreeSet<Device>>,
    /// Others that may be alive.
    silent: BTreeSet<Device>,
}

impl Condemned {
    fn find(places: &[Place], mountpoint: &Path, proc: &Arc<Proc>) -> Self {
        let mountpoint = resolve(mountpoint).unwrap_or_else(|_| mountpoint.to_owned());
        let on_host = places.iter().filter(|place| place.inode.is_none());
        let mut devices: BTreeSet<_> = on_host
            .flat_map(|place| &place.views)
            .filter(|mount| !is_view(mount) && mount.mount_point == mountpoint)
            .map(|mount| mount.device)
            .collect();
        let all = places.iter().flat_map(|place| &place.views);
        let others = all.map(|mount| mount.device);
        let others = others.filter(|device| !devices.contains(device)).collect();
        let mut silent = BTreeSet::new();
        for (device, health) in health::ask(places, &others, proc) {
            match health {
                Health::Dead => devices.insert(device),
                Health::Silent => silent.insert(device),
                Health::Alive | Health::Hidden => false,
            };
        }
        Self {
            devices: Arc::new(devices),
            silent,
        }
    }

    /// Where the container has views that go, and what there is to say of others.
    fn judge(&self, place: &Place) -> (Vec<PathBuf>, Outcomes) {
        let (mut paths, mut silent) = (Vec::new(), Outcomes::new());
        for view in place.views.iter().filter(|mount| is_view(mount)) {
            let path = view.mount_point.clone();
            if self.devices.contains(&view.device) {
                paths.push(path);
            } else if self.silent.contains(&view.device) {
                silent.push((path, Outcome::Silent));
            }
        }
        (paths, silent)
    }
}

//! Taking views away. Runs in a thread that has entered the container's mount namespace.

use std::collections::BTreeSet;
use std::path::Path;

use nix::errno::Errno;

use super::{Outcome, Outcomes, refusal};
use crate::attach::nesting;
use crate::host::process::Proc;
use crate::parse::mountinfo::Mount;
use crate::places::health::Device;
use crate::places::spot::{Spot, is_of_lxcfs, mount_id, table};
use crate::session::mount::FS_TYPE;

/// Takes away the mounts of files and directories of those lxcfs that are wanted. One of a
/// whole tree is no view: from there the container gives views to containers of its own.
///
/// # Errors
/// What reading the container's mounts fails with.
pub fn views(
    is_wanted: impl Fn(Device) -> bool,
    proc: &Proc,
    hosts: &BTreeSet<u32>,
) -> Result<Outcomes, Errno> {
    let mut outcomes = Outcomes::new();
    let mut left_alone = BTreeSet::new();
    loop {
        let mut views = table(proc, is_of_lxcfs)?;
        views.retain(|view| is_view(view) && is_wanted(view.device));
        views.retain(|view| !left_alone.contains(&view.id));
        let on: BTreeSet<_> = views.iter().map(|view| view.parent).collect();
        let table = table(proc, |line| on.contains(&line.id))?;
        // What lies on others comes first.
        views.sort_by(|one, other| other.mount_point.cmp(&one.mount_point));
        let before = outcomes.len();
        for view in &views {
            if let Some(outcome) = take(view, &table, proc, hosts) {
                if outcome != Outcome::Detached {
                    left_alone.insert(view.id);
                }
                outcomes.push((view.mount_point.clone(), outcome));
            }
        }
        if outcomes.len() == before {
            let hidden = views.into_iter().map(|view| view.mount_point.clone());
            outcomes.extend(hidden.map(|path| (path, Outcome::Hidden)));
            outcomes.sort_by(|(one, _), (other, _)| one.cmp(other));
            // What was stacked is told of once.
            outcomes.dedup();
            nesting::forget(proc)?;
            return Ok(outcomes);
        }
    }
}

/// Whether the mount shows a file or a directory of any lxcfs.
pub fn is_view(mount: &Mount) -> bool {
    mount.fs_type == FS_TYPE && mount.root != Path::new("/")
}

/// `None` for what cannot be seen, because something lies over it.
fn take(view: &Mount, table: &[Mount], proc: &Proc, hosts: &BTreeSet<u32>) -> Option<Outcome> {
    let spot = Spot::find(&view.mount_point).ok()?;
    if mount_id(proc, spot.top()) != Ok(view.id) {
        return None;
    }
    let below = table.iter().find(|mount| mount.id == view.parent);
    if let Some(refusal) = below.and_then(|mount| refusal(mount, hosts)) {
        return Some(refusal);
    }
    Some(match spot.unmount() {
        Ok(()) => Outcome::Detached,
        Err(Errno::EINVAL) => {
            Outcome::Failed("the mount is locked; restart the container without it".to_owned())
        }
        Err(errno) => Outcome::Failed(format!("it cannot be unmounted: {errno}")),
    })
}

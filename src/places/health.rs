//! Whether a file system still has a server, asked once for each.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Instant;

use nix::errno::Errno;
use nix::sys::statfs::fstatfs;

use super::inside::{PATIENCE, Pending};
use super::spot::{Spot, mount_id};
use super::survey::Place;
use crate::host::process::Proc;

/// Major and minor number of a superblock.
pub type Device = (u32, u32);

/// Namespaces from which a file system is asked: a way to it may be blocked in one.
const MOST_WAYS: usize = 3;
/// File systems that are asked at the same time: each can cost a few threads, and there is
/// one for each container where every container has its own lxcfs.
const MOST_AT_ONCE: usize = 128;

/// How a file system is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// It answers.
    Alive,
    /// Its server is gone for good.
    Dead,
    /// It does not answer; its server may be stopped.
    Silent,
    /// None of its mounts can be seen by anybody.
    Hidden,
}

/// A mount of the file system, as number and path in one namespace.
type Way = (u32, PathBuf);

/// Asks each of the file systems, many at the same time.
pub fn ask(
    places: &[Place],
    devices: &BTreeSet<Device>,
    proc: &Arc<Proc>,
) -> BTreeMap<Device, Health> {
    let devices: Vec<_> = devices.iter().copied().collect();
    let known = devices.chunks(MOST_AT_ONCE);
    known
        .flat_map(|some| ask_some(places, some, proc))
        .collect()
}

fn ask_some(places: &[Place], devices: &[Device], proc: &Arc<Proc>) -> BTreeMap<Device, Health> {
    let (sender, answers) = mpsc::channel();
    let ask_one = |device: &Device| {
        let ways = ways(places, *device).into_iter().take(MOST_WAYS);
        let started = ways.filter(|(place, ways)| {
            let (sender, proc) = (sender.clone(), Arc::clone(proc));
            start(place, ways.clone(), *device, sender, proc)
        });
        (*device, started.count())
    };
    let asked = devices.iter().map(ask_one).collect();
    collect(&asked, &answers)
}

/// The namespaces that have mounts of the file system, with these mounts.
fn ways(places: &[Place], device: Device) -> Vec<(&Place, Vec<Way>)> {
    let with_ways = places.iter().map(|place| {
        let own = place.views.iter().filter(|view| view.device == device);
        let mut ways: Vec<_> = own
            .map(|view| (view.id, view.mount_point.clone()))
            .collect();
        ways.sort_by(|one, other| one.1.cmp(&other.1));
        (place, ways)
    });
    with_ways.filter(|(_, ways)| !ways.is_empty()).collect()
}

/// Sends the file system's health, `None` if no way leads there.
fn start(
    place: &Place,
    ways: Vec<Way>,
    device: Device,
    sender: Sender<(Device, Option<Health>)>,
    proc: Arc<Proc>,
) -> bool {
    let ask = move || {
        let health = ways.iter().find_map(|(id, path)| {
            let spot = Spot::find(path).ok()?;
            (mount_id(&proc, spot.top()) == Ok(*id)).then(|| of_file(&spot))
        });
        // Nobody listens any more if it took too long.
        let _ = sender.send((device, health));
    };
    Pending::start(&place.namespace, ask).is_ok()
}

/// One request that needs no file to be open and that no cache answers.
fn of_file(spot: &Spot) -> Health {
    match fstatfs(spot.top()) {
        Err(Errno::ENOTCONN | Errno::ECONNABORTED) => Health::Dead,
        _ => Health::Alive,
    }
}

fn collect(
    asked: &BTreeMap<Device, usize>,
    answers: &Receiver<(Device, Option<Health>)>,
) -> BTreeMap<Device, Health> {
    let deadline = Instant::now() + PATIENCE;
    let mut missing = asked.clone();
    let mut known = BTreeMap::new();
    while known.len() < asked.len() {
        let rest = deadline.saturating_duration_since(Instant::now());
        let Ok((device, health)) = answers.recv_timeout(rest) else {
            break;
        };
        let missing = missing.entry(device).or_insert(1);
        *missing = missing.saturating_sub(1);
        if let Some(health) = health.or((*missing == 0).then_some(Health::Hidden)) {
            known.entry(device).or_insert(health);
        }
    }
    for device in asked.keys() {
        known.entry(*device).or_insert(Health::Silent);
    }
    known
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Device = (0, 1);
    const TWO: Device = (0, 2);

    fn collected(asked: &[(Device, usize)], answers: &[(Device, Option<Health>)]) -> Vec<Health> {
        let (sender, receiver) = mpsc::channel();
        answers
            .iter()
            .for_each(|answer| sender.send(*answer).unwrap());
        drop(sender);
        let asked = asked.iter().copied().collect();
        collect(&asked, &receiver).into_values().collect()
    }

    #[test]
    fn one_answer_is_enough() {
        let answers = [
            (TWO, Some(Health::Alive)),
            (ONE, None),
            (ONE, Some(Health::Dead)),
        ];
        assert_eq!(
            collected(&[(ONE, 3), (TWO, 1)], &answers),
            [Health::Dead, Health::Alive]
        );
    }

    #[test]
    fn who_does_not_answer_is_not_taken_for_dead() {
        assert_eq!(
            collected(&[(ONE, 1), (TWO, 2)], &[(TWO, None)]),
            [Health::Silent; 2]
        );
    }

    #[test]
    fn what_nobody_sees_is_hidden() {
        assert_eq!(
            collected(&[(ONE, 2)], &[(ONE, None), (ONE, None)]),
            [Health::Hidden]
        );
    }

    #[test]
    fn an_answer_that_comes_after_another_changes_nothing() {
        let answers = [(ONE, None), (ONE, Some(Health::Dead)), (TWO, None)];
        assert_eq!(
            collected(&[(ONE, 2), (TWO, 1)], &answers),
            [Health::Dead, Health::Hidden]
        );
    }
}

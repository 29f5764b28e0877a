//! Which rules of the operator nobody follows.

use std::collections::HashSet;
use std::time::Instant;

use super::look_up::Around;
use super::{Containers, Namespaces, Place};
use crate::container::policy::Rule;

impl Containers {
    /// The rules that are about no process that runs now, with their numbers in the
    /// configuration. `None` if that cannot be told until `deadline`.
    #[must_use]
    pub fn unmatched_rules(&self, deadline: Instant) -> Option<Vec<(usize, Rule)>> {
        let proc = &self.host.proc;
        let policy = self.policy.read().clone();
        let mut unmatched: Vec<_> = (1..).zip(&policy.rules).collect();
        let mut seen = HashSet::new();
        for pid in proc.pids().ok()? {
            if unmatched.is_empty() {
                break;
            }
            if Instant::now() >= deadline {
                return None;
            }
            let Ok(memberships) = proc.read(pid, "cgroup") else {
                continue;
            };
            let place = Place {
                memberships: memberships.into(),
                namespaces: Namespaces::of(pid, self.own, proc),
            };
            if seen.contains(&place) {
                continue;
            }
            let paths = self.around(pid, &place.namespaces).and_then(
                |Around {
                     pid: within,
                     cgroup,
                 }| {
                    let init = within.and_then(|namespace| namespace.init);
                    self.boundary(pid, &place, cgroup.as_deref(), init)
                },
            );
            if let Ok(paths) = paths {
                unmatched.retain(|(_, rule)| !rule.is_about(&paths));
                seen.insert(place);
            }
        }
        let owned = unmatched.into_iter();
        Some(owned.map(|(number, rule)| (number, rule.clone())).collect())
    }
}

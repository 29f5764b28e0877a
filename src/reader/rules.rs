//! Which rules of the operator nobody follows.

use std::collections::HashSet;
use std::time::Instant;

use super::look_up::Around;
use super::{Namespaces, ReaderKey, Readers};
use crate::container::policy::Rule;

impl Readers {
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
            let key = ReaderKey {
                memberships: memberships.into(),
                namespaces: Namespaces::of(pid, self.own, proc),
            };
            if seen.contains(&key) {
                continue;
            }
            let paths = self.around(pid, &key.namespaces).and_then(
                |Around {
                     pid: within,
                     cgroup,
                 }| {
                    let init = within.and_then(|namespace| namespace.init);
                    self.boundary(pid, &key, cgroup.as_deref(), init)
                },
            );
            if let Ok(paths) = paths {
                unmatched.retain(|(_, rule)| !rule.is_about(&paths));
                seen.insert(key);
            }
        }
        let owned = unmatched.into_iter();
        Some(owned.map(|(number, rule)| (number, rule.clone())).collect())
    }
}

//! Counters of a cgroup that `/proc/vmstat` has under the same names.

/// Their names. New ones go to the end: the journal knows them by their place.
pub const NAMES: [&str; 51] = [
    "pgfault",
    "pgmajfault",
    "pgrefill",
    "pgactivate",
    "pgdeactivate",
    "pglazyfree",
    "pglazyfreed",
    "pgscan_kswapd",
    "pgscan_direct",
    "pgscan_khugepaged",
    "pgscan_proactive",
    "pgscan_anon",
    "pgscan_file",
    "pgsteal_kswapd",
    "pgsteal_direct",
    "pgsteal_khugepaged",
    "pgsteal_proactive",
    "pgsteal_anon",
    "pgsteal_file",
    "pgdemote_kswapd",
    "pgdemote_direct",
    "pgdemote_khugepaged",
    "pgdemote_proactive",
    "pgpromote_success",
    "workingset_refault",
    "workingset_refault_anon",
    "workingset_refault_file",
    "workingset_activate",
    "workingset_activate_anon",
    "workingset_activate_file",
    "workingset_restore",
    "workingset_restore_anon",
    "workingset_restore_file",
    "workingset_nodereclaim",
    "pswpin",
    "pswpout",
    "swpin_zero",
    "swpout_zero",
    "zswpin",
    "zswpout",
    "zswpwb",
    "thp_fault_alloc",
    "thp_collapse_alloc",
    "thp_swpout",
    "thp_swpout_fallback",
    "numa_pages_migrated",
    "numa_pte_updates",
    "numa_hint_faults",
    "oom_kill",
    "pgpgin",
    "pgpgout",
];

/// What [`NAMES`] names, of one cgroup and everything below it, cumulative. `None` where
/// the kernel does not tell it by cgroup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VmEvents([Option<u64>; NAMES.len()]);

impl Default for VmEvents {
    fn default() -> Self {
        Self([None; NAMES.len()])
    }
}

impl VmEvents {
    /// What there is in the pairs of a `memory.stat`.
    pub(super) fn from_stat<'a>(pairs: impl Iterator<Item = (&'a str, u64)>) -> Self {
        let mut events = Self::default();
        let (mut scanned, mut stolen) = (None, None);
        for (key, value) in pairs {
            match key {
                // Of v1: pages that were charged and released, not I/O.
                "pgpgin" | "pgpgout" => {}
                "pgscan" => scanned = Some(value),
                "pgsteal" => stolen = Some(value),
                _ => events.set(key, value),
            }
        }
        // Kernels before 5.18 tell only the sums, which are mostly what processes had to
        // do themselves because of the limit.
        for (name, sum) in [("pgscan_direct", scanned), ("pgsteal_direct", stolen)] {
            if let (None, Some(sum)) = (events.get(name), sum) {
                events.set(name, sum);
            }
        }
        events
    }

    /// The counter of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<u64> {
        let place = NAMES.iter().position(|known| *known == name)?;
        self.0.get(place).copied().flatten()
    }

    /// Sets the counter of this name, if it is one of [`NAMES`].
    pub fn set(&mut self, name: &str, value: u64) {
        let mut counters = NAMES.iter().zip(&mut self.0);
        if let Some((_, counter)) = counters.find(|(known, _)| **known == name) {
            *counter = Some(value);
        }
    }

    /// All of them, in the order of [`NAMES`].
    pub fn iter(&self) -> impl Iterator<Item = Option<u64>> {
        self.0.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::keyed;

    #[test]
    fn charges_of_cgroup_v1_are_no_io() {
        let events = VmEvents::from_stat(keyed::flat("pgpgin 591\npgpgout 505\npgfault 982\n"));
        assert_eq!(
            ["pgpgin", "pgpgout", "pgfault"].map(|name| events.get(name)),
            [None, None, Some(982)]
        );
    }

    #[test]
    fn sums_of_reclaim_stand_in_on_old_kernels_only() {
        let old = VmEvents::from_stat(keyed::flat("pgscan 9\npgsteal 8\n"));
        let new = VmEvents::from_stat(keyed::flat(
            "pgscan 9\npgsteal 8\npgscan_direct 5\npgsteal_direct 0\n",
        ));
        let reclaim = ["pgscan_direct", "pgsteal_direct"];
        assert_eq!(reclaim.map(|name| old.get(name)), [Some(9), Some(8)]);
        assert_eq!(reclaim.map(|name| new.get(name)), [Some(5), Some(0)]);
    }

    #[test]
    fn keys_that_are_not_counters_are_dropped() {
        let events = VmEvents::from_stat(keyed::flat("anon 4096\nnew_key 4\n"));
        assert_eq!(events, VmEvents::default());
        assert_eq!(events.get("anon"), None);
    }
}

//! Counters of memory management, which go on whatever becomes of their sources.

use super::counter::increment;
use super::journal::stored::stored;
use crate::cgroup::account::{DeviceIo, Memory};
use crate::cgroup::vm_events::{NAMES, VmEvents};

/// The counters since the container's start. None ever decreases.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VmCounters {
    /// In the order of [`NAMES`].
    counters: Vec<Counter>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Counter {
    seen: u64,
    shown: u64,
}

stored!(Counter { seen, shown });

stored!(VmCounters { counters });

impl VmCounters {
    /// Goes on to the present counts. One that is not known keeps its value.
    pub fn advance(&mut self, now: &VmEvents) {
        self.counters.resize(NAMES.len(), Counter::default());
        for (counter, now) in self.counters.iter_mut().zip(now.iter()) {
            if let Some(now) = now {
                let increment = increment(&mut counter.seen, now);
                counter.shown = counter.shown.saturating_add(increment);
            }
        }
    }

    /// The counter of this name; 0 if there is none.
    #[must_use]
    pub fn get(&self, name: &str) -> u64 {
        let mut counters = NAMES.iter().zip(&self.counters);
        counters
            .find(|(known, _)| **known == name)
            .map_or(0, |(_, counter)| counter.shown)
    }
}

/// Adds what the container read from disks and wrote to them, if it is known of any. The
/// kernel counts KiB.
pub(super) fn add_io<'a>(events: &mut VmEvents, disks: impl Iterator<Item = &'a DeviceIo>) {
    let bytes = disks.map(|io| (io.read_bytes, io.written_bytes));
    let sum =
        bytes.reduce(|sum, disk| (sum.0.saturating_add(disk.0), sum.1.saturating_add(disk.1)));
    if let Some((read_bytes, written_bytes)) = sum {
        events.set("pgpgin", read_bytes / 1024);
        events.set("pgpgout", written_bytes / 1024);
    }
}

/// Adds the pages swapped in and out, which older kernels do not count by cgroup.
///
/// An anonymous page that is faulted in again was swapped, unless it was all zero or in
/// zswap. What is in swap was written there, and so was what came back.
pub(super) fn add_swapping(events: &mut VmEvents, memory: &Memory, page_kb: u64) {
    let count = |name| events.get(name).unwrap_or(0);
    let swapped_in = events.get("pswpin").unwrap_or_else(|| {
        count("workingset_refault_anon")
            .saturating_sub(count("swpin_zero"))
            .saturating_sub(count("zswpin"))
    });
    let swapped_out = events.get("pswpout").unwrap_or_else(|| {
        let in_swap_bytes = memory
            .swap
            .map_or(0, |swap| swap.usage_bytes)
            .saturating_sub(memory.stat.swapcached.unwrap_or(0))
            .saturating_sub(memory.stat.zswapped.unwrap_or(0));
        let page_bytes = page_kb.saturating_mul(1024).max(1);
        swapped_in.saturating_add(in_swap_bytes / page_bytes)
    });
    events.set("pswpin", swapped_in);
    events.set("pswpout", swapped_out);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::account::{MemoryStat, Swap};

    fn events(counts: &[(&str, u64)]) -> VmEvents {
        let mut events = VmEvents::default();
        counts
            .iter()
            .for_each(|(name, value)| events.set(name, *value));
        events
    }

    #[test]
    fn the_first_reading_covers_the_containers_life() {
        let mut counters = VmCounters::default();
        assert_eq!(counters.get("pgfault"), 0);
        counters.advance(&events(&[("pgfault", 9_284), ("oom_kill", 1)]));
        assert_eq!(
            (counters.get("pgfault"), counters.get("oom_kill")),
            (9_284, 1)
        );
    }

    #[test]
    fn nothing_decreases_when_a_source_fails_or_starts_anew() {
        let mut counters = VmCounters::default();
        let mut before = 0;
        for now in [
            Some(1000),
            None,
            Some(1010),
            Some(1005),
            Some(3),
            Some(20),
            None,
        ] {
            counters
                .advance(&now.map_or_else(VmEvents::default, |now| events(&[("pgfault", now)])));
            let shown = counters.get("pgfault");
            assert!(shown >= before, "{now:?}: {before} -> {shown}");
            before = shown;
        }
        assert_eq!(before, 1010 + 17);
    }

    #[test]
    fn io_of_all_disks_is_counted_in_kib() {
        let disk = DeviceIo {
            read_bytes: 1_536,
            written_bytes: 4_096,
            ..DeviceIo::default()
        };
        let mut events = VmEvents::default();
        add_io(&mut events, [disk, disk].iter());
        assert_eq!(
            (events.get("pgpgin"), events.get("pgpgout")),
            (Some(3), Some(8))
        );
    }

    #[test]
    fn io_that_is_not_told_for_a_while_is_not_counted_twice() {
        let disk = DeviceIo {
            read_bytes: 4096,
            ..DeviceIo::default()
        };
        let mut counters = VmCounters::default();
        for disks in [&[disk][..], &[], &[disk]] {
            let mut events = VmEvents::default();
            add_io(&mut events, disks.iter());
            counters.advance(&events);
        }
        assert_eq!(counters.get("pgpgin"), 4);
    }

    fn memory(swap_pages: u64, cached_pages: u64) -> Memory {
        Memory {
            swap: Some(Swap {
                usage_bytes: swap_pages * 4096,
                ..Swap::default()
            }),
            stat: MemoryStat {
                swapcached: Some(cached_pages * 4096),
                ..MemoryStat::default()
            },
            ..Memory::default()
        }
    }

    #[test]
    fn the_kernels_own_counts_of_swapping_come_first() {
        let mut events = events(&[
            ("pswpin", 7),
            ("pswpout", 8),
            ("workingset_refault_anon", 99),
        ]);
        add_swapping(&mut events, &memory(50, 0), 4);
        assert_eq!(
            (events.get("pswpin"), events.get("pswpout")),
            (Some(7), Some(8))
        );
    }

    #[test]
    fn older_kernels_tell_swapping_by_refaults_and_use() {
        // A container whose swap device counted 55 pages read and 5685 written.
        let mut events = events(&[("workingset_refault_anon", 1_079), ("swpin_zero", 1_024)]);
        add_swapping(&mut events, &memory(5_685, 62), 4);
        assert_eq!(
            (events.get("pswpin"), events.get("pswpout")),
            (Some(55), Some(5_678))
        );
    }

    #[test]
    fn without_swap_nothing_was_swapped() {
        let mut events = VmEvents::default();
        add_swapping(&mut events, &Memory::default(), 0);
        assert_eq!(
            (events.get("pswpin"), events.get("pswpout")),
            (Some(0), Some(0))
        );
    }
}

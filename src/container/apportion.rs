//! The container's share of figures that the kernel counts for the whole host only.
//!
//! A counter of the container grows with the host's, by as much as the container had
//! a part in what makes the host's grow: of context switches by CPU time, of a disk's
//! busy time by I/Os. All start from zero at host boot, so that the first increment
//! covers the container's whole life. An estimate; but it never decreases, it is
//! zero for a container that did nothing, and it never exceeds the host's.

use super::counter::increment;
use super::journal::stored::stored;
use crate::cgroup::account::DeviceIo;
use crate::parse::diskstats::{Column, Device};

#[cfg(test)]
mod tests;

/// Counters that grow with the same part of a whole.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Apportioned {
    part: u64,
    whole: u64,
    counters: Vec<Counter>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Counter {
    host: u64,
    own: u64,
    /// What is missing to the next unit, in 2^-64 units.
    fraction: u64,
}

stored!(Counter {
    host,
    own,
    fraction,
});

stored!(Apportioned {
    part,
    whole,
    counters,
});

impl Apportioned {
    /// Lets every counter grow by the increment of the host's, times the increment of
    /// `part` over that of `whole`, both in the same unit and at most 1.
    ///
    /// While the whole stands still, or when this reading of it was overtaken by a
    /// later one, the increments wait for the next call.
    pub fn advance(&mut self, part: u64, whole: u64, host: &[u64]) {
        self.counters.resize(host.len(), Counter::default());
        let is_new_count = whole < self.whole / 2;
        let whole = increment(&mut self.whole, whole);
        if whole == 0 && !is_new_count {
            return;
        }
        let part = increment(&mut self.part, part).min(whole);
        for (counter, host) in self.counters.iter_mut().zip(host) {
            counter.advance(part, whole, *host);
        }
    }

    /// The container's value of the counter at this place; 0 if there is none.
    #[must_use]
    pub fn get(&self, index: usize) -> u64 {
        self.counters.get(index).map_or(0, |counter| counter.own)
    }
}

impl Counter {
    /// Grows by `part / whole` of the host's increment; `part <= whole`. Both are 0 where
    /// the whole is a new count.
    fn advance(&mut self, part: u64, whole: u64, host: u64) {
        let increment = u128::from(increment(&mut self.host, host)) * u128::from(part);
        let whole = u128::from(whole.max(1));
        // The quotient is at most the host's increment, the remainder below `whole`.
        let units = u64::try_from(increment / whole).unwrap_or(u64::MAX);
        let fraction = u64::try_from(((increment % whole) << 64) / whole).unwrap_or(u64::MAX);
        let (fraction, carry) = self.fraction.overflowing_add(fraction);
        self.fraction = fraction;
        self.own = self.own.saturating_add(units).saturating_add(carry.into());
    }
}

/// Times of one disk in milliseconds; the names are those of iostats.rst.
#[allow(missing_docs, reason = "the names of iostats.rst")]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DiskMsec {
    pub read_msec: u64,
    pub write_msec: u64,
    pub discard_msec: u64,
    pub io_msec: u64,
    pub weighted_msec: u64,
}

/// The container's use of one disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Disk {
    /// What its cgroup accounts.
    pub io: DeviceIo,
    /// Its share of the disk's time.
    pub time: DiskMsec,
}

/// The container's share of the time that one disk spent, by number of I/Os.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DiskTime {
    reads: Apportioned,
    writes: Apportioned,
    discards: Apportioned,
    all: Apportioned,
    age_msec: u64,
    io_msec: u64,
    io_pending_msec: u64,
}

stored!(DiskTime {
    reads,
    writes,
    discards,
    all,
    age_msec,
    io_msec,
    io_pending_msec,
});

/// How much busy time may be shown later than it was apportioned.
const IO_CARRY_MSEC: u64 = 1_000;

impl DiskTime {
    /// Apportions what the host's disk did since the last call, the first one since
    /// host boot, to a container of the given age.
    pub fn advance(&mut self, age_msec: u64, host: &Device, own: &DeviceIo) {
        // Cgroups count I/Os before, devices count them after merging.
        let reads = requests(host, Column::Reads, Column::ReadMerges);
        let writes = requests(host, Column::Writes, Column::WriteMerges);
        let discards = requests(host, Column::Discards, Column::DiscardMerges);
        self.reads
            .advance(own.reads, reads, &[host.get(Column::ReadMsec)]);
        self.writes
            .advance(own.writes, writes, &[host.get(Column::WriteMsec)]);
        self.discards
            .advance(own.discards, discards, &[host.get(Column::DiscardMsec)]);
        let own_all = own.reads.saturating_add(own.writes);
        let host_all = reads.saturating_add(writes);
        let io_before_msec = self.all.get(0);
        self.all.advance(
            own_all.saturating_add(own.discards),
            host_all.saturating_add(discards),
            &[host.get(Column::IoMsec), host.get(Column::WeightedMsec)],
        );
        self.keep_busy(age_msec, self.all.get(0).saturating_sub(io_before_msec));
    }

    /// The times apportioned so far.
    #[must_use]
    pub fn msec(&self) -> DiskMsec {
        DiskMsec {
            read_msec: self.reads.get(0),
            write_msec: self.writes.get(0),
            discard_msec: self.discards.get(0),
            io_msec: self.io_msec,
            weighted_msec: self.all.get(1),
        }
    }

    /// A disk is not busy for longer than the time that passed.
    fn keep_busy(&mut self, age_msec: u64, increment_msec: u64) {
        let elapsed_msec = increment(&mut self.age_msec, age_msec);
        let pending_msec = self.io_pending_msec.saturating_add(increment_msec);
        let busy_msec = pending_msec.min(elapsed_msec);
        self.io_msec = self.io_msec.saturating_add(busy_msec);
        self.io_pending_msec = (pending_msec - busy_msec).min(IO_CARRY_MSEC);
    }
}

fn requests(host: &Device, completed: Column, merged: Column) -> u64 {
    host.get(completed).saturating_add(host.get(merged))
}

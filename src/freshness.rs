//! How long what was found out may be used again: the one idea behind all that is remembered on
//! the path of a read.
//!
//! A [`Moment`] is a time and the [`Epoch`] it lies in. A [`Cached`] value has the moment at which
//! it was found; a [`Validity`] says up to which age, and in which epoch, it is still fresh. All
//! validities stand in [`validity`], and docs/SEMANTICS.md prints them. What may go wrong with a
//! stale value, such as a reader that has moved, is not decided here but by whoever keeps it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::sys::clock::boottime_nsec;

pub mod validity;

/// A time in which nothing has been written to a cgroup file and no cgroup has been removed: no
/// thread was moved, and no limit changed.
#[derive(Debug, Clone, Copy, Default)]
pub struct Epoch(Option<u64>);

impl Epoch {
    /// One that cannot be told from others, as nothing watches the cgroup files.
    pub const UNKNOWN: Self = Self(None);

    /// The epoch with this number.
    #[must_use]
    pub const fn numbered(number: u64) -> Self {
        Self(Some(number))
    }

    /// Whether this is certainly the same epoch as the other one.
    #[must_use]
    pub fn is_same(self, other: Self) -> bool {
        self.0.is_some() && self.0 == other.0
    }

    /// This epoch or, if it is unknown, another one.
    #[must_use]
    pub fn or_else(self, other: impl FnOnce() -> Self) -> Self {
        Self(self.0.or_else(|| other().0))
    }
}

/// A point in time.
#[derive(Debug, Clone, Copy, Default)]
pub struct Moment {
    /// `CLOCK_BOOTTIME`.
    pub nsec: u64,
    /// The epoch that had begun by then.
    pub epoch: Epoch,
}

impl Moment {
    /// The time that has passed since an `earlier` moment.
    #[must_use]
    pub const fn nsec_since(self, earlier: Self) -> u64 {
        self.nsec.saturating_sub(earlier.nsec)
    }
}

/// Tells the time (`CLOCK_BOOTTIME`). Tests have one that they set.
#[derive(Debug, Clone, Default)]
pub struct Clock(Option<Arc<FakeTime>>);

/// What a clock shows in a test.
#[derive(Debug, Default)]
pub struct FakeTime {
    /// The time.
    pub nsec: AtomicU64,
    /// The number of the epoch.
    pub epoch: AtomicU64,
}

impl Clock {
    /// A clock that shows this time.
    #[must_use]
    pub const fn fake(time: Arc<FakeTime>) -> Self {
        Self(Some(time))
    }

    /// The present moment. A real clock does not know the epoch.
    #[must_use]
    pub fn now(&self) -> Moment {
        match &self.0 {
            Some(fake) => Moment {
                nsec: fake.nsec.load(Ordering::Relaxed),
                epoch: Epoch::numbered(fake.epoch.load(Ordering::Relaxed)),
            },
            None => Moment {
                nsec: boottime_nsec(),
                epoch: Epoch::UNKNOWN,
            },
        }
    }
}

/// Up to which age a value is fresh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    any_epoch_nsec: u64,
    same_epoch_nsec: u64,
}

impl Validity {
    /// So long, whatever is written to cgroup files.
    #[must_use]
    pub const fn for_nsec(nsec: u64) -> Self {
        Self {
            any_epoch_nsec: nsec,
            same_epoch_nsec: nsec,
        }
    }

    /// So long, and no longer than the epoch.
    #[must_use]
    pub const fn within_epoch(nsec: u64) -> Self {
        Self {
            any_epoch_nsec: 0,
            same_epoch_nsec: nsec,
        }
    }

    /// So long, and longer while the epoch lasts.
    #[must_use]
    pub const fn longer_within_epoch(nsec: u64, same_epoch_nsec: u64) -> Self {
        Self {
            any_epoch_nsec: nsec,
            same_epoch_nsec,
        }
    }
}

/// Two cells of a table: in the same epoch, and in another one.
impl fmt::Display for Validity {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_time(out, self.same_epoch_nsec)?;
        out.write_str(" | ")?;
        write_time(out, self.any_epoch_nsec)
    }
}

fn write_time(out: &mut fmt::Formatter<'_>, nsec: u64) -> fmt::Result {
    const MSEC: u64 = 1_000_000;
    match nsec {
        0 => out.write_str("not used"),
        u64::MAX => out.write_str("any age"),
        _ if nsec % (1000 * MSEC) == 0 => write!(out, "{} s", nsec / (1000 * MSEC)),
        _ => write!(out, "{} ms", nsec / MSEC),
    }
}

/// A value and the moment at which it was found.
#[derive(Debug, Clone, Copy)]
pub struct Cached<T> {
    value: T,
    found: Moment,
}

impl<T> Cached<T> {
    /// A value that was found at this moment: not later than it was read.
    pub const fn new(value: T, found: Moment) -> Self {
        Self { value, found }
    }

    /// The value, however old it is.
    pub const fn value(&self) -> &T {
        &self.value
    }

    /// When it was found.
    pub const fn found(&self) -> Moment {
        self.found
    }

    /// Whether the value may still be used.
    #[must_use]
    pub fn is_fresh(&self, now: Moment, validity: Validity) -> bool {
        let nsec = match self.found.epoch.is_same(now.epoch) {
            true => validity.same_epoch_nsec,
            false => validity.any_epoch_nsec,
        };
        now.nsec_since(self.found) < nsec
    }

    /// The value, if it may still be used.
    pub fn fresh(&self, now: Moment, validity: Validity) -> Option<&T> {
        self.is_fresh(now, validity).then_some(&self.value)
    }

    /// Notes that the value was found again.
    pub fn confirm(&mut self, now: Moment) {
        self.found = Moment {
            nsec: now.nsec,
            // If the same epoch is seen later, it has lasted in between.
            epoch: now.epoch.or_else(|| self.found.epoch),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(nsec: u64, epoch: Epoch) -> Moment {
        Moment { nsec, epoch }
    }

    const FIRST: Epoch = Epoch::numbered(1);
    const SECOND: Epoch = Epoch::numbered(2);

    #[test]
    fn a_value_is_fresh_until_its_time_is_over() {
        let value = Cached::new(7, at(100, FIRST));
        let validity = Validity::for_nsec(10);
        assert_eq!(value.fresh(at(109, SECOND), validity), Some(&7));
        assert_eq!(value.fresh(at(110, FIRST), validity), None);
    }

    #[test]
    fn a_value_of_an_epoch_ends_with_it() {
        let value = Cached::new(7, at(100, FIRST));
        let validity = Validity::within_epoch(10);
        assert!(value.is_fresh(at(109, FIRST), validity));
        assert!(!value.is_fresh(at(110, FIRST), validity));
        assert!(!value.is_fresh(at(101, SECOND), validity));
    }

    #[test]
    fn an_epoch_can_make_a_value_last_longer() {
        let value = Cached::new(7, at(100, FIRST));
        let validity = Validity::longer_within_epoch(10, 1000);
        assert!(value.is_fresh(at(1099, FIRST), validity));
        assert!(!value.is_fresh(at(1100, FIRST), validity));
        assert!(value.is_fresh(at(109, SECOND), validity));
        assert!(!value.is_fresh(at(110, SECOND), validity));
    }

    #[test]
    fn nothing_lasts_within_an_epoch_that_is_unknown() {
        let value = Cached::new(7, at(100, Epoch::UNKNOWN));
        let validity = Validity::within_epoch(10);
        assert!(!value.is_fresh(at(101, Epoch::UNKNOWN), validity));
        assert!(!value.is_fresh(at(101, FIRST), validity));
    }

    #[test]
    fn what_is_found_again_is_fresh_again() {
        let validity = Validity::within_epoch(10);
        let mut value = Cached::new(7, at(100, FIRST));
        value.confirm(at(150, Epoch::UNKNOWN));
        assert!(value.is_fresh(at(155, FIRST), validity), "the epoch lasted");
        value.confirm(at(160, SECOND));
        assert!(!value.is_fresh(at(165, FIRST), validity));
        assert!(value.is_fresh(at(165, SECOND), validity));
    }

    #[test]
    fn a_clock_can_be_set() {
        let time = Arc::new(FakeTime::default());
        let clock = Clock::fake(Arc::clone(&time));
        time.nsec.store(6, Ordering::Relaxed);
        time.epoch.store(2, Ordering::Relaxed);
        assert_eq!(clock.now().nsec, 6);
        assert!(clock.now().epoch.is_same(SECOND));
    }
}

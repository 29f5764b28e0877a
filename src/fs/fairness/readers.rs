//! Who reads: whether other containers do, and whether one of them has many readers at once.

use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

/// For how long several containers are taken to read, after two have done so in turn.
const SEVERAL_NSEC: u64 = 2_000_000_000;

/// For how long another container's reader is taken to be about to read again.
const LATELY_NSEC: u64 = 100_000_000;

/// A reader is one of a crowd if so many requests of its container came between two of its own: the
/// queue is as long. With fewer, whoever comes waits for a moment only, and to hold requests
/// back costs more than to answer them.
const CROWD: u64 = 16;

/// A container is a crowd if most of its latest requests are of such readers, about so many.
const LATEST: u32 = 16;
const WHOLE: u32 = LATEST * LATEST;

/// How long there is taken to be a crowd after the last request of one.
const CROWD_NSEC: u64 = 1_000_000_000;

/// Threads and containers of which something is known; where two have the same place, the latest.
const THREADS: usize = 1 << 15;
const CONTAINERS: usize = 1 << 8;
/// Spreads numbers over places.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// Which containers have read.
#[derive(Debug, Default)]
pub(super) struct Others {
    /// The container that a request came from last; 0 before the first.
    last: AtomicUsize,
    /// When that became another one; 0 before that.
    changed_nsec: AtomicU64,
}

impl Others {
    /// A reader of this container has asked.
    pub(super) fn note(&self, container: usize, now_nsec: u64) {
        if self.last.load(Ordering::Relaxed) == container {
            return;
        }
        if self.last.swap(container, Ordering::Relaxed) != 0 {
            self.changed_nsec.store(now_nsec, Ordering::Relaxed);
        }
    }

    /// Whether there is more than one container to be fair to.
    pub(super) fn are_there(&self, now_nsec: u64) -> bool {
        self.have_read_since(now_nsec.saturating_sub(SEVERAL_NSEC))
    }

    /// Whether another one is likely to read in the next moment.
    pub(super) fn have_read_lately(&self, now_nsec: u64) -> bool {
        self.have_read_since(now_nsec.saturating_sub(LATELY_NSEC))
    }

    fn have_read_since(&self, since_nsec: u64) -> bool {
        let changed_nsec = self.changed_nsec.load(Ordering::Relaxed);
        changed_nsec != 0 && changed_nsec > since_nsec
    }
}

/// How many readers of a container ask at the same time.
#[derive(Debug)]
pub(super) struct Crowds {
    containers: Box<[Pace]>,
    /// Of each thread its number and that of its last request within its container.
    threads: Box<[AtomicU64]>,
    until_nsec: AtomicU64,
}

#[derive(Debug, Default)]
struct Pace {
    /// The number of the next request.
    next: AtomicU32,
    /// Which part of [`WHOLE`] of the latest requests are by readers in a crowd.
    crowded: AtomicU32,
}

impl Default for Crowds {
    fn default() -> Self {
        Self {
            containers: (0..CONTAINERS).map(|_| Pace::default()).collect(),
            threads: (0..THREADS).map(|_| AtomicU64::new(0)).collect(),
            until_nsec: AtomicU64::new(0),
        }
    }
}

impl Crowds {
    /// Whether there has been a crowd lately.
    pub(super) fn are_there(&self, now_nsec: u64) -> bool {
        now_nsec < self.until_nsec.load(Ordering::Relaxed)
    }

    /// Notes a request, and returns whether its container is a crowd. Readers of whom nobody knows
    /// where they are count as one container.
    pub(super) fn note(&self, container: Option<usize>, reader: i32, now_nsec: u64) -> bool {
        let hash = (container.unwrap_or(0) as u64).wrapping_mul(SPREAD);
        let place = usize::try_from(hash >> (u64::BITS - CONTAINERS.ilog2())).unwrap_or(0);
        let thread = u64::from(reader.unsigned_abs());
        let last = usize::try_from(thread).map_or(0, |thread| thread % THREADS);
        let (Some(pace), Some(last)) = (self.containers.get(place), self.threads.get(last)) else {
            return false;
        };
        let number = u64::from(pace.next.fetch_add(1, Ordering::Relaxed));
        let before = last.swap(thread << u32::BITS | number, Ordering::Relaxed);
        let is_first = before >> u32::BITS != thread;
        let since = number.wrapping_sub(before) & u64::from(u32::MAX);
        let mut crowded = pace.crowded.load(Ordering::Relaxed);
        crowded = match is_first {
            // It says nothing, but where there are no others what was known fades.
            true => crowded.saturating_sub(1),
            false => crowded - crowded / LATEST + if since >= CROWD { LATEST } else { 0 },
        };
        pace.crowded.store(crowded, Ordering::Relaxed);
        let is_crowd = crowded > WHOLE / 2;
        if is_crowd {
            let until_nsec = now_nsec.saturating_add(CROWD_NSEC);
            self.until_nsec.store(until_nsec, Ordering::Relaxed);
        }
        is_crowd
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_NSEC: u64 = 1 << 40;

    #[test]
    fn one_container_alone_has_no_others() {
        let others = Others::default();
        (0..100).for_each(|_| others.note(64, NOW_NSEC));
        assert!(!others.are_there(NOW_NSEC));
    }

    #[test]
    fn others_are_there_for_longer_than_they_are_about_to_read() {
        let others = Others::default();
        others.note(64, NOW_NSEC);
        others.note(128, NOW_NSEC);
        assert!(others.are_there(NOW_NSEC) && others.have_read_lately(NOW_NSEC));
        let later_nsec = NOW_NSEC + 1_000_000_000;
        others.note(128, later_nsec);
        assert!(others.are_there(later_nsec) && !others.have_read_lately(later_nsec));
        assert!(!others.are_there(NOW_NSEC + 3_000_000_000));
    }

    /// Whether so many threads that ask in turn are a crowd.
    fn is_crowd(crowds: &Crowds, container: Option<usize>, threads: i32) -> bool {
        let mut note = |number| crowds.note(container, number % threads + 1, NOW_NSEC);
        (0..threads * 20).map(&mut note).last().unwrap()
    }

    #[test]
    fn few_threads_are_no_crowd_however_often_they_ask() {
        let crowds = Crowds::default();
        assert!(!is_crowd(&crowds, Some(64), 8));
        assert!(!crowds.are_there(NOW_NSEC));
        for threads in [20, 64, 6000] {
            assert!(is_crowd(&crowds, Some(64), threads), "{threads}");
            assert!(!is_crowd(&crowds, Some(64), 8));
        }
        assert!(crowds.are_there(NOW_NSEC) && !crowds.are_there(NOW_NSEC + CROWD_NSEC));
    }

    #[test]
    fn a_thread_beside_a_crowd_of_another_container_is_none() {
        let crowds = Crowds::default();
        for number in 0..1000 {
            let noisy = crowds.note(Some(64), number % 64, NOW_NSEC);
            assert!(noisy || number < 200);
            if number % 50 == 0 {
                assert!(!crowds.note(Some(128), 1000, NOW_NSEC));
            }
        }
    }

    #[test]
    fn processes_that_read_once_are_a_crowd_if_many_do_at_the_same_time() {
        for (at_once, expected) in [(8, false), (64, true)] {
            let crowds = Crowds::default();
            // Each asks three times, and is followed by another one.
            let mut note = |number: i32| {
                let (round, place) = (number / at_once / 3, number % at_once);
                crowds.note(None, round * at_once + place + 1, NOW_NSEC)
            };
            let last = (0..at_once * 60).map(&mut note).last();
            assert_eq!(last, Some(expected), "{at_once}");
        }
    }

    #[test]
    fn a_crowd_of_which_nobody_is_heard_any_more_is_forgotten() {
        let crowds = Crowds::default();
        assert!(is_crowd(&crowds, None, 64));
        let mut last = (10_000..11_000).map(|reader| crowds.note(None, reader, NOW_NSEC));
        assert!(last.any(|is_crowd| !is_crowd));
    }
}

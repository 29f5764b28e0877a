//! Who reads: whether other containers do, and whether one of them has many readers at once.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// For how long several containers are taken to read, after two have done so in turn.
const SEVERAL_NSEC: u64 = 2_000_000_000;

/// For how long another container's reader is taken to be about to read again.
const LATELY_NSEC: u64 = 100_000_000;

/// So many different threads among the latest requests are a crowd: the queue is as long.
/// With fewer, whoever comes waits for a moment only, and to hold requests back costs more
/// than to answer them.
const CROWD: usize = 16;
const LATEST: usize = 64;

/// Requests from before this time do not count: that few a second leave the queue empty.
const RECENT_NSEC: u64 = 2_000_000;

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

/// The latest requests.
#[derive(Debug)]
pub(super) struct Latest {
    requests: [Request; LATEST],
    next: AtomicUsize,
}

#[derive(Debug, Default)]
struct Request {
    /// 0 if it is not known.
    container: AtomicUsize,
    reader: AtomicU64,
    at_nsec: AtomicU64,
}

impl Default for Latest {
    fn default() -> Self {
        Self {
            requests: std::array::from_fn(|_| Request::default()),
            next: AtomicUsize::new(0),
        }
    }
}

impl Latest {
    pub(super) fn note(&self, container: Option<usize>, reader: i32, now_nsec: u64) {
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        let Some(slot) = self.requests.get(next % LATEST) else {
            return;
        };
        let reader = u64::from(reader.unsigned_abs());
        slot.container
            .store(container.unwrap_or(0), Ordering::Relaxed);
        slot.reader.store(reader, Ordering::Relaxed);
        slot.at_nsec.store(now_nsec, Ordering::Relaxed);
    }

    /// Whether many threads ask at the same time: of this container, or of any.
    pub(super) fn is_crowd(&self, container: Option<usize>, now_nsec: u64) -> bool {
        let since_nsec = now_nsec.saturating_sub(RECENT_NSEC);
        let mut readers = [0; CROWD];
        let mut count = 0;
        for request in &self.requests {
            let is_of = |one| request.container.load(Ordering::Relaxed) == one;
            if request.at_nsec.load(Ordering::Relaxed) <= since_nsec || !container.is_none_or(is_of)
            {
                continue;
            }
            let reader = request.reader.load(Ordering::Relaxed);
            if readers.iter().take(count).any(|known| *known == reader) {
                continue;
            }
            let Some(free) = readers.get_mut(count) else {
                break;
            };
            *free = reader;
            count += 1;
        }
        count == CROWD
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

    #[test]
    fn few_threads_are_no_crowd_however_often_they_ask() {
        let latest = Latest::default();
        (0..1000).for_each(|number| latest.note(Some(64), number % 8, NOW_NSEC));
        assert!(!latest.is_crowd(Some(64), NOW_NSEC));
        (0..64).for_each(|number| latest.note(Some(64), number % 16, NOW_NSEC));
        assert!(latest.is_crowd(Some(64), NOW_NSEC));
    }

    #[test]
    fn a_crowd_is_one_at_the_same_time_and_of_one_container() {
        let latest = Latest::default();
        (0..64).for_each(|number| latest.note(None, number, NOW_NSEC));
        assert!(latest.is_crowd(None, NOW_NSEC) && !latest.is_crowd(Some(64), NOW_NSEC));
        assert!(!latest.is_crowd(None, NOW_NSEC + RECENT_NSEC));
        for (container, number) in (1..=8).cycle().zip(0..64) {
            latest.note(Some(container * 64), number, NOW_NSEC);
        }
        assert!(latest.is_crowd(None, NOW_NSEC) && !latest.is_crowd(Some(64), NOW_NSEC));
    }
}

//! Containers take turns.
//!
//! The kernel has one queue for all requests of a connection. A container with many readers
//! keeps it full, and every other reader would wait behind all of them. So while others read too,
//! its requests are taken out of that queue as fast as they come and held back. A thread of its
//! own works on them, one of each such container in turn.
//!
//! That thread rests half of the time while another container's reader is likely to come in the
//! next moment, and never else. The CPU time is the daemon's, so no quota of the container counts
//! it; and a daemon that is never idle has no credit with the scheduler, which lets it wait for
//! milliseconds when that reader comes. Readers who wait for an answer use no CPU.
//!
//! Requests that take long would keep all serving threads busy. So those of a container that has
//! had one lately are held back too, for another thread of their own.
//!
//! Which container a thread is in is remembered from its last request, and so only a guess; the
//! order is all that depends on it. New threads, and processes that read once, are looked up
//! before they are held back or count as another container's.

mod held;
mod readers;

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;

use self::held::Held;
use self::readers::{Crowds, Others};
use crate::sys::clock::coarse_nsec;

/// How long the thread for crowds works before it rests for as long.
const STINT: Duration = Duration::from_micros(200);
/// It rests no longer, though a request was held up.
const LONGEST_REST: Duration = Duration::from_millis(10);

/// One of so many requests by readers that nobody knows is looked into.
const SAMPLES: usize = 64;

/// A request that takes longer is slow, and so is its container for a while. On a busy machine a
/// thread can be kept from its work for some tens of milliseconds.
const SLOW: Duration = Duration::from_millis(100);
const SLOW_FOR_NSEC: u64 = 1_000_000_000;
/// Slow containers that are known at the same time; of more the latest.
const MOST_SLOW: usize = 64;

/// Decides which requests, as `T`, are held back, and holds them.
#[derive(Debug)]
pub struct Fairness<T> {
    /// Whether there are threads that work on what is held.
    enabled: AtomicBool,
    unknown: AtomicUsize,
    others: Others,
    crowds: Crowds,
    slow: Slow,
    of_crowds: Held<T>,
    of_slow: Held<T>,
}

/// Why a request is held back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Many readers of its container ask at the same time.
    Crowd,
    /// Requests of its container take long.
    Slow,
}

/// Where a request waits for its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wait {
    cause: Cause,
    container: usize,
}

impl<T> Default for Fairness<T> {
    fn default() -> Self {
        Self {
            enabled: AtomicBool::new(false),
            unknown: AtomicUsize::new(0),
            others: Others::default(),
            crowds: Crowds::default(),
            slow: Slow::default(),
            of_crowds: Held::default(),
            of_slow: Held::default(),
        }
    }
}

impl<T> Fairness<T> {
    /// From now on there is a thread in [`Fairness::work_in_turn`] for each cause.
    pub fn enable(&self) {
        self.enabled.store(true, Ordering::Relaxed);
    }

    /// Where a request of the thread `reader` is to wait; `None` if it is to be answered at once.
    /// `container` is a number of the one in which the thread was seen the last time; for a thread
    /// that nobody knows `look_up` finds it.
    pub fn admit(
        &self,
        container: Option<usize>,
        reader: i32,
        look_up: impl Fn() -> Option<usize>,
    ) -> Option<Wait> {
        let now_nsec = coarse_nsec();
        let mut container = container.or_else(|| self.is_sample().then(&look_up)?);
        if let Some(container) = container {
            self.others.note(container, now_nsec);
        }
        let has_others = self.others.are_there(now_nsec);
        let has_slow = self.slow.is_any(now_nsec);
        if !(has_others || has_slow) || !self.enabled.load(Ordering::Relaxed) {
            return None;
        }
        let is_crowd = |container| has_others && self.crowds.note(container, reader, now_nsec);
        let mut is_of_crowd = is_crowd(container);
        if container.is_none() && (has_slow || self.crowds.are_there(now_nsec)) {
            container = look_up();
            is_of_crowd = container.is_some() && is_crowd(container);
        }
        let container = container?;
        let cause = if has_slow && self.slow.has(container, now_nsec) {
            Cause::Slow
        } else if is_of_crowd {
            Cause::Crowd
        } else {
            return None;
        };
        Some(Wait { cause, container })
    }

    /// Of readers that nobody knows some are looked up, since those that never read a file would
    /// stay unknown, however many they are.
    fn is_sample(&self) -> bool {
        let number = self.unknown.fetch_add(1, Ordering::Relaxed);
        number % SAMPLES == SAMPLES - 1
    }

    /// Whether a request is slow that has taken so long.
    pub fn is_slow(took: Duration) -> bool {
        took > SLOW
    }

    /// Notes that a request of this container has been worked on, and how long that has taken.
    pub fn note_work(&self, container: usize, took: Duration) {
        let now_nsec = coarse_nsec();
        self.others.note(container, now_nsec);
        if Self::is_slow(took) {
            self.slow.note(container, now_nsec);
        }
    }

    /// Holds a request back. Where too many are held the caller is given one to work on at once.
    pub fn hold(&self, wait: Wait, request: T) -> Option<T> {
        self.held(wait.cause).push(wait.container, request)
    }

    /// Works on what is held for this cause, for ever. `work` returns how long it took.
    pub fn work_in_turn(&self, cause: Cause, work: impl Fn(T) -> Duration) {
        loop {
            let worked = self.held(cause).work_for(STINT, &work);
            if self.others.have_read_lately(coarse_nsec()) {
                thread::sleep(worked.min(LONGEST_REST));
            }
        }
    }

    /// Works on all that is held. When it returns nobody else works on what was held by
    /// this thread.
    pub fn work_on_all(&self, work: impl Fn(T)) {
        self.of_crowds.work_on_all(&work);
        self.of_slow.work_on_all(&work);
    }

    fn held(&self, cause: Cause) -> &Held<T> {
        match cause {
            Cause::Crowd => &self.of_crowds,
            Cause::Slow => &self.of_slow,
        }
    }
}

/// The containers of which a request has taken long lately.
#[derive(Debug, Default)]
struct Slow {
    /// Until when there is one.
    until_nsec: AtomicU64,
    /// Until when each is one, the latest last.
    containers: Mutex<Vec<(usize, u64)>>,
}

impl Slow {
    fn is_any(&self, now_nsec: u64) -> bool {
        now_nsec < self.until_nsec.load(Ordering::Relaxed)
    }

    fn has(&self, container: usize, now_nsec: u64) -> bool {
        let containers = self.containers.lock();
        let mut known = containers.iter();
        known.any(|(one, until_nsec)| *one == container && now_nsec < *until_nsec)
    }

    fn note(&self, container: usize, now_nsec: u64) {
        let until_nsec = now_nsec.saturating_add(SLOW_FOR_NSEC);
        let mut containers = self.containers.lock();
        containers.retain(|(one, until_nsec)| *one != container && now_nsec < *until_nsec);
        if containers.len() >= MOST_SLOW {
            containers.remove(0);
        }
        containers.push((container, until_nsec));
        self.until_nsec.store(until_nsec, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::sync::{Arc, mpsc};
    use std::time::Instant;

    use super::*;

    const NOISY: usize = 64;
    const OTHER: usize = 128;

    fn enabled() -> Arc<Fairness<u32>> {
        let fairness = Arc::new(Fairness::default());
        fairness.enable();
        fairness
    }

    /// What becomes of the last request of a crowd of so many threads, whom the daemon knows or not,
    /// and how many were looked up.
    fn crowd(fairness: &Fairness<u32>, is_known: bool, threads: i32) -> (Option<Cause>, usize) {
        let looked_up = Cell::new(0);
        let look_up = || {
            looked_up.set(looked_up.get() + 1);
            Some(NOISY)
        };
        let seen = is_known.then_some(NOISY);
        let admit = |number| fairness.admit(seen, number % threads, look_up);
        let last = (0..threads * 10).map(admit).last().flatten();
        (last.map(|wait| wait.cause), looked_up.get())
    }

    fn unknown() -> Option<usize> {
        None
    }

    #[test]
    fn nobody_is_held_back_while_there_is_nobody_to_be_fair_to() {
        let fairness = enabled();
        assert_eq!(crowd(&fairness, true, 64), (None, 0));
        // Few are looked up, and are of the same one as it turns out.
        assert_eq!(crowd(&fairness, false, 64), (None, 640 / SAMPLES));
        fairness.note_work(NOISY, Duration::ZERO);
        assert_eq!(crowd(&fairness, true, 64), (None, 0));
    }

    #[test]
    fn beside_others_a_crowd_is_held_back_and_nobody_else() {
        let fairness = enabled();
        assert_eq!(fairness.admit(Some(OTHER), 1, unknown), None);
        assert_eq!(crowd(&fairness, true, 8), (None, 0));
        assert_eq!(crowd(&fairness, true, 64), (Some(Cause::Crowd), 0));
        assert_eq!(fairness.admit(Some(OTHER), 1, unknown), None);
        assert_eq!(fairness.admit(None, 1000, || Some(OTHER)), None);
    }

    #[test]
    fn processes_that_read_once_are_held_back_with_those_of_their_container() {
        let fairness = enabled();
        fairness.note_work(OTHER, Duration::ZERO);
        fairness.note_work(NOISY, Duration::ZERO);
        let (cause, looked_up) = crowd(&fairness, false, 64);
        assert_eq!(cause, Some(Cause::Crowd));
        assert!(looked_up > 0);
        assert_eq!(fairness.admit(None, 1000, unknown), None);
    }

    #[test]
    fn a_crowd_that_never_reads_a_file_is_held_back_beside_one_that_does() {
        let fairness = enabled();
        assert_eq!(fairness.admit(Some(OTHER), 1000, unknown), None);
        let (cause, _) = crowd(&fairness, false, 64);
        assert_eq!(cause, Some(Cause::Crowd));
        assert_eq!(fairness.admit(Some(OTHER), 1000, unknown), None);
    }

    #[test]
    fn a_slow_container_waits_for_a_thread_of_its_own_even_if_it_is_alone() {
        let fairness = enabled();
        fairness.note_work(NOISY, SLOW);
        assert_eq!(fairness.admit(Some(NOISY), 1, unknown), None);
        fairness.note_work(NOISY, SLOW * 2);
        for wait in [
            fairness.admit(Some(NOISY), 1, unknown),
            fairness.admit(None, 2, || Some(NOISY)),
        ] {
            assert_eq!(wait.map(|wait| wait.cause), Some(Cause::Slow));
        }
        assert_eq!(fairness.admit(Some(OTHER), 3, unknown), None);
        assert_eq!(fairness.admit(None, 4, || Some(OTHER)), None);
    }

    #[test]
    fn slow_containers_are_forgotten_in_the_end_and_if_there_are_many() {
        let slow = Slow::default();
        for container in 1..=MOST_SLOW + 1 {
            slow.note(container, 0);
        }
        assert!(!slow.has(1, 0) && slow.has(2, 0) && slow.has(MOST_SLOW + 1, 0));
        assert_eq!(slow.containers.lock().len(), MOST_SLOW);
        assert!(!slow.has(2, SLOW_FOR_NSEC) && !slow.is_any(SLOW_FOR_NSEC));
        slow.note(7, SLOW_FOR_NSEC);
        assert_eq!(slow.containers.lock().len(), 1);
    }

    #[test]
    fn nothing_is_held_while_nobody_would_work_on_it() {
        let fairness = Fairness::<u32>::default();
        fairness.admit(Some(OTHER), 1, unknown);
        assert_eq!(crowd(&fairness, true, 64), (None, 0));
    }

    #[test]
    fn the_thread_rests_half_of_the_time_if_another_is_about_to_read() {
        const REQUESTS: u32 = 20;
        let [calm, beside_others] = [false, true].map(|beside_others| {
            let fairness = enabled();
            if beside_others {
                fairness.note_work(OTHER, Duration::ZERO);
                fairness.note_work(NOISY, Duration::ZERO);
            }
            let (sender, answered) = mpsc::channel();
            let wait = Wait {
                cause: Cause::Crowd,
                container: NOISY,
            };
            (0..REQUESTS).for_each(|request| assert_eq!(fairness.hold(wait, request), None));
            let turns = Arc::clone(&fairness);
            let start = Instant::now();
            std::thread::spawn(move || {
                turns.work_in_turn(Cause::Crowd, |request| {
                    let _ = sender.send(request);
                    LONGEST_REST
                });
            });
            let answers: Vec<_> = answered.iter().take(REQUESTS as usize).collect();
            assert_eq!(answers, (0..REQUESTS).collect::<Vec<_>>());
            start.elapsed()
        });
        // Another one is taken to be about to read for 100 ms.
        assert!(beside_others >= LONGEST_REST * 8, "{beside_others:?}");
        assert!(calm < LONGEST_REST * 8, "{calm:?}");
    }
}

//! Containers take turns.
//!
//! The kernel has one queue for all requests of a connection. A container with many readers
//! keeps it full, and every other reader would wait behind all of them. So while others read too,
//! its requests are taken out of that queue as fast as they come and held back. A thread of its
//! own works on them, one of each such container in turn.
//!
//! That thread rests half of the time. The CPU time is the daemon's, so no quota of the container
//! counts it; and a daemon that is never idle has no credit with the scheduler, which lets it wait
//! for milliseconds when another reader comes. Readers who wait for an answer use no CPU.
//!
//! Which container a request is of is only guessed here, so the order is all that depends on
//! it. Readers that nobody knows yet share the turn of one container, and nobody rests for
//! them: each may be of another one, and read just this once.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::host::boottime_nsec;

/// For how long several containers are taken to read, after two have done so in turn.
const SEVERAL_NSEC: u64 = 1_000_000_000;

/// A container keeps the queue full if so many of the latest requests are by threads of it beside
/// the one that asks. Holding a request back costs more than answering it at once, so with fewer
/// nobody is held back.
const CROWD: usize = LATEST / 4;
const LATEST: usize = 64;

/// How long the thread for what is held works before it rests for as long.
const STINT: Duration = Duration::from_micros(200);
/// It rests no longer, though a request was held up.
const LONGEST_REST: Duration = Duration::from_millis(10);

/// Requests that are held at the most.
const MOST_HELD: usize = 1024;

/// A container, or all readers that are not known yet.
type Container = Option<usize>;

/// Requests that are held back, as `T`.
#[derive(Debug)]
pub struct Fairness<T> {
    latest: Latest,
    /// The known container that a request came from last; 0 before the first.
    last: AtomicUsize,
    /// Until when several containers are taken to read.
    several_until_nsec: AtomicU64,
    /// Whether there is a thread that works on what is held.
    enabled: AtomicBool,
    held: Mutex<Held<T>>,
    /// There is something to work on.
    comes: Condvar,
    /// Taken by that thread while it works.
    at_work: Mutex<()>,
}

#[derive(Debug)]
struct Held<T> {
    by_container: HashMap<Container, VecDeque<T>>,
    /// The containers that have something here, the next one first.
    turns: VecDeque<Container>,
    count: usize,
}

impl<T> Default for Fairness<T> {
    fn default() -> Self {
        Self {
            latest: Latest::default(),
            last: AtomicUsize::new(0),
            several_until_nsec: AtomicU64::new(0),
            enabled: AtomicBool::new(false),
            held: Mutex::new(Held {
                by_container: HashMap::new(),
                turns: VecDeque::new(),
                count: 0,
            }),
            comes: Condvar::new(),
            at_work: Mutex::default(),
        }
    }
}

/// The latest requests: of each a number that stands for container and thread.
#[derive(Debug)]
struct Latest {
    requests: [AtomicU64; LATEST],
    next: AtomicUsize,
}

impl Default for Latest {
    fn default() -> Self {
        Self {
            requests: std::array::from_fn(|_| AtomicU64::new(u64::MAX)),
            next: AtomicUsize::new(0),
        }
    }
}

impl Latest {
    const THREAD_BITS: u32 = 24;
    /// Nearly always one of so many is of a container that keeps the queue full.
    const FEW: usize = 8;

    /// Notes a request, and gives how many before it were by other threads of its container: 0
    /// if none of the last few was.
    fn others_beside(&self, container: Container, reader: i32) -> usize {
        let container = (container.unwrap_or(0) as u64) << Self::THREAD_BITS;
        let thread = u64::from(reader.unsigned_abs()) & ((1 << Self::THREAD_BITS) - 1);
        let request = container | thread;
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        let is_other = |slot: &&AtomicU64| {
            let other = slot.load(Ordering::Relaxed);
            other != request && other >> Self::THREAD_BITS == request >> Self::THREAD_BITS
        };
        let is_one_of_few = (1..=Self::FEW)
            .filter_map(|back| self.requests.get(next.wrapping_sub(back) % LATEST))
            .any(|slot| is_other(&slot));
        let others = match is_one_of_few {
            true => self.requests.iter().filter(is_other).count(),
            false => 0,
        };
        if let Some(slot) = self.requests.get(next % LATEST) {
            slot.store(request, Ordering::Relaxed);
        }
        others
    }
}

impl<T> Held<T> {
    fn push(&mut self, container: Container, request: T) {
        let own = self.by_container.entry(container).or_default();
        if own.is_empty() {
            self.turns.push_back(container);
        }
        own.push_back(request);
        self.count += 1;
    }

    fn pop(&mut self) -> Option<(Container, T)> {
        let container = self.turns.pop_front()?;
        let own = self.by_container.get_mut(&container)?;
        let request = own.pop_front()?;
        self.count -= 1;
        if own.is_empty() {
            self.by_container.remove(&container);
        } else {
            self.turns.push_back(container);
        }
        Some((container, request))
    }
}

impl<T> Fairness<T> {
    /// From now on somebody works on what is held.
    pub fn enable(&self) {
        self.enabled.store(true, Ordering::Relaxed);
    }

    /// Whether a request of the thread `reader` of this container is to be held back: if many
    /// of its threads read, and others too.
    pub fn is_to_hold(&self, container: Container, reader: i32) -> bool {
        let now_nsec = boottime_nsec();
        let is_crowd = self.latest.others_beside(container, reader) >= CROWD;
        if let Some(container) = container {
            if self.last.load(Ordering::Relaxed) != container {
                self.last.store(container, Ordering::Relaxed);
                let until_nsec = now_nsec.saturating_add(SEVERAL_NSEC);
                self.several_until_nsec.store(until_nsec, Ordering::Relaxed);
            }
        }
        is_crowd
            && now_nsec < self.several_until_nsec.load(Ordering::Relaxed)
            && self.enabled.load(Ordering::Relaxed)
    }

    /// Holds a request back. Gives it back if there is no room.
    pub fn hold(&self, container: Container, request: T) -> Option<T> {
        let mut held = self.held.lock();
        if held.count >= MOST_HELD {
            return Some(request);
        }
        if held.count == 0 {
            self.comes.notify_one();
        }
        held.push(container, request);
        None
    }

    /// Works on what is held, for ever.
    pub fn work_in_turn(&self, work: impl Fn(T)) {
        loop {
            let mut worked = Duration::ZERO;
            let at_work = self.at_work.lock();
            while worked < STINT {
                let Some((container, request)) = self.pop() else {
                    break;
                };
                let start = Instant::now();
                work(request);
                if container.is_some() {
                    worked += start.elapsed();
                }
            }
            drop(at_work);
            thread::sleep(worked.min(LONGEST_REST));
            let mut held = self.held.lock();
            while held.count == 0 {
                self.comes.wait(&mut held);
            }
        }
    }

    /// Works on all that is held. When it returns nobody else works on what was held by
    /// this thread.
    pub fn work_on_all(&self, work: impl Fn(T)) {
        while let Some((_, request)) = self.pop() {
            work(request);
        }
        drop(self.at_work.lock());
    }

    fn pop(&self) -> Option<(Container, T)> {
        self.held.lock().pop()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, mpsc};

    use super::*;

    const NOISY: Container = Some(64);
    const OTHER: Container = Some(128);

    fn enabled() -> Arc<Fairness<u32>> {
        let fairness = Arc::new(Fairness::default());
        fairness.enable();
        fairness
    }

    fn all(fairness: &Fairness<u32>) -> Vec<u32> {
        std::iter::from_fn(|| fairness.pop())
            .map(|(_, request)| request)
            .collect()
    }

    /// Whether the last one of so many requests is to be held back, each by another thread.
    fn holds(fairness: &Fairness<u32>, container: Container, requests: i32) -> bool {
        (1..=requests).fold(false, |_, reader| fairness.is_to_hold(container, reader))
    }

    #[test]
    fn one_container_alone_is_not_held_back() {
        let fairness = enabled();
        fairness.is_to_hold(NOISY, 1);
        fairness.several_until_nsec.store(0, Ordering::Relaxed);
        assert!(!holds(&fairness, NOISY, 100));
    }

    #[test]
    fn beside_others_it_is_held_back_if_many_of_its_threads_read() {
        let fairness = enabled();
        assert!(!fairness.is_to_hold(OTHER, 1));
        assert!(!holds(&fairness, NOISY, 8));
        assert!(holds(&fairness, NOISY, 64));
        assert!(!fairness.is_to_hold(OTHER, 1));
        assert!(fairness.is_to_hold(NOISY, 1));
        fairness.several_until_nsec.store(0, Ordering::Relaxed);
        assert!(!fairness.is_to_hold(NOISY, 1));
    }

    #[test]
    fn one_thread_is_never_held_back_nor_is_one_of_a_thousand_containers() {
        let fairness = enabled();
        fairness.is_to_hold(OTHER, 1);
        assert!((0..100).all(|_| !fairness.is_to_hold(NOISY, 2)));
        assert!((100..1000).all(|container| !fairness.is_to_hold(Some(container), 3)));
    }

    #[test]
    fn nothing_is_held_while_nobody_would_work_on_it() {
        let fairness = Fairness::<u32>::default();
        assert!(!fairness.is_to_hold(OTHER, 1));
        assert!(!holds(&fairness, NOISY, 64));
    }

    #[test]
    fn containers_take_turns_and_each_keeps_its_order() {
        let fairness = enabled();
        for (container, request) in [(NOISY, 1), (NOISY, 2), (NOISY, 3), (OTHER, 10), (None, 20)] {
            assert_eq!(fairness.hold(container, request), None);
        }
        assert_eq!(fairness.pop(), Some((NOISY, 1)));
        // One that comes now does not wait behind what the noisy one has left.
        assert_eq!(fairness.hold(OTHER, 11), None);
        assert_eq!(all(&fairness), [10, 20, 2, 11, 3]);
        assert!(fairness.held.lock().by_container.is_empty());
    }

    #[test]
    fn no_more_is_held_than_there_is_room_for() {
        let fairness = enabled();
        for request in 0..MOST_HELD {
            assert_eq!(fairness.hold(NOISY, 1), None, "at {request}");
        }
        assert_eq!(fairness.hold(NOISY, 2), Some(2));
        assert_eq!(fairness.hold(OTHER, 2), Some(2));
        fairness.pop();
        assert_eq!(fairness.hold(OTHER, 2), None);
    }

    #[test]
    fn what_is_held_is_answered_and_the_thread_comes_back_for_more() {
        let fairness = enabled();
        let (sender, answered) = mpsc::channel();
        let turns = Arc::clone(&fairness);
        std::thread::spawn(move || turns.work_in_turn(|request| sender.send(request).unwrap()));
        for round in [0, 10] {
            for request in round..round + 5 {
                fairness.hold(NOISY, request);
            }
            for request in round..round + 5 {
                let limit = Duration::from_secs(20);
                assert_eq!(answered.recv_timeout(limit), Ok(request));
            }
            // Until it has gone to sleep.
            std::thread::sleep(STINT * 50);
        }
    }

    #[test]
    fn the_thread_rests_half_of_the_time() {
        let fairness = enabled();
        let (sender, answered) = mpsc::channel();
        let turns = Arc::clone(&fairness);
        for request in 0..100 {
            fairness.hold(NOISY, request);
        }
        let start = Instant::now();
        std::thread::spawn(move || {
            turns.work_in_turn(|_| {
                std::thread::sleep(STINT);
                let _ = sender.send(());
            });
        });
        assert_eq!(answered.iter().take(100).count(), 100);
        // There is no rest after the last one.
        assert!(start.elapsed() >= STINT * 199);
    }

    #[test]
    fn a_thread_that_comes_to_rest_leaves_nothing_behind() {
        let fairness = enabled();
        for request in 0..5 {
            fairness.hold(NOISY, request);
        }
        let (started, is_at_work) = mpsc::channel();
        let (finish, may_finish) = mpsc::channel::<()>();
        let turns = Arc::clone(&fairness);
        std::thread::spawn(move || {
            turns.work_in_turn(|request| {
                started.send(request).unwrap();
                let _ = may_finish.recv();
            });
        });
        assert_eq!(is_at_work.recv(), Ok(0));
        let rest = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            let end = scope.spawn(|| fairness.work_on_all(|request| rest.lock().push(request)));
            while fairness.held.lock().count > 0 {
                std::thread::yield_now();
            }
            // What the other thread works on is waited for.
            std::thread::sleep(STINT * 20);
            assert!(!end.is_finished());
            finish.send(()).unwrap();
        });
        assert_eq!(rest.into_inner(), [1, 2, 3, 4]);
    }
}

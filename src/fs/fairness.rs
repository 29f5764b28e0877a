//! Containers take turns.
//!
//! The kernel has one queue for all requests of a connection. A container with many readers
//! keeps it full, and every other reader would wait behind all of them. So while others read too,
//! its requests are taken out of that queue as fast as they come and held back; only when the
//! queue is empty are they worked on, one of each such container in turn.
//!
//! Which container a request is of is only guessed here, so the order is all that depends on
//! it. Readers that nobody knows yet share the turn of one container.
//!
//! A thread that has seen a request in the kernel's queue may not get it: another one does,
//! or the reader is killed. It sleeps then, though something is held. One thread more
//! answers what is held for too long.

use std::collections::{HashMap, VecDeque};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use parking_lot::{Condvar, Mutex};

use crate::host::boottime_nsec;

/// For how long several containers are taken to read, after two have done so in turn.
const SEVERAL_NSEC: u64 = 1_000_000_000;

/// How long a request waits for its turn before the thread for late ones takes it, and how
/// often that one looks.
const LATE: Duration = Duration::from_millis(5);
const LATE_NSEC: u64 = 5_000_000;

/// A container keeps the queue full if so many of the latest requests are by threads of it beside
/// the one that asks. Holding a request back costs more than answering it at once, so with fewer
/// nobody is held back.
const CROWD: usize = LATEST / 4;
const LATEST: usize = 64;

/// Requests that are held at the most.
const MOST_HELD: usize = 1024;

/// A container, or all readers that are not known yet.
type Container = Option<usize>;

/// Requests that are held back, as `T`.
#[derive(Debug)]
pub struct Fairness<T> {
    connection: OnceLock<Arc<OwnedFd>>,
    latest: Latest,
    /// The known container that a request came from last; 0 before the first.
    last: AtomicUsize,
    /// Until when several containers are taken to read.
    several_until_nsec: AtomicU64,
    held: Mutex<Held<T>>,
    /// How many are held, for those without the lock.
    count: AtomicUsize,
    /// Somebody sleeps though something is held.
    left_alone: Condvar,
    /// Taken by the thread for late requests while it works on one.
    late_at_work: Mutex<()>,
}

#[derive(Debug)]
struct Held<T> {
    by_container: HashMap<Container, VecDeque<Waiting<T>>>,
    /// The containers that have something here, the next one first.
    turns: VecDeque<Container>,
    /// Whether the thread for late requests looks.
    is_watched: bool,
}

#[derive(Debug)]
struct Waiting<T> {
    since_nsec: u64,
    request: T,
}

impl<T> Default for Fairness<T> {
    fn default() -> Self {
        Self {
            connection: OnceLock::new(),
            latest: Latest::default(),
            last: AtomicUsize::new(0),
            several_until_nsec: AtomicU64::new(0),
            held: Mutex::new(Held {
                by_container: HashMap::new(),
                turns: VecDeque::new(),
                is_watched: false,
            }),
            count: AtomicUsize::new(0),
            left_alone: Condvar::new(),
            late_at_work: Mutex::default(),
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
    fn push(&mut self, container: Container, waiting: Waiting<T>) {
        let own = self.by_container.entry(container).or_default();
        if own.is_empty() {
            self.turns.push_back(container);
        }
        own.push_back(waiting);
    }

    fn pop(&mut self) -> Option<Waiting<T>> {
        let container = self.turns.pop_front()?;
        let own = self.by_container.get_mut(&container)?;
        let waiting = own.pop_front();
        if own.is_empty() {
            self.by_container.remove(&container);
        } else {
            self.turns.push_back(container);
        }
        waiting
    }

    /// Since when the next one waits.
    fn next_since_nsec(&self) -> Option<u64> {
        let own = self.by_container.get(self.turns.front()?)?;
        Some(own.front()?.since_nsec)
    }
}

impl<T> Fairness<T> {
    /// From now on it can be seen whether requests wait.
    pub fn connect(&self, connection: Arc<OwnedFd>) {
        let _ = self.connection.set(connection);
    }

    /// Whether a request of the thread `reader` of this container is to be held back: if many
    /// of its threads read, and others too.
    pub fn is_to_hold(&self, container: Container, reader: i32) -> bool {
        let now_nsec = boottime_nsec();
        let is_crowd = self.latest.others_beside(container, reader) >= CROWD;
        if let Some(container) = container
            && self.last.load(Ordering::Relaxed) != container
        {
            self.last.store(container, Ordering::Relaxed);
            let until_nsec = now_nsec.saturating_add(SEVERAL_NSEC);
            self.several_until_nsec.store(until_nsec, Ordering::Relaxed);
        }
        is_crowd
            && now_nsec < self.several_until_nsec.load(Ordering::Relaxed)
            && self.count.load(Ordering::Relaxed) < MOST_HELD
            && self.connection.get().is_some()
    }

    /// Holds a request back. The thread that does so asks for the [next](Self::next) one
    /// before it reads from the connection again.
    pub fn hold(&self, container: Container, request: T) {
        let since_nsec = boottime_nsec();
        let waiting = Waiting {
            since_nsec,
            request,
        };
        let mut held = self.held.lock();
        held.push(container, waiting);
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    /// The request whose turn it is. None if another one is to be read from the connection
    /// before.
    pub fn next(&self) -> Option<T> {
        if self.count.load(Ordering::Relaxed) == 0 {
            return None;
        }
        if self.waits_in_kernel() {
            self.leave_alone();
            return None;
        }
        self.pop()
    }

    /// Works on all that is held. When it returns nobody else works on what was held by
    /// this thread.
    pub fn end(&self, work: impl Fn(T)) {
        while let Some(request) = self.pop() {
            work(request);
        }
        drop(self.late_at_work.lock());
    }

    /// Works on requests that wait for too long, for ever.
    pub fn work_on_late(&self, work: impl Fn(T)) {
        loop {
            let at_work = self.late_at_work.lock();
            while let Some(request) = self.pop_late() {
                work(request);
            }
            drop(at_work);
            self.wait_for_late();
        }
    }

    fn pop(&self) -> Option<T> {
        let waiting = self.held.lock().pop()?;
        self.count.fetch_sub(1, Ordering::Relaxed);
        Some(waiting.request)
    }

    fn pop_late(&self) -> Option<T> {
        let mut held = self.held.lock();
        let waits_nsec = boottime_nsec().saturating_sub(held.next_since_nsec()?);
        let waiting = (waits_nsec >= LATE_NSEC).then(|| held.pop()).flatten()?;
        self.count.fetch_sub(1, Ordering::Relaxed);
        Some(waiting.request)
    }

    fn wait_for_late(&self) {
        let mut held = self.held.lock();
        held.is_watched = !held.turns.is_empty();
        while !held.is_watched {
            self.left_alone.wait(&mut held);
        }
        drop(held);
        thread::sleep(LATE);
    }

    /// Has the thread for late requests look after what is held.
    fn leave_alone(&self) {
        let mut held = self.held.lock();
        if !held.is_watched {
            held.is_watched = true;
            self.left_alone.notify_one();
        }
    }

    fn waits_in_kernel(&self) -> bool {
        self.connection.get().is_some_and(|connection| {
            let mut ready = [PollFd::new(connection.as_fd(), PollFlags::POLLIN)];
            poll(&mut ready, PollTimeout::ZERO) == Ok(1)
                && ready
                    .first()
                    .and_then(PollFd::revents)
                    .is_some_and(|events| events.contains(PollFlags::POLLIN))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use nix::unistd::{pipe, read, write};

    use super::*;

    const NOISY: Container = Some(64);
    const OTHER: Container = Some(128);

    /// A pipe stands for the connection: what lies in it waits in the kernel's queue.
    fn connected() -> (Arc<Fairness<u32>>, Arc<OwnedFd>, OwnedFd) {
        let (connection, kernel) = pipe().unwrap();
        let connection = Arc::new(connection);
        let fairness = Arc::new(Fairness::default());
        fairness.connect(Arc::clone(&connection));
        (fairness, connection, kernel)
    }

    fn all(fairness: &Fairness<u32>) -> Vec<u32> {
        std::iter::from_fn(|| fairness.next()).collect()
    }

    /// Whether the last one of so many requests is to be held back, each by another thread.
    fn holds(fairness: &Fairness<u32>, container: Container, requests: i32) -> bool {
        (1..=requests).fold(false, |_, reader| fairness.is_to_hold(container, reader))
    }

    #[test]
    fn one_container_alone_is_not_held_back() {
        let (fairness, ..) = connected();
        fairness.is_to_hold(NOISY, 1);
        fairness.several_until_nsec.store(0, Ordering::Relaxed);
        assert!(!holds(&fairness, NOISY, 100));
    }

    #[test]
    fn beside_others_it_is_held_back_if_many_of_its_threads_read() {
        let (fairness, ..) = connected();
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
        let (fairness, ..) = connected();
        fairness.is_to_hold(OTHER, 1);
        assert!((0..100).all(|_| !fairness.is_to_hold(NOISY, 2)));
        assert!((100..1000).all(|container| !fairness.is_to_hold(Some(container), 3)));
    }

    #[test]
    fn nothing_is_held_before_there_is_a_connection() {
        let fairness = Fairness::<u32>::default();
        assert!(!fairness.is_to_hold(OTHER, 1));
        assert!(!holds(&fairness, NOISY, 64));
    }

    #[test]
    fn containers_take_turns_and_each_keeps_its_order() {
        let (fairness, ..) = connected();
        for (container, request) in [(NOISY, 1), (NOISY, 2), (NOISY, 3), (OTHER, 10), (None, 20)] {
            fairness.hold(container, request);
        }
        assert_eq!(fairness.next(), Some(1));
        // One that comes now does not wait behind what the noisy one has left.
        fairness.hold(OTHER, 11);
        assert_eq!(all(&fairness), [10, 20, 2, 11, 3]);
        assert!(fairness.held.lock().by_container.is_empty());
    }

    #[test]
    fn what_waits_in_the_kernel_is_read_first() {
        let (fairness, connection, kernel) = connected();
        fairness.hold(NOISY, 1);
        write(&kernel, b"x").unwrap();
        assert_eq!(fairness.next(), None);
        read(&connection, &mut [0]).unwrap();
        assert_eq!(fairness.next(), Some(1));
    }

    #[test]
    fn after_an_unmount_what_is_held_is_answered() {
        let (fairness, _, kernel) = connected();
        fairness.hold(NOISY, 1);
        drop(kernel);
        assert_eq!(fairness.next(), Some(1));
    }

    #[test]
    fn no_more_is_held_than_there_is_room_for() {
        let (fairness, ..) = connected();
        fairness.is_to_hold(OTHER, 1);
        holds(&fairness, NOISY, 64);
        for request in 0..MOST_HELD {
            assert!(fairness.is_to_hold(NOISY, 1), "at {request}");
            fairness.hold(NOISY, 0);
            holds(&fairness, NOISY, 64);
        }
        assert!(!fairness.is_to_hold(NOISY, 1));
        fairness.next();
        assert!(fairness.is_to_hold(NOISY, 1));
    }

    /// A thread that saw a request in the kernel's queue goes to get it, and sleeps since it
    /// is gone.
    #[test]
    fn what_everybody_has_left_alone_is_answered_all_the_same() {
        let (fairness, _connection, kernel) = connected();
        let (sender, answered) = mpsc::channel();
        let late = Arc::clone(&fairness);
        std::thread::spawn(move || late.work_on_late(|request| sender.send(request).unwrap()));
        write(&kernel, b"x").unwrap();
        for round in [0, 10] {
            for request in round..round + 5 {
                fairness.hold(NOISY, request);
            }
            assert_eq!(fairness.next(), None);
            for request in round..round + 5 {
                let limit = Duration::from_secs(20);
                assert_eq!(answered.recv_timeout(limit), Ok(request));
            }
            // It goes to sleep when there is nothing to look after.
            while fairness.held.lock().is_watched {
                std::thread::yield_now();
            }
        }
    }

    #[test]
    fn a_thread_that_comes_to_rest_leaves_nothing_behind() {
        let (fairness, _connection, kernel) = connected();
        write(&kernel, b"x").unwrap();
        for request in 0..5 {
            fairness.hold(NOISY, request);
        }
        let (started, is_at_work) = mpsc::channel();
        let (finish, may_finish) = mpsc::channel::<()>();
        let late = Arc::clone(&fairness);
        std::thread::spawn(move || {
            late.work_on_late(|request| {
                started.send(request).unwrap();
                let _ = may_finish.recv();
            });
        });
        assert_eq!(fairness.next(), None);
        assert_eq!(is_at_work.recv(), Ok(0));
        let rest = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            let end = scope.spawn(|| fairness.end(|request| rest.lock().push(request)));
            while fairness.count.load(Ordering::Relaxed) > 0 {
                std::thread::yield_now();
            }
            // What the other thread works on is waited for.
            std::thread::sleep(LATE);
            assert!(!end.is_finished());
            finish.send(()).unwrap();
        });
        assert_eq!(rest.into_inner(), [1, 2, 3, 4]);
    }
}

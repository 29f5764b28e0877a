//! Requests that are held back, and the order in which their turn comes.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// Requests that are held at the most.
pub(super) const MOST_HELD: usize = 65_536;

/// Requests `T` by container. Containers take turns, and each keeps its order.
#[derive(Debug)]
pub(super) struct Held<T> {
    queues: Mutex<Queues<T>>,
    /// There is something to work on.
    comes: Condvar,
    /// Taken by the thread of these requests while it works.
    at_work: Mutex<()>,
}

#[derive(Debug)]
struct Queues<T> {
    by_container: HashMap<usize, VecDeque<T>>,
    /// The containers that have something here, the next one first.
    turns: VecDeque<usize>,
    count: usize,
}

impl<T> Queues<T> {
    fn push(&mut self, container: usize, request: T) {
        let own = self.by_container.entry(container).or_default();
        if own.is_empty() {
            self.turns.push_back(container);
        }
        own.push_back(request);
        self.count += 1;
    }

    fn pop(&mut self) -> Option<T> {
        let container = self.turns.pop_front()?;
        let own = self.by_container.get_mut(&container)?;
        let request = own.pop_front()?;
        self.count -= 1;
        if own.is_empty() {
            self.by_container.remove(&container);
        } else {
            self.turns.push_back(container);
        }
        Some(request)
    }
}

impl<T> Default for Held<T> {
    fn default() -> Self {
        Self {
            queues: Mutex::new(Queues {
                by_container: HashMap::new(),
                turns: VecDeque::new(),
                count: 0,
            }),
            comes: Condvar::new(),
            at_work: Mutex::default(),
        }
    }
}

impl<T> Held<T> {
    /// Holds a request back. Where there are too many the caller is given the one whose turn it
    /// is, to work on it instead of reading more.
    pub(super) fn push(&self, container: usize, request: T) -> Option<T> {
        let mut queues = self.queues.lock();
        queues.push(container, request);
        match queues.count {
            1 => {
                self.comes.notify_one();
                None
            }
            count if count > MOST_HELD => queues.pop(),
            _ => None,
        }
    }

    fn pop(&self) -> Option<T> {
        self.queues.lock().pop()
    }

    /// Works in turn on what there is, for about as long as `stint`, which `work` returns the
    /// time of. Waits until there is something. Returns for how long it has worked.
    pub(super) fn work_for(&self, stint: Duration, work: impl Fn(T) -> Duration) -> Duration {
        let mut queues = self.queues.lock();
        while queues.count == 0 {
            self.comes.wait(&mut queues);
        }
        drop(queues);
        let _at_work = self.at_work.lock();
        let mut worked = Duration::ZERO;
        while worked < stint {
            let Some(request) = self.pop() else { break };
            worked += work(request);
        }
        worked
    }

    /// Works on all there is. When it returns nobody else works on what was held by this thread.
    pub(super) fn work_on_all(&self, work: impl Fn(T)) {
        while let Some(request) = self.pop() {
            work(request);
        }
        drop(self.at_work.lock());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const NOISY: usize = 64;
    const OTHER: usize = 128;

    #[test]
    fn containers_take_turns_and_each_keeps_its_order() {
        let held = Held::default();
        for (container, request) in [(NOISY, 1), (NOISY, 2), (NOISY, 3), (OTHER, 10)] {
            assert_eq!(held.push(container, request), None);
        }
        assert_eq!(held.pop(), Some(1));
        // One that comes now does not wait behind what the noisy one has left.
        assert_eq!(held.push(OTHER, 11), None);
        let rest: Vec<_> = std::iter::from_fn(|| held.pop()).collect();
        assert_eq!(rest, [10, 2, 11, 3]);
        assert!(held.queues.lock().by_container.is_empty());
    }

    #[test]
    fn beyond_the_bound_whoever_brings_more_works_in_turn() {
        let held = Held::default();
        assert_eq!(held.push(OTHER, usize::MAX), None);
        for request in 1..MOST_HELD {
            assert_eq!(held.push(NOISY, request), None, "at {request}");
        }
        assert_eq!(held.push(NOISY, MOST_HELD), Some(usize::MAX));
        assert_eq!(held.push(NOISY, 0), Some(1));
        assert_eq!(held.queues.lock().count, MOST_HELD);
    }

    #[test]
    fn a_thread_that_comes_to_rest_leaves_nothing_behind() {
        let held = Held::default();
        for request in 0..5 {
            held.push(NOISY, request);
        }
        let (started, is_at_work) = mpsc::channel();
        let (finish, may_finish) = mpsc::channel::<()>();
        let (may_finish, rest) = (Mutex::new(may_finish), Mutex::new(Vec::new()));
        std::thread::scope(|scope| {
            let turns = scope.spawn(|| {
                held.work_for(Duration::from_nanos(1), |request| {
                    started.send(request).unwrap();
                    may_finish.lock().recv().unwrap();
                    Duration::from_secs(1)
                })
            });
            assert_eq!(is_at_work.recv(), Ok(0));
            let end = scope.spawn(|| held.work_on_all(|request| rest.lock().push(request)));
            while held.queues.lock().count > 0 {
                std::thread::yield_now();
            }
            // What the other thread works on is waited for.
            std::thread::sleep(Duration::from_millis(5));
            assert!(!end.is_finished());
            finish.send(()).unwrap();
            assert_eq!(turns.join().unwrap(), Duration::from_secs(1));
        });
        assert_eq!(rest.into_inner(), [1, 2, 3, 4]);
    }
}

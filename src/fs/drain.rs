//! Coming to rest with nothing half done.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// Brings the serving threads to rest, each after a request that it has answered.
#[derive(Debug, Default)]
pub struct Drain {
    asked: AtomicBool,
    resting: Mutex<usize>,
    changed: Condvar,
}

impl Drain {
    /// From now on threads come to rest.
    pub fn ask(&self) {
        self.asked.store(true, Ordering::Release);
    }

    /// Whether threads are to rest.
    pub fn is_asked(&self) -> bool {
        self.asked.load(Ordering::Acquire)
    }

    /// Has the thread rest, for ever.
    pub fn rest(&self) -> ! {
        *self.resting.lock() += 1;
        self.changed.notify_all();
        loop {
            thread::park();
        }
    }

    /// Waits until so many threads rest, but no longer than `timeout`. Gives whether they do.
    pub fn wait(&self, threads: usize, timeout: Duration) -> bool {
        let mut resting = self.resting.lock();
        while *resting < threads {
            if self.changed.wait_for(&mut resting, timeout).timed_out() {
                return *resting >= threads;
            }
        }
        true
    }
}

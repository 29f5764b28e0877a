//! Coming to rest with nothing half done.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// See [`Drain::turn`].
#[derive(Debug)]
pub struct Turn<'a>(&'a Drain);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.pass();
    }
}

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

    /// The time in which a thread is busy with one request. At its end the thread stays
    /// there, if it is to rest.
    pub fn turn(&self) -> Turn<'_> {
        Turn(self)
    }

    fn pass(&self) {
        if self.asked.load(Ordering::Acquire) {
            *self.resting.lock() += 1;
            self.changed.notify_all();
            loop {
                thread::park();
            }
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

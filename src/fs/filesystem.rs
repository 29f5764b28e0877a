//! The file system as a whole: what its serving threads share, and in which order they
//! work on requests.

mod requests;

use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use fuser::Notifier;

use super::answers::{By, Shared};
use super::drain::Drain;
use super::fairness::{Cause, Fairness};
#[cfg(debug_assertions)]
use super::fault::Faults;
use super::guarded::Guarded;
use super::handles::Handles;
use super::ledger::Ledger;
use super::linger::Linger;
use super::pins::Pins;
use super::sendfile::NotedSizes;
use super::sys_views::SysViews;
use super::sysfs::SysTree;
use super::triggers::{TriggerFiles, Triggers};
use super::views::Views;
use crate::sys::clock::{boottime_nsec, coarse_nsec};

/// The file system. Clones share everything; each serving thread has one.
#[derive(Debug, Clone)]
pub struct LxcFs {
    shared: Arc<Guarded<Shared>>,
    views: Arc<Views>,
    sizes: Arc<NotedSizes>,
    triggers: Arc<Triggers>,
    fairness: Arc<Fairness<Work>>,
    linger: Arc<Linger>,
    pins: Arc<Pins>,
    drain: Arc<Drain>,
    /// When a request was answered last, to a tenth of a second.
    answered_nsec: Arc<AtomicU64>,
}

/// Threads do not tell each other of answers more often than this.
const PULSE_NSEC: u64 = 100_000_000;

/// What is to be done for a request that is held back, its answer included.
struct Work(Box<dyn FnOnce(&LxcFs) -> Duration + Send>);

impl fmt::Debug for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Work")
    }
}

/// The time in which a thread is busy with a request that it has read. If it is to rest it
/// stays here at its end, and what was held back is answered before.
#[derive(Debug)]
struct Turn<'a>(&'a LxcFs);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let Self(filesystem) = self;
        if filesystem.drain.is_asked() {
            filesystem.fairness.work_on_all(|work| {
                filesystem.work_on(work);
            });
            filesystem.drain.rest();
        }
    }
}

impl LxcFs {
    /// A file system of `views` and the host's `sys`, which goes on with what an
    /// earlier server left in `ledger`, `files` and `pins`.
    #[must_use]
    pub fn new(
        views: Arc<Views>,
        sys: SysTree,
        ledger: Ledger,
        files: TriggerFiles,
        pins: Arc<Pins>,
    ) -> Self {
        let now_nsec = boottime_nsec();
        let sizes = Arc::new(NotedSizes::new(now_nsec / 1000));
        let times = views.host_start();
        let triggers = Triggers::resume(Arc::clone(&views), ledger.triggers, files);
        let triggers = Arc::new(triggers);
        let shared = Shared {
            sys: SysViews::new(Arc::clone(&views), sys),
            views: Arc::clone(&views),
            // Handles that an earlier server gave out are smaller: there have been fewer
            // of them than nanoseconds.
            handles: Handles::new(now_nsec, ledger.snapshots),
            sizes: Arc::clone(&sizes),
            triggers: Arc::clone(&triggers),
            times,
            #[cfg(debug_assertions)]
            faults: Faults::from_environment(),
        };
        Self {
            shared: Arc::new(Guarded::new(shared, ledger.in_flight)),
            views,
            sizes,
            triggers,
            fairness: Arc::default(),
            linger: Arc::default(),
            pins,
            drain: Arc::default(),
            answered_nsec: Arc::default(),
        }
    }

    /// Lets the file system send notifications to the kernel and see whether requests wait.
    /// Containers take turns only if the kernel `can_resend`: a crash would fail all
    /// requests that are held back, not just those that are being worked on.
    pub fn connect(&self, notifier: Notifier, connection: OwnedFd, can_resend: bool) {
        self.triggers.start(notifier.clone());
        self.sizes.connect(notifier);
        self.linger.connect(connection);
        if !can_resend {
            return;
        }
        let started = [("crowds", Cause::Crowd), ("slow", Cause::Slow)].map(|(name, cause)| {
            let filesystem = self.clone();
            thread::Builder::new().name(name.to_owned()).spawn(move || {
                let work_on = |work| filesystem.work_on(work);
                filesystem.fairness.work_in_turn(cause, work_on);
            })
        });
        match started.into_iter().collect::<Result<Vec<_>, _>>() {
            Ok(_) => self.fairness.enable(),
            Err(error) => log::error!("containers will not take turns: {error}"),
        }
    }

    /// Brings the serving threads to rest, each after the next request that it answers.
    pub fn drain(&self) {
        self.pins.disable();
        self.drain.ask();
    }

    /// Waits until so many threads rest, but no longer than `timeout`. Gives whether they do.
    #[must_use]
    pub fn rests(&self, threads: usize, timeout: Duration) -> bool {
        self.drain.wait(threads, timeout)
    }

    /// Does the work for a request that somebody waits for, now or when it is the turn of its
    /// container.
    fn in_turn(&self, by: By, work: impl FnOnce(&Self, By) + Send + 'static) {
        let _turn = self.turn();
        if self.pins.is_opener(by.reader) {
            // Others wait for it.
            return work(self, by);
        }
        let container = self.views.container_seen_last(by.reader);
        let look_up = || {
            let found = self
                .shared
                .attempt(by, |shared| shared.views.container(by.reader).map(drop));
            found.ok()?;
            self.views.container_seen_last(by.reader)
        };
        let is_known = container.is_some();
        let work = move |filesystem: &Self| {
            let start_nsec = coarse_nsec();
            work(filesystem, by);
            let now_nsec = coarse_nsec();
            filesystem.note_answer(now_nsec);
            let took = Duration::from_nanos(now_nsec.saturating_sub(start_nsec));
            filesystem.note_work(by.reader, is_known, took);
            took
        };
        let Some(wait) = self.fairness.admit(container, by.reader, look_up) else {
            work(self);
            return;
        };
        if let Some(work) = self.fairness.hold(wait, Work(Box::new(work))) {
            self.work_on(work);
        }
    }

    fn note_answer(&self, now_nsec: u64) {
        let before_nsec = self.answered_nsec.load(Ordering::Relaxed);
        if now_nsec.saturating_sub(before_nsec) >= PULSE_NSEC {
            self.answered_nsec.store(now_nsec, Ordering::Relaxed);
        }
    }

    /// Whether somebody who waits has been answered in the last moments, of this length.
    #[must_use]
    pub fn has_answered_within(&self, time: Duration) -> bool {
        let answered_nsec = self.answered_nsec.load(Ordering::Relaxed);
        let since = Duration::from_nanos(coarse_nsec().saturating_sub(answered_nsec));
        since < time + Duration::from_nanos(PULSE_NSEC)
    }

    /// By the end of the work it is known where a reader is whom nobody knew before.
    fn note_work(&self, reader: i32, was_known: bool, took: Duration) {
        if was_known && !Fairness::<Work>::is_slow(took) {
            return;
        }
        if let Some(container) = self.views.container_seen_last(reader) {
            self.fairness.note_work(container, took);
        }
    }

    fn turn(&self) -> Turn<'_> {
        Turn(self)
    }

    fn work_on(&self, Work(work): Work) -> Duration {
        // Others are held back or have just been.
        self.linger.keep_off();
        work(self)
    }
}

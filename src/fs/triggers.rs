//! Pressure triggers: what a reader of `/proc/pressure` has written there and polls for.
//!
//! Each is set at the kernel's file of the reader's own cgroup. One thread waits for all
//! of them and wakes those who poll, whom the kernel knows by a number. The kernel's
//! triggers, and the epoll instance that knows them, outlive the server, so no event is
//! lost while there is none, and no time with closing them: that takes the kernel some
//! 10 ms each, for which there is a thread too.

mod parked;
mod polls;
mod what;

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use fuser::{Notifier, PollEvents, PollHandle};
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags, EpollTimeout};
use nix::unistd::write;
use parking_lot::Mutex;

use self::parked::Closing;
pub use self::polls::Polls;
pub(super) use self::what::What;
use super::ledger::{MOST_TRIGGERS, TriggerRecords};
use super::views::{Stalls, Views};
use crate::sys::parking::Parking;

/// Triggers of one container, and as many that are being closed.
const MOST_PER_CONTAINER: usize = 64;

/// Events that are taken at once.
const EVENTS: usize = 64;

/// What poll(2) says of any file of procfs.
pub(super) const READY: PollEvents = PollEvents::POLLIN
    .union(PollEvents::POLLOUT)
    .union(PollEvents::POLLRDNORM)
    .union(PollEvents::POLLWRNORM);
/// The same for a pressure file without a trigger, or of a cgroup that is gone.
const BROKEN: PollEvents = READY.union(PollEvents::POLLERR).union(PollEvents::POLLPRI);

/// What outlives the server.
#[derive(Debug)]
pub struct TriggerFiles {
    /// Whether there can be triggers.
    pub polls: Polls,
    /// The kernel's triggers, by the handle of the open file.
    pub parking: Parking,
    /// The epoll instance that waits for them.
    pub events: OwnedFd,
}

/// The triggers of all open files.
#[derive(Debug)]
pub(super) struct Triggers {
    views: Arc<Views>,
    epoll: Epoll,
    parking: Parking,
    records: TriggerRecords,
    polls: Polls,
    /// Held for arithmetic only, never over a system call.
    table: Mutex<Table>,
    closing: Sender<Closing>,
    /// For the thread that closes.
    to_close: Mutex<Option<Receiver<Closing>>>,
}

#[derive(Debug)]
struct Table {
    by_handle: HashMap<u64, Set>,
    /// For whom those are counted that are being closed.
    closing: Vec<u64>,
    free_slots: Vec<usize>,
}

/// A trigger that is set.
#[derive(Debug)]
struct Set {
    /// Its record.
    slot: usize,
    what: What,
    /// Whom it is counted for.
    owner: u64,
    /// The kernel's trigger, unless nobody accounts these stalls.
    file: Option<Arc<OwnedFd>>,
    /// Those who poll, as the kernel knows them; 0 if nobody has.
    waiter: u64,
    /// An event that nobody has been told of.
    event: bool,
    /// Whether the cgroup has been removed.
    is_gone: bool,
}

impl Triggers {
    /// Goes on with the triggers that an earlier server left.
    pub(super) fn resume(views: Arc<Views>, records: TriggerRecords, files: TriggerFiles) -> Self {
        let (closing, to_close) = channel();
        let triggers = Self {
            views,
            epoll: Epoll(files.events),
            parking: files.parking,
            records,
            polls: files.polls,
            table: Mutex::new(Table {
                by_handle: HashMap::new(),
                closing: Vec::new(),
                free_slots: Vec::new(),
            }),
            closing,
            to_close: Mutex::new(Some(to_close)),
        };
        let mut parked = triggers.parked();
        for slot in (0..MOST_TRIGGERS).rev() {
            if !triggers.go_on(slot, &mut parked) {
                triggers.table.lock().free_slots.push(slot);
            }
        }
        triggers
    }

    /// Goes on with the trigger of this record, if it is one.
    fn go_on(&self, slot: usize, parked: &mut HashMap<u64, OwnedFd>) -> bool {
        let Some(record) = self.records.get(slot) else {
            return false;
        };
        let handle = record.handle;
        let Some(what) = What::recorded(&record).filter(|_| self.views.kept_fds().take(1)) else {
            self.records.remove(slot);
            return false;
        };
        let (event, is_gone) = self.records.state(slot);
        let mut set = Set {
            slot,
            what,
            owner: record.owner,
            file: parked.remove(&handle).map(Arc::new),
            waiter: self.records.waiter(slot),
            event,
            is_gone,
        };
        if set.file.is_none() && set.what.stalls != Stalls::Unknown {
            // The server was killed just when it had the file in its hands.
            match self.open(handle, &set.what) {
                Ok(file) => set.file = file,
                Err(errno) => {
                    log::debug!("a pressure trigger cannot be set again: {errno}");
                    set.is_gone = true;
                }
            }
            set.event = true;
        }
        self.table.lock().by_handle.insert(handle, set);
        true
    }

    /// Starts the threads that wait for events and close triggers. To be called once,
    /// before any request is answered.
    pub(super) fn start(self: &Arc<Self>, notifier: Notifier) {
        let (waiting, closing) = (Arc::clone(self), Arc::clone(self));
        let threads = [
            spawn("triggers", move || waiting.wait(&notifier)),
            spawn("closing", move || closing.close()),
        ];
        for error in threads.into_iter().filter_map(Result::err) {
            log::error!("pressure triggers will not work: {error}");
        }
    }

    /// Sets the trigger of an open file. `again` says that the request may have been worked
    /// on before.
    ///
    /// # Errors
    /// `EBUSY` if the file has one; `ENOSPC` where `owner`, or all together, have as many
    /// as can be; what the kernel says when it is written.
    pub(super) fn set(
        &self,
        handle: u64,
        what: &What,
        owner: u64,
        again: bool,
    ) -> Result<(), Errno> {
        if again && self.table.lock().has(handle, what) {
            return Ok(());
        }
        self.reserve(handle, what, owner)?;
        match self.open(handle, what) {
            Ok(file) => {
                let mut table = self.table.lock();
                if let Some(set) = table.by_handle.get_mut(&handle) {
                    set.file = file;
                    self.records.put(set.slot, &what.record(handle, owner));
                }
                Ok(())
            }
            Err(errno) => {
                self.remove(handle);
                Err(errno)
            }
        }
    }

    /// Whether the file has a trigger.
    pub(super) fn has(&self, handle: u64) -> bool {
        self.table.lock().by_handle.contains_key(&handle)
    }

    /// Forgets the trigger of a file that is closed.
    pub(super) fn remove(&self, handle: u64) {
        let mut table = self.table.lock();
        let Some(set) = table.by_handle.remove(&handle) else {
            return;
        };
        self.records.remove(set.slot);
        table.closing.push(set.owner);
        drop(table);
        // Fails if there is no such thread, which has been reported.
        let _ = self.closing.send(Closing {
            slot: set.slot,
            owner: set.owner,
            file: set.file,
        });
    }

    /// What poll(2) says of a pressure file; an event is told once. From now on `waiter` is
    /// notified of the next one. To be followed by [`Triggers::told`].
    pub(super) fn poll(&self, handle: u64, waiter: PollHandle) -> PollEvents {
        let mut table = self.table.lock();
        let Some(set) = table.by_handle.get_mut(&handle) else {
            return BROKEN;
        };
        if set.waiter != waiter.0 {
            set.waiter = waiter.0;
            self.records.set_waiter(set.slot, waiter.0);
        }
        if set.is_gone {
            return BROKEN;
        }
        if std::mem::take(&mut set.event) {
            READY | PollEvents::POLLPRI
        } else {
            READY
        }
    }

    /// When the answer of [`Triggers::poll`] has been given: only then an event need not be
    /// told by the next server.
    pub(super) fn told(&self, handle: u64) {
        if let Some(set) = self.table.lock().by_handle.get(&handle) {
            self.records.set_state(set.slot, set.event, set.is_gone);
        }
    }

    /// What poll(2) says of a file that has no triggers; `waits` says that the poller will
    /// wait for something else. `None` if nobody has a trigger: the kernel is to be told not to ask any more.
    pub(super) fn poll_other(&self, waits: bool) -> Option<PollEvents> {
        let table = self.table.lock();
        let refuses = waits && table.by_handle.is_empty() && self.polls.refuse();
        drop(table);
        if !refuses {
            return Some(READY);
        }
        self.polls.note_refused();
        None
    }

    fn reserve(&self, handle: u64, what: &What, owner: u64) -> Result<(), Errno> {
        let mut table = self.table.lock();
        if self.polls.are_refused() && what.stalls != Stalls::Unknown {
            return Err(Errno::EOPNOTSUPP);
        }
        if table.by_handle.contains_key(&handle) {
            return Err(Errno::EBUSY);
        }
        let set = table
            .by_handle
            .values()
            .filter(|set| set.owner == owner)
            .count();
        let closing = table
            .closing
            .iter()
            .filter(|other| **other == owner)
            .count();
        if set >= MOST_PER_CONTAINER || closing >= MOST_PER_CONTAINER {
            return Err(Errno::ENOSPC);
        }
        let slot = table.free_slots.pop().ok_or(Errno::ENOSPC)?;
        if !self.views.kept_fds().take(1) {
            table.free_slots.push(slot);
            return Err(Errno::ENOSPC);
        }
        let set = Set {
            slot,
            what: what.clone(),
            owner,
            file: None,
            waiter: 0,
            event: false,
            is_gone: false,
        };
        table.by_handle.insert(handle, set);
        Ok(())
    }

    /// Sets a trigger in the kernel and waits for its events; `None` if nobody accounts the
    /// stalls.
    fn open(&self, handle: u64, what: &What) -> Result<Option<Arc<OwnedFd>>, Errno> {
        let Some(file) = self.views.open_stalls(what.resource, &what.stalls)? else {
            return Ok(None);
        };
        write(&file, what.trigger.text().as_bytes())?;
        // Edges only: a cgroup that is gone is an event for ever.
        let events = EpollFlags::EPOLLPRI | EpollFlags::EPOLLET;
        self.epoll.add(&file, EpollEvent::new(events, handle))?;
        self.parking
            .put(handle, Some(&file))
            .map_err(|_| Errno::ENOSPC)?;
        Ok(Some(Arc::new(file)))
    }

    fn wait(&self, notifier: &Notifier) {
        let mut events = [EpollEvent::empty(); EVENTS];
        loop {
            match self.epoll.wait(&mut events, EpollTimeout::NONE) {
                Ok(count) => {
                    for event in events.iter().take(count) {
                        self.on_event(*event, notifier);
                    }
                }
                Err(Errno::EINTR) => {}
                Err(errno) => return log::error!("no pressure trigger fires any more: {errno}"),
            }
        }
    }

    fn on_event(&self, event: EpollEvent, notifier: &Notifier) {
        let mut table = self.table.lock();
        let Some(set) = table.by_handle.get_mut(&event.data()) else {
            return;
        };
        set.event = true;
        set.is_gone |= event.events().contains(EpollFlags::EPOLLERR);
        self.records.set_state(set.slot, true, set.is_gone);
        let waiter = set.waiter;
        drop(table);
        if waiter != 0 {
            if let Err(error) = notifier.poll(PollHandle(waiter)) {
                log::debug!("cannot wake who polls a pressure file: {error}");
            }
        }
    }
}

impl Table {
    fn has(&self, handle: u64, what: &What) -> bool {
        let set = self.by_handle.get(&handle);
        set.is_some_and(|set| set.what == *what)
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    let thread = thread::Builder::new().name(name.to_owned());
    thread.spawn(work).map(drop)
}

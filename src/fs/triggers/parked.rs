//! Triggers that are parked for the next server, and the end of those that nobody needs.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::Triggers;
use crate::fs::ledger::MOST_TRIGGERS;
use crate::sys::clock::boottime_nsec;

/// More than there can be in the parking.
const MOST_TURNS: usize = 4 * MOST_TRIGGERS;

/// No handle has this bit.
const MARK: u64 = 1 << 63;

/// One that is to be closed.
#[derive(Debug)]
pub(super) struct Closing {
    pub(super) slot: usize,
    pub(super) owner: u64,
    pub(super) file: Option<Arc<OwnedFd>>,
}

impl Triggers {
    /// All files that are parked, which stay so.
    pub(super) fn parked(&self) -> HashMap<u64, OwnedFd> {
        let mut parked = HashMap::new();
        self.turn_over(|handle, file| {
            if let Err(errno) = self.parking.put(handle, Some(&file)) {
                log::warn!("a pressure trigger will not outlive this server: {errno}");
            }
            parked.insert(handle, file);
        });
        parked
    }

    /// Takes each file out of the parking once.
    fn turn_over(&self, mut handle_file: impl FnMut(u64, OwnedFd)) {
        // Marks where those begin that are parked meanwhile. In a full queue there is room
        // for it when something has been closed.
        let mark = boottime_nsec() | MARK;
        let mut is_marked = false;
        for _ in 0..MOST_TURNS {
            is_marked = is_marked || self.parking.put(mark, None).is_ok();
            match self.parking.take() {
                Ok(Some((number, None))) if number == mark => return,
                Ok(Some((handle, Some(file)))) => handle_file(handle, file),
                Ok(Some(_)) => {}
                Ok(None) => return,
                Err(errno) => log::warn!("a pressure trigger has been lost: {errno}"),
            }
        }
    }

    /// Closes what is to be closed.
    pub(super) fn close(&self) {
        let Some(to_close) = self.to_close.lock().take() else {
            return;
        };
        // What an earlier server did not get done.
        self.unpark();
        while let Ok(first) = to_close.recv() {
            let mut all: Vec<_> = std::iter::once(first).chain(to_close.try_iter()).collect();
            // The parked ones are the last ones then, which are closed one by one: what a
            // server that is killed has in its hands alone, its end would wait for.
            for closing in &mut all {
                closing.file = None;
            }
            self.unpark();
            for Closing { slot, owner, .. } in all {
                let mut table = self.table.lock();
                table.free_slots.push(slot);
                if let Some(index) = table.closing.iter().position(|other| *other == owner) {
                    table.closing.swap_remove(index);
                }
                drop(table);
                self.views.kept_fds().give_back(1);
            }
        }
    }

    /// Closes what is parked and not set any more.
    fn unpark(&self) {
        self.turn_over(|handle, file| {
            if self.has(handle) {
                if let Err(errno) = self.parking.put(handle, Some(&file)) {
                    log::warn!("a pressure trigger will not outlive this server: {errno}");
                }
            }
        });
    }
}

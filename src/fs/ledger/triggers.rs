//! The pressure triggers of open files: all that a new server needs to set them again.
//!
//! What is known when a trigger is set never changes and has a checksum. What comes later
//! is in words of its own, each of which does no harm whatever it says. The handles lie
//! apart, as looking at a page of this memory is enough to make it take room.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{TRIGGER_HANDLES, TRIGGERS, checksum, words};
use crate::sys::clock::boottime_nsec;
use crate::sys::shared_memory::SharedMemory;

const RECORD_WORDS: usize = 512;
const _: () = assert!(TRIGGER_HANDLES.end - TRIGGER_HANDLES.start == MOST_TRIGGERS);
/// Triggers of all containers together.
pub(in crate::fs) const MOST_TRIGGERS: usize = (TRIGGERS.end - TRIGGERS.start) / RECORD_WORDS;

const SUM: usize = 0;
const OWNER: usize = 1;
const KIND: usize = 2;
const LEVELS: usize = 3;
const INODE: usize = 4;
const PATH_BYTES: usize = 5;
const WAITER: usize = 6;
const STATE: usize = 7;
const PATH: usize = 16;

/// The fixed part of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::fs) struct TriggerRecord {
    /// The open file.
    pub(in crate::fs) handle: u64,
    /// Whom it is counted for.
    pub(in crate::fs) owner: u64,
    /// Resource, line and source, as the caller numbers them.
    pub(in crate::fs) kind: u64,
    /// Threshold and window, as the caller packs them.
    pub(in crate::fs) levels: u64,
    /// Inode number of the cgroup directory.
    pub(in crate::fs) inode: u64,
    /// Path of the cgroup.
    pub(in crate::fs) path: String,
}

/// The table.
#[derive(Debug)]
pub struct TriggerRecords(Arc<SharedMemory>);

impl TriggerRecords {
    pub(super) fn resume(memory: Arc<SharedMemory>) -> Self {
        let records = Self(memory);
        // All that an earlier server gave out were smaller.
        let next_handle = boottime_nsec();
        for slot in 0..MOST_TRIGGERS {
            let valid = records
                .get(slot)
                .is_some_and(|record| record.handle < next_handle);
            if !valid && records.handle(slot) != 0 {
                records.remove(slot);
            }
        }
        records
    }

    /// Fills a record that is empty. One with a path that is too long stays empty.
    pub(in crate::fs) fn put(&self, slot: usize, record: &TriggerRecord) {
        let path: Vec<u64> = words(record.path.as_bytes()).collect();
        if path.len() > RECORD_WORDS - PATH {
            return;
        }
        let [handle, fixed @ ..] = record.fixed();
        for index in [WAITER, STATE] {
            self.store(slot, index, 0);
        }
        for (index, word) in (OWNER..)
            .zip(fixed)
            .chain((PATH..).zip(path.iter().copied()))
        {
            self.store(slot, index, word);
        }
        self.store(slot, SUM, checksum(record.fixed().into_iter().chain(path)));
        self.set_handle(slot, handle);
    }

    /// What a record holds.
    pub(in crate::fs) fn get(&self, slot: usize) -> Option<TriggerRecord> {
        let handle = Some(self.handle(slot)).filter(|handle| *handle != 0)?;
        let path_bytes = usize::try_from(self.load(slot, PATH_BYTES)).ok()?;
        let path_words = path_bytes.div_ceil(8);
        if path_words > RECORD_WORDS - PATH {
            return None;
        }
        let path: Vec<u64> = (PATH..PATH + path_words)
            .map(|index| self.load(slot, index))
            .collect();
        let mut bytes: Vec<u8> = path.iter().flat_map(|word| word.to_ne_bytes()).collect();
        bytes.truncate(path_bytes);
        let record = TriggerRecord {
            handle,
            owner: self.load(slot, OWNER),
            kind: self.load(slot, KIND),
            levels: self.load(slot, LEVELS),
            inode: self.load(slot, INODE),
            path: String::from_utf8(bytes).ok()?,
        };
        let sum = checksum(record.fixed().into_iter().chain(path));
        (self.load(slot, SUM) == sum).then_some(record)
    }

    /// Empties a record.
    pub(in crate::fs) fn remove(&self, slot: usize) {
        self.set_handle(slot, 0);
        self.store(slot, SUM, 0);
    }

    /// The number by which the kernel knows those who wait for the file; 0 if nobody has.
    pub(in crate::fs) fn waiter(&self, slot: usize) -> u64 {
        self.load(slot, WAITER)
    }

    pub(in crate::fs) fn set_waiter(&self, slot: usize, waiter: u64) {
        self.store(slot, WAITER, waiter);
    }

    /// Whether there has been an event that nobody has been told of, and whether the cgroup
    /// has been removed.
    pub(in crate::fs) fn state(&self, slot: usize) -> (bool, bool) {
        let state = self.load(slot, STATE);
        (state & 1 != 0, state & 2 != 0)
    }

    pub(in crate::fs) fn set_state(&self, slot: usize, event: bool, is_gone: bool) {
        self.store(slot, STATE, u64::from(event) | u64::from(is_gone) << 1);
    }

    fn handle(&self, slot: usize) -> u64 {
        let handle = self
            .0
            .words()
            .get(TRIGGER_HANDLES)
            .and_then(|all| all.get(slot));
        handle.map_or(0, |word| word.load(Ordering::Acquire))
    }

    fn set_handle(&self, slot: usize, value: u64) {
        let handle = self
            .0
            .words()
            .get(TRIGGER_HANDLES)
            .and_then(|all| all.get(slot));
        if let Some(word) = handle {
            word.store(value, Ordering::Release);
        }
    }

    fn load(&self, slot: usize, index: usize) -> u64 {
        let record = self.0.groups::<RECORD_WORDS>(TRIGGERS).get(slot);
        let word = record.and_then(|record| record.get(index));
        word.map_or(0, |word| word.load(Ordering::Acquire))
    }

    fn store(&self, slot: usize, index: usize, value: u64) {
        let record = self.0.groups::<RECORD_WORDS>(TRIGGERS).get(slot);
        if let Some(word) = record.and_then(|record| record.get(index)) {
            word.store(value, Ordering::Release);
        }
    }
}

impl TriggerRecord {
    /// The handle, and the words from `OWNER` to `PATH_BYTES`.
    fn fixed(&self) -> [u64; PATH_BYTES + 1] {
        [
            self.handle,
            self.owner,
            self.kind,
            self.levels,
            self.inode,
            self.path.len() as u64,
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::ledger::tests::memory;
    use crate::fs::ledger::{Death, Ledger};

    fn record(handle: u64, path: &str) -> TriggerRecord {
        TriggerRecord {
            handle,
            owner: 2,
            kind: 3,
            levels: 4,
            inode: 5,
            path: path.to_owned(),
        }
    }

    fn server(memory: &std::os::fd::OwnedFd) -> TriggerRecords {
        Ledger::resume(memory, Death::Killed).unwrap().triggers
    }

    #[test]
    fn the_next_server_finds_what_was_set_and_what_has_happened_since() {
        let memory = memory();
        let first = server(&memory);
        let longest = "x".repeat((RECORD_WORDS - PATH) * 8);
        for (slot, path) in [(0, "/a/b"), (7, ""), (MOST_TRIGGERS - 1, longest.as_str())] {
            first.put(slot, &record(1 + slot as u64, path));
        }
        first.set_waiter(7, 99);
        first.set_state(7, true, false);
        first.set_state(MOST_TRIGGERS - 1, false, true);
        let next = server(&memory);
        assert_eq!(next.get(0), Some(record(1, "/a/b")));
        assert_eq!(next.get(MOST_TRIGGERS - 1).unwrap().path, longest);
        assert_eq!((next.waiter(7), next.state(7)), (99, (true, false)));
        assert_eq!(next.state(MOST_TRIGGERS - 1), (false, true));
        assert_eq!((next.waiter(0), next.state(0)), (0, (false, false)));
        assert_eq!(next.get(1), None);
        next.remove(7);
        next.put(7, &record(8, "/c"));
        assert_eq!((next.waiter(7), next.state(7)), (0, (false, false)));
    }

    #[test]
    fn a_record_that_is_damaged_or_too_long_is_none() {
        let memory = memory();
        let first = server(&memory);
        for slot in 0..4 {
            first.put(slot, &record(1, "/some/path"));
        }
        first.store(0, LEVELS, 1);
        first.store(1, PATH, 1);
        first.store(2, PATH_BYTES, u64::MAX);
        first.store(3, SUM, 0);
        first.put(4, &record(1, &"x".repeat(4096)));
        first.put(5, &record(u64::MAX, "/of/no/server/before"));
        let next = server(&memory);
        for slot in 0..6 {
            assert_eq!(next.get(slot), None, "{slot}");
        }
        assert_eq!(next.get(MOST_TRIGGERS), None);
    }
}

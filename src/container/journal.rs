//! What must outlive the server process: the figures of containers that go on from read
//! to read.
//!
//! They are kept in a file that the next server inherits, in practice a memfd. A server
//! may be killed at any instant: what a reader has been shown was written before, and
//! what was being written has an older copy beside it (`region.rs`). Only one process
//! uses the file at a time.
//!
//! Block 0 tells the version; every other block belongs to one container or is free.

mod blocks;
mod region;
mod store;
pub(super) mod stored;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;

use self::region::COPY_HEAD_BYTES;
use self::store::{Left, Place, Store};
use self::stored::{Stored, stored};
use crate::cgroup::Directory;

/// The layout of the file. To be raised when a type that is [`Stored`] gains or loses a
/// field, or when one changes its meaning; the server that is started then drops what the
/// older one left. Not so for a field that is added to `State` as its last one, in `later`:
/// servers that know less skip it, and those that know more do without it.
pub(super) const VERSION: u64 = 1;

/// The file, shared by all containers.
#[derive(Debug)]
pub struct Journal {
    /// None where nothing is to outlive the process.
    store: Option<Arc<Store>>,
}

/// What tells a container from all others of this boot, in every server process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) directories: Vec<Directory>,
    pub(crate) on_host: bool,
}

stored!(Owner {
    directories,
    on_host,
});

/// The record of one container.
#[derive(Debug)]
pub(super) struct Record {
    store: Option<Arc<Store>>,
    // Held while a record is written, so that an older one does not replace a newer one.
    writer: Mutex<Writer>,
}

#[derive(Debug, Default)]
struct Writer {
    /// Whose the record is. Empty as soon as it has a place: the file tells then.
    key: Vec<u8>,
    /// None before the first record.
    place: Option<Place>,
    /// The container is not known any more.
    is_retired: bool,
}

impl Journal {
    /// No journal: nothing outlives the process.
    #[must_use]
    pub const fn none() -> Self {
        Self { store: None }
    }

    /// Takes over what an earlier server left in the file, if it left anything. What is
    /// damaged, or of a version that is not known, is dropped with a line in the log.
    #[must_use]
    pub fn resume(file: File) -> Self {
        match Store::resume(file) {
            Ok(store) => Self {
                store: Some(Arc::new(store)),
            },
            Err(error) => {
                log::warn!("the counters of containers will not outlive this process: {error}");
                Self::none()
            }
        }
    }

    /// The record of this container, and its content if there is one.
    pub(super) fn claim(&self, owner: &Owner) -> (Record, Option<Vec<u8>>) {
        let mut key = Vec::new();
        owner.store(&mut key);
        let left = self.store.as_ref().and_then(|store| store.take(&key));
        let (writer, content) = match left {
            Some(Left { place, record }) => (Writer::at(place), Some(record)),
            None => (Writer::new(key), None),
        };
        let record = Record {
            store: self.store.clone(),
            writer: Mutex::new(writer),
        };
        (record, content)
    }

    /// Frees the records that nobody claims and whose container has ended.
    pub(crate) fn forget_ended(&self, is_alive: impl Fn(&Owner) -> bool) {
        let Some(store) = &self.store else { return };
        for key in store.keys_left() {
            let owner = Owner::restore(&mut key.as_slice());
            if !owner.is_some_and(|owner| is_alive(&owner)) {
                if let Some(left) = store.take(&key) {
                    store.release(&left.place);
                }
            }
        }
        store.shrink();
    }
}

impl Writer {
    /// Of a record that is not written yet.
    fn new(key: Vec<u8>) -> Self {
        Self {
            key,
            ..Self::default()
        }
    }

    /// Of a record that goes on here.
    fn at(place: Place) -> Self {
        Self {
            place: Some(place),
            ..Self::default()
        }
    }

    fn write(&mut self, store: &Store, copy: &mut [u8]) -> io::Result<()> {
        match &mut self.place {
            Some(place) => store.write(place, copy),
            None => {
                *self = Self::at(store.create(&self.key, copy)?);
                Ok(())
            }
        }
    }
}

impl Record {
    /// Writes what `encode` appends, unless it says that there is nothing new. When this
    /// returns, what was new before the call is in the file.
    pub(super) fn write(&self, encode: impl FnOnce(&mut Vec<u8>) -> bool) {
        let Some(store) = &self.store else { return };
        let mut writer = self.writer.lock();
        let mut copy = vec![0; COPY_HEAD_BYTES];
        if writer.is_retired || !encode(&mut copy) {
            return;
        }
        if let Err(error) = writer.write(store, &mut copy) {
            store.report(&error);
        }
    }

    /// Leaves the record, with what `encode` appends, to whoever claims it next.
    pub(super) fn retire(&self, encode: impl FnOnce(&mut Vec<u8>)) {
        let Some(store) = &self.store else { return };
        let mut writer = self.writer.lock();
        writer.is_retired = true;
        if let Some(place) = writer.place.take() {
            let mut record = Vec::new();
            encode(&mut record);
            store.leave(Left { place, record });
        }
    }
}

//! What a server leaves to the next one, however it ends: how far open files have been
//! read, which requests it was working on, and the pressure triggers that are set.
//!
//! It lies in a memory file that both have. Nothing in it is needed, so nothing is
//! believed that does not carry its checksum: a server may die between any two stores.
//! The memory belongs to one connection, whose requests and handles it tells of.

mod in_flight;
mod snapshots;
mod triggers;

use std::io;
use std::ops::Range;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use nix::sys::stat::fstat;
use nix::unistd::ftruncate;

pub(super) use self::in_flight::{InFlight, Poisonous};
pub(super) use self::snapshots::{BUCKETS, Progress, Snapshots};
pub(super) use self::triggers::{MOST_TRIGGERS, TriggerRecord, TriggerRecords};
use crate::sys::shared_memory::SharedMemory;

/// The first word of the memory.
const MAGIC: u64 = u64::from_be_bytes(*b"lxcfsldg");
/// Rises with every change of what lies where, or means what.
const LAYOUT_VERSION: u64 = 2;

// What lies where, in words. The first page has magic, version and size, then the
// requests; the second is free.
const SUSPECTS: Range<usize> = 8..136;
const SEATS: Range<usize> = 136..648;
const SLOTS: Range<usize> = 1024..17_408;
const CONTENT: Range<usize> = 17_408..279_552;
const TRIGGER_HANDLES: Range<usize> = 279_552..280_576;
const TRIGGERS: Range<usize> = 280_576..804_864;
const WORDS: usize = TRIGGERS.end;

/// How the server before this one ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Death {
    /// In order, or there was none.
    Ended,
    /// By SIGKILL, which as a rule comes from outside.
    Killed,
    /// By a fault of its own, or because it no longer answered.
    Crashed,
}

/// The memory of a server and those before it.
#[derive(Debug)]
pub struct Ledger {
    pub(super) snapshots: Snapshots,
    pub(super) in_flight: InFlight,
    pub(super) triggers: TriggerRecords,
}

impl Ledger {
    /// Goes on with what the previous server, which must have ended by `death`, left in
    /// `memory`, a memory file that may be empty. What is damaged or of another layout is
    /// dropped. It takes 144 KiB, what of further 2 MiB is needed for the content of
    /// files that are read piecemeal at the same time, and 4 KiB for each trigger.
    ///
    /// # Errors
    /// What fstat(2), ftruncate(2) and mmap(2) say.
    pub fn resume(memory: impl AsFd, death: Death) -> io::Result<Self> {
        let bytes = WORDS as u64 * 8;
        let length = u64::try_from(fstat(&memory)?.st_size).unwrap_or(0);
        if length != bytes {
            clear(&memory, bytes)?;
        }
        let mut mapped = SharedMemory::map(&memory, WORDS)?;
        if !has_header(&mapped, bytes) {
            if length != 0 {
                log::warn!("the record of open files is of another version or damaged; dropped");
            }
            drop(mapped);
            clear(&memory, bytes)?;
            mapped = SharedMemory::map(&memory, WORDS)?;
            for (word, value) in mapped.words().iter().zip([MAGIC, LAYOUT_VERSION, bytes]) {
                word.store(value, Ordering::Release);
            }
        }
        let mapped = Arc::new(mapped);
        Ok(Self {
            snapshots: Snapshots::resume(Arc::clone(&mapped)),
            triggers: TriggerRecords::resume(Arc::clone(&mapped)),
            in_flight: InFlight::resume(mapped, death),
        })
    }
}

fn has_header(memory: &SharedMemory, bytes: u64) -> bool {
    let expected = [MAGIC, LAYOUT_VERSION, bytes];
    let found = memory
        .words()
        .iter()
        .map(|word| word.load(Ordering::Acquire));
    found.take(expected.len()).eq(expected)
}

/// Makes the file one of `bytes` zeros.
fn clear(memory: impl AsFd, bytes: u64) -> io::Result<()> {
    ftruncate(&memory, 0)?;
    ftruncate(&memory, i64::try_from(bytes).unwrap_or(i64::MAX))?;
    Ok(())
}

/// The bytes in words, the last one filled up with zeros.
fn words(bytes: &[u8]) -> impl Iterator<Item = u64> + Clone {
    bytes.chunks(8).map(|bytes| {
        let mut whole = [0; 8];
        for (to, from) in whole.iter_mut().zip(bytes) {
            *to = *from;
        }
        u64::from_ne_bytes(whole)
    })
}

/// A number that other words, or the same in another order, hardly ever have. Words that
/// are all zero do not have zero.
fn checksum(words: impl IntoIterator<Item = u64>) -> u64 {
    words.into_iter().fold(MAGIC ^ LAYOUT_VERSION, |sum, word| {
        let mixed = (sum ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed ^ mixed >> 32
    })
}

#[cfg(test)]
pub(super) mod tests;

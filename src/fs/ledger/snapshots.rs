//! How far open files have been read.
//!
//! A table of slots in buckets, eight for each remainder of the handle's number, and
//! blocks for the content of snapshots that are delivered in parts. Callers keep apart
//! what concerns handles of one bucket.

use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::{CONTENT, SLOTS, checksum, words};
use crate::sys::clock::boottime_nsec;
use crate::sys::shared_memory::SharedMemory;

/// Slots of a bucket.
const WAYS: usize = 8;
/// A multiple of this lies between the numbers of handles in one bucket.
pub(in crate::fs) const BUCKETS: usize = (SLOTS.end - SLOTS.start) / (WAYS * SLOT_WORDS);
const SLOT_WORDS: usize = 4;
const BLOCK_WORDS: usize = 512;
const BLOCK_BYTES: usize = BLOCK_WORDS * 8;
const BLOCKS: usize = (CONTENT.end - CONTENT.start) / BLOCK_WORDS;

/// What is known of an open file that has been read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::fs) enum Progress {
    /// The content; its end has not been read yet.
    Partly(Arc<[u8]>),
    /// All of the content has been delivered; it had this length.
    Wholly(u64),
}

/// Handle; extent; checksum of the content, if there is any; checksum of these three. The
/// handle is 0 where the slot is free.
type Slot = [AtomicU64; SLOT_WORDS];

/// Length of a snapshot, and the first of the blocks with its content.
#[derive(Debug, Clone, Copy)]
struct Extent {
    length: u32,
    first_block: Option<u16>,
}

/// The table.
#[derive(Debug)]
pub struct Snapshots {
    memory: Arc<SharedMemory>,
    /// The blocks that are taken.
    taken: Mutex<[bool; BLOCKS]>,
}

impl Snapshots {
    pub(super) fn resume(memory: Arc<SharedMemory>) -> Self {
        let mut taken = [false; BLOCKS];
        // All that an earlier server gave out were smaller.
        let next_handle = boottime_nsec();
        for slot in memory.groups::<SLOT_WORDS>(SLOTS) {
            let valid = load(slot)
                .filter(|(handle, ..)| *handle < next_handle)
                .is_some_and(|(_, extent, _)| take(&mut taken, extent));
            if !valid && slot.iter().any(|word| word.load(Ordering::Relaxed) != 0) {
                empty(slot);
            }
        }
        Self {
            memory,
            taken: Mutex::new(taken),
        }
    }

    /// Records how far a file has been read. Where room is lacking, the oldest file of the
    /// bucket is forgotten, or the new one is not recorded.
    pub(in crate::fs) fn put(&self, handle: u64, progress: &Progress) {
        let Some(slot) = self.slot_for(handle) else {
            return;
        };
        self.free(slot);
        let is_filled = self.fill(slot, handle, progress).is_some();
        // Not before: the server may be killed at any time, and the reader asks the next one to
        // go on.
        let mut has_freed = false;
        for other in self.slots_of(handle).filter(|other| !ptr::eq(*other, slot)) {
            self.free(other);
            has_freed = true;
        }
        if has_freed && !is_filled {
            self.fill(slot, handle, progress);
        }
    }

    /// Fills a slot that is empty; `None` if there is no room for the content.
    fn fill(&self, slot: &Slot, handle: u64, progress: &Progress) -> Option<()> {
        let (extent, sum) = match progress {
            Progress::Wholly(length) => {
                let extent = Extent {
                    length: u32::try_from(*length).ok()?,
                    first_block: None,
                };
                (extent, 0)
            }
            Progress::Partly(content) => self.keep(content)?,
        };
        store(slot, handle, extent, sum);
        Some(())
    }

    /// What was recorded of a file.
    pub(in crate::fs) fn get(&self, handle: u64) -> Option<Progress> {
        let slot = self.slots_of(handle).next()?;
        let (_, extent, expected) = load(slot)?;
        let Some(words) = self.content(extent) else {
            return Some(Progress::Wholly(u64::from(extent.length)));
        };
        let words: Vec<u64> = words
            .iter()
            .map(|word| word.load(Ordering::Relaxed))
            .collect();
        if checksum(words.iter().copied()) != expected {
            return None;
        }
        let mut bytes: Vec<u8> = words.into_iter().flat_map(u64::to_ne_bytes).collect();
        bytes.truncate(extent.length_bytes());
        Some(Progress::Partly(bytes.into()))
    }

    /// Forgets a file.
    pub(in crate::fs) fn remove(&self, handle: u64) {
        self.slots_of(handle).for_each(|slot| self.free(slot));
    }

    fn bucket(&self, handle: u64) -> &[Slot] {
        let index = usize::try_from(handle % BUCKETS as u64).unwrap_or(0);
        self.memory
            .groups(SLOTS)
            .chunks_exact(WAYS)
            .nth(index)
            .unwrap_or_default()
    }

    /// The slot of this handle; two if a server was killed before it had emptied the older one.
    fn slots_of(&self, handle: u64) -> impl Iterator<Item = &Slot> {
        let slots = self.bucket(handle).iter();
        slots.filter(move |[owner, ..]| owner.load(Ordering::Relaxed) == handle)
    }

    /// A free slot, else that of this handle, else the one with the oldest handle.
    fn slot_for(&self, handle: u64) -> Option<&Slot> {
        self.bucket(handle).iter().min_by_key(|[owner, ..]| {
            let owner = owner.load(Ordering::Relaxed);
            (owner != 0, owner != handle, owner)
        })
    }

    fn free(&self, slot: &Slot) {
        let [_, extent, ..] = slot;
        let extent = Extent::from_word(extent.load(Ordering::Relaxed));
        empty(slot);
        if let Some(extent) = extent.filter(|extent| extent.first_block.is_some()) {
            mark(&mut self.taken.lock(), extent, false);
        }
    }

    /// Copies the content to free blocks.
    fn keep(&self, content: &[u8]) -> Option<(Extent, u64)> {
        let mut extent = Extent {
            length: u32::try_from(content.len()).ok()?,
            first_block: Some(0),
        };
        {
            let mut taken = self.taken.lock();
            let first = taken
                .windows(extent.blocks())
                .position(|run| run.iter().all(|taken| !taken))?;
            extent.first_block = u16::try_from(first).ok();
            mark(&mut taken, extent, true);
        }
        let values = words(content);
        for (word, value) in self.content(extent)?.iter().zip(values.clone()) {
            word.store(value, Ordering::Relaxed);
        }
        Some((extent, checksum(values)))
    }

    /// The words of a content that has been kept.
    fn content(&self, extent: Extent) -> Option<&[AtomicU64]> {
        let start = CONTENT.start + usize::from(extent.first_block?) * BLOCK_WORDS;
        let count = extent.length_bytes().div_ceil(8);
        self.memory.words().get(start..start.saturating_add(count))
    }
}

impl Extent {
    fn from_word(word: u64) -> Option<Self> {
        let first_block = u16::try_from(word >> 32).ok()?;
        Some(Self {
            length: u32::try_from(word & u64::from(u32::MAX)).ok()?,
            first_block: first_block.checked_sub(1),
        })
    }

    fn to_word(self) -> u64 {
        let block = self.first_block.map_or(0, |block| u64::from(block) + 1);
        block << 32 | u64::from(self.length)
    }

    fn length_bytes(self) -> usize {
        usize::try_from(self.length).unwrap_or(usize::MAX)
    }

    /// How many blocks the content takes, at least one.
    fn blocks(self) -> usize {
        self.length_bytes().div_ceil(BLOCK_BYTES).max(1)
    }
}

/// What a slot holds: handle, extent and checksum of the content.
fn load(slot: &Slot) -> Option<(u64, Extent, u64)> {
    let [handle, extent, content, sum] = slot.each_ref().map(|word| word.load(Ordering::Acquire));
    let valid = handle != 0 && sum == checksum([handle, extent, content]);
    Some((handle, Extent::from_word(extent)?, content)).filter(|_| valid)
}

/// Fills a slot that is empty. Its checksum is the last that is written.
fn store(slot: &Slot, handle: u64, extent: Extent, content: u64) {
    let fields = [handle, extent.to_word(), content];
    for (word, value) in slot
        .iter()
        .zip(fields.into_iter().chain([checksum(fields)]))
    {
        word.store(value, Ordering::Release);
    }
}

/// Makes a slot invalid, then empty.
fn empty(slot: &Slot) {
    for word in slot.iter().rev() {
        word.store(0, Ordering::Release);
    }
}

/// Takes the blocks of an extent; `false` if there are no such blocks or somebody else has
/// them.
fn take(taken: &mut [bool; BLOCKS], extent: Extent) -> bool {
    let Some(first) = extent.first_block.map(usize::from) else {
        return true;
    };
    let run = taken.get(first..first.saturating_add(extent.blocks()));
    let free = run.is_some_and(|run| run.iter().all(|taken| !taken));
    if free {
        mark(taken, extent, true);
    }
    free
}

fn mark(taken: &mut [bool; BLOCKS], extent: Extent, value: bool) {
    let first = extent.first_block.map_or(0, usize::from);
    if let Some(run) = taken.get_mut(first..first.saturating_add(extent.blocks())) {
        run.fill(value);
    }
}

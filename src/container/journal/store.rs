//! The file as a whole: which records it has, and where the next one goes.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::fcntl::{FallocateFlags, fallocate};
use parking_lot::Mutex;

use super::VERSION;
use super::blocks::Blocks;
use super::region::{
    BLOCK_BYTES, COPY_HEAD_BYTES, Copy, HEAD_START_BYTES, MOST_BLOCKS, Region, checksum, head_bytes,
};
use super::stored::Stored;

pub(super) const MAGIC: u64 = u64::from_le_bytes(*b"lxcfsjnl");

/// Where the latest record of a container is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    region: Region,
    latest: Copy,
    sequence: u64,
}

/// A record that is nobody's at present.
#[derive(Debug)]
pub(super) struct Left {
    pub(super) place: Place,
    pub(super) record: Vec<u8>,
}

/// The file and what is in it.
#[derive(Debug)]
pub(super) struct Store {
    pub(super) file: File,
    table: Mutex<Table>,
    has_failed: AtomicBool,
}

#[derive(Debug, Default)]
struct Table {
    blocks: Blocks,
    /// By key: from an earlier server, or of containers that were forgotten.
    left: HashMap<Vec<u8>, Left>,
}

impl Store {
    /// Takes over what is in the file.
    ///
    /// # Errors
    /// When the file cannot be read or written at all.
    pub(super) fn resume(file: File) -> io::Result<Self> {
        let mut store = Self {
            file,
            table: Mutex::default(),
            has_failed: AtomicBool::new(false),
        };
        // Block 0 is the header's.
        store.table.get_mut().blocks.allocate(1);
        let length = store.file.metadata()?.len();
        if length <= MOST_BLOCKS * BLOCK_BYTES && store.has_header() {
            store.collect(length)?;
        } else {
            if length > 0 {
                log::warn!(
                    "the counters of containers start anew: what the last server left is \
                     damaged or of another version"
                );
            }
            store.file.set_len(0)?;
            store.file.write_all_at(&header(), 0)?;
        }
        Ok(store)
    }

    /// Takes out the record with this key that is nobody's.
    pub(super) fn take(&self, key: &[u8]) -> Option<Left> {
        self.table.lock().left.remove(key)
    }

    /// Leaves a record for [`take`](Self::take).
    pub(super) fn leave(&self, left: Left) {
        match self.key_of(&left.place) {
            Ok(key) => {
                self.table.lock().left.insert(key, left);
            }
            Err(error) => self.report(&error),
        }
    }

    /// The keys of all records that are nobody's.
    pub(super) fn keys_left(&self) -> Vec<Vec<u8>> {
        self.table.lock().left.keys().cloned().collect()
    }

    /// Gives back room for records that are not there any more.
    pub(super) fn shrink(&self) {
        let mut table = self.table.lock();
        let left = table.left.len();
        table.left.shrink_to(left.saturating_mul(2));
    }

    fn has_header(&self) -> bool {
        self.read(0, header().len() as u64)
            .is_some_and(|found| found == header())
    }

    /// Finds all records, and erases what is none.
    fn collect(&mut self, length: u64) -> io::Result<()> {
        let mut damaged = 0;
        let mut block = 1;
        while block < length.div_ceil(BLOCK_BYTES) {
            let (blocks, is_sound) = match self.region_at(block) {
                Some((region, key)) => (region.blocks, self.adopt(region, key)),
                None => (1, self.is_free(block, length)),
            };
            if !is_sound {
                damaged += 1;
                self.erase(block, blocks)?;
            }
            block += blocks;
        }
        if damaged > 0 {
            log::warn!(
                "the counters of some containers start anew: {damaged} parts of what the last \
                 server left are damaged"
            );
        }
        self.file
            .set_len(self.table.get_mut().blocks.end() * BLOCK_BYTES)
    }

    fn region_at(&self, block: u64) -> Option<(Region, Vec<u8>)> {
        let offset = block * BLOCK_BYTES;
        let start = self.read(offset, HEAD_START_BYTES as u64)?;
        let length = head_bytes(start.first_chunk()?)?;
        Region::parse(block, &self.read(offset, length as u64)?)
    }

    /// Whose record lies there.
    fn key_of(&self, place: &Place) -> io::Result<Vec<u8>> {
        let found = self.region_at(place.region.first_block);
        let (_, key) = found
            .filter(|(region, _)| *region == place.region)
            .ok_or(io::ErrorKind::InvalidData)?;
        Ok(key)
    }

    fn is_free(&self, block: u64, length: u64) -> bool {
        let offset = block * BLOCK_BYTES;
        let bytes = self.read(offset, BLOCK_BYTES.min(length - offset));
        bytes.is_some_and(|bytes| bytes.iter().all(|byte| *byte == 0))
    }

    /// Takes over the record in a region, if there is one.
    fn adopt(&mut self, region: Region, key: Vec<u8>) -> bool {
        let copies = [Copy::First, Copy::Second].map(|copy| {
            let (sequence, record) = self.copy_at(&region, copy)?;
            let place = Place {
                region,
                latest: copy,
                sequence,
            };
            Some(Left { place, record })
        });
        let latest = copies
            .into_iter()
            .flatten()
            .max_by_key(|left| left.place.sequence);
        let Some(mut latest) = latest else {
            return false;
        };
        let table = self.table.get_mut();
        table.blocks.occupy(&region);
        // A record that had grown was killed on its way to a larger region.
        match table.left.entry(key) {
            Entry::Vacant(entry) => {
                entry.insert(latest);
            }
            Entry::Occupied(mut entry) => {
                if entry.get().place.sequence < latest.place.sequence {
                    std::mem::swap(entry.get_mut(), &mut latest);
                }
                self.release(&latest.place);
            }
        }
        true
    }

    fn copy_at(&self, region: &Region, copy: Copy) -> Option<(u64, Vec<u8>)> {
        let offset = region.offset_of(copy);
        let head = self.read(offset, COPY_HEAD_BYTES as u64)?;
        let head = head.first_chunk()?;
        let (sequence, length) = Region::announced(head)?;
        (length <= region.copy_bytes().saturating_sub(COPY_HEAD_BYTES as u64)).then_some(())?;
        let record = self.read(offset + COPY_HEAD_BYTES as u64, length)?;
        region
            .is_whole(head, sequence, &record)
            .then_some((sequence, record))
    }

    /// Exactly so many bytes; `None` if the file is not that long.
    fn read(&self, offset: u64, length: u64) -> Option<Vec<u8>> {
        let file_length = self.file.metadata().ok()?.len();
        (offset.checked_add(length)? <= file_length).then_some(())?;
        let mut bytes = vec![0; usize::try_from(length).ok()?];
        self.file.read_exact_at(&mut bytes, offset).ok()?;
        Some(bytes)
    }

    /// Writes the first copy of a record, of which `copy` has all but its head.
    pub(super) fn create(&self, key: &[u8], copy: &mut [u8]) -> io::Result<Place> {
        self.write_elsewhere(1, key, copy)
    }

    /// Writes another copy.
    pub(super) fn write(&self, old: &mut Place, copy: &mut [u8]) -> io::Result<()> {
        let sequence = old.sequence.saturating_add(1);
        if copy.len() as u64 > old.region.copy_bytes() {
            let new = self.write_elsewhere(sequence, &self.key_of(old)?, copy)?;
            self.release(&std::mem::replace(old, new));
            return Ok(());
        }
        let other = old.latest.other();
        old.region.seal(copy, sequence);
        self.file.write_all_at(copy, old.region.offset_of(other))?;
        old.latest = other;
        old.sequence = sequence;
        Ok(())
    }

    /// Writes a copy to a new region.
    fn write_elsewhere(&self, sequence: u64, key: &[u8], copy: &mut [u8]) -> io::Result<Place> {
        let blocks = Region::blocks_for(key, copy.len());
        let first_block = self.table.lock().blocks.allocate(blocks);
        let first_block = first_block.ok_or(io::ErrorKind::StorageFull)?;
        let (region, mut bytes) = Region::create(first_block, blocks, key);
        region.seal(copy, sequence);
        bytes.extend_from_slice(copy);
        let place = Place {
            region,
            latest: Copy::First,
            sequence,
        };
        if let Err(error) = self.file.write_all_at(&bytes, region.offset()) {
            self.release(&place);
            return Err(error);
        }
        Ok(place)
    }

    /// Gives up a region. If it cannot be erased, its blocks are not used again.
    pub(super) fn release(&self, place: &Place) {
        let Region {
            first_block,
            blocks,
            ..
        } = place.region;
        match self.erase(first_block, blocks) {
            Ok(()) => self.table.lock().blocks.release(first_block, blocks),
            Err(error) => self.report(&error),
        }
    }

    /// Gives the memory back; what is read there is zero.
    fn erase(&self, first_block: u64, blocks: u64) -> io::Result<()> {
        let to_offset = |blocks: u64| {
            i64::try_from(blocks * BLOCK_BYTES).map_err(|_| io::ErrorKind::InvalidInput)
        };
        let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        let (offset, length) = (to_offset(first_block)?, to_offset(blocks)?);
        Ok(fallocate(&self.file, flags, offset, length)?)
    }

    /// Logs the first failure; others follow from it.
    pub(super) fn report(&self, error: &io::Error) {
        if !self.has_failed.swap(true, Ordering::Relaxed) {
            log::warn!("the counters of some containers will not outlive this process: {error}");
        }
    }
}

/// What the file begins with.
pub(super) fn header() -> Vec<u8> {
    let mut bytes = Vec::new();
    MAGIC.store(&mut bytes);
    VERSION.store(&mut bytes);
    checksum(0, &bytes).store(&mut bytes);
    bytes
}

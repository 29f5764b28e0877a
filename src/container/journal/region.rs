//! The part of the file that belongs to one container: whose it is, then two copies of
//! its figures.
//!
//! The copies are written in turn, so that a server that is killed while it writes one
//! leaves the other. All numbers are little-endian and 64 bits wide:
//!
//! ```text
//! head:  magic, blocks, length of the key, key, zeros up to 8 bytes, checksum
//! copy:  checksum, sequence number, length of the record, record
//! ```

use super::stored::Stored;

/// Unit of allocation: a page, so that what is given back is memory.
pub(super) const BLOCK_BYTES: u64 = 4096;

/// More than any file needs: with two blocks for each, 32768 containers.
pub(super) const MOST_BLOCKS: u64 = 1 << 16;

/// What precedes the record in a copy.
pub(super) const COPY_HEAD_BYTES: usize = 24;

/// What precedes the key in a head.
pub(super) const HEAD_START_BYTES: usize = 24;

/// More than the paths of a container in all hierarchies.
const MOST_KEY_BYTES: u64 = 1 << 18;

const MAGIC: u64 = u64::from_le_bytes(*b"lxcfsreg");

/// One region.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Region {
    pub(super) first_block: u64,
    pub(super) blocks: u64,
    head_bytes: u64,
    /// Checksum of the head. It goes into that of every copy, so that the copies of an
    /// earlier owner are not taken for this one's.
    tag: u64,
}

/// Which of the two copies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Copy {
    First,
    Second,
}

impl Copy {
    pub(super) const fn other(self) -> Self {
        match self {
            Self::First => Self::Second,
            Self::Second => Self::First,
        }
    }
}

/// How long the whole head is whose first bytes these are.
pub(super) fn head_bytes(start: &[u8; HEAD_START_BYTES]) -> Option<usize> {
    let mut input = start.as_slice();
    let magic = u64::restore(&mut input)?;
    let _blocks = u64::restore(&mut input)?;
    let key_bytes = u64::restore(&mut input)?;
    (magic == MAGIC && key_bytes <= MOST_KEY_BYTES).then_some(())?;
    usize::try_from(key_bytes.next_multiple_of(8))
        .ok()
        .map(|padded| HEAD_START_BYTES + padded + 8)
}

impl Region {
    /// How many blocks a region for a copy of this length has; with room for a quarter
    /// more, as for some more CPUs or disks.
    pub(super) fn blocks_for(key: &[u8], copy_bytes: usize) -> u64 {
        let head = HEAD_START_BYTES + key.len().next_multiple_of(8) + 8;
        let copies = 2 * (copy_bytes + copy_bytes / 4);
        ((head + copies) as u64).div_ceil(BLOCK_BYTES)
    }

    /// A new region with its head.
    pub(super) fn create(first_block: u64, blocks: u64, key: &[u8]) -> (Self, Vec<u8>) {
        let mut head = Vec::with_capacity(HEAD_START_BYTES + key.len() + 16);
        MAGIC.store(&mut head);
        blocks.store(&mut head);
        (key.len() as u64).store(&mut head);
        head.extend_from_slice(key);
        head.resize(head.len().next_multiple_of(8), 0);
        let tag = checksum(first_block, &head);
        tag.store(&mut head);
        let region = Self {
            first_block,
            blocks,
            head_bytes: head.len() as u64,
            tag,
        };
        (region, head)
    }

    /// The region with this head, and its key.
    pub(super) fn parse(first_block: u64, head: &[u8]) -> Option<(Self, Vec<u8>)> {
        let mut input = head.get(8..)?;
        let blocks = u64::restore(&mut input)?;
        let key_bytes = usize::restore(&mut input)?;
        let key = input.get(..key_bytes)?.to_vec();
        let (region, expected) = Self::create(first_block, blocks, &key);
        let fits = blocks <= MOST_BLOCKS
            && first_block.saturating_add(blocks) <= MOST_BLOCKS
            && region.head_bytes < blocks * BLOCK_BYTES;
        (fits && expected == head).then_some((region, key))
    }

    /// Where in the file the region begins.
    pub(super) fn offset(&self) -> u64 {
        self.first_block * BLOCK_BYTES
    }

    /// Where in the file a copy begins.
    pub(super) fn offset_of(&self, copy: Copy) -> u64 {
        let head_end = self.offset() + self.head_bytes;
        match copy {
            Copy::First => head_end,
            Copy::Second => head_end + self.copy_bytes(),
        }
    }

    /// How long a copy may be.
    pub(super) fn copy_bytes(&self) -> u64 {
        (self.blocks * BLOCK_BYTES).saturating_sub(self.head_bytes) / 2
    }

    /// Fills in what precedes the record in `copy`.
    pub(super) fn seal(&self, copy: &mut [u8], sequence: u64) {
        let Some((head, record)) = copy.split_at_mut_checked(COPY_HEAD_BYTES) else {
            return;
        };
        let mut sealed = Vec::with_capacity(COPY_HEAD_BYTES);
        self.copy_checksum(sequence, record).store(&mut sealed);
        sequence.store(&mut sealed);
        (record.len() as u64).store(&mut sealed);
        head.copy_from_slice(&sealed);
    }

    /// Sequence number and length of the record in the copy with this head, both not
    /// checked yet.
    pub(super) fn announced(copy_head: &[u8; COPY_HEAD_BYTES]) -> Option<(u64, u64)> {
        let mut input = copy_head.get(8..)?;
        Some((u64::restore(&mut input)?, u64::restore(&mut input)?))
    }

    /// Whether the record is the one that the head of the copy was made for.
    pub(super) fn is_whole(
        &self,
        copy_head: &[u8; COPY_HEAD_BYTES],
        sequence: u64,
        record: &[u8],
    ) -> bool {
        u64::restore(&mut copy_head.as_slice()) == Some(self.copy_checksum(sequence, record))
    }

    fn copy_checksum(&self, sequence: u64, record: &[u8]) -> u64 {
        checksum(self.tag ^ sequence.rotate_left(32), record)
    }
}

/// Every change of up to eight bytes in a row changes the result, as each step is
/// reversible; others slip through by chance only.
pub(super) fn checksum(seed: u64, bytes: &[u8]) -> u64 {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    let step = |sum: u64, word: u64| {
        let product = (sum ^ word).wrapping_mul(ODD);
        product ^ (product >> 32)
    };
    let word = |bytes: &[u8]| {
        let mut whole = [0; 8];
        for (to, from) in whole.iter_mut().zip(bytes) {
            *to = *from;
        }
        u64::from_le_bytes(whole)
    };
    let words = bytes.chunks_exact(8);
    let last = word(words.remainder());
    let start = step(seed, bytes.len() as u64);
    step(words.fold(start, |sum, bytes| step(sum, word(bytes))), last)
}

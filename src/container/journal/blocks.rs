//! Which blocks of the file are in use.

use super::region::{MOST_BLOCKS, Region};

/// The blocks; those behind the last one in use are not listed.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    used: Vec<bool>,
}

impl Blocks {
    /// Takes the lowest `count` free blocks in a row; `None` when the file is full.
    pub(super) fn allocate(&mut self, count: u64) -> Option<u64> {
        let wanted = usize::try_from(count).ok()?;
        let mut free = 0;
        let mut end = 0;
        for (block, used) in self.used.iter().enumerate() {
            if free == wanted {
                break;
            }
            free = if *used { 0 } else { free + 1 };
            end = block + 1;
        }
        let first = (end - free) as u64;
        if first.saturating_add(count) > MOST_BLOCKS {
            return None;
        }
        self.mark(first, count, true);
        Some(first)
    }

    /// Takes the blocks of a region that is there.
    pub(super) fn occupy(&mut self, region: &Region) {
        self.mark(region.first_block, region.blocks, true);
    }

    /// Gives the blocks of a region back.
    pub(super) fn release(&mut self, first: u64, count: u64) {
        self.mark(first, count, false);
        let used = self.used.iter().rposition(|used| *used);
        self.used.truncate(used.map_or(0, |last| last + 1));
    }

    /// Up to which block the file is in use.
    pub(super) fn end(&self) -> u64 {
        self.used.len() as u64
    }

    /// Takes blocks, or gives them back; ones beyond the end are added.
    fn mark(&mut self, first: u64, count: u64, used: bool) {
        let end = first.saturating_add(count).min(MOST_BLOCKS);
        let (Ok(first), Ok(end)) = (usize::try_from(first), usize::try_from(end)) else {
            return;
        };
        if self.used.len() < end {
            self.used.resize(end, false);
        }
        for block in self.used.iter_mut().take(end).skip(first) {
            *block = used;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_filled_first_and_the_end_shrinks() {
        let mut blocks = Blocks::default();
        assert_eq!(blocks.allocate(1), Some(0));
        assert_eq!(blocks.allocate(3), Some(1));
        assert_eq!(blocks.allocate(2), Some(4));
        blocks.release(1, 3);
        assert_eq!(blocks.allocate(2), Some(1));
        assert_eq!(blocks.allocate(2), Some(6), "one free block is too small");
        assert_eq!(blocks.allocate(1), Some(3));
        blocks.release(6, 2);
        blocks.release(4, 2);
        assert_eq!(blocks.end(), 4);
    }

    #[test]
    fn free_blocks_at_the_end_are_used() {
        let mut blocks = Blocks::default();
        blocks.allocate(2);
        blocks.allocate(2);
        blocks.mark(3, 1, false);
        assert_eq!(blocks.allocate(4), Some(3));
        assert_eq!(blocks.end(), 7);
    }

    #[test]
    fn a_full_file_is_full() {
        let mut blocks = Blocks::default();
        assert_eq!(blocks.allocate(MOST_BLOCKS), Some(0));
        assert_eq!(blocks.allocate(1), None);
        assert_eq!(blocks.allocate(u64::MAX), None);
    }
}

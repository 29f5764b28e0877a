//! Open files: one snapshot of the content for each.
//!
//! A handle is nothing but a number. What is kept for it outlives the server in the
//! ledger, but can be lost to save memory, and is then made anew at the next read.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::ledger::{BUCKETS, Progress, Snapshots};

/// Bytes of content kept for all open files together.
const MOST_KEPT_BYTES: usize = 4 << 20;

/// Independently locked parts of the table.
const SHARDS: usize = 16;
// Handles of one bucket of the ledger are in one shard.
const _: () = assert!(BUCKETS % SHARDS == 0);

type Shard = HashMap<u64, Progress>;

/// A part of a snapshot.
#[derive(Debug, Default)]
pub struct Part {
    content: Arc<[u8]>,
    range: Range<usize>,
}

impl Part {
    /// At most `size` bytes from `offset` on.
    fn new(content: &Arc<[u8]>, offset: u64, size: usize) -> Self {
        let start = usize::try_from(offset)
            .unwrap_or(usize::MAX)
            .min(content.len());
        let end = start.saturating_add(size).min(content.len());
        Self {
            content: Arc::clone(content),
            range: start..end,
        }
    }

    fn reaches_end(&self) -> bool {
        self.range.end == self.content.len()
    }

    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.content.get(self.range.clone()).unwrap_or_default()
    }
}

/// The open files of all readers.
#[derive(Debug)]
pub struct Handles {
    next: AtomicU64,
    shards: [Mutex<Shard>; SHARDS],
    kept_bytes: AtomicUsize,
    /// What outlives this server. What concerns a handle is done under the lock of its
    /// shard.
    snapshots: Snapshots,
}

impl Handles {
    /// The open files of `snapshots`. New handles are numbered from `first`, which must lie
    /// beyond all that an earlier server of the same mount has given out.
    #[must_use]
    pub fn new(first: u64, snapshots: Snapshots) -> Self {
        Self {
            next: AtomicU64::new(first.max(1)),
            shards: Default::default(),
            kept_bytes: AtomicUsize::new(0),
            snapshots,
        }
    }

    /// A handle for a file being opened.
    pub fn open(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Forgets a closed file.
    pub fn close(&self, handle: u64) {
        let mut shard = self.shard(handle).lock();
        self.snapshots.remove(handle);
        self.discount(shard.remove(&handle).as_ref());
    }

    /// At most `size` bytes of the content from `offset` on. A read at offset 0, or
    /// the first one, takes a new snapshot by `render`; later ones go on with it.
    ///
    /// # Errors
    /// What `render` fails with.
    pub fn read<E>(
        &self,
        handle: u64,
        offset: u64,
        size: usize,
        render: impl FnOnce() -> Result<Arc<[u8]>, E>,
    ) -> Result<Part, E> {
        if offset > 0 {
            if let Some(known) = self.go_on(handle, offset, size) {
                return Ok(known);
            }
        }
        let content = render()?;
        let part = Part::new(&content, offset, size);
        self.put(&mut self.shard(handle).lock(), handle, after(&part));
        Ok(part)
    }

    /// The next part of a snapshot, `None` where there is none to go on with.
    fn go_on(&self, handle: u64, offset: u64, size: usize) -> Option<Part> {
        let mut shard = self.shard(handle).lock();
        if !shard.contains_key(&handle) {
            let progress = self.snapshots.get(handle)?;
            self.insert(&mut shard, handle, progress);
        }
        let content = match shard.get(&handle)? {
            Progress::Wholly(length) => return (offset >= *length).then(Part::default),
            Progress::Partly(content) => content,
        };
        let part = Part::new(content, offset, size);
        let length = content.len() as u64;
        // Until the reader asks beyond it, the last part may have to be sent again.
        if offset >= length {
            self.put(&mut shard, handle, Progress::Wholly(length));
        }
        Some(part)
    }

    fn put(&self, shard: &mut Shard, handle: u64, progress: Progress) {
        self.snapshots.put(handle, &progress);
        self.insert(shard, handle, progress);
    }

    fn insert(&self, shard: &mut Shard, handle: u64, progress: Progress) {
        if let Progress::Partly(content) = &progress {
            let kept = self.kept_bytes.fetch_add(content.len(), Ordering::Relaxed);
            if kept > MOST_KEPT_BYTES {
                let dropped: usize = shard.values().map(len).sum();
                self.kept_bytes.fetch_sub(dropped, Ordering::Relaxed);
                shard.retain(|_, other| matches!(other, Progress::Wholly(_)));
            }
        }
        let replaced = shard.insert(handle, progress);
        self.discount(replaced.as_ref());
    }

    fn discount(&self, gone: Option<&Progress>) {
        self.kept_bytes
            .fetch_sub(gone.map_or(0, len), Ordering::Relaxed);
    }

    fn shard(&self, handle: u64) -> &Mutex<Shard> {
        let [first, ..] = &self.shards;
        let index = usize::try_from(handle % SHARDS as u64).unwrap_or(0);
        self.shards.get(index).unwrap_or(first)
    }
}

/// What is to be kept when `part`, the first of its snapshot, has been delivered.
fn after(part: &Part) -> Progress {
    if part.reaches_end() {
        Progress::Wholly(part.content.len() as u64)
    } else {
        Progress::Partly(Arc::clone(&part.content))
    }
}

/// Bytes of content that are kept.
fn len(progress: &Progress) -> usize {
    match progress {
        Progress::Partly(content) => content.len(),
        Progress::Wholly(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::os::fd::OwnedFd;

    use super::*;
    use crate::fs::ledger::tests::memory;
    use crate::fs::ledger::{Death, Ledger};
    use crate::sys::clock::boottime_nsec;

    struct Source(Cell<u32>);

    impl Source {
        /// Another content each time, and each time longer.
        fn render(&self) -> Result<Arc<[u8]>, ()> {
            self.0.set(self.0.get() + 1);
            Ok(format!(
                "{0}{0}{0}{0}{1}",
                self.0.get(),
                "x".repeat(self.0.get() as usize)
            )
            .into_bytes()
            .into())
        }
    }

    /// The open files as a server finds them that starts now.
    fn server(memory: &OwnedFd) -> Handles {
        let ledger = Ledger::resume(memory, Death::Killed).unwrap();
        Handles::new(boottime_nsec(), ledger.snapshots)
    }

    fn setup() -> (Handles, Source, u64) {
        let handles = server(&memory());
        let handle = handles.open();
        (handles, Source(Cell::new(0)), handle)
    }

    /// What a reader gets.
    fn read(handles: &Handles, handle: u64, range: (u64, usize), source: &Source) -> Vec<u8> {
        let part = handles.read(handle, range.0, range.1, || source.render());
        part.unwrap().bytes().to_vec()
    }

    #[test]
    fn small_reads_see_one_snapshot_to_its_end() {
        let (handles, source, handle) = setup();
        let mut all = Vec::new();
        loop {
            let part = read(&handles, handle, (all.len() as u64, 2), &source);
            if part.is_empty() {
                break;
            }
            all.extend(part);
        }
        assert_eq!(all, b"1111x");
        assert_eq!(source.0.get(), 1);
        assert_eq!(handles.kept_bytes.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn the_end_stays_where_it_was_although_the_content_has_grown() {
        let (handles, source, handle) = setup();
        assert_eq!(read(&handles, handle, (0, 100), &source), b"1111x");
        assert_eq!(read(&handles, handle, (5, 100), &source), b"");
        assert_eq!(source.0.get(), 1);
    }

    #[test]
    fn rewinding_takes_a_new_snapshot() {
        let (handles, source, handle) = setup();
        read(&handles, handle, (0, 2), &source);
        assert_eq!(read(&handles, handle, (0, 100), &source), b"2222xx");
    }

    #[test]
    fn a_first_read_may_start_anywhere() {
        let (handles, source, handle) = setup();
        assert_eq!(read(&handles, handle, (3, 100), &source), b"1x");
        assert_eq!(read(&handles, handle, (900, 100), &source), b"");
        assert_eq!(read(&handles, handles.open(), (u64::MAX, 1), &source), b"");
    }

    #[test]
    fn files_half_read_by_thousands_take_bounded_memory() {
        let handles = server(&memory());
        let opened: Vec<u64> = (0..10_000).map(|_| handles.open()).collect();
        for handle in opened.iter().copied() {
            handles
                .read(handle, 0, 1, || Ok::<_, ()>(vec![b'x'; 4096].into()))
                .unwrap();
        }
        assert!(handles.kept_bytes.load(Ordering::Relaxed) <= MOST_KEPT_BYTES + 4096 * SHARDS);
        for handle in opened {
            handles.close(handle);
        }
        assert_eq!(handles.kept_bytes.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn no_stray_bytes_at_the_end_when_the_server_was_killed_before_it() {
        let (memory, source) = (memory(), Source(Cell::new(0)));
        let handles = server(&memory);
        let handle = handles.open();
        assert_eq!(read(&handles, handle, (0, 100), &source), b"1111x");
        drop(handles);
        source.0.set(9);
        assert_eq!(read(&server(&memory), handle, (5, 100), &source), b"");
        assert_eq!(source.0.get(), 9);
    }

    #[test]
    fn a_text_read_in_small_parts_is_one_text_although_each_part_is_from_another_server() {
        let (memory, source) = (memory(), Source(Cell::new(0)));
        let handle = server(&memory).open();
        let mut all = Vec::new();
        loop {
            let part = read(&server(&memory), handle, (all.len() as u64, 2), &source);
            if part.is_empty() {
                break;
            }
            all.extend(part);
        }
        assert_eq!(all, b"1111x");
        assert_eq!(source.0.get(), 1);
        assert_eq!(read(&server(&memory), handle, (0, 100), &source), b"2222xx");
    }

    #[test]
    fn the_last_part_is_the_same_when_its_answer_was_lost() {
        let (memory, source) = (memory(), Source(Cell::new(0)));
        let handles = server(&memory);
        let handle = handles.open();
        read(&handles, handle, (0, 2), &source);
        let lost = read(&handles, handle, (2, 100), &source);
        assert_eq!(read(&server(&memory), handle, (2, 100), &source), lost);
        assert_eq!(source.0.get(), 1);
    }

    #[test]
    fn a_closed_or_unknown_file_is_not_gone_on_with() {
        let (memory, source) = (memory(), Source(Cell::new(0)));
        let handles = server(&memory);
        let (closed, unknown) = (handles.open(), handles.open());
        read(&handles, closed, (0, 2), &source);
        handles.close(closed);
        let next = server(&memory);
        assert_eq!(read(&next, closed, (2, 100), &source), b"22xx");
        assert_eq!(read(&next, unknown, (2, 100), &source), b"33xxx");
    }

    #[test]
    fn what_a_new_server_goes_on_with_is_counted_and_given_back() {
        let (memory, source) = (memory(), Source(Cell::new(0)));
        let handles = server(&memory);
        let handle = handles.open();
        read(&handles, handle, (0, 2), &source);
        let next = server(&memory);
        read(&next, handle, (2, 1), &source);
        assert_eq!(next.kept_bytes.load(Ordering::Relaxed), 5);
        next.close(handle);
        assert_eq!(next.kept_bytes.load(Ordering::Relaxed), 0);
        assert_eq!(read(&server(&memory), handle, (2, 1), &source), b"2");
        assert_eq!(source.0.get(), 2);
    }

    /// Servers that live for a few opens, one after the other as fast as can be.
    #[test]
    fn no_two_servers_give_out_the_same_handle() {
        let memory = memory();
        let mut last = 0;
        for _ in 0..200 {
            let handles = server(&memory);
            for _ in 0..50 {
                let handle = handles.open();
                assert!(handle > last, "{handle} after {last}");
                last = handle;
            }
        }
    }
}

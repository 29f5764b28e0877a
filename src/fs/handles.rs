//! Open files: one snapshot of the content for each.
//!
//! A handle is nothing but a number. What is kept for it can be lost at any time, by a
//! restart or to save memory, and is then made anew at the next read.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;

/// Bytes of content kept for all open files together.
const MOST_KEPT_BYTES: usize = 4 << 20;

/// Independently locked parts of the table.
const SHARDS: usize = 16;

/// What is known of an open file that has been read.
#[derive(Debug)]
enum Progress {
    /// The content, of which a part has not been delivered yet.
    Partly(Arc<[u8]>),
    /// All of the content has been delivered; it had this length.
    Wholly(u64),
}

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
    shards: [Mutex<HashMap<u64, Progress>>; SHARDS],
    kept_bytes: AtomicUsize,
}

impl Handles {
    /// No open files. Handles are numbered from `first`, which must lie beyond all that
    /// an earlier server of the same mount has given out.
    #[must_use]
    pub fn new(first: u64) -> Self {
        Self {
            next: AtomicU64::new(first),
            shards: Default::default(),
            kept_bytes: AtomicUsize::new(0),
        }
    }

    /// A handle for a file being opened.
    pub fn open(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Forgets a closed file.
    pub fn close(&self, handle: u64) {
        let removed = self.shard(handle).lock().remove(&handle);
        self.discount(removed.as_ref());
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
        if offset > 0
            && let Some(known) = self.go_on(handle, offset, size)
        {
            return Ok(known);
        }
        let content = render()?;
        let part = Part::new(&content, offset, size);
        self.put(handle, Progress::after(&part));
        Ok(part)
    }

    /// The next part of a snapshot, `None` where there is none to go on with.
    fn go_on(&self, handle: u64, offset: u64, size: usize) -> Option<Part> {
        let mut shard = self.shard(handle).lock();
        let progress = shard.get_mut(&handle)?;
        let content = match progress {
            Progress::Wholly(length) => return (offset >= *length).then(Part::default),
            Progress::Partly(content) => content,
        };
        let part = Part::new(content, offset, size);
        if part.reaches_end() {
            let before = std::mem::replace(progress, Progress::after(&part));
            self.discount(Some(&before));
        }
        Some(part)
    }

    fn put(&self, handle: u64, progress: Progress) {
        let mut shard = self.shard(handle).lock();
        if let Progress::Partly(content) = &progress {
            let kept = self.kept_bytes.fetch_add(content.len(), Ordering::Relaxed);
            if kept > MOST_KEPT_BYTES {
                let dropped: usize = shard.values().map(Progress::len).sum();
                self.kept_bytes.fetch_sub(dropped, Ordering::Relaxed);
                shard.retain(|_, other| matches!(other, Progress::Wholly(_)));
            }
        }
        let replaced = shard.insert(handle, progress);
        self.discount(replaced.as_ref());
    }

    fn discount(&self, gone: Option<&Progress>) {
        self.kept_bytes
            .fetch_sub(gone.map_or(0, Progress::len), Ordering::Relaxed);
    }

    fn shard(&self, handle: u64) -> &Mutex<HashMap<u64, Progress>> {
        let [first, ..] = &self.shards;
        let index = usize::try_from(handle % SHARDS as u64).unwrap_or(0);
        self.shards.get(index).unwrap_or(first)
    }
}

impl Progress {
    /// What is to be kept when `part` has been delivered.
    fn after(part: &Part) -> Self {
        if part.reaches_end() {
            Self::Wholly(part.content.len() as u64)
        } else {
            Self::Partly(Arc::clone(&part.content))
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Partly(content) => content.len(),
            Self::Wholly(_) => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

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

    fn setup() -> (Handles, Source, u64) {
        let handles = Handles::new(7);
        let handle = handles.open();
        (handles, Source(Cell::new(0)), handle)
    }

    #[test]
    fn small_reads_see_one_snapshot_to_its_end() {
        let (handles, source, handle) = setup();
        let mut all = Vec::new();
        loop {
            let part = handles
                .read(handle, all.len() as u64, 2, || source.render())
                .unwrap()
                .bytes()
                .to_vec();
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
        assert_eq!(
            handles
                .read(handle, 0, 100, || source.render())
                .unwrap()
                .bytes()
                .to_vec(),
            b"1111x"
        );
        assert_eq!(
            handles
                .read(handle, 5, 100, || source.render())
                .unwrap()
                .bytes()
                .to_vec(),
            b""
        );
        assert_eq!(source.0.get(), 1);
    }

    #[test]
    fn rewinding_takes_a_new_snapshot() {
        let (handles, source, handle) = setup();
        handles
            .read(handle, 0, 2, || source.render())
            .unwrap()
            .bytes()
            .to_vec();
        assert_eq!(
            handles
                .read(handle, 0, 100, || source.render())
                .unwrap()
                .bytes()
                .to_vec(),
            b"2222xx"
        );
    }

    #[test]
    fn a_first_read_may_start_anywhere() {
        let (handles, source, handle) = setup();
        assert_eq!(
            handles
                .read(handle, 3, 100, || source.render())
                .unwrap()
                .bytes()
                .to_vec(),
            b"1x"
        );
        assert_eq!(
            handles
                .read(handle, 900, 100, || source.render())
                .unwrap()
                .bytes()
                .to_vec(),
            b""
        );
        assert_eq!(
            handles
                .read(handles.open(), u64::MAX, 1, || source.render())
                .unwrap()
                .bytes()
                .to_vec(),
            b""
        );
    }

    #[test]
    fn files_half_read_by_thousands_take_bounded_memory() {
        let handles = Handles::new(0);
        for _ in 0..10_000 {
            let handle = handles.open();
            handles
                .read(handle, 0, 1, || Ok::<_, ()>(vec![b'x'; 4096].into()))
                .unwrap();
        }
        assert!(handles.kept_bytes.load(Ordering::Relaxed) <= MOST_KEPT_BYTES + 4096 * SHARDS);
        for handle in 0..10_000 {
            handles.close(handle);
        }
        assert_eq!(handles.kept_bytes.load(Ordering::Relaxed), 0);
    }
}

//! Keeps sendfile(2) from finding these files empty, or full of another reader's figures.
//!
//! Since Linux 6.5 sendfile and splice go through the page cache even where a file is
//! opened for direct I/O, and stop at the size that the kernel has noted for the inode.
//! That is 0 here, as in procfs: `busybox cat` would print nothing. A size above 0 has
//! them ask for a page instead, which is refused with EINVAL (a page would be every
//! container's), whereupon programs fall back to read(2).
//!
//! So the kernel's note is raised by `FUSE_NOTIFY_STORE`, which takes effect behind the
//! back of stat(2): a reply to GETATTR that crosses such a notification is given to the
//! caller but not noted. Only lseek(2) to the end, which asks with a file handle, gets
//! the note set back to 0, or `tail` would look for the end far away.

use std::collections::HashSet;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use fuser::{INodeNo, Notifier};
use parking_lot::RwLock;

use crate::host::kernel_is_since;

/// Distance of two notifications: each touches a page that nobody can have locked, as it
/// lies beyond the size noted so far.
const STEP: u64 = 8192;

/// The sizes that the kernel has noted for inodes whose size is 0.
#[derive(Debug)]
pub struct NotedSizes {
    needed: bool,
    notifier: OnceLock<Notifier>,
    /// Inodes with a note above 0.
    raised: RwLock<HashSet<u64>>,
    next: AtomicU64,
}

impl NotedSizes {
    /// Nothing is raised yet. `now_usec` is the time since boot: there are fewer
    /// notifications than microseconds, so an earlier server's were all smaller.
    #[must_use]
    pub fn new(now_usec: u64) -> Self {
        Self {
            needed: kernel_is_since(6, 5),
            notifier: OnceLock::new(),
            raised: RwLock::default(),
            next: AtomicU64::new(now_usec),
        }
    }

    /// From now on notifications can be sent.
    pub fn connect(&self, notifier: Notifier) {
        let _ = self.notifier.set(notifier);
    }

    /// Before an OPEN is answered: makes sure that the note is above 0.
    pub fn on_open(&self, inode: u64) {
        if !self.raised.read().contains(&inode) {
            self.raise(inode);
        }
    }

    /// Before a GETATTR is answered with size 0.
    pub fn on_getattr(&self, inode: u64, has_handle: bool) {
        if has_handle {
            self.on_noted(inode);
        } else {
            self.raise(inode);
        }
    }

    /// When the kernel is given attributes that it will note.
    pub fn on_noted(&self, inode: u64) {
        self.raised.write().remove(&inode);
    }

    fn raise(&self, inode: u64) {
        let Some(notifier) = self.notifier.get().filter(|_| self.needed) else {
            return;
        };
        let step = self.next.fetch_add(1, Ordering::Relaxed);
        // One byte that is not at the start of its page leaves the page without content.
        let offset = step.saturating_mul(STEP).saturating_add(1);
        match notifier.store(INodeNo(inode), offset, &[0]) {
            Ok(()) => {
                self.raised.write().insert(inode);
            }
            Err(error) => log::debug!("cannot raise the noted size of inode {inode}: {error}"),
        }
    }
}

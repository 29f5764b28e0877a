//! Memory that belongs to a file and outlives the process (man: mmap(2)).
//!
//! It is handed out as words that are loaded and stored atomically, so whatever another
//! process has written there, or half written when it was killed, is a valid value.

use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

use nix::errno::Errno;
use nix::sys::stat::fstat;

/// The mapped words of a file. Pages that nobody has touched take no memory.
#[derive(Debug)]
pub struct SharedMemory {
    start: NonNull<AtomicU64>,
    count: usize,
}

// SAFETY: the mapping belongs to the process, not to a thread.
unsafe impl Send for SharedMemory {}
// SAFETY: all access goes through atomics.
unsafe impl Sync for SharedMemory {}

impl SharedMemory {
    /// Maps the first `count` words of `file`, which must be open for reading and writing
    /// and must not become shorter as long as they are mapped.
    ///
    /// # Errors
    /// `EINVAL` if the file is shorter than that; what mmap(2) says.
    pub fn map(file: impl AsFd, count: usize) -> io::Result<Self> {
        let bytes = count.saturating_mul(size_of::<AtomicU64>());
        let available = usize::try_from(fstat(&file)?.st_size).unwrap_or(0);
        if bytes > available {
            return Err(Errno::EINVAL.into());
        }
        // SAFETY: the kernel chooses an address where nothing is mapped yet.
        let address = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                file.as_fd().as_raw_fd(),
                0,
            )
        };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(address.cast()).ok_or(Errno::ENOMEM)?;
        Ok(Self { start, count })
    }

    /// All words.
    #[must_use]
    pub fn words(&self) -> &[AtomicU64] {
        // SAFETY: `start` lies at the start of a page and so many words are mapped from
        // there on until `self` is dropped; any bits are a valid word.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.count) }
    }

    /// Some of the words, in groups of `N`; none if there are no such words.
    #[must_use]
    pub fn groups<const N: usize>(&self, range: Range<usize>) -> &[[AtomicU64; N]] {
        let words = self.words().get(range).unwrap_or_default();
        let count = words.len().checked_div(N).unwrap_or(0);
        // SAFETY: an array has the alignment of its elements and no padding, and `words` holds
        // `count` times `N` of them.
        unsafe { std::slice::from_raw_parts(words.as_ptr().cast(), count) }
    }
}

impl Drop for SharedMemory {
    fn drop(&mut self) {
        let bytes = self.count.saturating_mul(size_of::<AtomicU64>());
        // SAFETY: this is the mapping that `map` made, and no reference into it is left.
        unsafe { libc::munmap(self.start.as_ptr().cast(), bytes) };
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use nix::sys::memfd::{MFdFlags, memfd_create};
    use nix::unistd::ftruncate;

    use super::*;

    #[test]
    fn words_outlive_the_mapping_but_not_the_file() {
        let file = memfd_create("test", MFdFlags::MFD_CLOEXEC).unwrap();
        ftruncate(&file, 8192).unwrap();
        let memory = SharedMemory::map(&file, 1024).unwrap();
        memory.words()[1023].store(7, Ordering::Relaxed);
        drop(memory);
        let memory = SharedMemory::map(&file, 1024).unwrap();
        drop(file);
        assert_eq!(memory.words()[1023].load(Ordering::Relaxed), 7);
        assert_eq!(memory.words()[1022].load(Ordering::Relaxed), 0);
    }

    #[test]
    fn what_the_file_does_not_have_is_not_mapped() {
        let file = memfd_create("test", MFdFlags::MFD_CLOEXEC).unwrap();
        ftruncate(&file, 8191).unwrap();
        assert!(SharedMemory::map(&file, 1024).is_err());
        assert!(SharedMemory::map(&file, usize::MAX).is_err());
    }
}

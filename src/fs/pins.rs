//! Files that we have open ourselves, so that nobody can have a lease on one.
//!
//! The kernel has one inode for a file, whatever container it is seen from, and a lease on it
//! (man: fcntl(2), `F_SETLEASE`) would keep everybody else's open(2) waiting for 45 seconds.
//! A lease is refused while others have the file open. So each file is opened once more, for
//! reading and writing, before the first of those who open it is answered.
//!
//! That is done by a process of its own (`commands/pin.rs`), as it waits for an
//! answer from here. The open files then lie in a queue, which outlives the server.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

use parking_lot::{Mutex, RwLock};

use super::tree;
use crate::sys::file::read_whole;

/// Files that are pinned at most: more than any machine's tree has, and a bound for the memory
/// that they take of the kernel.
pub const MOST_PINNED: usize = 1 << 16;

/// The answer to somebody who opens a file.
type Answer = Box<dyn FnOnce() + Send>;

/// What is to be done about the pins.
#[derive(Debug, PartialEq, Eq)]
pub enum Wish {
    /// The file with this inode number is to be opened.
    Pin {
        /// Its inode number.
        inode: u64,
        /// Its path from the root of the tree.
        path: String,
    },
    /// The file system is to end: its files must not stay open.
    LetGo,
}

/// Which files are pinned, and who waits for that.
pub struct Pins {
    pinned: RwLock<HashSet<u64>>,
    waiting: Mutex<Waiting>,
    /// The pinned inode numbers for the next server, one after the other.
    list: File,
    /// The process that opens the files; 0 if there is none.
    opener: AtomicI32,
}

#[derive(Default)]
struct Waiting {
    answers: HashMap<u64, Vec<Answer>>,
    /// Whether the process that opens the files is taking too long: nobody waits for it now.
    is_late: bool,
    /// `None` when nothing gets pinned.
    wishes: Option<Sender<Wish>>,
}

impl fmt::Debug for Pins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pins").finish_non_exhaustive()
    }
}

impl Pins {
    /// Those that `list` tells of. Nothing more gets pinned before [`Pins::enable`].
    #[must_use]
    pub fn resume(list: OwnedFd) -> Self {
        let numbers = read_whole(&list).unwrap_or_default();
        let numbers = numbers.chunks_exact(size_of::<u64>());
        let pinned = numbers.filter_map(|bytes| bytes.try_into().ok().map(u64::from_ne_bytes));
        Self {
            pinned: RwLock::new(pinned.collect()),
            waiting: Mutex::default(),
            list: list.into(),
            opener: AtomicI32::new(0),
        }
    }

    /// From now on what is opened gets pinned, by whoever fulfils these wishes; the files below
    /// `/proc` are wished for at once.
    #[must_use]
    pub fn enable(&self) -> (Sender<Wish>, Receiver<Wish>) {
        let (sender, receiver) = channel();
        for (inode, path) in tree::files() {
            if !self.is_pinned(inode) {
                // The receiver is here.
                let _ = sender.send(Wish::Pin { inode, path });
            }
        }
        self.waiting.lock().wishes = Some(sender.clone());
        (sender, receiver)
    }

    /// From now on nothing gets pinned and nobody waits for that.
    pub fn disable(&self) {
        let waiting = std::mem::take(&mut *self.waiting.lock());
        for answer in waiting.answers.into_values().flatten() {
            answer();
        }
    }

    /// Forgets all pins.
    ///
    /// # Errors
    /// What ftruncate(2) says.
    pub fn forget(&self) -> io::Result<()> {
        self.pinned.write().clear();
        self.list.set_len(0)
    }

    /// Has `answer` sent as soon as the file is pinned, or cannot be. `path` leads to it from
    /// the root of the tree.
    pub fn answer_when_pinned(
        &self,
        inode: u64,
        path: impl FnOnce() -> Option<String>,
        answer: impl FnOnce() + Send + 'static,
    ) {
        if self.is_pinned(inode) {
            return answer();
        }
        let Some(path) = path() else {
            return answer();
        };
        let mut waiting = self.waiting.lock();
        // It may have been pinned meanwhile.
        let sent = match &waiting.wishes {
            Some(wishes) if !self.is_pinned(inode) => {
                waiting.answers.contains_key(&inode)
                    || wishes.send(Wish::Pin { inode, path }).is_ok()
            }
            _ => false,
        };
        if sent {
            let is_late = waiting.is_late;
            let answers = waiting.answers.entry(inode).or_default();
            if !is_late {
                return answers.push(Box::new(answer));
            }
        }
        drop(waiting);
        answer();
    }

    /// Whether there is room for another pin.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.pinned.read().len() < MOST_PINNED
    }

    /// Whether the file is pinned.
    #[must_use]
    pub fn is_pinned(&self, inode: u64) -> bool {
        self.pinned.read().contains(&inode)
    }

    /// The process that opens the files is taking too long: until a wish has been fulfilled
    /// nobody waits for one.
    pub fn wait_no_longer(&self) {
        let answers: Vec<_> = {
            let mut waiting = self.waiting.lock();
            waiting.is_late = true;
            let answers = waiting.answers.values_mut();
            answers.flat_map(std::mem::take).collect()
        };
        for answer in answers {
            answer();
        }
    }

    /// A wish has been fulfilled, or cannot be: whoever waited for it is answered.
    pub fn conclude(&self, inode: u64, pinned: bool) {
        let answers = {
            let mut waiting = self.waiting.lock();
            if pinned && self.pinned.write().insert(inode) {
                // If that fails the next server opens the file once more.
                let _ = (&self.list).write_all(&inode.to_ne_bytes());
            }
            waiting.is_late = false;
            waiting.answers.remove(&inode)
        };
        for answer in answers.into_iter().flatten() {
            answer();
        }
    }

    /// The process that opens the files, `None` if there is none. It is this process's own
    /// child and not yet waited for, so that its number is no other's.
    pub fn set_opener(&self, pid: Option<i32>) {
        self.opener.store(pid.unwrap_or(0), Ordering::Release);
    }

    /// Whether the reader is that process.
    #[must_use]
    pub fn is_opener(&self, reader: i32) -> bool {
        reader != 0 && self.opener.load(Ordering::Acquire) == reader
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    use nix::sys::memfd::{MFdFlags, memfd_create};

    use super::*;

    const INODE: u64 = 1 << 63 | 7;

    struct Counted(Arc<AtomicUsize>);

    impl Counted {
        fn open(&self, pins: &Pins) {
            let answered = Arc::clone(&self.0);
            let path = || Some("sys/x".to_owned());
            pins.answer_when_pinned(INODE, path, move || {
                answered.fetch_add(1, Ordering::Relaxed);
            });
        }

        fn answered(&self) -> usize {
            self.0.load(Ordering::Relaxed)
        }
    }

    fn list() -> OwnedFd {
        memfd_create(c"list", MFdFlags::MFD_CLOEXEC).unwrap()
    }

    #[test]
    fn who_opens_a_file_waits_until_it_is_pinned_once() {
        let list = list();
        let pins = Pins::resume(list.try_clone().unwrap());
        let opened = Counted(Arc::default());
        opened.open(&pins);
        assert_eq!(opened.answered(), 1, "nobody pins");
        let (_, wishes) = pins.enable();
        while wishes.try_recv().is_ok() {}
        opened.open(&pins);
        opened.open(&pins);
        assert_eq!(opened.answered(), 1);
        let path = "sys/x".to_owned();
        assert_eq!(wishes.try_recv(), Ok(Wish::Pin { inode: INODE, path }));
        assert!(wishes.try_recv().is_err(), "wished for twice");
        pins.conclude(INODE, true);
        assert_eq!(opened.answered(), 3);
        opened.open(&pins);
        assert_eq!(opened.answered(), 4);
        let next = Pins::resume(list);
        assert!(next.is_pinned(INODE) && !next.is_pinned(7));
        next.forget().unwrap();
        assert!(!next.is_pinned(INODE));
    }

    #[test]
    fn nobody_waits_for_long_for_a_file_to_be_pinned() {
        let pins = Pins::resume(list());
        let opened = Counted(Arc::default());
        let (_, wishes) = pins.enable();
        while wishes.try_recv().is_ok() {}
        opened.open(&pins);
        pins.wait_no_longer();
        assert_eq!(opened.answered(), 1);
        opened.open(&pins);
        assert_eq!(opened.answered(), 2);
        assert!(wishes.try_recv().is_ok());
        assert!(wishes.try_recv().is_err(), "wished for twice");
        pins.conclude(INODE, false);
        opened.open(&pins);
        assert_eq!(opened.answered(), 2, "it is not late any more");
    }

    #[test]
    fn what_cannot_be_pinned_is_opened_and_tried_again() {
        let pins = Pins::resume(list());
        let opened = Counted(Arc::default());
        let (_, wishes) = pins.enable();
        while wishes.try_recv().is_ok() {}
        for round in 1..3 {
            opened.open(&pins);
            assert!(wishes.try_recv().is_ok());
            pins.conclude(INODE, false);
            assert_eq!(opened.answered(), round);
        }
        opened.open(&pins);
        pins.disable();
        assert_eq!(opened.answered(), 3);
    }
}

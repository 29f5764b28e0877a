//! Whether threads may have been moved from cgroup to cgroup, or limits changed.
//!
//! Reading a thread's `/proc/TID/cgroup` takes several times as long as finding out that
//! nobody has written to any cgroup file since it was read last.

use std::path::Path;

use parking_lot::Mutex;

use crate::sys::write_watch::WriteWatch;

/// How often a lock is tried, which takes a few microseconds: less than what follows when
/// nothing is known of moves, reading memberships and making a text anew.
const MOST_TRIES: u32 = 200;

/// A period in which no thread was moved, no limit changed and no cgroup removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lull(u64);

impl Lull {
    /// The one before anything was noticed.
    pub(super) const FIRST: Self = Self(0);

    /// The one after this.
    pub(super) const fn next(self) -> Self {
        Self(self.0.wrapping_add(1))
    }
}

/// The watch on the cgroup file systems.
#[derive(Debug)]
pub(super) struct Moves {
    watched: Option<Mutex<Watched>>,
}

#[derive(Debug)]
struct Watched {
    watch: WriteWatch,
    lull: Lull,
}

impl Moves {
    /// Has the cgroup file systems mounted at `mount_points` watched, if there is a `watch`.
    pub(super) fn new<'a>(
        watch: Option<WriteWatch>,
        mount_points: impl Iterator<Item = &'a Path>,
    ) -> Self {
        let watch = watch.filter(|watch| {
            let added = watch.add(mount_points);
            added
                .inspect_err(|errno| log::debug!("cannot watch the cgroup file systems: {errno}"))
                .is_ok()
        });
        let watched = watch.map(|watch| {
            Mutex::new(Watched {
                watch,
                lull: Lull::FIRST,
            })
        });
        Self { watched }
    }

    /// The present lull. A thread's memberships that were read in it, after this call, are
    /// what they are for as long as this gives the same. None if that cannot be told.
    pub(super) fn lull(&self) -> Option<Lull> {
        // Whoever has the lock makes a system call that does not block, so it is free in a
        // moment, unless he has been interrupted.
        let watched = self.watched.as_ref()?;
        let mut watched = (0..MOST_TRIES).find_map(|_| {
            std::hint::spin_loop();
            watched.try_lock()
        })?;
        if watched.watch.has_been_written() {
            watched.lull = watched.lull.next();
        }
        Some(watched.lull)
    }
}

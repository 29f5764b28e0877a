//! Whether threads may have been moved from cgroup to cgroup, or limits changed.
//!
//! Reading a thread's `/proc/TID/cgroup` takes several times as long as finding out that
//! nobody has written to any cgroup file since it was read last.

use std::path::Path;

use parking_lot::Mutex;

use crate::freshness::Epoch;
use crate::sys::write_watch::WriteWatch;

/// How often a lock is tried, which takes a few microseconds: less than what follows when
/// nothing is known of moves, reading memberships and making a text anew.
const MOST_TRIES: u32 = 200;

/// The watch on the cgroup file systems.
#[derive(Debug)]
pub(super) struct CgroupWatch {
    watched: Option<Mutex<Watched>>,
}

#[derive(Debug)]
struct Watched {
    watch: WriteWatch,
    epochs: u64,
}

impl CgroupWatch {
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
        let watched = watch.map(|watch| Mutex::new(Watched { watch, epochs: 0 }));
        Self { watched }
    }

    /// The present epoch. What is read of cgroups after this call stays as it is for as long as
    /// this returns the same.
    pub(super) fn epoch(&self) -> Epoch {
        // Whoever has the lock makes a system call that does not block, so it is free in a
        // moment, unless he has been interrupted.
        let watched = self.watched.as_ref().and_then(|watched| {
            (0..MOST_TRIES).find_map(|_| {
                std::hint::spin_loop();
                watched.try_lock()
            })
        });
        let Some(mut watched) = watched else {
            return Epoch::UNKNOWN;
        };
        if watched.watch.has_been_written() {
            watched.epochs = watched.epochs.wrapping_add(1);
        }
        Epoch::numbered(watched.epochs)
    }
}

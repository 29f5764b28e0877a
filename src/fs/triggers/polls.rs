//! Whether the kernel asks what poll(2) says.
//!
//! It asks for all files of a connection or, once a POLL has been answered with `ENOSYS`, for
//! none, for ever. Only triggers need it. And a process that waits in poll(2) keeps the host
//! from suspending: as it is being frozen it polls again, and waits for a server that has been
//! frozen before. One that polls for data to read does not wait, and one in epoll_wait(2) does not
//! poll again. So the first process that polls for nothing but `POLLPRI` or an error, of which
//! there are none, puts an end to it, unless somebody has a trigger.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether it does, and may be told not to.
pub struct Polls {
    /// The operator wants triggers to be possible at any time.
    are_wanted: bool,
    refused: AtomicBool,
    note: Box<dyn Fn() -> io::Result<()> + Send + Sync>,
}

impl Polls {
    /// `are_wanted` says that the kernel is to ask at any time, `refused` that it has been told
    /// not to, and `note` notes that for later servers.
    #[must_use]
    pub fn new(
        are_wanted: bool,
        refused: bool,
        note: impl Fn() -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        if are_wanted && refused {
            log::warn!(
                "--enable-psi-poll has effect from the next mount on: on this one the kernel asks for no polls any more"
            );
        }
        Self {
            are_wanted,
            refused: AtomicBool::new(refused),
            note: Box::new(note),
        }
    }

    /// Whether the kernel does not ask, or is about to be told so.
    pub(super) fn are_refused(&self) -> bool {
        self.refused.load(Ordering::Relaxed)
    }

    /// Decides that the kernel is told not to ask. Returns whether it is.
    pub(super) fn refuse(&self) -> bool {
        let refused = self.are_refused() || !self.are_wanted;
        self.refused.store(refused, Ordering::Relaxed);
        refused
    }

    /// Notes it for later servers. To be called before the kernel is told: one that is told
    /// and not noted would take triggers that never fire.
    pub(super) fn note_refused(&self) {
        log::info!(
            "a process waits in poll(2) for a file to change, which would keep the host from suspending: the kernel asks for no polls any more, and no pressure trigger can be set; --enable-psi-poll keeps triggers"
        );
        if let Err(error) = (self.note)() {
            log::warn!("a later server will take triggers that do not fire: {error}");
        }
    }
}

impl fmt::Debug for Polls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Polls")
            .field("are_wanted", &self.are_wanted)
            .field("refused", &self.refused)
            .finish_non_exhaustive()
    }
}

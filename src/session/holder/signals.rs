//! The signals that a holder acts on. They must be blocked in all of its threads.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

const SIGNALS: [Signal; 6] = [
    Signal::SIGTERM,
    Signal::SIGINT,
    Signal::SIGHUP,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGCHLD,
];

/// Blocks the signals that a holder acts on in the calling thread and those it starts.
///
/// # Errors
/// What `sigprocmask(2)` says.
pub fn block() -> Result<SigSet, Errno> {
    let signals = SigSet::from_iter(SIGNALS);
    signals.thread_block()?;
    Ok(signals)
}

/// Those that have come.
#[derive(Debug)]
pub(super) struct Signals(SignalFd);

impl Signals {
    /// # Errors
    /// What signalfd(2) says.
    pub(super) fn new() -> io::Result<Self> {
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let signals = SignalFd::with_flags(&SigSet::from_iter(SIGNALS), flags)?;
        Ok(Self(signals))
    }

    /// The next one that has come.
    pub(super) fn next(&self) -> Option<Signal> {
        let signal = self.0.read_signal().ok()??;
        let number = i32::try_from(signal.ssi_signo).ok()?;
        Signal::try_from(number).ok()
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

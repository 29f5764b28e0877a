//! Signals as events, for the front process and for the container's init.

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::sys::process;

/// Signals that are passed on to the command.
const PASSED_ON: [Signal; 6] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
];

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A child has ended.
    Child,
    /// The command is to get this signal.
    PassOn(Signal),
}

/// The signals of this process.
#[derive(Debug)]
pub struct Signals(SignalFd);

impl Signals {
    /// Blocks the signals; from now on they wait to be read.
    pub fn block() -> Result<Self, Errno> {
        // A caller that ignores it would have our children vanish unseen.
        process::default_signal(Signal::SIGCHLD)?;
        let mut set = SigSet::from_iter(PASSED_ON);
        set.add(Signal::SIGCHLD);
        set.thread_block()?;
        SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC).map(Self)
    }

    /// Waits for the next signal that matters.
    pub fn next(&self) -> Result<Event, Errno> {
        loop {
            let info = match self.0.read_signal() {
                Ok(Some(info)) => info,
                Ok(None) | Err(Errno::EINTR) => continue,
                Err(error) => return Err(error),
            };
            let signal = i32::try_from(info.ssi_signo).ok();
            match signal.and_then(|signal| Signal::try_from(signal).ok()) {
                Some(Signal::SIGCHLD) => return Ok(Event::Child),
                // The kernel's own, such as those of Ctrl-C, go to the whole process
                // group, which the command is in.
                Some(signal) if info.ssi_code <= 0 => return Ok(Event::PassOn(signal)),
                _ => {}
            }
        }
    }
}

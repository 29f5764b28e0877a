//! What a holder is doing.

use std::time::Instant;

use nix::unistd::Pid;

use super::Outcome;
use crate::session::control::Death;

/// Where the holder is.
#[derive(Debug)]
pub(super) enum Phase {
    /// No server until then.
    Waiting { until: Instant, before: Death },
    /// A server is at work.
    Up(Server),
    /// The server has been told to end.
    Draining { server: Server, then: Outcome },
    /// There is nothing left to do.
    Over(Outcome),
}

/// A server that has been started.
#[derive(Debug, Clone, Copy)]
pub(super) struct Server {
    pub(super) pid: Pid,
    pub(super) serves_since: Option<Instant>,
    /// When it will be taken for stuck.
    pub(super) deadline: Instant,
    /// Killed by the holder because it was stuck.
    pub(super) was_stuck: bool,
}

impl Server {
    /// Its pid as messages have it.
    pub(super) fn pid(&self) -> u32 {
        u32::try_from(self.pid.as_raw()).unwrap_or(0)
    }
}

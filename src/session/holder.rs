//! The process that stays: it keeps the connection, starts the server, and starts it again
//! whenever it ends.
//!
//! While the holder keeps the fds, readers wait for the next server and notice nothing else.
//! So it does little that could go wrong: what it needs to start a server is made ready
//! beforehand, and it never looks at what is served.

mod attempts;
mod phase;
mod signals;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::Context;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};

use self::attempts::Attempts;
use self::phase::{Phase, Server};
use self::signals::Signals;
pub use self::signals::block as block_signals;
use super::control::{Control, Death, Order, Sign};
use super::held;
use crate::sys::exec::Program;
use crate::sys::process;

/// A server that has been told to end and has not is killed after this time.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
/// One that does not serve this long after its start is taken for stuck.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// How often the connection is looked at: waiting for its end would wake this process up for
/// every request.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// Why a holder's work is over. No server runs any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was told to end.
    Ended,
    /// It was told to make way for the program that is installed now.
    TakeOver,
    /// The connection has ended: the file system was unmounted everywhere, or somebody has
    /// aborted the connection.
    Disconnected,
    /// The first server could not serve, and said why.
    NeverServed,
}

/// What a holder begins with.
#[derive(Debug, Clone, Copy)]
pub struct Beginning {
    /// A server that has not answered for so long is replaced.
    pub patience: Duration,
    /// Whether the connection has been served before.
    pub resumes: bool,
    /// Whether readers are shown the host's own files at first.
    pub views_off: bool,
}

/// What the owner of the holder wants to be told.
pub trait Owner {
    /// Files are answered from now on.
    fn on_ready(&mut self);
    /// Time has passed: about every quarter of the watchdog's time.
    fn on_alive(&mut self);
    /// Whether the program that is installed now can be changed to.
    fn may_take_over(&mut self) -> bool;
}

/// The holder and its server.
#[derive(Debug)]
pub struct Holder<O> {
    owner: O,
    program: Program,
    control: Control,
    connection: OwnedFd,
    signals: Signals,
    /// A server that has not answered for so long is replaced.
    patience: Duration,
    phase: Phase,
    attempts: Attempts,
    has_served: bool,
    is_ready: bool,
    views_off: bool,
}

impl<O: Owner> Holder<O> {
    /// A holder of `connection` that starts servers by `program` and talks to them by
    /// `control`.
    ///
    /// # Errors
    /// What signalfd(2) says.
    pub fn new(
        owner: O,
        program: Program,
        control: Control,
        connection: OwnedFd,
        beginning: Beginning,
    ) -> io::Result<Self> {
        Ok(Self {
            owner,
            program,
            control,
            connection,
            signals: Signals::new()?,
            patience: beginning.patience,
            phase: Phase::Waiting {
                until: Instant::now(),
                // An end in order has left no trace that could be taken for anything else.
                before: Death::Killed,
            },
            attempts: Attempts::default(),
            has_served: beginning.resumes,
            is_ready: false,
            views_off: beginning.views_off,
        })
    }

    /// Whether readers are shown the host's own files.
    #[must_use]
    pub fn views_off(&self) -> bool {
        self.views_off
    }

    /// Has a server serve until there is a reason to end.
    ///
    /// # Errors
    /// When one server after the other dies at once.
    pub fn run(&mut self) -> anyhow::Result<Outcome> {
        loop {
            self.on_time()?;
            if let Phase::Over(outcome) = self.phase {
                return Ok(outcome);
            }
            self.wait()?;
            while let Some(signal) = self.signals.next() {
                self.on_signal(signal);
            }
            while let Some((sign, pid)) = self.control.next_sign() {
                self.on_sign(sign, pid);
            }
            self.reap()?;
            self.look_at_connection();
            self.owner.on_alive();
        }
    }

    /// Ends a server that is left when the work ends by an error.
    pub fn kill_server(&mut self) {
        if let Phase::Up(server) | Phase::Draining { server, .. } = &self.phase {
            let _ = kill(server.pid, Signal::SIGKILL);
            let _ = nix::sys::wait::waitpid(server.pid, None);
        }
    }

    /// Sleeps until there is something to do.
    fn wait(&self) -> anyhow::Result<()> {
        let latest = Instant::now() + (self.patience / 4).min(LOOK_INTERVAL);
        let until = match &self.phase {
            Phase::Waiting { until, .. } => *until,
            Phase::Up(server) | Phase::Draining { server, .. } => server.deadline,
            Phase::Over(_) => return Ok(()),
        };
        let left = until.min(latest).saturating_duration_since(Instant::now());
        // Rounded up, so that the time has come when it ends.
        let timeout = u16::try_from(left.as_millis() + 1).unwrap_or(u16::MAX);
        let mut ready = [
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.control.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut ready, PollTimeout::from(timeout)) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(errno) => Err(errno).context("cannot wait for the server"),
        }
    }

    fn on_time(&mut self) -> anyhow::Result<()> {
        let now = Instant::now();
        match &mut self.phase {
            Phase::Waiting { until, before } if *until <= now => {
                let before = *before;
                self.start(before)
            }
            Phase::Up(server) | Phase::Draining { server, .. }
                if server.deadline <= now && !server.was_stuck =>
            {
                log::error!(
                    "the server (pid {}) does not answer; killing it",
                    server.pid
                );
                server.was_stuck = true;
                let _ = kill(server.pid, Signal::SIGKILL);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn start(&mut self, before: Death) -> anyhow::Result<()> {
        if !held::is_alive(&self.connection) {
            self.phase = Phase::Over(Outcome::Disconnected);
            return Ok(());
        }
        let pid = match self.program.spawn() {
            Ok(pid) => pid,
            Err(errno) => {
                log::error!("cannot start a server: {errno}");
                let pause = self.attempts.pause_after_none()?;
                self.wait_for(pause, before);
                return Ok(());
            }
        };
        let server = Server {
            pid,
            serves_since: None,
            deadline: Instant::now() + START_TIMEOUT.min(self.patience * 2),
            was_stuck: false,
        };
        let start = Order::Start {
            before,
            views_off: self.views_off,
        };
        if let Err(errno) = self.control.order(start, server.pid()) {
            log::error!("cannot tell the server to start: {errno}");
        }
        self.phase = Phase::Up(server);
        Ok(())
    }

    fn on_signal(&mut self, signal: Signal) {
        match signal {
            Signal::SIGCHLD => {}
            Signal::SIGUSR2 => self.toggle(),
            // A server that is yet to come reads it anyhow.
            Signal::SIGHUP => self.tell(Order::Reload),
            Signal::SIGUSR1 => {
                let goes_on = matches!(self.phase, Phase::Up(_) | Phase::Waiting { .. });
                if goes_on && self.owner.may_take_over() {
                    self.drain(Outcome::TakeOver);
                }
            }
            signal => {
                log::info!("{signal}; ending");
                self.drain(Outcome::Ended);
            }
        }
    }

    fn toggle(&mut self) {
        self.views_off = !self.views_off;
        log::info!(
            "the container views are {}",
            if self.views_off {
                "off: the host's files are shown"
            } else {
                "on"
            }
        );
        self.tell(Order::Toggle);
    }

    /// Gives an order to the server, if there is one.
    fn tell(&self, order: Order) {
        if let Phase::Up(server) = &self.phase {
            if let Err(errno) = self.control.order(order, server.pid()) {
                log::error!("cannot tell the server: {errno}");
            }
        }
    }

    /// Has the server answer what it has read, read nothing more, and end.
    fn drain(&mut self, then: Outcome) {
        self.phase = match &self.phase {
            Phase::Up(server) => {
                let mut server = *server;
                let now = Instant::now();
                // One that does not serve yet may have begun before this is heard of. It comes
                // to the order when it has.
                let start = match server.serves_since {
                    Some(_) => Duration::ZERO,
                    None => server.deadline.saturating_duration_since(now),
                };
                server.deadline = now + start + DRAIN_TIMEOUT;
                if self.control.order(Order::Drain, server.pid()).is_err() {
                    let _ = kill(server.pid, Signal::SIGKILL);
                }
                Phase::Draining { server, then }
            }
            // To end outranks to go on with another program.
            Phase::Draining { server, .. } => Phase::Draining {
                server: *server,
                then,
            },
            Phase::Waiting { .. } | Phase::Over(_) => Phase::Over(then),
        };
    }

    fn on_sign(&mut self, sign: Sign, pid: u32) {
        let Phase::Up(server) = &mut self.phase else {
            return;
        };
        if server.pid() != pid {
            return;
        }
        let now = Instant::now();
        server.deadline = now + self.patience;
        match sign {
            Sign::Serves => {
                server.serves_since = Some(now);
                self.has_served = true;
                self.attempts.on_served();
            }
            Sign::Answers => {
                if !self.is_ready {
                    self.is_ready = true;
                    self.owner.on_ready();
                }
            }
            Sign::Disconnected => self.look_at_connection(),
        }
    }

    /// Ends a server whose connection has ended: there is nothing left that it could answer.
    fn look_at_connection(&mut self) {
        let Phase::Up(server) = &self.phase else {
            return;
        };
        if !held::is_alive(&self.connection) {
            let _ = kill(server.pid, Signal::SIGKILL);
            self.phase = Phase::Draining {
                server: *server,
                then: Outcome::Disconnected,
            };
        }
    }

    /// Sees to the end of the server.
    fn reap(&mut self) -> anyhow::Result<()> {
        let (Phase::Up(server) | Phase::Draining { server, .. }) = &self.phase else {
            return Ok(());
        };
        let server = *server;
        let mut ended = None;
        // As the first process of a container the holder is left with others' children too.
        while let Some((pid, code)) = process::reap(None).context("lost sight of the server")? {
            if pid == server.pid {
                ended = Some(code);
                break;
            }
        }
        let Some(code) = ended else {
            return Ok(());
        };
        if let Phase::Draining { then, .. } = self.phase {
            self.phase = Phase::Over(then);
            return Ok(());
        }
        if !self.has_served {
            self.phase = Phase::Over(Outcome::NeverServed);
            return Ok(());
        }
        let killed = code == KILLED && !server.was_stuck;
        let served_for = server.serves_since.map(|since| since.elapsed());
        log::warn!(
            "the server (pid {}) ended with {code}; starting another one",
            server.pid
        );
        let before = if killed {
            Death::Killed
        } else {
            Death::Crashed
        };
        match self.attempts.pause_after(served_for, killed)? {
            None => self.start(before),
            Some(pause) => {
                self.wait_for(pause, before);
                Ok(())
            }
        }
    }

    fn wait_for(&mut self, pause: Duration, before: Death) {
        self.phase = Phase::Waiting {
            until: Instant::now() + pause,
            before,
        };
    }
}

/// How [`process::reap`] reports SIGKILL.
const KILLED: u8 = 128 + 9;

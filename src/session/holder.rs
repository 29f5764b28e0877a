//! The process that stays: it keeps the connection, starts the server, and starts it again
//! whenever it ends.
//!
//! While the holder keeps the fds, readers wait for the next server and notice nothing else.
//! So it does little that could go wrong: what it needs to start a server is made ready
//! beforehand, and it never looks at what is served.

use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::Pid;

use super::control::{Control, Death, Order, Sign};
use crate::sys::exec::Program;
use crate::sys::process;

/// A server that has been told to end and has not is killed after this time.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
/// One that does not serve this long after its start is taken for stuck.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// A server that crashes sooner than this died at once.
const SHORT_LIFE: Duration = Duration::from_millis(100);
/// Waiting time after the second server in a row that died at once; doubled after each further
/// one.
const FIRST_DELAY: Duration = Duration::from_millis(10);
/// After this many in a row that did not even serve the connection is given up.
const MOST_FAILURES: u32 = 10;
/// The longest waiting time while servers do serve: requests that kill them are answered one
/// after the other.
const LONGEST_DELAY: Duration = Duration::from_millis(80);

/// The signals that a holder acts on. They must be blocked in all of its threads.
const SIGNALS: [Signal; 6] = [
    Signal::SIGTERM,
    Signal::SIGINT,
    Signal::SIGHUP,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGCHLD,
];

/// Why a holder's work is over. No server runs any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was told to end.
    Ended,
    /// It was told to make way for the program that is installed now.
    TakeOver,
    /// The file system has been unmounted everywhere.
    Unmounted,
    /// The first server could not serve, and said why.
    NeverServed,
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
    signals: SignalFd,
    /// A server that has not answered for so long is replaced.
    patience: Duration,
    phase: Phase,
    /// Servers in a row that died at once.
    failures: u32,
    /// Servers in a row that did not serve.
    unserved: u32,
    has_served: bool,
    is_ready: bool,
    views_off: bool,
}

#[derive(Debug)]
enum Phase {
    /// No server until then.
    Waiting {
        until: Instant,
        before: Death,
    },
    Up(Server),
    /// The server has been told to end.
    Draining {
        server: Server,
        then: Outcome,
    },
    Over(Outcome),
}

#[derive(Debug, Clone, Copy)]
struct Server {
    pid: Pid,
    serves_since: Option<Instant>,
    /// When it will be taken for stuck.
    deadline: Instant,
    /// Killed by the holder because it was stuck.
    was_stuck: bool,
}

impl Server {
    fn pid(&self) -> u32 {
        u32::try_from(self.pid.as_raw()).unwrap_or(0)
    }
}

/// Blocks the signals that a holder acts on in the calling thread and those it starts.
///
/// # Errors
/// What `sigprocmask(2)` says.
pub fn block_signals() -> Result<SigSet, Errno> {
    let signals = SigSet::from_iter(SIGNALS);
    signals.thread_block()?;
    Ok(signals)
}

impl<O: Owner> Holder<O> {
    /// A holder that starts servers by `program` and talks to them by `control`. A server
    /// that has not answered for as long as `patience` is replaced. `resumes` says that the
    /// connection has been served before, `views_off` that readers are shown the host's own
    /// files at first.
    ///
    /// # Errors
    /// What signalfd(2) says.
    pub fn new(
        owner: O,
        program: Program,
        control: Control,
        patience: Duration,
        resumes: bool,
        views_off: bool,
    ) -> io::Result<Self> {
        let signals = SignalFd::with_flags(
            &SigSet::from_iter(SIGNALS),
            SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK,
        )?;
        Ok(Self {
            owner,
            program,
            control,
            signals,
            patience,
            phase: Phase::Waiting {
                until: Instant::now(),
                // An end in order has left no trace that could be taken for anything else.
                before: Death::Killed,
            },
            failures: 0,
            unserved: 0,
            has_served: resumes,
            is_ready: false,
            views_off,
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
            while let Ok(Some(signal)) = self.signals.read_signal() {
                if let Some(signal) = i32::try_from(signal.ssi_signo)
                    .ok()
                    .and_then(|number| Signal::try_from(number).ok())
                {
                    self.on_signal(signal);
                }
            }
            while let Some((sign, pid)) = self.control.next_sign() {
                self.on_sign(sign, pid);
            }
            self.reap()?;
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
        let latest = Instant::now() + self.patience / 4;
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
        let pid = match self.program.spawn() {
            Ok(pid) => pid,
            Err(errno) => {
                log::error!("cannot start a server: {errno}");
                return self.give_up_or_try_later(before);
            }
        };
        let server = Server {
            pid,
            serves_since: None,
            deadline: Instant::now() + START_TIMEOUT,
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
                server.deadline = Instant::now() + DRAIN_TIMEOUT;
                let order = self.control.order(Order::Drain, server.pid());
                if order.is_err() || server.serves_since.is_none() {
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
                self.unserved = 0;
            }
            Sign::Answers => {
                if !self.is_ready {
                    self.is_ready = true;
                    self.owner.on_ready();
                }
            }
            Sign::Unmounted => {
                log::info!("unmounted from outside; ending");
                // There is nothing left that it could answer.
                let _ = kill(server.pid, Signal::SIGKILL);
                self.phase = Phase::Draining {
                    server: *server,
                    then: Outcome::Unmounted,
                };
            }
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
        match served_for {
            Some(time) if killed || time >= SHORT_LIFE => {
                self.failures = 0;
                self.start(before)
            }
            Some(_) => {
                self.try_later(before, LONGEST_DELAY);
                Ok(())
            }
            None => self.give_up_or_try_later(before),
        }
    }

    /// After a server that did not serve.
    fn give_up_or_try_later(&mut self, before: Death) -> anyhow::Result<()> {
        self.unserved += 1;
        if self.unserved >= MOST_FAILURES {
            bail!("{MOST_FAILURES} servers in a row ended at once; giving up");
        }
        self.try_later(before, Duration::MAX);
        Ok(())
    }

    /// After a server that died at once.
    fn try_later(&mut self, before: Death, longest: Duration) {
        self.failures = self.failures.saturating_add(1);
        let delay = match self.failures {
            1 => Duration::ZERO,
            failures => FIRST_DELAY * 2_u32.pow((failures - 2).min(MOST_FAILURES)),
        };
        self.phase = Phase::Waiting {
            until: Instant::now() + delay.min(longest),
            before,
        };
    }
}

/// How [`process::reap`] reports SIGKILL.
const KILLED: u8 = 128 + 9;

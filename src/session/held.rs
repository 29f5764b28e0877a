//! What outlives a server: the fds of the connection and the memories.
//!
//! A holder keeps them, hands them to each server it starts, to the program that takes
//! its own place, and to the service manager's fd store.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::Command;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::epoll::{Epoll, EpollCreateFlags};
use nix::sys::memfd::{MFdFlags, memfd_create};

use super::mount::Connection;
use super::terms::Terms;
use super::{handshake, interrupts};
use crate::fs::MOST_PINNED;
use crate::sys::exec::Named;
use crate::sys::fuse_device;
use crate::sys::parking::Parking;
use crate::sys::write_watch::WriteWatch;

/// Followed by `-` and the minor device number of the file system.
const CONNECTION: &str = "connection";
const QUEUE: &str = "queue";
const JOURNAL: &str = "journal";
const LEDGER: &str = "ledger";
const WRITES: &str = "writes";
const CONFIG: &str = "config";
const EVENTS: &str = "events";
const PARKING: &str = "parking";
const TERMS: &str = "terms";
const PINS: &str = "pins";
const PIN_LIST: &str = "pinlist";
/// What memfd_create(2) is told that the memory of the configuration is called.
const CONFIG_MEMORY: &CStr = c"lxcfs-config";
/// What follows `parking-` and `pins-`.
const FRONT: &str = "front";
const BACK: &str = "back";

/// Triggers that find room, and as many that are being closed.
const TRIGGERS: usize = 4096;

/// The fds of a connection that is set up, and of the memories that go with it.
#[derive(Debug)]
pub struct Held {
    /// The connection. Nobody reads requests from it: in a kernel that cannot send them
    /// again, those that a dead server had read would never end.
    pub connection: OwnedFd,
    /// Minor device number of its file system.
    pub minor: u32,
    /// Fds of the connection to read requests from, one for each thread. None are kept in
    /// such a kernel: a server makes its own, and its end ends the requests read from them.
    pub queues: Vec<OwnedFd>,
    /// Memory of the containers' figures.
    pub journal: OwnedFd,
    /// Memory of open files and of requests that are worked on.
    pub ledger: OwnedFd,
    /// Memory of what was agreed about the connection.
    pub terms: Terms,
    /// Memory of the last configuration that was good.
    pub config: OwnedFd,
    /// The pressure triggers that are set in the kernel: closing the last fd of one takes
    /// the kernel longer than a takeover, and an event would be lost.
    pub parking: Parking,
    /// What waits for their events, an epoll instance.
    pub events: OwnedFd,
    /// Files of this very connection, kept open so that nobody can have a lease on one.
    pub pins: Parking,
    /// Memory of which these are.
    pub pin_list: OwnedFd,
    /// The watch on writes to cgroup files, if the kernel has such a thing. Closing the last
    /// fd of it takes the kernel longer than all else that a takeover consists of.
    pub writes: Option<OwnedFd>,
}

impl Held {
    /// For a new connection: `threads` servers' threads get an fd each if the kernel can
    /// send requests again (Linux 6.9) and `resend` allows it.
    ///
    /// # Errors
    /// What open(2), ioctl(2) and `memfd_create(2)` say.
    pub fn new(connection: Connection, threads: usize, resend: bool) -> io::Result<Self> {
        Ok(Self {
            queues: queues(&connection.fd, threads, resend)?,
            connection: connection.fd,
            minor: connection.minor,
            terms: Terms::new(connection.request_timeout)?,
            journal: memory(c"lxcfs-journal")?,
            ledger: memory(c"lxcfs-ledger")?,
            config: memory(CONFIG_MEMORY)?,
            parking: Parking::new(TRIGGERS)?,
            events: events()?,
            pins: Parking::new(MOST_PINNED)?,
            pin_list: memory(c"lxcfs-pins")?,
            writes: WriteWatch::new().ok().map(OwnedFd::from),
        })
    }

    /// Puts a new connection in the place of one that has ended. Open files have ended with
    /// that, the figures of the containers go on. The triggers are closed by the next server,
    /// which finds no files that they belong to.
    ///
    /// # Errors
    /// Those of [`Held::new`].
    pub fn renew(self, connection: Connection, threads: usize, resend: bool) -> io::Result<Self> {
        Ok(Self {
            queues: queues(&connection.fd, threads, resend)?,
            connection: connection.fd,
            minor: connection.minor,
            terms: Terms::new(connection.request_timeout)?,
            ledger: memory(c"lxcfs-ledger")?,
            pins: Parking::new(MOST_PINNED)?,
            pin_list: memory(c"lxcfs-pins")?,
            ..self
        })
    }

    /// Finds its own among the fds that this process was started with. `None` if there is
    /// no connection among them, or one that has ended.
    ///
    /// # Errors
    /// What `memfd_create(2)` says where a memory is missing.
    pub fn adopt(inherited: Vec<Named>) -> io::Result<Option<Self>> {
        let (mut connection, mut queues) = (None, Vec::new());
        let (mut journal, mut ledger, mut config, mut writes) = (None, None, None, None);
        let (mut front, mut back, mut waits, mut terms) = (None, None, None, None);
        let (mut pins_front, mut pins_back, mut pin_list) = (None, None, None);
        for Named { name, fd } in inherited {
            match name.split_once('-').unwrap_or((name.as_str(), "")) {
                (CONNECTION, minor) => connection = minor.parse().ok().map(|minor| (minor, fd)),
                (QUEUE, _) => queues.push(fd),
                (JOURNAL, _) => journal = Some(fd),
                (LEDGER, _) => ledger = Some(fd),
                (CONFIG, _) => config = Some(fd),
                (PARKING, FRONT) => front = Some(fd),
                (PARKING, BACK) => back = Some(fd),
                (EVENTS, _) => waits = Some(fd),
                (PINS, FRONT) => pins_front = Some(fd),
                (PINS, BACK) => pins_back = Some(fd),
                (PIN_LIST, _) => pin_list = Some(fd),
                (WRITES, _) => writes = Some(fd),
                (TERMS, _) => terms = Some(fd),
                _ => log::debug!("an fd named {name} is not known and is closed"),
            }
        }
        let Some((minor, connection)) = connection.filter(|(_, fd)| is_alive(fd)) else {
            return Ok(None);
        };
        let parking = match (front, back) {
            (Some(front), Some(back)) => Parking { front, back },
            _ => Parking::new(TRIGGERS)?,
        };
        let (pins, pin_list) = match (pins_front, pins_back, pin_list) {
            (Some(front), Some(back), Some(list)) => (Parking { front, back }, list),
            _ => (Parking::new(MOST_PINNED)?, memory(c"lxcfs-pins")?),
        };
        Ok(Some(Self {
            connection,
            minor,
            queues,
            terms: Terms::adopt(terms)?,
            journal: journal.map_or_else(|| memory(c"lxcfs-journal"), Ok)?,
            ledger: ledger.map_or_else(|| memory(c"lxcfs-ledger"), Ok)?,
            config: config.map_or_else(|| memory(CONFIG_MEMORY), Ok)?,
            parking,
            events: waits.map_or_else(events, Ok)?,
            pins,
            pin_list,
            writes: writes.or_else(|| WriteWatch::new().ok().map(OwnedFd::from)),
        }))
    }

    /// Copies to hand over.
    ///
    /// # Errors
    /// `EMFILE`.
    pub fn copies(&self) -> io::Result<Vec<Named>> {
        let connection = format!("{CONNECTION}-{}", self.minor);
        let queues = self.queues.iter().map(|queue| (QUEUE, queue.as_fd()));
        let ends = |name| (format!("{name}-{FRONT}"), format!("{name}-{BACK}"));
        let ((front, back), (pins_front, pins_back)) = (ends(PARKING), ends(PINS));
        [(connection.as_str(), self.connection.as_fd())]
            .into_iter()
            .chain(queues)
            .chain([
                (TERMS, self.terms.as_fd()),
                (JOURNAL, self.journal.as_fd()),
                (LEDGER, self.ledger.as_fd()),
                (CONFIG, self.config.as_fd()),
                (front.as_str(), self.parking.front.as_fd()),
                (back.as_str(), self.parking.back.as_fd()),
                (EVENTS, self.events.as_fd()),
                (pins_front.as_str(), self.pins.front.as_fd()),
                (pins_back.as_str(), self.pins.back.as_fd()),
                (PIN_LIST, self.pin_list.as_fd()),
            ])
            .chain(self.writes.iter().map(|writes| (WRITES, writes.as_fd())))
            .map(|(name, fd)| {
                Ok(Named {
                    name: name.to_owned(),
                    fd: fd.try_clone_to_owned()?,
                })
            })
            .collect()
    }

    /// Whether what a server has read and not answered can be sent again to the next one.
    #[must_use]
    pub fn can_resend(&self) -> bool {
        !self.queues.is_empty()
    }

    /// Has the kernel send no INTERRUPT from now on, if that could do harm; see
    /// `session/interrupts.rs`. `reader` is to read something from the mount. Nobody may be
    /// serving.
    ///
    /// # Errors
    /// `ETIMEDOUT`, and what starting the reader and the connection say.
    pub fn refuse_interrupts(&self, reader: &mut Command) -> io::Result<()> {
        if !self.resends_interrupted() {
            return Ok(());
        }
        interrupts::refuse(&self.connection, reader)?;
        self.terms.note_refused_interrupts()
    }

    /// Whether a request that is sent again may have been interrupted.
    #[must_use]
    pub fn resends_interrupted(&self) -> bool {
        self.can_resend() && !self.terms.interrupts_are_refused()
    }

    /// Has the kernel send again what a dead server had read, if it can. Nobody may be
    /// serving.
    ///
    /// # Errors
    /// `ENOTCONN` or `EPERM` when the connection has ended.
    pub fn resend(&self) -> io::Result<()> {
        if self.can_resend() {
            handshake::resend(&self.connection)?;
        }
        Ok(())
    }

    /// The fds for a server's threads to read requests from.
    ///
    /// # Errors
    /// What open(2) and ioctl(2) say.
    pub fn serving_fds(&self, threads: usize) -> io::Result<Vec<OwnedFd>> {
        if self.queues.is_empty() {
            return (0..threads)
                .map(|_| fuse_device::clone(&self.connection))
                .collect();
        }
        self.queues.iter().map(OwnedFd::try_clone).collect()
    }
}

/// Fds to read requests from, if what is read from them can be sent again.
fn queues(connection: &OwnedFd, threads: usize, resend: bool) -> io::Result<Vec<OwnedFd>> {
    if !resend || !handshake::resend(connection)? {
        return Ok(Vec::new());
    }
    (0..threads)
        .map(|_| fuse_device::clone(connection))
        .collect()
}

fn events() -> io::Result<OwnedFd> {
    Ok(Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?.0)
}

pub(super) fn memory(name: &CStr) -> io::Result<OwnedFd> {
    Ok(memfd_create(name, MFdFlags::MFD_CLOEXEC)?)
}

/// Whether a link of `/proc/PID/fd` leads to the memory of the configuration.
#[must_use]
pub fn is_config(link: &Path) -> bool {
    let name = CONFIG_MEMORY.to_string_lossy();
    link == Path::new(&format!("/memfd:{name} (deleted)"))
}

/// Whether the connection has neither been aborted nor been unmounted everywhere.
pub(super) fn is_alive(connection: &OwnedFd) -> bool {
    let mut state = [PollFd::new(connection.as_fd(), PollFlags::empty())];
    poll(&mut state, PollTimeout::ZERO) == Ok(0)
}

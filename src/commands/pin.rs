//! `lxcfs pin`: the process that opens files for its server, so that nobody can have a lease on
//! one (see [`crate::fs::Pins`]), and the server's side of it.
//!
//! Whoever opens a file waits for the server. A server that waited for itself could not be
//! killed, so it has a child do it, which it starts when there is something to open.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, send, socketpair};
use nix::sys::stat::Mode;

use super::serve::spawn;
use crate::fs::{Pins, Wish};
use crate::sys::file::device_of;
use crate::sys::mounts::{Attributes, detached_copy, restrict};
use crate::sys::parking::{self, Parking};
use crate::sys::process;

/// A child that has had nothing to do for so long ends.
const IDLE: Duration = Duration::from_secs(5);
/// It opens a file within this time, or is stuck.
const PATIENCE: Duration = Duration::from_secs(5);
/// Whoever opens a file waits for no longer.
const LATE: Duration = Duration::from_millis(500);
/// After a child that failed nothing is pinned for this time.
const PAUSE: Duration = Duration::from_secs(10);
/// After so many in a row nothing is pinned any more.
const MOST_FAILURES: u32 = 3;

/// How often is looked whether a child has ended.
const POLL: Duration = Duration::from_millis(5);

/// The longest path in the tree is much shorter.
const LONGEST_ORDER: usize = 4096;

/// What the server and its child know of the file system.
#[derive(Debug, Clone)]
pub struct Place {
    /// Where it is mounted.
    pub mountpoint: PathBuf,
    /// Its minor device number.
    pub minor: u32,
}

impl Place {
    /// Whether it is still mounted there. Nobody is asked for that.
    fn is_mounted(&self) -> bool {
        device_of(&self.mountpoint).is_ok_and(|device| device == (0, self.minor))
    }
}

/// Pins what readers open from now on, as long as the file system is mounted at `place`.
///
/// # Errors
/// When a thread cannot be started.
pub fn keep(pins: Arc<Pins>, parking: Parking, place: Place) -> anyhow::Result<()> {
    let (sender, wishes) = pins.enable();
    let watched = place.clone();
    spawn("mounts", move || {
        if let Err(error) = wait_for_unmount(&watched) {
            log::warn!("cannot watch the mounts: {error}");
        }
        // Nobody is there to hear it when nothing gets pinned any more.
        let _ = sender.send(Wish::LetGo);
    })?;
    let keeper = Keeper {
        pins,
        parking,
        place,
        opener: None,
        ended: Vec::new(),
        failures: 0,
        paused: None,
    };
    spawn("pins", move || keeper.work(&wishes))
}

/// The kernel tells of every change of the mounts (man: proc_pid_mountinfo(5)).
fn wait_for_unmount(place: &Place) -> io::Result<()> {
    let mounts = std::fs::File::open("/proc/self/mountinfo")?;
    while place.is_mounted() {
        let mut changes = [PollFd::new(mounts.as_fd(), PollFlags::POLLPRI)];
        match poll(&mut changes, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

/// The server's side.
struct Keeper {
    pins: Arc<Pins>,
    parking: Parking,
    place: Place,
    opener: Option<Opener>,
    /// Children that have been told to end.
    ended: Vec<Child>,
    failures: u32,
    paused: Option<Instant>,
}

impl Keeper {
    fn work(mut self, wishes: &Receiver<Wish>) {
        loop {
            let wish = match self.opener.is_some() || !self.ended.is_empty() {
                true => wishes.recv_timeout(IDLE),
                false => wishes.recv().map_err(RecvTimeoutError::from),
            };
            match wish {
                Ok(Wish::Pin { inode, path }) => {
                    let pinned = self.pins.is_pinned(inode) || self.pin(inode, &path);
                    self.pins.conclude(inode, pinned);
                }
                Err(RecvTimeoutError::Timeout) => self.end_opener(),
                Ok(Wish::LetGo) | Err(RecvTimeoutError::Disconnected) => break,
            }
            if self.failures >= MOST_FAILURES {
                self.pins.disable();
            }
            self.reap();
        }
        self.end_opener();
        self.pins.disable();
        if !self.place.is_mounted() {
            self.let_go();
        }
    }

    /// Whether the file is pinned now.
    fn pin(&mut self, inode: u64, path: &str) -> bool {
        let is_paused = |until| Instant::now() < until;
        if self.paused.is_some_and(is_paused) || !self.pins.has_room() {
            return false;
        }
        match self.open(inode, path) {
            Ok(Ok(())) => {
                self.failures = 0;
                true
            }
            Ok(Err(errno)) => {
                log::debug!("leases on {path} are possible: {errno}");
                false
            }
            Err(error) => {
                if self.failures == 0 {
                    log::warn!("a file lease can delay readers: {error:#}");
                }
                self.failures += 1;
                self.paused = Some(Instant::now() + PAUSE);
                self.end_opener();
                false
            }
        }
    }

    /// What the child says to the path, if it says something.
    fn open(&mut self, inode: u64, path: &str) -> anyhow::Result<Result<(), Errno>> {
        if self.opener.is_none() {
            let opener = Opener::start(&self.place, &self.parking)?;
            self.pins.set_opener(i32::try_from(opener.child.id()).ok());
            self.opener = Some(opener);
        }
        let opener = self.opener.as_ref().context("there is no process")?;
        opener.pin(inode, path, || self.pins.wait_no_longer())
    }

    fn end_opener(&mut self) {
        let Some(Opener { mut child, orders }) = self.opener.take() else {
            return;
        };
        drop(orders);
        // Only a process that has not been waited for keeps its number.
        self.pins.set_opener(None);
        // It may be over already.
        let _ = child.kill();
        self.ended.push(child);
    }

    /// One that is stuck would be waited for too long.
    fn reap(&mut self) {
        self.ended
            .retain_mut(|child| matches!(child.try_wait(), Ok(None)));
    }

    /// An open file would keep the file system from its end.
    fn let_go(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.reap();
            while matches!(self.parking.take(), Ok(Some(_))) {}
            if self.ended.is_empty() || Instant::now() >= deadline {
                break;
            }
            // Until its end a child may leave one more.
            thread::sleep(POLL);
        }
        if let Err(error) = self.pins.forget() {
            log::warn!("cannot forget which files are open: {error}");
        }
    }
}

/// The child, with what it is told by.
struct Opener {
    child: Child,
    orders: OwnedFd,
}

impl Opener {
    fn start(place: &Place, parking: &Parking) -> anyhow::Result<Self> {
        let (ours, childs) = socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC,
        )?;
        let mut command = Command::new("/proc/self/exe");
        command
            .arg("pin")
            .args(["--minor", &place.minor.to_string()])
            .arg(&place.mountpoint)
            .stdin(Stdio::from(childs))
            .stdout(Stdio::from(parking.back.try_clone()?));
        process::die_with_parent(&mut command, Signal::SIGKILL);
        let child = command.spawn().context("cannot start a process")?;
        Ok(Self {
            child,
            orders: ours,
        })
    }

    /// What the child says to the path. `be_late` is called if that takes long.
    fn pin(
        &self,
        inode: u64,
        path: &str,
        be_late: impl FnOnce(),
    ) -> anyhow::Result<Result<(), Errno>> {
        let order = [&inode.to_ne_bytes(), path.as_bytes()].concat();
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        send(self.orders.as_raw_fd(), &order, flags)
            .context("the process that opens files ended")?;
        let has_answer = self.answers_within(LATE)? || {
            be_late();
            self.answers_within(PATIENCE)?
        };
        ensure!(has_answer, "the process that opens files does not answer");
        let mut said = [0; 4];
        let length = recv(self.orders.as_raw_fd(), &mut said, MsgFlags::MSG_DONTWAIT)?;
        ensure!(
            length == said.len(),
            "the process that opens files cannot do it"
        );
        Ok(match i32::from_ne_bytes(said) {
            0 => Ok(()),
            errno => Err(Errno::from_raw(errno)),
        })
    }

    fn answers_within(&self, time: Duration) -> Result<bool, Errno> {
        let timeout = PollTimeout::try_from(time).unwrap_or(PollTimeout::MAX);
        let mut answers = [PollFd::new(self.orders.as_fd(), PollFlags::POLLIN)];
        Ok(poll(&mut answers, timeout)? > 0)
    }
}

/// The child: opens what it is told to on standard input, and leaves it in the queue that its
/// standard output is.
///
/// # Errors
/// One sentence if the file system cannot be used.
pub fn run(place: &Place) -> anyhow::Result<ExitCode> {
    let tree = own_copy(place).context("cannot make a mount of its own")?;
    let (orders, queue) = (io::stdin(), io::stdout());
    let mut order = [0; LONGEST_ORDER];
    loop {
        let length = recv(orders.as_fd().as_raw_fd(), &mut order, MsgFlags::empty())?;
        let order = order.get(..length).unwrap_or_default();
        let Some((inode, path)) = order.split_first_chunk() else {
            return Ok(ExitCode::SUCCESS);
        };
        let path = std::str::from_utf8(path)?;
        let pinned = open_file(&tree, path)
            .and_then(|file| parking::put(&queue, u64::from_ne_bytes(*inode), Some(&file)));
        let errno = pinned.err().map_or(0, |errno| errno as i32);
        let flags = MsgFlags::MSG_NOSIGNAL;
        send(orders.as_fd().as_raw_fd(), &errno.to_ne_bytes(), flags)?;
    }
}

/// A mount that is attached nowhere: an open file on the one at the mountpoint would keep that
/// from being unmounted.
fn own_copy(place: &Place) -> anyhow::Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let tree = open(&place.mountpoint, flags, Mode::empty())?;
    let copy = detached_copy(tree)?;
    ensure!(place.is_mounted(), "the file system is not mounted there");
    // Not before Linux 5.12; nothing is mounted on it.
    let _ = restrict(&copy, Attributes::default());
    Ok(copy)
}

/// Open for writing it also keeps others from leases for reading, which delay those who write.
fn open_file(tree: &OwnedFd, path: &str) -> Result<OwnedFd, Errno> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let open = |access| openat(tree, path, access | flags, Mode::empty());
    match open(OFlag::O_RDWR) {
        Err(Errno::EACCES | Errno::EROFS) => open(OFlag::O_RDONLY),
        opened => opened,
    }
}

//! Work in other mount namespaces.
//!
//! A path of a container can lead through a file system whose server is stopped, and then
//! even looking it up never ends. So each piece of work has a thread of its own that may
//! be left behind.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns, unshare};

/// How long an answer may take that a live server gives within milliseconds.
pub const PATIENCE: Duration = Duration::from_secs(3);

/// A namespace in which the work takes longer is left to itself while others have their turn.
const BRISK: Duration = Duration::from_millis(100);

/// A mount namespace; `None` is that of this process, with its root directory.
pub type Namespace = Option<Arc<OwnedFd>>;

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// The namespace cannot be entered.
    #[error("its mount namespace cannot be entered: {0}")]
    Closed(Errno),
    /// No answer in time.
    #[error("its file system does not answer")]
    Silent,
    /// It has more mounts than can be looked at.
    #[error("it has too many mounts to look at")]
    TooLong,
}

/// Work that goes on in a thread.
#[derive(Debug)]
pub struct Pending<T>(Receiver<Result<T, Errno>>);

impl<T: Send + 'static> Pending<T> {
    /// Starts `work` in the namespace.
    ///
    /// # Errors
    /// [`Trouble::Closed`] if there can be no more threads.
    pub fn start(
        namespace: &Namespace,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<Self, Trouble> {
        let (sender, receiver) = mpsc::channel();
        let namespace = namespace.clone();
        let body = move || {
            let result = enter(&namespace).map(|()| work());
            // Nobody listens any more if it took too long.
            let _ = sender.send(result);
        };
        match thread::Builder::new().spawn(body) {
            Ok(_) => Ok(Self(receiver)),
            Err(error) => Err(Trouble::Closed(errno(&error))),
        }
    }

    /// The result, if it comes within `limit`; this can be asked again after
    /// [`Trouble::Silent`].
    ///
    /// # Errors
    /// [`Trouble`] if there is none.
    pub fn wait(&self, limit: Duration) -> Result<T, Trouble> {
        match self.0.recv_timeout(limit) {
            Ok(result) => result.map_err(Trouble::Closed),
            Err(_) => Err(Trouble::Silent),
        }
    }
}

/// The result of `work` in the namespace, if it comes within `limit`.
///
/// # Errors
/// [`Trouble`] if there is none.
pub fn run<T: Send + 'static>(
    namespace: &Namespace,
    limit: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Trouble> {
    Pending::start(namespace, work)?.wait(limit)
}

/// A piece of work in each of many namespaces, one after the other. What each one is known by
/// is given back with its result.
#[derive(Debug)]
pub struct Round<K, T> {
    done: Vec<(K, Result<T, Trouble>)>,
    slow: Vec<(K, Pending<T>)>,
}

impl<K, T> Default for Round<K, T> {
    fn default() -> Self {
        Self {
            done: Vec::new(),
            slow: Vec::new(),
        }
    }
}

impl<K, T: Send + 'static> Round<K, T> {
    /// Does the next piece, or leaves it going on for a while.
    pub fn next(
        &mut self,
        key: K,
        namespace: &Namespace,
        work: impl FnOnce() -> T + Send + 'static,
    ) {
        let started = Pending::start(namespace, work);
        match started.map(|work| (work.wait(BRISK), work)) {
            Ok((Err(Trouble::Silent), work)) => self.slow.push((key, work)),
            Ok((result, _)) => self.done.push((key, result)),
            Err(trouble) => self.done.push((key, Err(trouble))),
        }
    }

    /// The results; those that have not come after [`PATIENCE`] do not come.
    pub fn results(self) -> Vec<(K, Result<T, Trouble>)> {
        let deadline = Instant::now() + PATIENCE;
        let Self { mut done, slow } = self;
        done.extend(slow.into_iter().map(|(key, work)| {
            let rest = deadline.saturating_duration_since(Instant::now());
            (key, work.wait(rest))
        }));
        done
    }
}

/// Gives this thread a root and a working directory of its own, those of the namespace.
fn enter(namespace: &Namespace) -> Result<(), Errno> {
    unshare(CloneFlags::CLONE_FS)?;
    match namespace {
        Some(fd) => setns(fd, CloneFlags::CLONE_NEWNS),
        None => Ok(()),
    }
}

/// The number of an error that the kernel gave.
pub fn errno(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

//! Work in other mount namespaces.
//!
//! A path of a container can lead through a file system whose server is stopped, and then
//! even looking it up never ends. So each piece of work has a thread of its own that may
//! be left behind, and nobody waits for its answer longer than [`PATIENCE`].

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns, unshare};

/// How long an answer may take that a live server gives within milliseconds.
pub const PATIENCE: Duration = Duration::from_secs(3);

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
}

/// Starts `work` in the namespace; its result comes through the channel.
///
/// # Errors
/// What starting a thread fails with.
pub fn start<T: Send + 'static>(
    namespace: &Namespace,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<Receiver<Result<T, Errno>>> {
    let (sender, receiver) = mpsc::channel();
    let namespace = namespace.clone();
    let body = move || {
        let result = enter(&namespace).map(|()| work());
        // Nobody listens any more if it took too long.
        let _ = sender.send(result);
    };
    thread::Builder::new().spawn(body)?;
    Ok(receiver)
}

/// The result of `work` in the namespace.
///
/// # Errors
/// [`Trouble`] if it gives none.
pub fn run<T: Send + 'static>(
    namespace: &Namespace,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Trouble> {
    let answer = start(namespace, work)
        .map_err(|error| Trouble::Closed(Errno::from_raw(error.raw_os_error().unwrap_or(0))))?;
    match answer.recv_timeout(PATIENCE) {
        Ok(result) => result.map_err(Trouble::Closed),
        Err(_) => Err(Trouble::Silent),
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

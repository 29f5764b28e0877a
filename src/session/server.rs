//! The threads that answer requests.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::thread::{self, JoinHandle};

use fuser::{Config, Filesystem, Notifier, Session, SessionACL};

use super::handshake;
use crate::sys::file;

/// Serving threads. More of them only help where a request can wait for something.
const MOST_THREADS: usize = 4;

/// How many threads serve on this machine.
#[must_use]
pub fn thread_count() -> usize {
    thread::available_parallelism()
        .map_or(2, usize::from)
        .clamp(2, MOST_THREADS)
}

/// Serves `filesystem` on fds of one connection that is set up already, with a thread
/// for each fd. The threads end when the file system is unmounted everywhere. Returns
/// them with the means to notify the kernel.
///
/// # Errors
/// When a session or a thread cannot be made.
pub fn serve<FS>(
    filesystem: &FS,
    fds: Vec<OwnedFd>,
) -> io::Result<(Vec<JoinHandle<()>>, Option<Notifier>)>
where
    FS: Filesystem + Clone,
{
    let mut notifier = None;
    let threads = fds.into_iter().map(|fd| {
        let session = resume(filesystem.clone(), &fd)?;
        notifier.get_or_insert_with(|| session.notifier());
        thread::Builder::new()
            .name("session".to_owned())
            .spawn(move || {
                if let Err(error) = session.run() {
                    log::error!("a serving thread ended: {error}");
                }
            })
    });
    let threads = threads.collect::<io::Result<_>>()?;
    Ok((threads, notifier))
}

/// A session on a connection whose INIT has been answered before.
fn resume<FS: Filesystem>(filesystem: FS, connection: &OwnedFd) -> io::Result<Session<FS>> {
    let mut config = Config::default();
    config.acl = SessionACL::All;
    config.n_threads = Some(1);
    let (socket, _other_end) = handshake::synthetic()?;
    let session = Session::from_fd(filesystem, socket, SessionACL::All, config)?;
    // The session keeps its number and finds the real connection behind it.
    file::replace(connection, session.as_fd())?;
    Ok(session)
}

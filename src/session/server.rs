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
/// for each fd. The threads end when the file system is unmounted everywhere. Before the
/// first of them starts, `connect` is given the means to notify the kernel.
///
/// # Errors
/// When a session or a thread cannot be made.
pub fn serve<FS>(
    filesystem: &FS,
    fds: &[OwnedFd],
    connect: impl FnOnce(Notifier),
) -> io::Result<Vec<JoinHandle<()>>>
where
    FS: Filesystem + Clone,
{
    let sessions = fds.iter().map(|fd| resume(filesystem.clone(), fd));
    let sessions: Vec<_> = sessions.collect::<io::Result<_>>()?;
    if let Some(first) = sessions.first() {
        connect(first.notifier());
    }
    sessions.into_iter().map(start).collect()
}

fn start<FS: Filesystem>(session: Session<FS>) -> io::Result<JoinHandle<()>> {
    thread::Builder::new()
        .name("session".to_owned())
        .spawn(move || {
            if let Err(error) = session.run() {
                log::error!("a serving thread ended: {error}");
            }
        })
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
    use nix::unistd::{read, write};

    use super::*;

    const FUSE_STATFS: u32 = 17;

    #[derive(Debug, Clone)]
    struct Nothing;

    impl Filesystem for Nothing {}

    /// Whoever updates the crate `fuser` and sees this fail has to find another way to have a
    /// session go on with a connection; see `resume`.
    #[test]
    fn fuser_serves_a_connection_that_was_put_behind_the_fd_of_its_session() {
        let (kernel, connection) = socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC,
        )
        .unwrap();
        let mut connected = false;
        let threads = serve(&Nothing, &[connection], |_| connected = true).unwrap();
        assert!(connected);
        let unique = 1_u64 << 63 | 6;
        let mut request = [0; 40];
        request[0..4].copy_from_slice(&40_u32.to_ne_bytes());
        request[4..8].copy_from_slice(&FUSE_STATFS.to_ne_bytes());
        request[8..16].copy_from_slice(&unique.to_ne_bytes());
        request[16..24].copy_from_slice(&1_u64.to_ne_bytes());
        for _ in 0..3 {
            write(&kernel, &request).unwrap();
            let mut ready = [PollFd::new(kernel.as_fd(), PollFlags::POLLIN)];
            let timeout = PollTimeout::try_from(Duration::from_secs(10)).unwrap();
            assert_eq!(
                poll(&mut ready, timeout),
                Ok(1),
                "the request is not answered"
            );
            let mut reply = [0; 256];
            let length = read(&kernel, &mut reply).unwrap();
            assert!(length >= 16);
            assert_eq!(
                reply[8..16],
                unique.to_ne_bytes(),
                "an answer to something else"
            );
        }
        drop(kernel);
        drop(threads);
    }
}

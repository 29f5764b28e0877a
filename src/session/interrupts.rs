//! INTERRUPT requests, which nobody here has any use for: answers come at once anyhow.
//!
//! A request that has been interrupted and that the kernel sends again (`FUSE_NOTIFY_RESEND`)
//! makes it use memory after it has been freed (Linux 6.9 to 6.12.95, 6.13 to 6.18.38, and
//! 6.19 to 7.1.3). So the kernel is brought to interrupt none: it learns from one `ENOSYS` that
//! INTERRUPT is not served, but takes that answer only while the interrupted request has not
//! been answered, and from the fd that read it. The server could not see to both.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{read, write};

use super::handshake::{error_reply, word};

const FUSE_INTERRUPT: u32 = 36;
/// Marks the number of an INTERRUPT; the rest is that of the request that it is about.
const INTERRUPT_BIT: u64 = 1;

/// Where in a request its number and the process that made it are.
const UNIQUE: usize = 8;
const PID: usize = 32;

/// Room for any request.
const REQUEST_LEN: usize = 8192;

/// Starting a process and killing it takes no longer, unless something is wrong.
const LIMIT: Duration = Duration::from_secs(1);

/// Has the kernel send no INTERRUPT on this connection from now on. `reader` is to read
/// something below its mountpoint. Nobody else may be reading requests. Those of others that
/// come meanwhile are left to be sent again.
///
/// # Errors
/// `ETIMEDOUT` if the kernel does not interrupt the reader; what starting it and the
/// connection say.
pub(super) fn refuse(connection: &OwnedFd, reader: &mut Command) -> io::Result<()> {
    // A request whose reader is killed meanwhile is gone again.
    let flags = OFlag::from_bits_truncate(fcntl(connection, FcntlArg::F_GETFL)?);
    fcntl(connection, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    let mut victim = Victim {
        reader: reader.spawn()?,
        connection,
        request: None,
    };
    let refused = victim.refuse_interrupt(Instant::now() + LIMIT);
    drop(victim);
    fcntl(connection, FcntlArg::F_SETFL(flags))?;
    refused
}

/// A process that makes a request and is killed while it waits for the answer.
struct Victim<'a> {
    reader: Child,
    connection: &'a OwnedFd,
    /// The number of its request.
    request: Option<u64>,
}

impl Victim<'_> {
    fn refuse_interrupt(&mut self, deadline: Instant) -> io::Result<()> {
        let mut request = [0; REQUEST_LEN];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
            let mut ready = [PollFd::new(self.connection.as_fd(), PollFlags::POLLIN)];
            if poll(&mut ready, timeout)? == 0 {
                return Err(Errno::ETIMEDOUT.into());
            }
            match read(self.connection, &mut request) {
                Ok(length) => {
                    let request = request.get(..length).unwrap_or_default();
                    if self.on_request(request)? {
                        return Ok(());
                    }
                }
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Returns whether it was the INTERRUPT, which is refused then.
    fn on_request(&mut self, request: &[u8]) -> io::Result<bool> {
        let (Some(opcode), Some(unique), Some(pid)) = (
            word(request, 4),
            request.get(UNIQUE..UNIQUE + 8),
            word(request, PID),
        ) else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        let unique = unique.try_into().map(u64::from_ne_bytes);
        let unique = unique.map_err(|_| io::ErrorKind::InvalidData)?;
        if opcode == FUSE_INTERRUPT {
            if self.request != Some(unique & !INTERRUPT_BIT) {
                return Ok(false);
            }
            write(self.connection, &error_reply(unique, Errno::ENOSYS))?;
            return Ok(true);
        }
        if pid == self.reader.id() && self.request.is_none() {
            self.request = Some(unique);
            self.reader.kill()?;
        }
        Ok(false)
    }
}

impl Drop for Victim<'_> {
    fn drop(&mut self) {
        // Before it has been answered not even a kill ends its wait.
        let killed = self.reader.kill();
        let answered = self
            .request
            .map(|unique| write(self.connection, &error_reply(unique, Errno::EINTR)));
        if killed.is_err() || matches!(answered, Some(Err(_))) {
            log::debug!("a process that was to be interrupted: {killed:?}, {answered:?}");
        }
        let _ = self.reader.wait();
    }
}

//! `FUSE_INIT`, answered by us towards the kernel and asked by us of the `fuser` crate.
//!
//! The kernel sends INIT once in the life of a connection. The crate insists on one at
//! the start of each session, so a session that takes over a running connection gets
//! one over a socket pair, whose end is then replaced by the real fd.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::unistd::{read, write};

const FUSE_INIT: u32 = 26;
const FUSE_NOTIFY_RESEND: i32 = 7;
const MAJOR: u32 = 7;
/// The protocol that the `fuser` crate speaks.
const MINOR: u32 = 40;

const HEADER_LEN: usize = 40;
const INIT_IN_LEN: usize = 64;

const FUSE_ASYNC_READ: u64 = 1 << 0;
const FUSE_PARALLEL_DIROPS: u64 = 1 << 18;
const FUSE_MAX_PAGES: u64 = 1 << 22;
const FUSE_INIT_EXT: u64 = 1 << 30;
const FUSE_ALLOW_IDMAP: u64 = 1 << 40;
const FUSE_REQUEST_TIMEOUT: u64 = 1 << 42;

/// What is asked for where the kernel has it. `ALLOW_IDMAP` lets engines bind the
/// files into containers with a user namespace.
const WANTED: u64 = FUSE_ASYNC_READ
    | FUSE_PARALLEL_DIROPS
    | FUSE_MAX_PAGES
    | FUSE_INIT_EXT
    | FUSE_ALLOW_IDMAP
    | FUSE_REQUEST_TIMEOUT;

/// Largest request in bytes: there are no writes of any size here.
const MAX_WRITE: u32 = 4096;
/// Pages of one read: 128 KiB.
const MAX_PAGES: u16 = 32;
/// Requests for which nobody waits, such as RELEASE, that may be on their way at once. Others
/// are held back until one is answered: with few, closed files pile up in the kernel and here
/// while many readers are waiting.
const MAX_BACKGROUND: u16 = u16::MAX;

/// Waits at most this long for the kernel's INIT after mount(2).
const INIT_TIMEOUT_MS: u16 = 10_000;

/// Reads INIT from a fresh connection and answers it. The kernel is asked for
/// `request_timeout`, in seconds; 0 for what it does by itself.
pub(super) fn answer(connection: &OwnedFd, request_timeout: u16) -> io::Result<()> {
    let mut ready = [PollFd::new(connection.as_fd(), PollFlags::POLLIN)];
    if poll(&mut ready, PollTimeout::from(INIT_TIMEOUT_MS))? == 0 {
        return Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "the kernel sent no FUSE_INIT",
        ));
    }
    let mut request = vec![0; 8192];
    let length = read(connection, &mut request)?;
    request.truncate(length);
    let reply = reply_to(&request, request_timeout).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::Unsupported,
            "the kernel's FUSE protocol is too old",
        )
    })?;
    write(connection, &reply)?;
    Ok(())
}

/// Four bytes of a request.
pub(super) fn word(bytes: &[u8], offset: usize) -> Option<u32> {
    let bytes = bytes.get(offset..offset.checked_add(4)?)?;
    Some(u32::from_ne_bytes(bytes.try_into().ok()?))
}

/// The reply to INIT, or `None` if the request is none or older than protocol 7.23.
fn reply_to(request: &[u8], request_timeout: u16) -> Option<Vec<u8>> {
    if word(request, 4)? != FUSE_INIT || word(request, HEADER_LEN)? != MAJOR {
        return None;
    }
    let minor = word(request, HEADER_LEN + 4)?;
    if minor < 23 {
        return None;
    }
    let max_readahead = word(request, HEADER_LEN + 8)?;
    let flags = u64::from(word(request, HEADER_LEN + 12)?);
    let more_flags = u64::from(word(request, HEADER_LEN + 16).unwrap_or(0));
    let granted = (flags | more_flags << 32) & WANTED;
    let (low, high) = (granted & u64::from(u32::MAX), granted >> 32);

    let mut body = Vec::with_capacity(INIT_IN_LEN);
    body.extend_from_slice(&MAJOR.to_ne_bytes());
    body.extend_from_slice(&MINOR.min(minor).to_ne_bytes());
    body.extend_from_slice(&max_readahead.to_ne_bytes());
    body.extend_from_slice(&u32::try_from(low).ok()?.to_ne_bytes());
    body.extend_from_slice(&MAX_BACKGROUND.to_ne_bytes());
    body.extend_from_slice(&0u16.to_ne_bytes()); // congestion_threshold: the kernel's default
    body.extend_from_slice(&MAX_WRITE.to_ne_bytes());
    body.extend_from_slice(&1u32.to_ne_bytes()); // time_gran
    body.extend_from_slice(&MAX_PAGES.to_ne_bytes());
    body.extend_from_slice(&0u16.to_ne_bytes()); // map_alignment
    body.extend_from_slice(&u32::try_from(high).ok()?.to_ne_bytes());
    body.extend_from_slice(&0u32.to_ne_bytes()); // max_stack_depth
    body.extend_from_slice(&request_timeout.to_ne_bytes());
    body.resize(INIT_IN_LEN, 0);

    let mut reply = Vec::with_capacity(16 + body.len());
    reply.extend_from_slice(&u32::try_from(16 + body.len()).ok()?.to_ne_bytes());
    reply.extend_from_slice(&0i32.to_ne_bytes());
    reply.extend_from_slice(request.get(8..16)?); // unique
    reply.extend_from_slice(&body);
    Some(reply)
}

/// The reply to a request that fails.
pub(super) fn error_reply(unique: u64, errno: Errno) -> [u8; 16] {
    let [a, b, c, d] = 16_u32.to_ne_bytes();
    let [e, f, g, h] = (-(errno as i32)).to_ne_bytes();
    let [i, j, k, l, m, n, o, p] = unique.to_ne_bytes();
    [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]
}

/// Has the kernel send again what was read from any fd of the connection and has not been
/// answered. Nobody else may be serving. Gives whether the kernel can do that, which it
/// can since Linux 6.9.
///
/// # Errors
/// `ENOTCONN` or `EPERM` when the connection has ended.
pub(super) fn resend(connection: impl AsFd) -> Result<bool, Errno> {
    let mut message = [0; 16];
    let (length, rest) = message.split_at_mut(4);
    length.copy_from_slice(&16_u32.to_ne_bytes());
    if let Some(code) = rest.get_mut(..4) {
        code.copy_from_slice(&FUSE_NOTIFY_RESEND.to_ne_bytes());
    }
    match write(connection, &message) {
        Ok(_) => Ok(true),
        Err(Errno::EINVAL) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// An INIT request as a kernel of protocol 7.40 would send it.
fn request() -> Vec<u8> {
    let mut request = vec![0; HEADER_LEN + INIT_IN_LEN];
    let fields = [
        (0, u32::try_from(HEADER_LEN + INIT_IN_LEN).unwrap_or(0)),
        (4, FUSE_INIT),
        (8, 1), // unique
        (HEADER_LEN, MAJOR),
        (HEADER_LEN + 4, MINOR),
        (HEADER_LEN + 8, 128 * 1024), // max_readahead
    ];
    for (offset, value) in fields {
        if let Some(field) = request.get_mut(offset..offset + 4) {
            field.copy_from_slice(&u32::to_ne_bytes(value));
        }
    }
    request
}

/// A socket from which a `fuser` session can read its INIT, and the other end of it,
/// which must live until the session has answered.
pub(super) fn synthetic() -> Result<(OwnedFd, OwnedFd), Errno> {
    let (ours, theirs) = socketpair(
        AddressFamily::Unix,
        SockType::SeqPacket,
        None,
        SockFlag::SOCK_CLOEXEC,
    )?;
    write(&ours, &request())?;
    Ok((theirs, ours))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grants_only_what_the_kernel_offers() {
        let mut request = request();
        request[HEADER_LEN + 12..HEADER_LEN + 16]
            .copy_from_slice(&(1u32 << 30 | 1 << 18 | 1 << 5).to_ne_bytes());
        request[HEADER_LEN + 16..HEADER_LEN + 20]
            .copy_from_slice(&(1u32 << 10 | 1 << 8 | 1 << 7).to_ne_bytes());
        let reply = reply_to(&request, 60).unwrap();
        assert_eq!(word(&reply, 0), Some(80));
        assert_eq!(word(&reply, 4), Some(0));
        assert_eq!(reply[8..16], request[8..16]);
        assert_eq!(word(&reply, 16 + 4), Some(MINOR));
        assert_eq!(word(&reply, 16 + 12), Some(1 << 30 | 1 << 18));
        assert_eq!(word(&reply, 16 + 32), Some(1 << 8 | 1 << 10));
        assert_eq!(reply[16 + 40..16 + 42], 60_u16.to_ne_bytes());
    }

    #[test]
    fn refuses_anything_but_init() {
        assert_eq!(reply_to(&[], 0), None);
        let mut lookup = request();
        lookup[4] = 1;
        assert_eq!(reply_to(&lookup, 0), None);
        let mut ancient = request();
        ancient[HEADER_LEN + 4] = 12;
        assert_eq!(reply_to(&ancient, 0), None);
    }
}

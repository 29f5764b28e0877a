//! Open files that outlive the process: they lie in the queue of a pair of sockets that
//! others have too (man: unix(7), `SCM_RIGHTS`).

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sys::socket::sockopt::{SndBuf, SndBufForce};
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr,
    recvmsg, sendmsg, setsockopt, socketpair,
};

/// Of the queue for each file in it.
const BYTES_PER_FILE: usize = 1 << 10;

/// The queue. Every file in it has a number.
#[derive(Debug)]
pub struct Parking {
    /// The end that is read from.
    pub front: OwnedFd,
    /// The end that is written to.
    pub back: OwnedFd,
}

impl Parking {
    /// An empty one with room for about `files`, if this process may have a queue that long.
    ///
    /// # Errors
    /// What socketpair(2) says.
    pub fn new(files: usize) -> Result<Self, Errno> {
        let (front, back) = socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC,
        )?;
        let bytes = files.saturating_mul(BYTES_PER_FILE);
        if setsockopt(&back, SndBufForce, &bytes).is_err() {
            // As much as those may have who lack CAP_NET_ADMIN.
            setsockopt(&back, SndBuf, &bytes)?;
        }
        Ok(Self { front, back })
    }

    /// The same queue for somebody else.
    ///
    /// # Errors
    /// `EMFILE`.
    pub fn try_clone(&self) -> std::io::Result<Self> {
        Ok(Self {
            front: self.front.try_clone()?,
            back: self.back.try_clone()?,
        })
    }

    /// Puts a copy of `file` at the end of the queue; with none the number alone.
    ///
    /// # Errors
    /// `EAGAIN` when it is full.
    pub fn put(&self, number: u64, file: Option<&OwnedFd>) -> Result<(), Errno> {
        put(&self.back, number, file)
    }

    /// Takes what is first in the queue; `None` if it is empty.
    ///
    /// # Errors
    /// `EMFILE`, with which the file is lost.
    pub fn take(&self) -> Result<Option<(u64, Option<OwnedFd>)>, Errno> {
        let mut number = [0; 8];
        let mut space = nix::cmsg_space!([RawFd; 1]);
        let mut pieces = [IoSliceMut::new(&mut number)];
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
        let received =
            recvmsg::<UnixAddr>(self.front.as_raw_fd(), &mut pieces, Some(&mut space), flags);
        let received = match received {
            Ok(received) if received.bytes > 0 => received,
            Ok(_) | Err(Errno::EAGAIN) => return Ok(None),
            Err(errno) => return Err(errno),
        };
        let fd = received.cmsgs()?.find_map(|message| match message {
            ControlMessageOwned::ScmRights(fds) => fds.first().copied(),
            _ => None,
        });
        // SAFETY: the kernel just made this fd for us; nobody else owns it.
        let file = fd.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
        Ok(Some((u64::from_ne_bytes(number), file)))
    }
}

/// The same for somebody who has only the end that is written to.
///
/// # Errors
/// `EAGAIN` when the queue is full.
pub fn put(back: impl AsFd, number: u64, file: Option<&OwnedFd>) -> Result<(), Errno> {
    let number = number.to_ne_bytes();
    let fds = file.map(|file| [file.as_raw_fd()]);
    let message = fds.as_ref().map(|fds| ControlMessage::ScmRights(fds));
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    sendmsg::<UnixAddr>(
        back.as_fd().as_raw_fd(),
        &[IoSlice::new(&number)],
        message.as_slice(),
        flags,
        None,
    )
    .map(drop)
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use nix::sys::stat::fstat;

    use super::*;

    #[test]
    fn files_come_out_as_they_went_in_whoever_takes_them() {
        let parking = Parking::new(4096).unwrap();
        let file = OwnedFd::from(File::open("/proc/self/exe").unwrap());
        let inode = fstat(&file).unwrap().st_ino;
        parking.put(7, Some(&file)).unwrap();
        parking.put(u64::MAX, None).unwrap();
        drop(file);
        let other = parking.try_clone().unwrap();
        drop(parking);
        let (number, file) = other.take().unwrap().unwrap();
        assert_eq!((number, fstat(file.unwrap()).unwrap().st_ino), (7, inode));
        let (number, file) = other.take().unwrap().unwrap();
        assert!(number == u64::MAX && file.is_none());
        assert!(other.take().unwrap().is_none());
    }

    #[test]
    fn a_full_queue_says_so() {
        let parking = Parking::new(4096).unwrap();
        let file = OwnedFd::from(File::open("/proc/self/exe").unwrap());
        let parked = (0..100_000).take_while(|number| parking.put(*number, Some(&file)).is_ok());
        let parked = parked.count();
        assert!((256..100_000).contains(&parked), "{parked}");
    }
}

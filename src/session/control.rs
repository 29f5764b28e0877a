//! What a holder and its server tell each other.
//!
//! One pair of sockets serves all servers of a holder, one after the other, so each message
//! names the server that it is from or for. A message is eight bytes.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, send, socketpair};

/// How the server before ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Death {
    /// As it was told to, with every request answered; or there was none.
    InOrder,
    /// By SIGKILL from somebody else.
    Killed,
    /// By itself, or because it did not answer any more.
    Crashed,
}

/// From the holder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// To serve from now on.
    Start {
        /// What became of the server before.
        before: Death,
        /// Whether readers are shown the host's own files.
        views_off: bool,
    },
    /// To show the host's own files, or the views again.
    Toggle,
    /// To read the configuration again.
    Reload,
    /// To answer what has been read, read nothing more, and end.
    Drain,
}

/// From the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sign {
    /// It is about to read requests.
    Serves,
    /// A file has been read through the mount.
    Answers,
    /// The connection has ended.
    Disconnected,
}

/// One end.
#[derive(Debug)]
pub struct Control(OwnedFd);

/// The part of a message that says something; the rest is the pid.
type Content = [u8; 4];

impl Control {
    /// Both ends: the holder's, which never blocks, and the servers'.
    ///
    /// # Errors
    /// What socketpair(2) says.
    pub fn pair() -> Result<(Self, OwnedFd), Errno> {
        let (ours, theirs) = socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC,
        )?;
        Ok((Self(ours), theirs))
    }

    /// The server's end.
    #[must_use]
    pub fn of_server(fd: OwnedFd) -> Self {
        Self(fd)
    }

    /// Tells the server with this pid something.
    ///
    /// # Errors
    /// `EAGAIN` when it does not listen.
    pub fn order(&self, order: Order, pid: u32) -> Result<(), Errno> {
        let content = match order {
            Order::Start { before, views_off } => {
                let before = match before {
                    Death::InOrder => 0,
                    Death::Killed => 1,
                    Death::Crashed => 2,
                };
                [b'S', before, u8::from(views_off), 0]
            }
            Order::Toggle => [b'T', 0, 0, 0],
            Order::Reload => [b'R', 0, 0, 0],
            Order::Drain => [b'D', 0, 0, 0],
        };
        self.send(content, pid)
    }

    /// Waits for an order to the server with this pid. What an earlier one did not live to
    /// read, and what is not known, from a newer holder, is passed over.
    ///
    /// # Errors
    /// What recv(2) says.
    pub fn next_order(&self, pid: u32) -> Result<Order, Errno> {
        loop {
            let (content, to) = self.receive(MsgFlags::empty())?;
            if to != pid {
                continue;
            }
            match content {
                [b'S', before, views_off, _] => {
                    return Ok(Order::Start {
                        before: match before {
                            0 => Death::InOrder,
                            1 => Death::Killed,
                            _ => Death::Crashed,
                        },
                        views_off: views_off != 0,
                    });
                }
                [b'T', ..] => return Ok(Order::Toggle),
                [b'R', ..] => return Ok(Order::Reload),
                [b'D', ..] => return Ok(Order::Drain),
                other => log::debug!("an order that is not known: {other:?}"),
            }
        }
    }

    /// Tells the holder something. `pid` is the server's.
    ///
    /// # Errors
    /// `EAGAIN` when the holder is far behind.
    pub fn sign(&self, sign: Sign, pid: u32) -> Result<(), Errno> {
        let kind = match sign {
            Sign::Serves => b's',
            Sign::Answers => b'a',
            Sign::Disconnected => b'u',
        };
        self.send([kind, 0, 0, 0], pid)
    }

    /// The next sign that is there, with the pid of its server.
    pub fn next_sign(&self) -> Option<(Sign, u32)> {
        loop {
            let ([kind, ..], pid) = self.receive(MsgFlags::MSG_DONTWAIT).ok()?;
            let sign = match kind {
                b's' => Sign::Serves,
                b'a' => Sign::Answers,
                b'u' => Sign::Disconnected,
                _ => continue,
            };
            return Some((sign, pid));
        }
    }

    fn send(&self, [kind, a, b, c]: Content, pid: u32) -> Result<(), Errno> {
        let [p, q, r, s] = pid.to_ne_bytes();
        let message = [kind, a, b, c, p, q, r, s];
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        send(self.0.as_raw_fd(), &message, flags).map(drop)
    }

    fn receive(&self, flags: MsgFlags) -> Result<(Content, u32), Errno> {
        loop {
            let mut message = [0; 8];
            match recv(self.0.as_raw_fd(), &mut message, flags) {
                Ok(0) => return Err(Errno::ECONNRESET),
                Ok(_) => {
                    let [kind, a, b, c, pid @ ..] = message;
                    return Ok(([kind, a, b, c], u32::from_ne_bytes(pid)));
                }
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno),
            }
        }
    }
}

impl AsFd for Control {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_order_and_sign_arrives_as_it_was_sent() {
        let (holder, server) = Control::pair().unwrap();
        let server = Control::of_server(server);
        let orders = [
            Order::Toggle,
            Order::Reload,
            Order::Drain,
            Order::Start {
                before: Death::InOrder,
                views_off: true,
            },
            Order::Start {
                before: Death::Killed,
                views_off: false,
            },
            Order::Start {
                before: Death::Crashed,
                views_off: false,
            },
        ];
        for order in orders {
            holder.order(order, 7).unwrap();
            assert_eq!(server.next_order(7), Ok(order));
        }
        for sign in [Sign::Serves, Sign::Answers, Sign::Disconnected] {
            server.sign(sign, 4_000_000).unwrap();
            assert_eq!(holder.next_sign(), Some((sign, 4_000_000)));
        }
        assert_eq!(holder.next_sign(), None);
    }

    #[test]
    fn what_is_not_known_and_what_was_for_an_earlier_server_is_passed_over() {
        let (holder, server) = Control::pair().unwrap();
        let server = Control::of_server(server);
        holder.order(Order::Drain, 6).unwrap();
        holder.send([b'?'; 4], 7).unwrap();
        holder.order(Order::Toggle, 7).unwrap();
        assert_eq!(server.next_order(7), Ok(Order::Toggle));
        server.send([b'?'; 4], 7).unwrap();
        assert_eq!(holder.next_sign(), None);
    }
}

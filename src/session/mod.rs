//! The mount, the FUSE connection and the threads that serve it.
//!
//! The mount and the handshake (`mount`, `handshake`) are apart from the serving
//! (`server`), which takes fds of a connection that is already set up: that is how a
//! new server can carry on with the connection of an old one.

mod handshake;
pub mod mount;
pub mod server;

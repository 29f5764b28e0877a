//! The mount, the FUSE connection, the process that holds it and the threads that serve it.
//!
//! The mount and the handshake (`mount`, `handshake`) are apart from the serving
//! (`server`), which takes fds of a connection that is already set up: that is how a
//! new server can carry on with the connection of an old one. The `holder` keeps what is
//! `held`, and one server at work.

pub mod control;
mod handshake;
pub mod held;
pub mod holder;
pub mod in_force;
mod interrupts;
pub mod mount;
pub mod server;
pub mod store;
pub mod terms;

/// Name of the fd by which a server talks to its holder.
pub const CONTROL: &str = "control";

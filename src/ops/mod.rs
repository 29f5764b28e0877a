//! What operators ask a daemon that runs, and what it answers.
//!
//! Only the daemon knows what its readers are shown: its options, its configuration as it read
//! it, its counters. It says so on a socket; docs/CONTROL.md has the protocol. How answers look
//! on a terminal is the business of `commands`.

pub mod control;
pub mod protocol;
pub mod show;
pub mod status;

//! The thin layer of system calls: every `unsafe` of this crate is here.

pub mod file;
pub mod fuse_device;
pub mod nsfs;
pub mod lock;
pub mod process;
pub mod terminal;

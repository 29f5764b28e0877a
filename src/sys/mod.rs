//! The thin layer of system calls: every `unsafe` of this crate is here.

pub mod apart;
pub mod aside;
pub mod clock;
pub mod exec;
pub mod file;
pub mod fuse_device;
pub mod lock;
pub mod memory;
pub mod mounts;
pub mod nsfs;
pub mod parking;
pub mod personality;
pub mod process;
pub mod shared_memory;
pub mod terminal;
pub mod write_watch;

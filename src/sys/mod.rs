//! The thin layer of system calls that no crate wraps. The only place for `unsafe`.

pub mod file;
pub mod nsfs;

//! The thin layer of system calls: every `unsafe` of this crate is here.


//! The tree as the kernel asks for it.

mod handles;
pub mod tree;

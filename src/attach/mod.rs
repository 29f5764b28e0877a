//! How the views get into containers.

mod catalog;
pub mod fallback;
pub mod formats;
pub mod running;

pub use self::catalog::{Binding, Part, bindings};

/// Where the one daemon of a host is mounted by custom.
pub const USUAL: &str = "/var/lib/lxcfs";

//! How the views get into containers.

mod catalog;
pub mod cdi;
pub mod fallback;
pub mod formats;
pub mod hook;
pub mod notice;
pub mod oci;
pub mod running;
pub mod runtime;
mod wanted;
mod within;

pub use self::catalog::{Binding, Part, bindings};
pub use self::wanted::{INSTALLED, Stage, Wanted, program};

/// Where the one daemon of a host is mounted by custom.
pub const USUAL: &str = "/var/lib/lxcfs";

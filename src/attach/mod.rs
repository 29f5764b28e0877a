//! How the views get into containers.

mod catalog;
pub mod cdi;
pub mod fallback;
pub mod formats;
pub mod hook;
pub mod nesting;
pub mod notice;
pub mod oci;
pub mod running;
pub mod runtime;
mod wanted;
mod within;

use std::path::Path;

pub use self::catalog::{Binding, Part, bindings};
pub(crate) use self::wanted::is_same_file;
pub use self::wanted::{INSTALLED, Stage, Wanted, program};

/// Where the one daemon of a host is mounted by custom.
pub const USUAL: &str = "/var/lib/lxcfs";

/// Annotation by which a container or a pod says what it wants; vendor and class of the CDI
/// devices have the same name.
pub const VIEW: &str = "lxcfs.rs/view";

/// The pid namespace of this process, which is that of the host.
const HOSTS_PROCESSES: &str = "/proc/self/ns/pid";

/// Whether a container with these namespaces, by type and path, is among the processes of the
/// host: then it is there to look at the host.
pub fn is_among_hosts_processes<'a>(
    mut namespaces: impl Iterator<Item = (&'a str, &'a Path)>,
) -> bool {
    match namespaces.find(|(kind, _)| *kind == "pid") {
        Some((_, path)) => is_same_file(path, Path::new(HOSTS_PROCESSES)),
        None => true,
    }
}

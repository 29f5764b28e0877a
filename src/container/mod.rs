//! From a reader to its container, and what is kept for each container.

pub mod apportion;
mod boundary;
pub mod cpu_time;
pub mod load;
mod namespaces;
mod resolve;

pub use self::resolve::{Containers, Resolved};

use crate::cgroup::Cgroup;

/// The processes that share one view.
#[derive(Debug)]
pub struct Container {
    /// The boundary cgroup.
    pub cgroup: Cgroup,
    /// Whether this is no container but the host itself.
    pub is_host: bool,
    started_nsec: u64,
}

impl Container {
    fn new(cgroup: Cgroup, is_host: bool, started_nsec: u64) -> Self {
        Self {
            cgroup,
            is_host,
            started_nsec,
        }
    }
}

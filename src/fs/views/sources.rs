//! What all views are made of: the host's figures and the hierarchies of cgroups.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::Views;
use crate::cgroup::{FdBudget, Layout};
use crate::host::mounts::own_lines;
use crate::host::{Host, vantage};

/// The host's figures and the hierarchies of cgroups.
#[derive(Debug)]
pub(super) struct Sources {
    pub(super) host: Arc<Host>,
    pub(super) layout: Arc<Layout>,
}

impl Sources {
    /// Opens them. At most `kept_fds` cgroup files are kept open.
    ///
    /// # Errors
    /// One sentence about what is missing, or why readers could not be told apart here.
    pub(super) fn open(kept_fds: &Arc<FdBudget>) -> io::Result<Self> {
        let root = Path::new("/");
        let host = Host::open(root)?;
        vantage::check_proc(&host.proc)?;
        vantage::leave_cgroup_namespace(&host.proc);
        let mounts = own_lines(&host.proc, "cgroup")?;
        let layout = Layout::detect(&mounts, root, kept_fds)?;
        for memberships in vantage::memberships_to_find(&host.proc) {
            layout.reaches(&memberships)?;
        }
        Ok(Self {
            host: Arc::new(host),
            layout: Arc::new(layout),
        })
    }
}

impl Views {
    /// Whether there can be views here.
    ///
    /// # Errors
    /// One sentence about what stands in the way.
    pub fn check() -> io::Result<()> {
        Sources::open(&Arc::new(FdBudget::new(0))).map(drop)
    }
}

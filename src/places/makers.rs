//! Who has named a cgroup.
//!
//! Whoever a cgroup is delegated to (its directory is theirs) makes more of them in it, with any
//! name. So a name is root's only where all directories above it are.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::cgroup::{FdBudget, Layout, Version};
use crate::host::mounts::own_lines;
use crate::host::process::Proc;
use crate::parse::pid_cgroup::Membership;

/// Who else may make something in a directory.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// Looks at directories of the mounted hierarchies, at each of them once.
#[derive(Debug)]
pub struct Makers {
    layout: Option<Layout>,
    known: RefCell<BTreeMap<PathBuf, bool>>,
}

impl Makers {
    /// By the mounts of this process.
    #[must_use]
    pub fn new(proc: &Proc) -> Self {
        let mounts = own_lines(proc, "cgroup").unwrap_or_default();
        let budget = Arc::new(FdBudget::new(0));
        Self {
            layout: Layout::detect(&mounts, Path::new("/"), &budget).ok(),
            known: RefCell::default(),
        }
    }

    /// Whether only root can have named what is in the cgroup `parent` of the hierarchy that
    /// this membership is of.
    #[must_use]
    pub fn is_roots(&self, membership: &Membership, parent: &str) -> bool {
        let layout = self.layout.as_ref();
        let mounts = layout.into_iter().flat_map(Layout::mounts);
        let is_it = |(version, controllers): (Version, &[String])| match version {
            Version::V2 => membership.is_v2(),
            Version::V1 => {
                let mut names = membership.controllers.split(',');
                !membership.is_v2() && names.any(|name| controllers.iter().any(|own| own == name))
            }
        };
        let mut tops = mounts
            .filter(|(version, controllers, _)| is_it((*version, controllers)))
            .map(|(_, _, top)| top);
        tops.next().is_some_and(|top| {
            let directory = top.join(parent.trim_start_matches('/'));
            let up_to_top = directory
                .ancestors()
                .take_while(|path| path.starts_with(top));
            up_to_top
                .into_iter()
                .all(|path| self.is_roots_directory(path))
        })
    }

    fn is_roots_directory(&self, path: &Path) -> bool {
        if let Some(known) = self.known.borrow().get(path) {
            return *known;
        }
        let is_roots = fs::metadata(path)
            .is_ok_and(|metadata| metadata.uid() == 0 && metadata.mode() & WRITABLE_BY_OTHERS == 0);
        self.known.borrow_mut().insert(path.to_owned(), is_roots);
        is_roots
    }
}

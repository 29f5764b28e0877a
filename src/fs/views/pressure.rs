//! Pressure, and where its triggers are set.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use nix::errno::Errno;

use super::{ProcFile, Views, shows_host, uptime_nsec};
use crate::cgroup::{Directory, FdBudget};
use crate::container::Gone;
use crate::parse::pressure::{Resource, Share};
use crate::reader::{Resolved, Subject};
use crate::view;

/// man: capabilities(7).
const CAP_SYS_RESOURCE: u32 = 24;

/// Whose stalls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stalls {
    /// Of a container that nobody accounts them for: there never are any.
    Unknown,
    /// Those of the whole machine.
    OfHost,
    /// Those of this cgroup.
    OfCgroup(Directory),
}

impl Views {
    pub(super) fn pressure(
        &self,
        file: ProcFile,
        resolved: &Resolved,
        out: &mut Vec<u8>,
    ) -> Result<(), Gone> {
        let resource = file.resource();
        if let Some((resource, host)) = resource.and_then(|it| Some((it, self.host.pressure(it)?)))
        {
            let input = view::pressure::Input {
                host: &host.content,
                own: &resolved.container.pressure(resource)?,
                uptime_nsec: uptime_nsec(resolved),
            };
            view::pressure::render(&input, out);
        }
        Ok(())
    }

    /// Whose stalls thread `reader` is told of by `file`, and a number for those whose
    /// triggers are counted together.
    ///
    /// # Errors
    /// As [`Views::render`].
    pub fn stalls(&self, file: ProcFile, reader: i32) -> Result<(Stalls, u64), Errno> {
        self.for_container(reader, false, |Subject { resolved, .. }| {
            let cgroup = &resolved.container.cgroup;
            if !cgroup.is_alive() {
                return Err(Gone);
            }
            let is_off = self.off.load(Ordering::Relaxed);
            let stalls = if is_off || shows_host(file, resolved) {
                Stalls::OfHost
            } else {
                cgroup.unified().map_or(Stalls::Unknown, Stalls::OfCgroup)
            };
            Ok((stalls, number(&cgroup.identity())))
        })
    }

    /// Opens the kernel's file to which triggers for these stalls are written; `None` if
    /// nobody accounts them.
    ///
    /// # Errors
    /// `ENODEV` when the cgroup has been removed, else what open(2) says.
    pub fn open_stalls(
        &self,
        resource: Resource,
        stalls: &Stalls,
    ) -> Result<Option<OwnedFd>, Errno> {
        match stalls {
            Stalls::Unknown => Ok(None),
            Stalls::OfHost => self.host.open_pressure(resource).map(Some),
            Stalls::OfCgroup(directory) => self.layout.open_pressure(directory, resource),
        }
    }

    /// Whether the file has this line on this machine.
    #[must_use]
    pub fn has_line(&self, resource: Resource, share: Share) -> bool {
        let host = self.host.pressure(resource);
        host.is_some_and(|file| file.content.get(share).is_some())
    }

    /// Whether the thread has `CAP_SYS_RESOURCE`.
    #[must_use]
    pub fn may_use_resources(&self, tid: i32) -> bool {
        self.host.proc.has_capability(tid, CAP_SYS_RESOURCE)
    }

    /// How many fds may be kept open.
    #[must_use]
    pub fn kept_fds(&self) -> &Arc<FdBudget> {
        &self.kept_fds
    }
}

/// A number that another list hardly ever has.
fn number(identity: &[u64]) -> u64 {
    let mut hasher = DefaultHasher::new();
    identity.hash(&mut hasher);
    hasher.finish()
}

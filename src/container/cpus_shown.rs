//! Which CPUs a container is shown.

use super::{Container, Gone};
use crate::cgroup::{Error, Limit};
use crate::freshness::{Cached, Moment, validity};
use crate::host::Host;
use crate::parse::cpu_list::CpuSet;

/// Which CPUs a container is shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CpuView {
    /// As many of its cpuset as its quota is worth, the lowest ones.
    #[default]
    Quota,
    /// Its cpuset.
    Cpuset,
    /// All of the host's.
    Host,
}

/// The CPUs shown, and what they follow from beside the limits.
#[derive(Debug)]
pub(super) struct KnownCpus {
    view: CpuView,
    online: CpuSet,
    shown: CpuSet,
    /// Whether there can be throttled time.
    pub(super) has_quota: bool,
}

impl Container {
    /// The CPUs that the container is shown, all of them online; never none. Where nothing
    /// is known, as a file cannot be understood, that is one.
    ///
    /// # Errors
    /// [`Gone`] when the cgroup has been removed.
    pub fn cpus_shown(&self, host: &Host, view: CpuView, now: Moment) -> Result<CpuSet, Gone> {
        let online = host.online();
        if view == CpuView::Host {
            return Ok(CpuSet::clone(&online));
        }
        let is_same = |known: &&KnownCpus| (known.view, &known.online) == (view, &*online);
        if let Some(known) = &*self.cpus.lock() {
            if let Some(known) = known.fresh(now, validity::CPUS_SHOWN).filter(is_same) {
                return Ok(known.shown.clone());
            }
        }
        let read = self.read_cpus(&online, view);
        let has_quota = read.as_ref().map(|(_, has_quota)| *has_quota).ok();
        let read = read.map(|(shown, _)| shown);
        let last = self.or_last(read, "CPUs", |state| &mut state.cpus_shown)?;
        let mut shown = last.intersection(&online);
        if shown.is_empty() {
            shown = online.lowest(1);
        }
        // Else the cpuset may still be from before a CPU came or went.
        let has_quota = has_quota.filter(|_| host.cpus_are_settled());
        let known = has_quota.map(|has_quota| KnownCpus {
            view,
            online: CpuSet::clone(&online),
            shown: shown.clone(),
            has_quota,
        });
        *self.cpus.lock() = known.map(|known| Cached::new(known, now));
        Ok(shown)
    }

    /// The CPUs, and whether there is a quota.
    fn read_cpus(&self, online: &CpuSet, view: CpuView) -> Result<(CpuSet, bool), Error> {
        let cpuset = self.cgroup.cpuset_online(online)?;
        let allowed = cpuset.unwrap_or_else(|| online.clone());
        let limit = self.cgroup.cpu_limit_millis()?;
        let shown = match limit {
            Limit::Value(millis) if view == CpuView::Quota => {
                allowed.lowest(usize::try_from(millis.div_ceil(1000)).unwrap_or(usize::MAX))
            }
            _ => allowed,
        };
        Ok((shown, limit != Limit::Max))
    }
}

//! Which CPUs readers are shown, and what is told of them.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use nix::errno::Errno;

use super::Views;
use crate::container::Gone;
use crate::parse::cpu_list::CpuSet;
use crate::parse::cpuinfo::CpuInfo;
use crate::reader::Subject;
use crate::view;

/// How often what is told of CPUs is read again when some came or went meanwhile.
const TRIES: usize = 3;

impl Views {
    /// The CPUs that thread `reader` is shown; `None` for all there are.
    ///
    /// # Errors
    /// As [`Views::render`].
    pub fn cpus_shown(&self, reader: i32) -> Result<Option<CpuSet>, Errno> {
        if self.off.load(Ordering::Relaxed) {
            return Ok(None);
        }
        self.for_container(reader, false, |known| {
            if known.resolved.options.passthrough {
                return Ok(None);
            }
            self.shown(known).map(Some)
        })
    }

    pub(super) fn cpuinfo(&self, reader: &Subject, out: &mut Vec<u8>) -> Result<(), Gone> {
        let (host, shown) = self.of_cpus_shown(reader, || self.host.cpuinfo(), CpuInfo::has)?;
        view::cpuinfo::render(&host, &shown, out);
        Ok(())
    }

    pub(super) fn cpuinfo_of_linux32(&self, reader: i32) -> Result<Vec<u8>, Errno> {
        let shown = self.cpus_shown(reader)?;
        let shown = shown.unwrap_or_else(|| CpuSet::clone(&self.host.online()));
        let mut text = Vec::with_capacity(4096);
        view::cpuinfo::render(&self.host.cpuinfo_of_linux32(), &shown, &mut text);
        Ok(text)
    }

    /// What the host tells of its CPUs, and the CPUs shown, which it is to have: CPUs may
    /// come or go between finding out the two.
    pub(super) fn of_cpus_shown<T>(
        &self,
        reader: &Subject,
        host: impl Fn() -> Arc<T>,
        has: impl Fn(&T, &CpuSet) -> bool,
    ) -> Result<(Arc<T>, CpuSet), Gone> {
        let mut found = (host(), self.shown(reader)?);
        for _ in 1..TRIES {
            if has(&found.0, &found.1) {
                break;
            }
            found = (host(), self.shown(reader)?);
        }
        Ok(found)
    }

    pub(super) fn shown(&self, reader: &Subject) -> Result<CpuSet, Gone> {
        let Subject { resolved, now, .. } = reader;
        resolved
            .container
            .cpus_shown(&self.host, resolved.options.cpu_view, *now)
    }
}

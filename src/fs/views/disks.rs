//! What a container did on the host's disks.

use super::{Views, started_nsec};
use crate::container::Gone;
use crate::container::apportion::Disk;
use crate::parse::diskstats::Device;
use crate::reader::{Resolved, Subject};
use crate::sys::clock::boottime_nsec;
use crate::view;

impl Views {
    pub(super) fn diskstats(&self, reader: &Subject, out: &mut Vec<u8>) -> Result<(), Gone> {
        let resolved = &*reader.resolved;
        let host = self.host.diskstats();
        let input = view::diskstats::Input {
            host: &host,
            disks: &self.disks(resolved, &host)?,
            backing: &resolved
                .container
                .backing_disks(&self.host, reader.tid, reader.now),
        };
        view::diskstats::render(&input, out);
        Ok(())
    }

    pub(super) fn disks(&self, resolved: &Resolved, host: &[Device]) -> Result<Vec<Disk>, Gone> {
        let age_nsec = boottime_nsec().saturating_sub(started_nsec(resolved));
        resolved.container.disks(host, age_nsec)
    }
}

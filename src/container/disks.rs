//! A container's disks: what it did on them, and which ones back its mounts.

use std::sync::Arc;

use super::apportion::Disk;
use super::{Container, Gone};
use crate::freshness::{Cached, Moment, validity};
use crate::host::Host;
use crate::host::mounts::Extent;
use crate::parse::diskstats::Device;
use crate::parse::keyed::DeviceNumber;

impl Container {
    /// What the container did on each of the host's disks. `age_nsec` is its age.
    ///
    /// # Errors
    /// [`Gone`] when the cgroup has been removed.
    pub fn disks(&self, host: &[Device], age_nsec: u64) -> Result<Vec<Disk>, Gone> {
        let io = self.or_last(self.cgroup.io(), "I/O", |state| &mut state.io)?;
        let mut state = self.state.lock();
        state.is_unsaved = true;
        let disks = io.into_iter().filter_map(|io| {
            let number = (io.major, io.minor);
            let device = host
                .iter()
                .find(|device| (device.major, device.minor) == number)?;
            let time = state.disk_times.entry(number).or_default();
            time.advance(age_nsec / 1_000_000, device, &io);
            Some(Disk {
                io,
                time: time.msec(),
            })
        });
        let disks = disks.collect();
        drop(state);
        self.save();
        Ok(disks)
    }

    /// The disks that back the mounts of the container, as the thread `reader` sees them.
    pub fn backing_disks(&self, host: &Host, reader: i32, now: Moment) -> Arc<[DeviceNumber]> {
        if let Some(known) = &*self.backing.lock() {
            if let Some(disks) = known.fresh(now, validity::BACKING_DISKS) {
                return Arc::clone(disks);
            }
        }
        let (mut disks, extent) = host.disks_of_mounts(reader);
        let mut known = self.backing.lock();
        if let (Extent::Part, Some(before)) = (extent, &*known) {
            let missed = before.value().iter().filter(|disk| !disks.contains(disk));
            disks.extend(missed.copied().collect::<Vec<_>>());
        }
        let disks: Arc<[_]> = disks.into();
        *known = Some(Cached::new(Arc::clone(&disks), now));
        disks
    }
}

//! What a trigger waits for, and how that is recorded.

use crate::cgroup::Directory;
use crate::fs::ledger::TriggerRecord;
use crate::fs::views::Stalls;
use crate::parse::pressure::{Resource, Share, Trigger};

/// What is waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::fs) struct What {
    pub(in crate::fs) resource: Resource,
    pub(in crate::fs) trigger: Trigger,
    pub(in crate::fs) stalls: Stalls,
}

impl What {
    /// What a record says, if it is the record of a trigger.
    pub(super) fn recorded(record: &TriggerRecord) -> Option<Self> {
        let [resource, share, stalls, ..] = record.kind.to_le_bytes();
        let low = |word: u64| u32::try_from(word & u64::from(u32::MAX)).ok();
        Some(Self {
            resource: *Resource::ALL.get(usize::from(resource))?,
            trigger: Trigger {
                share: *Share::ALL.get(usize::from(share))?,
                threshold_usec: low(record.levels >> 32)?,
                window_usec: low(record.levels)?,
            },
            stalls: match stalls {
                0 => Stalls::Unknown,
                1 => Stalls::OfHost,
                2 => Stalls::OfCgroup(Directory {
                    hierarchy: String::new(),
                    path: record.path.clone(),
                    inode: record.inode,
                }),
                _ => return None,
            },
        })
    }

    /// The record of this trigger on an open file, counted for `owner`.
    pub(super) fn record(&self, handle: u64, owner: u64) -> TriggerRecord {
        let (stalls, path, inode) = match &self.stalls {
            Stalls::Unknown => (0, String::new(), 0),
            Stalls::OfHost => (1, String::new(), 0),
            Stalls::OfCgroup(directory) => (2, directory.path.clone(), directory.inode),
        };
        let resource = self.resource as u64;
        let levels = u64::from(self.trigger.threshold_usec) << 32;
        TriggerRecord {
            handle,
            owner,
            kind: resource | (self.trigger.share as u64) << 8 | stalls << 16,
            levels: levels | u64::from(self.trigger.window_usec),
            inode,
            path,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRIGGER: Trigger = Trigger {
        share: Share::Full,
        threshold_usec: 150_000,
        window_usec: 1_000_000,
    };

    #[test]
    fn records_hold_all_that_is_needed_to_set_a_trigger_again() {
        let cgroup = Stalls::OfCgroup(Directory {
            hierarchy: String::new(),
            path: "/a b".to_owned(),
            inode: 77,
        });
        for stalls in [Stalls::Unknown, Stalls::OfHost, cgroup] {
            for resource in Resource::ALL {
                let what = What {
                    resource,
                    trigger: TRIGGER,
                    stalls: stalls.clone(),
                };
                assert_eq!(What::recorded(&what.record(5, 6)), Some(what));
            }
        }
    }

    #[test]
    fn a_record_of_something_else_is_none() {
        let what = What {
            resource: Resource::Io,
            trigger: TRIGGER,
            stalls: Stalls::Unknown,
        };
        let good = what.record(5, 6);
        for kind in [4, 2 << 8, 3 << 16] {
            let bad = TriggerRecord {
                kind,
                ..good.clone()
            };
            assert_eq!(What::recorded(&bad), None, "{kind:#x}");
        }
    }
}

//! The only way from a request to the work for it.

use std::panic::{AssertUnwindSafe, catch_unwind};

use nix::errno::Errno;

use super::answers::By;
use super::ledger::{InFlight, Poisonous};
use crate::parse::pid_cgroup::memberships;
use crate::sys::clock::boottime_nsec;

/// What answers requests, out of reach of all but [`Guarded::attempt`].
#[derive(Debug)]
pub(super) struct Guarded<T> {
    inner: T,
    in_flight: InFlight,
}

impl<T> Guarded<T> {
    pub(super) fn new(inner: T, in_flight: InFlight) -> Self {
        Self { inner, in_flight }
    }

    /// Does the work for a request. Whatever goes wrong in it concerns that request only, even
    /// if it ends the process: one that has done so repeatedly is refused.
    pub(super) fn attempt<R>(
        &self,
        by: By,
        work: impl FnOnce(&T) -> Result<R, Errno>,
    ) -> Result<R, fuser::Errno> {
        let start_nsec = log::log_enabled!(log::Level::Debug).then(boottime_nsec);
        let done = self.attempt_or_errno(by.unique, work).map_err(|failure| {
            match failure {
                Failure::Errno(_) => {}
                Failure::Poisonous => {
                    log::error!("{by} has ended server after server; it is answered with EIO");
                }
                Failure::Panic => log::error!(
                    "{by} in cgroup {} failed by a defect of this program; it is answered with EIO",
                    cgroup_of(by.reader)
                ),
            }
            Errno::from(failure)
        });
        if let Some(start_nsec) = start_nsec {
            log::debug!(
                "{by}: {} in {} us",
                done.as_ref().err().map_or("answered", |errno| errno.desc()),
                boottime_nsec().saturating_sub(start_nsec) / 1000
            );
        }
        done.map_err(|errno| fuser::Errno::from_i32(errno as i32))
    }

    fn attempt_or_errno<R>(
        &self,
        unique: u64,
        work: impl FnOnce(&T) -> Result<R, Errno>,
    ) -> Result<R, Failure> {
        let entered = self.in_flight.enter(unique);
        let _noted = entered.map_err(|Poisonous| Failure::Poisonous)?;
        let done = catch_unwind(AssertUnwindSafe(|| work(&self.inner)));
        done.map_err(|_| Failure::Panic)?.map_err(Failure::Errno)
    }
}

/// Why a request is not answered with what it asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Failure {
    /// As it should be.
    Errno(Errno),
    /// The work for it has ended servers.
    Poisonous,
    /// The work for it panicked.
    Panic,
}

impl From<Failure> for Errno {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Errno(errno) => errno,
            Failure::Poisonous | Failure::Panic => Self::EIO,
        }
    }
}

/// The longest of the cgroup paths of a reader, for the log.
fn cgroup_of(reader: i32) -> String {
    let text = std::fs::read_to_string(format!("/proc/{reader}/cgroup")).unwrap_or_default();
    let paths = memberships(&text).map(|membership| membership.path);
    paths
        .max_by_key(|path| path.len())
        .unwrap_or("?")
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::ledger::tests::memory;
    use crate::fs::ledger::{Death, Ledger};

    fn server(memory: &std::os::fd::OwnedFd) -> Guarded<u8> {
        let ledger = Ledger::resume(memory, Death::Crashed).unwrap();
        Guarded::new(7, ledger.in_flight)
    }

    #[test]
    fn a_panic_is_one_error_and_leaves_no_suspect() {
        let memory = memory();
        let first = server(&memory);
        for _ in 0..3 {
            let failed = first.attempt_or_errno(2, |_| -> Result<(), _> { panic!("a defect") });
            assert_eq!(failed, Err(Failure::Panic));
        }
        for _ in 0..3 {
            assert_eq!(server(&memory).attempt_or_errno(2, |own| Ok(*own)), Ok(7));
        }
    }

    #[test]
    fn a_request_that_has_ended_two_servers_is_not_worked_on() {
        let memory = memory();
        let third = || {
            let mut worked = false;
            let answer = server(&memory).attempt_or_errno(2, |_| {
                worked = true;
                Ok(())
            });
            assert_eq!((answer, worked), (Err(Failure::Poisonous), false));
            Ok(())
        };
        // Each finds what the one before it is in the midst of.
        let second = || {
            let answer = server(&memory).attempt_or_errno(2, |_| third());
            answer.map_err(Errno::from)
        };
        assert_eq!(server(&memory).attempt_or_errno(2, |_| second()), Ok(()));
    }
}

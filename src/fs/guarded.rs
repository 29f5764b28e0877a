//! The only way from a request to the work for it.

use std::panic::{AssertUnwindSafe, catch_unwind};

use nix::errno::Errno;

use super::ledger::{InFlight, Poisonous};

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

    /// Does the work for the request with the number `unique`. Whatever goes wrong in it
    /// concerns that request only, even if it ends the process: one that has done so
    /// repeatedly is refused.
    pub(super) fn attempt<R>(
        &self,
        unique: u64,
        work: impl FnOnce(&T) -> Result<R, Errno>,
    ) -> Result<R, fuser::Errno> {
        self.attempt_or_errno(unique, work)
            .map_err(|errno| fuser::Errno::from_i32(errno as i32))
    }

    fn attempt_or_errno<R>(
        &self,
        unique: u64,
        work: impl FnOnce(&T) -> Result<R, Errno>,
    ) -> Result<R, Errno> {
        let _noted = self.in_flight.enter(unique).map_err(|Poisonous| {
            log::error!(
                "request {unique:#x} has ended server after server; it is answered with EIO"
            );
            Errno::EIO
        })?;
        catch_unwind(AssertUnwindSafe(|| work(&self.inner))).unwrap_or_else(|_| {
            log::error!("a request failed by a defect of this program; it is answered with EIO");
            Err(Errno::EIO)
        })
    }
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
            assert_eq!(failed, Err(Errno::EIO));
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
            assert_eq!((answer, worked), (Err(Errno::EIO), false));
            Ok(())
        };
        // Each finds what the one before it is in the midst of.
        let second = || server(&memory).attempt_or_errno(2, |_| third());
        assert_eq!(server(&memory).attempt_or_errno(2, |_| second()), Ok(()));
    }
}

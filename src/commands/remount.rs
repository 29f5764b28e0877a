//! `lxcfs remount`: repair the mounts that a dead lxcfs left in containers.

use std::process::ExitCode;

use super::worker;
use crate::cli::RemountArgs;
use crate::remount::{self, Order, Outcome};

/// Repairs and prints what was done.
///
/// # Errors
/// One sentence if nothing can be repaired at all.
pub fn run(args: &RemountArgs) -> anyhow::Result<ExitCode> {
    worker::run("remount", || {
        let _turn = worker::take_turn()?;
        let rows = remount::run(Order {
            mountpoint: &args.mountpoint,
            from: args.from.as_deref(),
            dry_run: args.dry_run,
        })?;
        let failed = |outcome: &Outcome| matches!(outcome, Outcome::Failed(_));
        Ok(worker::said(&rows, failed, "nothing to repair"))
    })
}

//! The daemon: mount and serve.

use std::process::ExitCode;

use crate::cli::DaemonArgs;

/// Not built yet.
///
/// # Errors
/// Always.
pub fn run(_args: &DaemonArgs) -> anyhow::Result<ExitCode> {
    anyhow::bail!("daemon is not built yet")
}

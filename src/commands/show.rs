//! `lxcfs show`: what a process would read.

use std::process::ExitCode;

use crate::cli::ShowArgs;

/// Not built yet.
///
/// # Errors
/// Always.
pub fn run(_args: &ShowArgs) -> anyhow::Result<ExitCode> {
    anyhow::bail!("show is not built yet")
}

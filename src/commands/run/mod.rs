//! `lxcfs run`: one command in a fresh container of its own.

use std::process::ExitCode;

use super::Failure;
use crate::cli::RunArgs;

/// Not built yet.
///
/// # Errors
/// Always.
pub fn run(_args: &RunArgs) -> Result<ExitCode, Failure> {
    Err(anyhow::anyhow!("run is not built yet").into())
}

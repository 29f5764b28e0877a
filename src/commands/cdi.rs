//! `lxcfs cdi`: print a CDI specification.

use std::path::Path;

use anyhow::Context;

use super::print::print;
use crate::attach::{bindings, cdi, program};

/// Prints what belongs into `/etc/cdi/lxcfs.json`.
///
/// # Errors
/// One sentence if it cannot be printed.
pub fn run(views: &Path, strict: bool) -> anyhow::Result<()> {
    let program = program().context("cannot find the path of this program")?;
    let specification = cdi::specification(&bindings(&[]), views, strict, &program)?;
    print(format!("{specification:#}\n")).context("cannot print the specification")
}

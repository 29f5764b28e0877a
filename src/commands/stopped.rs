//! `lxcfs stopped`: what the service does after its end (`ExecStopPost=`).
//!
//! A restart and the end for good look the same to the daemon. The service manager knows
//! which it is: at a restart the connection stays in its fd store, and the mount with it.

use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, bail};

use crate::attach::fallback;
use crate::session::mount;

/// Takes the mount away if the unit was stopped for good, and leaves what containers need
/// that start without it.
///
/// # Errors
/// When the service manager does not answer, the mount cannot be taken away, or its
/// directory cannot be written.
pub fn run(unit: &str, mountpoint: &Path) -> anyhow::Result<ExitCode> {
    if job_of(unit)?.as_deref() == Some("stop") {
        mount::take_away(mountpoint)
            .with_context(|| format!("cannot unmount {}", mountpoint.display()))?;
        fallback::prepare(mountpoint)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What the service manager is doing with a unit: `stop`, `restart`, ...; `None` after an end
/// that nobody asked for.
fn job_of(unit: &str) -> anyhow::Result<Option<String>> {
    let output = Command::new("systemctl")
        .args(["list-jobs", "--plain", "--no-legend", unit])
        .output()
        .context("cannot start systemctl")?;
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr);
        bail!("systemctl list-jobs failed: {}", error.trim());
    }
    Ok(job_in(&String::from_utf8_lossy(&output.stdout), unit))
}

/// The type of job in a list of lines `ID UNIT TYPE STATE`.
fn job_in(list: &str, unit: &str) -> Option<String> {
    list.lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .find_map(|words| match words.as_slice() {
            [_, name, kind, _] if *name == unit => Some((*kind).to_owned()),
            _ => None,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_job_of_the_unit_and_no_others() {
        let list = "131 lxc.service start waiting\n132 lxcfs.service restart running\n";
        assert_eq!(job_in(list, "lxcfs.service").as_deref(), Some("restart"));
        assert_eq!(job_in(list, "other.service"), None);
        assert_eq!(job_in("No jobs running.\n", "lxcfs.service"), None);
        assert_eq!(job_in("", "lxcfs.service"), None);
    }
}

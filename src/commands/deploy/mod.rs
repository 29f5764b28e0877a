//! `lxcfs deploy`: install lxcfs on a Kubernetes node from a pod, and be its NRI plugin.
//!
//! What is installed does not belong to the pod: the program lies on the host, and the daemon
//! runs there, in no namespace and no cgroup of the pod's. So the pod can be deleted, updated or
//! evicted, and no other one notices.

mod daemon;
mod host;

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, ensure};
use nix::unistd::geteuid;

use super::nri;
use crate::cli::DeployArgs;

/// Where the program is installed: there is an `/opt` to write to also where `/usr` is
/// read-only.
const PROGRAM: &str = "/opt/lxcfs/lxcfs";

/// Installs or upgrades, starts or takes over, and then answers the runtime for ever; or
/// uninstalls.
///
/// # Errors
/// One sentence about what stands in the way.
pub fn run(args: &DeployArgs) -> anyhow::Result<ExitCode> {
    ensure!(geteuid().is_root(), "deploy needs root");
    let program = fs::read("/proc/self/exe").context("cannot read this program")?;
    host::enter(args.host)?;
    let views = &args.nri.views.views;
    if args.uninstall {
        daemon::remove(views)?;
        return Ok(ExitCode::SUCCESS);
    }
    install(&program).with_context(|| format!("cannot install {PROGRAM}"))?;
    daemon::bring_up(views)?;
    let mut plugin = nri::plugin(&args.nri, PROGRAM.into());
    nri::serve_forever(&mut plugin, &args.nri.socket)
}

/// Puts the program into its place, in one step, unless it is there.
fn install(program: &[u8]) -> io::Result<()> {
    let place = Path::new(PROGRAM);
    if fs::read(place).is_ok_and(|installed| installed == program) {
        return Ok(());
    }
    if let Some(directory) = place.parent() {
        fs::create_dir_all(directory)?;
    }
    let fresh = place.with_extension("new");
    let mut options = fs::OpenOptions::new();
    let mut file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o755)
        .custom_flags(libc::O_NOFOLLOW)
        .open(&fresh)?;
    file.write_all(program)?;
    file.sync_all()?;
    drop(file);
    fs::rename(fresh, place)
}

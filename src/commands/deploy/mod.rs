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
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, bail, ensure};
use nix::unistd::geteuid;

use super::nri;
use crate::cli::DeployArgs;

/// Where the program is installed: in the first of these directories that can be written to and
/// executed from. Nodes with a read-only `/opt` have one of the others; `/run` is emptied at a
/// reboot, after which the pod installs anew.
const PLACES: [&str; 4] = [
    "/opt/lxcfs",
    "/var/opt/lxcfs",
    "/home/kubernetes/bin/lxcfs",
    "/run/lxcfs-program",
];

/// The file in one of them.
const NAME: &str = "lxcfs";

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
    let places = places(args.dir.as_deref());
    if args.uninstall {
        daemon::remove(views, &places)?;
        return Ok(ExitCode::SUCCESS);
    }
    let installed = install(&program, &places)?;
    daemon::bring_up(views, &installed, &places)?;
    let mut plugin = nri::plugin(&args.nri, installed);
    nri::serve_forever(&mut plugin, &args.nri.socket)
}

/// The paths at which the program may lie.
fn places(dir: Option<&Path>) -> Vec<PathBuf> {
    let usual = || PLACES.iter().map(Path::new).collect();
    let dirs = dir.map_or_else(usual, |dir| vec![dir]);
    dirs.into_iter().map(|dir| dir.join(NAME)).collect()
}

/// Puts the program into the first place that takes it: where it lies by then.
fn install(program: &[u8], places: &[PathBuf]) -> anyhow::Result<PathBuf> {
    let mut refusals = Vec::new();
    for place in places {
        match put(program, place).and_then(|()| try_out(place)) {
            Ok(()) => return Ok(place.clone()),
            Err(error) => {
                take_away(place);
                refusals.push(format!("{}: {error}", place.display()));
            }
        }
    }
    bail!(
        "cannot install the program ({}); name a directory with --dir that can be written to \
         and executed from",
        refusals.join("; ")
    )
}

/// Puts the program into a place, in one step, unless it is there.
fn put(program: &[u8], place: &Path) -> io::Result<()> {
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

/// Whether the program can be started there, which it cannot from a file system that is mounted
/// with noexec.
fn try_out(place: &Path) -> io::Result<()> {
    let mut command = Command::new(place);
    command.arg("--version").stdin(Stdio::null());
    let output = command.output()?;
    match output.status.success() {
        true => Ok(()),
        false => Err(io::Error::other("it does not run")),
    }
}

/// Takes the program away, and its directory if nothing else is in it.
fn take_away(place: &Path) {
    for file in [place, &place.with_extension("new")] {
        let _ = fs::remove_file(file);
    }
    if let Some(directory) = place.parent() {
        let _ = fs::remove_dir(directory);
    }
}

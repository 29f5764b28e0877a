//! podman, with a store of its own.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::cgroup::cgroup_version;
use super::{has, images, unique};

/// `podman run` with this runtime, options before `run`, and a root file system of busybox in `dir`, where its store is
/// too. Options of `run` go between this and the root file system.
pub fn podman_run(dir: &Path, runtime: &str, global: &[&str]) -> Result<Command, String> {
    if !has("podman") || !has(runtime) {
        return Err(format!("podman and {runtime} are not installed"));
    }
    if cgroup_version() == 1 {
        return Err("podman does not start containers on this layout of cgroups".to_owned());
    }
    let root = dir.join("root");
    if !root.exists() {
        fs::create_dir(&root).expect("a directory");
        images::make_busybox(&root)?;
    }
    let below = |name: &str| dir.join(name).to_str().expect("ASCII").to_owned();
    let mut podman = Command::new("podman");
    podman.args(["--root", &below("graph"), "--runroot", &below("run")]);
    podman.args(["--storage-driver", "vfs", "--runtime", runtime]);
    podman.args(global).args(["run", "--rm"]);
    podman.args(["--network", "none", "--name", &unique("podman")]);
    Ok(podman)
}

//! Containers of systemd-nspawn.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::docker::options;
use crate::common::{Daemon, Ran, beside_others, has, images, patience, run_within, skip, unique};
use crate::formats::{printed, stopped};
use crate::shown::{PRINT, Shown, add_free};

const EXAMPLE: &str = include_str!("../../share/nspawn/example.nspawn");

/// Settings of a container; removed when dropped.
struct Settings(PathBuf);

impl Drop for Settings {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Why there can be no container.
pub fn obstacle() -> Option<&'static str> {
    if !Path::new("/run/systemd/system").exists() {
        return Some("systemd does not run here");
    }
    (!has("systemd-nspawn")).then_some("systemd-nspawn is not installed")
}

/// What a container with limits, these arguments and these settings prints.
#[track_caller]
fn run(arguments: &str, settings: &str) -> Shown {
    Shown::new(&run_script(arguments, settings, PRINT).ok())
}

/// The same of a script, which is the container's init.
#[track_caller]
pub fn run_script(arguments: &str, settings: &str, script: &str) -> Ran {
    let dir = tempfile::tempdir().expect("a directory");
    let root = dir.path().join("root");
    fs::create_dir(&root).expect("a directory");
    images::make_busybox(&root).expect("a root file system");
    add_free(&root);
    fs::create_dir_all(root.join("usr")).expect("what every system has");
    let name = unique("nspawn");
    let file = Settings(format!("/run/systemd/nspawn/{name}.nspawn").into());
    fs::create_dir_all("/run/systemd/nspawn").expect("a directory");
    fs::write(&file.0, settings).expect("settings");
    let mut nspawn = Command::new("systemd-nspawn");
    nspawn.args([
        "--quiet",
        "--register=no",
        "--console=pipe",
        "--machine",
        &name,
    ]);
    nspawn.args(["--property=MemoryMax=50M", "--property=AllowedCPUs=0"]);
    nspawn
        .args(options(arguments))
        .arg("--directory")
        .arg(&root);
    run_within(nspawn.args(["sh", "-c", script]), patience(60))
}

#[test]
fn containers_get_the_views_by_arguments_and_by_settings() {
    if let Some(why) = obstacle() {
        skip!("{why}");
    }
    let _turn = beside_others();
    let daemon = Daemon::start(&[]);
    let settings = EXAMPLE.replace("/var/lib/lxcfs", daemon.point().to_str().expect("ASCII"));
    let by_arguments = run(&printed("nspawn", daemon.point(), &[]), "");
    let by_settings = run("--private-users=pick", &settings);
    for shown in [by_arguments, by_settings] {
        shown.assert_limited();
        shown.assert_own_pressure();
    }
}

#[test]
fn containers_start_without_lxcfs() {
    if let Some(why) = obstacle() {
        skip!("{why}");
    }
    let _turn = beside_others();
    let links = stopped();
    run(&printed("nspawn", links.path(), &[]), "").assert_without_views();
}

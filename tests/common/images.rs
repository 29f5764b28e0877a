//! Root file systems for containers: busybox, and Debian with procps and sysstat.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{has, run_within, unique};

/// What the Debian image holds beside the minimal system; the name of the cached file follows from it.
const PACKAGES: &str = "procps,sysstat,busybox-static";

/// Prepared beforehand on machines without network, such as the test VM.
const PREPARED_BUSYBOX: &str = "/opt/busybox";
const PREPARED_DEBIAN: &str = "/opt/debian.tar";

/// A statically linked busybox of this machine.
pub fn busybox_binary() -> Option<PathBuf> {
    let paths = [
        "/opt/busybox/bin/busybox",
        "/usr/bin/busybox",
        "/bin/busybox",
    ];
    paths
        .into_iter()
        .map(PathBuf::from)
        .find(|path| path.is_file())
}

/// Makes a busybox root file system in `dir`.
pub fn make_busybox(dir: &Path) -> Result<(), String> {
    let prepared = Path::new(PREPARED_BUSYBOX);
    if prepared.join("bin/sh").exists() {
        let copied = super::run(
            Command::new("cp")
                .arg("-a")
                .arg(prepared.join("."))
                .arg(dir),
        );
        return if copied.succeeded() {
            Ok(())
        } else {
            Err(copied.err)
        };
    }
    let binary = busybox_binary().ok_or("busybox-static is not installed")?;
    for below in [
        "bin",
        "proc",
        "sys",
        "dev",
        "tmp",
        "etc",
        "root",
        "run",
        "var/lib/lxcfs",
    ] {
        fs::create_dir_all(dir.join(below)).map_err(|error| error.to_string())?;
    }
    fs::copy(&binary, dir.join("bin/busybox")).map_err(|error| error.to_string())?;
    let applets = super::run(Command::new(&binary).arg("--list"));
    for applet in applets.ok().lines().filter(|applet| *applet != "busybox") {
        symlink("busybox", dir.join("bin").join(applet)).map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// The Debian root file system as a tar file, made once by mmdebstrap and kept in the user's cache.
pub fn debian_tar() -> Result<PathBuf, String> {
    if Path::new(PREPARED_DEBIAN).exists() {
        return Ok(PathBuf::from(PREPARED_DEBIAN));
    }
    if !has("mmdebstrap") {
        return Err("mmdebstrap is not installed".to_owned());
    }
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let suite = release
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))
        .unwrap_or("stable");
    let home = std::env::var("HOME").unwrap_or_else(|_| "/root".to_owned());
    let cache = std::env::var("XDG_CACHE_HOME").unwrap_or_else(|_| format!("{home}/.cache"));
    let cache = Path::new(&cache).join("lxcfs-rs");
    let tar = cache.join(format!("rootfs-{suite}-{}.tar", PACKAGES.replace(',', "-")));
    if tar.exists() {
        return Ok(tar);
    }
    fs::create_dir_all(&cache).map_err(|error| error.to_string())?;
    let unfinished = cache.join(unique("rootfs.tar"));
    let made = run_within(
        Command::new("mmdebstrap")
            .args(["--quiet", "--format=tar", "--variant=minbase"])
            .arg(format!("--include={PACKAGES}"))
            .args(
                ["doc", "man", "locale"]
                    .map(|dir| format!("--dpkgopt=path-exclude=/usr/share/{dir}/*")),
            )
            .arg(suite)
            .arg(&unfinished),
        std::time::Duration::from_secs(900),
    );
    if !made.succeeded() {
        let _ = fs::remove_file(&unfinished);
        return Err(format!("mmdebstrap failed: {}", made.err));
    }
    fs::rename(&unfinished, &tar).map_err(|error| error.to_string())?;
    Ok(tar)
}

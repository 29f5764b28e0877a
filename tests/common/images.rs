//! Root file systems for containers: busybox, Debian with procps and sysstat, and Debian with every tool that reads
//! `/proc`.

use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{has, run_within, unique};

/// What the Debian image holds beside the minimal system; the name of the cached file follows from it.
const PACKAGES: &str = "procps,sysstat,busybox-static";

/// What the image of the acceptance battery holds.
const TOOLS: &str = "procps,sysstat,htop,util-linux,coreutils,busybox-static,python3-psutil,python3-pyte,nodejs,\
    prometheus-node-exporter,hwloc-nox,numactl,stress-ng,atop,strace,openjdk-21-jre-headless,dpdk-dev,nginx-light,btop,\
    nmon,monit,collectd-core";

/// What images of older releases hold.
const OLD_TOOLS: &str = "procps,python3-psutil";

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
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let suite = release
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))
        .unwrap_or("stable");
    let name = format!("rootfs-{suite}-{}.tar", PACKAGES.replace(',', "-"));
    bootstrapped(&name, suite, PACKAGES)
}

/// A root file system with every tool of the acceptance battery; half a gigabyte to download. Where none can be
/// made, as on the test VM, the small one.
pub fn tools_tar() -> Result<PathBuf, String> {
    if Path::new(PREPARED_DEBIAN).exists() {
        return debian_tar();
    }
    let mut hasher = DefaultHasher::new();
    TOOLS.hash(&mut hasher);
    let name = format!("rootfs-trixie-tools-{:016x}.tar", hasher.finish());
    bootstrapped(&name, "trixie", TOOLS)
}

/// A root file system of an older release of Debian, for its procps.
pub fn old_tar(suite: &str) -> Result<PathBuf, String> {
    let name = format!("rootfs-{suite}-{}.tar", OLD_TOOLS.replace(',', "-"));
    bootstrapped(&name, suite, OLD_TOOLS)
}

/// The tar file of this name in the user's cache, made by mmdebstrap if it is not there.
fn bootstrapped(name: &str, suite: &str, packages: &str) -> Result<PathBuf, String> {
    if !has("mmdebstrap") {
        return Err("mmdebstrap is not installed".to_owned());
    }
    let home = std::env::var("HOME").unwrap_or_else(|_| "/root".to_owned());
    let cache = std::env::var("XDG_CACHE_HOME").unwrap_or_else(|_| format!("{home}/.cache"));
    let cache = Path::new(&cache).join("lxcfs-rs");
    let tar = cache.join(name);
    if tar.exists() {
        return Ok(tar);
    }
    fs::create_dir_all(&cache).map_err(|error| error.to_string())?;
    let unfinished = cache.join(unique("rootfs.tar"));
    let made = run_within(
        Command::new("mmdebstrap")
            .args(["--quiet", "--format=tar", "--variant=minbase"])
            .arg(format!("--include={packages}"))
            .args(
                ["doc", "man", "locale"]
                    .map(|dir| format!("--dpkgopt=path-exclude=/usr/share/{dir}/*")),
            )
            // Java registers its manual pages there.
            .arg("--essential-hook=mkdir -p \"$1/usr/share/man/man1\"")
            .arg(suite)
            .arg(&unfinished),
        std::time::Duration::from_secs(900),
    );
    if !made.succeeded() {
        let _ = fs::remove_file(&unfinished);
        return Err(format!("mmdebstrap {suite} failed: {}", made.err));
    }
    fs::rename(&unfinished, &tar).map_err(|error| error.to_string())?;
    Ok(tar)
}

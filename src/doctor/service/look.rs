//! Looking at the mountpoint and at the service.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use procfs::process::Process;

use super::{Daemon, Facts, Mounted, Unit};
use crate::attach::fallback;
use crate::config;
use crate::container::policy::Change;
use crate::doctor::lxcfs_command;
use crate::host::process::Proc;
use crate::places::health::{Device, Health};
use crate::places::inside;
use crate::places::survey::Place;
use crate::places::tool;

const SYSTEMD: &str = "/run/systemd/system";
const UNIT: &str = "lxcfs.service";
const PROPERTIES: &str = "LoadState,UnitFileState,FileDescriptorStoreMax,WatchdogUSec,ExecStart";

/// How long a file may take to be read.
const PATIENCE: Duration = Duration::from_secs(10);

/// Looks at the mountpoint and at who serves it.
pub fn gather(
    views: &Path,
    places: &[Place],
    health: &BTreeMap<Device, Health>,
    proc: &Arc<Proc>,
) -> Facts {
    let views = resolved(views);
    let mounted = mounted(&views, places, health);
    let daemon = daemon(&views, proc);
    let config = daemon.as_ref().and_then(|daemon| daemon.config.clone());
    let has_systemd = Path::new(SYSTEMD).exists();
    let hosts = places.iter().filter(|place| place.namespace.is_none());
    let mounts = hosts.flat_map(|place| &place.views);
    let elsewhere =
        mounts.filter(|mount| mount.root == Path::new("/") && mount.mount_point != views);
    Facts {
        mounted,
        daemon,
        has_systemd,
        unit: has_systemd.then(|| unit(&views)).flatten(),
        config: look_at_config(config.as_deref()),
        others: elsewhere
            .map(|mount| {
                let path = mount.mount_point.clone();
                let how = if health.get(&mount.device) == Some(&Health::Dead) {
                    Mounted::Dead
                } else if is_lxcfs(mount.device) {
                    Mounted::Lxcfs
                } else {
                    Mounted::Alive
                };
                (path, how)
            })
            .collect(),
        views,
    }
}

/// The path without symbolic links, as far as it can be looked up.
fn resolved(views: &Path) -> PathBuf {
    let absolute = std::path::absolute(views).unwrap_or_else(|_| views.to_owned());
    match (
        absolute.parent().map(fs::canonicalize),
        absolute.file_name(),
    ) {
        (Some(Ok(parent)), Some(name)) => parent.join(name),
        _ => absolute,
    }
}

fn mounted(views: &Path, places: &[Place], health: &BTreeMap<Device, Health>) -> Mounted {
    let hosts = places.iter().filter(|place| place.namespace.is_none());
    let mut mounts = hosts.flat_map(|place| &place.views);
    let Some(mount) = mounts.rfind(|mount| mount.mount_point == views) else {
        let links = fallback::is_hosts_own(&views.join("proc/meminfo"));
        return if links {
            Mounted::Links
        } else {
            Mounted::Nothing
        };
    };
    if health.get(&mount.device) == Some(&Health::Dead) {
        return Mounted::Dead;
    }
    let file = views.join("proc/meminfo");
    match inside::run(&None, PATIENCE, move || fs::read(file).is_ok()) {
        Ok(true) if is_lxcfs(mount.device) => Mounted::Lxcfs,
        Ok(true) => Mounted::Alive,
        _ => Mounted::Silent,
    }
}

/// LXCFS leaves the checking of permissions to itself.
fn is_lxcfs((major, minor): Device) -> bool {
    let number = format!("{major}:{minor}");
    let mounts = Process::myself().and_then(|process| process.mountinfo());
    let mut mounts = mounts.into_iter().flatten();
    let here = mounts.find(|mount| mount.majmin == number);
    here.is_some_and(|mount| !mount.super_options.contains_key("default_permissions"))
}

/// The process whose command line says that it is the daemon of this mountpoint.
fn daemon(views: &Path, proc: &Proc) -> Option<Daemon> {
    let mut pids = proc.pids().ok()?;
    pids.sort_unstable();
    pids.into_iter().find_map(|pid| {
        let (words, cli) = lxcfs_command(pid, proc)?;
        let mountpoint = cli.daemon.mountpoint.filter(|_| cli.command.is_none())?;
        if resolved(&mountpoint) != views {
            return None;
        }
        let options = words.get(1..words.len() - 1).unwrap_or_default();
        Some(Daemon {
            pid,
            version: tool::output(&format!("/proc/{pid}/exe"), &["--version"]).map(|text| {
                let version = text.split_whitespace().last();
                version.unwrap_or_default().to_owned()
            }),
            options: options.join(" "),
            config: cli.daemon.config,
        })
    })
}

fn unit(views: &Path) -> Option<Unit> {
    let properties = format!("--property={PROPERTIES}");
    of_systemctl(
        &tool::output("systemctl", &["show", UNIT, &properties])?,
        views,
    )
}

/// What `systemctl show` says of a unit that mounts these views.
pub(super) fn of_systemctl(text: &str, views: &Path) -> Option<Unit> {
    let value = |name: &str| {
        let mut lines = text.lines().filter_map(|line| line.split_once('='));
        lines
            .find(|(key, _)| *key == name)
            .map_or("", |(_, value)| value)
    };
    let mut words = value("ExecStart").split_whitespace();
    let mounts_views = words.any(|word| Path::new(word) == views);
    (value("LoadState") == "loaded" && mounts_views).then(|| Unit {
        is_enabled: value("UnitFileState").starts_with("enabled"),
        has_fd_store: !["", "0"].contains(&value("FileDescriptorStoreMax")),
        has_watchdog: !["", "0", "infinity"].contains(&value("WatchdogUSec")),
    })
}

fn look_at_config(path: Option<&Path>) -> Option<Result<PathBuf, String>> {
    let location = config::location(path);
    if path.is_none() && !location.exists() {
        return None;
    }
    let read = config::policy(path, &Change::default());
    Some(
        read.map(|_| location.to_owned())
            .map_err(|error| error.to_string()),
    )
}

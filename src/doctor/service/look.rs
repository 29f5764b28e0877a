//! Looking at the mountpoint and at the service.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;

use super::{Config, Daemon, Facts, Mounted, Unit};
use crate::attach::fallback;
use crate::config;
use crate::daemon::{self, resolved};
use crate::doctor::host;
use crate::host::process::Proc;
use crate::host::{resend_may_crash, vantage};
use crate::parse::mountinfo::Line;
use crate::places::health::{Device, Health};
use crate::places::inside::{self, Trouble};
use crate::places::survey::Place;
use crate::places::tool;

const SYSTEMD: &str = "/run/systemd/system";
const UNIT: &str = "lxcfs.service";
const PROPERTIES: &str =
    "LoadState,UnitFileState,FileDescriptorStoreMax,WatchdogUSec,ConditionResult,ExecStart";

/// How long a file may take to be read.
const PATIENCE: Duration = Duration::from_secs(10);

/// Looks at the mountpoint and at who serves it.
pub fn gather(
    views: &Path,
    places: &[Place],
    health: &BTreeMap<Device, Health>,
    proc: &Arc<Proc>,
    host: &host::Facts,
) -> Facts {
    let views = resolved(views);
    let hosts = places.iter().filter(|place| place.namespace.is_none());
    let (here, elsewhere): (Vec<_>, Vec<_>) = hosts
        .flat_map(|place| &place.views)
        .filter(|mount| mount.root == Path::new("/"))
        .partition(|mount| mount.mount_point == views);
    let device = here.last().map(|mount| mount.device);
    let mounted = mounted(&views, device, health);
    let (serving, unmounted) = daemons(&views, device, proc);
    let has_systemd = Path::new(SYSTEMD).exists();
    let how = |device: Device| match health.get(&device) {
        Some(Health::Dead) => Mounted::Dead,
        _ if is_lxcfs(device) => Mounted::Lxcfs,
        _ => Mounted::Alive,
    };
    Facts {
        mounted,
        daemon: serving.as_ref().map(|daemon| of_daemon(daemon, proc)),
        unmounted: unmounted.as_ref().map(|daemon| of_daemon(daemon, proc)),
        in_container: host.in_container,
        can_mount: host.fuse.is_none(),
        has_systemd,
        unit: has_systemd.then(|| unit(&views)).flatten(),
        config: config(serving.as_ref().or(unmounted.as_ref()), proc),
        others: elsewhere
            .into_iter()
            .map(|mount| (mount.mount_point.clone(), how(mount.device)))
            .collect(),
        views,
    }
}

fn mounted(views: &Path, device: Option<Device>, health: &BTreeMap<Device, Health>) -> Mounted {
    let Some(device) = device else {
        let links = fallback::is_hosts_own(&views.join("proc/meminfo"));
        return if links {
            Mounted::Links
        } else {
            Mounted::Nothing
        };
    };
    if health.get(&device) == Some(&Health::Dead) {
        return Mounted::Dead;
    }
    let file = views.join("proc/meminfo");
    let read = inside::run(&None, PATIENCE, move || fs::read(file).map(drop));
    match of_read(read) {
        Mounted::Alive | Mounted::Failing(_) if is_lxcfs(device) => Mounted::Lxcfs,
        mounted => mounted,
    }
}

/// What an attempt to read a file tells of who serves it. Only one who is silent may be killed.
fn of_read(read: Result<io::Result<()>, Trouble>) -> Mounted {
    match read {
        Ok(Ok(())) => Mounted::Alive,
        Ok(Err(error)) => match inside::errno(&error) {
            Errno::ENOTCONN | Errno::ECONNABORTED => Mounted::Dead,
            errno => Mounted::Failing(errno),
        },
        Err(Trouble::Closed(errno)) => Mounted::Failing(errno),
        Err(Trouble::Silent | Trouble::TooLong) => Mounted::Silent,
    }
}

/// LXCFS leaves the checking of permissions to itself.
fn is_lxcfs(device: Device) -> bool {
    let is_lxcfs =
        |line: &Line<'_>| line.device == device && !line.has_super_option("default_permissions");
    let mounts = Proc::open(Path::new("/proc")).map(|proc| proc.mounts("self/mountinfo", is_lxcfs));
    mounts.is_ok_and(|mounts| mounts.is_ok_and(|mounts| !mounts.is_empty()))
}

/// Of the daemons of this mountpoint, the one whose file system is what is mounted there, and
/// one of ours whose file system is not.
fn daemons(
    views: &Path,
    device: Option<Device>,
    proc: &Proc,
) -> (Option<daemon::Daemon>, Option<daemon::Daemon>) {
    let (mut serving, mut unmounted) = (None, None);
    let all = daemon::Daemon::all(proc).unwrap_or_default();
    for daemon in all.into_iter().filter(|one| one.mountpoint == views) {
        let minor = daemon.state(proc).map(|state| state.minor);
        match (minor, device) {
            (Some(minor), Some((_, mounted))) if minor == mounted => serving = Some(daemon),
            // LXCFS does not say.
            (None, Some(_)) if serving.is_none() => serving = Some(daemon),
            (Some(_), _) => unmounted = Some(daemon),
            (None, _) => {}
        }
    }
    (serving, unmounted)
}

fn of_daemon(daemon: &daemon::Daemon, proc: &Proc) -> Daemon {
    let state = daemon.state(proc);
    let status = daemon.status().unwrap_or_default();
    Daemon {
        pid: daemon.pid,
        views_off: state.as_ref().is_some_and(|state| state.views_off),
        version: state.map(|state| state.version),
        options: daemon.options.clone(),
        is_outdated: daemon.is_outdated(proc),
        may_crash_kernel: status.resends_interrupted && resend_may_crash(),
        unmatched: status.unmatched_rules.unwrap_or_default(),
        is_blind: !vantage::may_look(daemon.pid, proc),
        stopped: daemon.stopped(proc),
    }
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
        may_start: value("ConditionResult") == "yes",
    })
}

/// What there is to say of the daemon's configuration file, or of the default one.
fn config(daemon: Option<&daemon::Daemon>, proc: &Proc) -> Option<Config> {
    let path = daemon.and_then(|daemon| daemon.config.as_deref());
    let location = config::location(path);
    let in_force = daemon
        .and_then(|daemon| daemon.in_force(proc))
        .and_then(|memory| memory.text());
    let is_missing = path.is_none() && !location.exists();
    if is_missing && in_force.as_deref().is_none_or(str::is_empty) {
        return None;
    }
    let parse = |text: &str| config::Config::parse(text, location);
    let config = match config::read(path).and_then(|text| parse(&text)) {
        Ok(config) => config,
        Err(error) => return Some(Config::Bad(error.to_string())),
    };
    let is_same = in_force.is_none_or(|text| parse(&text).is_ok_and(|known| known == config));
    Some(if is_same {
        Config::InForce(location.to_owned())
    } else {
        Config::Changed(location.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_that_only_this_process_reads_is_no_silence() {
        let error = |errno: Errno| Ok(Err(io::Error::from(errno)));
        assert_eq!(of_read(Ok(Ok(()))), Mounted::Alive);
        assert_eq!(of_read(error(Errno::EIO)), Mounted::Failing(Errno::EIO));
        assert_eq!(of_read(error(Errno::ENOTCONN)), Mounted::Dead);
        let no_thread = Err(Trouble::Closed(Errno::EAGAIN));
        assert_eq!(of_read(no_thread), Mounted::Failing(Errno::EAGAIN));
        assert_eq!(of_read(Err(Trouble::Silent)), Mounted::Silent);
    }
}

//! The Debian package on a machine with systemd, while containers read.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::daemon::mounted_at;
use crate::common::figures::keyed;
use crate::common::{Ran, alone, children, has, patience, report, run_within, skip, wait_for};
use crate::containers::{MEMORY_KB, POINT, Place, run_in_lxc, start_all};
use crate::reader::now_msec;

/// Our package, and the one that it takes the place of.
const OURS: &str = "lxcfs-rs";
const DEBIANS: &str = "lxcfs";
const UNIT: &str = "lxcfs.service";
const NRI_UNIT: &str = "lxcfs-nri.service";
const PROGRAM: &str = "/usr/bin/lxcfs";

/// A package file: named by a variable, or beside this program.
pub fn package(variable: &str, name: &str) -> Option<PathBuf> {
    let beside = || Some(std::env::current_exe().ok()?.parent()?.join(name));
    let path = std::env::var_os(variable)
        .map(PathBuf::from)
        .or_else(beside)?;
    path.exists().then_some(path)
}

fn command(program: &str, args: &[&str]) -> Ran {
    let mut command = Command::new(program);
    command.env("DEBIAN_FRONTEND", "noninteractive").args(args);
    run_within(&mut command, patience(120))
}

fn systemctl(args: &[&str]) -> Ran {
    command("systemctl", args)
}

fn property(name: &str) -> String {
    property_of(UNIT, name)
}

fn property_of(unit: &str, name: &str) -> String {
    let show = systemctl(&["show", "--value", "-p", name, unit]);
    show.ok().trim().to_owned()
}

fn log() -> String {
    command(
        "journalctl",
        &["--no-pager", "-o", "short-monotonic", "-u", UNIT],
    )
    .out
}

/// Has apt do something, and says when it began and ended.
#[track_caller]
fn apt(args: &[&str]) -> (i64, i64) {
    let begin = now_msec();
    let ran = command("apt-get", &[&["--yes"], args].concat());
    let end = now_msec();
    eprintln!("{}{}", ran.out, ran.err);
    ran.ok();
    (begin, end)
}

fn status_of(package: &str) -> String {
    let ran = command(
        "dpkg-query",
        &[
            "--show",
            "--showformat=${db:Status-Abbrev}${Version}",
            package,
        ],
    );
    ran.out
}

/// The holder and the server, once both are the program that is installed.
#[track_caller]
fn installed_program_serves() -> (i32, i32) {
    let is_installed = |pid: i32| {
        fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == Path::new(PROGRAM))
    };
    let both = wait_for(patience(20), || {
        let holder: i32 = property("MainPID").parse().ok()?;
        let server = *children(holder).first()?;
        (is_installed(holder) && is_installed(server)).then_some((holder, server))
    });
    both.unwrap_or_else(|| panic!("another program serves: {}", log()))
}

/// The container has the figures of its own limit.
#[track_caller]
fn assert_own_figures(place: &Place) {
    let text = place.exec(&["cat", "/proc/meminfo"]).ok();
    assert_eq!(
        keyed(&text)["MemTotal"],
        MEMORY_KB,
        "{}: {text}",
        place.engine
    );
}

/// How many mounts each container has.
fn mounts_of(places: &[Place]) -> Vec<usize> {
    let count = |place: &Place| {
        let mounts = place.exec(&["cat", "/proc/self/mountinfo"]).ok();
        mounts.lines().count()
    };
    places.iter().map(count).collect()
}

#[test]
fn it_takes_the_place_of_debians_package_upgrades_and_goes_without_a_trace() {
    let (Some(first), Some(next)) = (
        package("LXCFS_DEB", "lxcfs.deb"),
        package("LXCFS_NEXT_DEB", "lxcfs-next.deb"),
    ) else {
        skip!("LXCFS_DEB and LXCFS_NEXT_DEB do not name two packages; scripts/package makes them");
    };
    if !Path::new("/run/systemd/system").exists() || !has("apt-get") {
        skip!("systemd does not run here, or there is no apt");
    }
    if !status_of(DEBIANS).starts_with("ii") {
        skip!("Debian's package lxcfs is not installed");
    }
    let _turn = alone();
    systemctl(&["enable", "--now", UNIT]).ok();
    let answers = || fs::read(Path::new(POINT).join("proc/meminfo")).ok();
    assert!(wait_for(patience(20), answers).is_some(), "{}", log());
    let places = match start_all() {
        Ok(places) => places,
        Err(why) => {
            systemctl(&["disable", "--now", UNIT]);
            skip!("{why}")
        }
    };

    let installed = takes_over(&places, &first);
    upgrades(&places, &next);
    is_removed(&places);
    drop(places);
    is_purged(&installed);
}

/// Installs the package over Debian's: nobody notices. Returns its files.
fn takes_over(places: &[Place], package: &Path) -> Vec<PathBuf> {
    let mounts = mounts_of(places);
    let before = now_msec();
    places.iter().for_each(|place| place.record.reads());
    let (begin, end) = apt(&["install", package.to_str().expect("ASCII")]);
    installed_program_serves();
    places.iter().for_each(|place| place.record.reads());
    let after = now_msec();
    assert_nothing_wrong(places, "before it is installed", before, begin);
    assert_nothing_wrong(places, "apt install over Debian's lxcfs", begin, end);
    assert_nothing_wrong(places, "after that", end, after);
    assert_eq!(mounts_of(places), mounts, "{}", log());
    assert!(status_of(OURS).starts_with("ii"), "{}", status_of(OURS));
    assert_eq!(property("ActiveState"), "active", "{}", log());
    assert_eq!(property("UnitFileState"), "enabled");
    assert_eq!(property("Type"), "notify", "the unit is another one");
    let text = run_in_lxc(&["cat", "/proc/meminfo"]);
    assert_eq!(
        keyed(&text)["MemTotal"],
        MEMORY_KB,
        "a new container: {text}"
    );
    // Its scripts disable the service of this name.
    apt(&["purge", DEBIANS]);
    assert_eq!(property("UnitFileState"), "enabled");
    let list = command("dpkg", &["-L", OURS]).ok();
    let files = list.lines().map(PathBuf::from);
    files.filter(|path| !path.is_dir()).collect()
}

/// The containers have read all the time, and have the figures of their own limits.
#[track_caller]
fn assert_nothing_wrong(places: &[Place], phase: &str, from_msec: i64, to_msec: i64) {
    for place in places {
        let seen = place.record.between(from_msec, to_msec);
        report(&format!(
            "{phase}, {}: {} rounds in {} ms, {} errors within {} ms",
            place.engine,
            seen.rounds,
            to_msec - from_msec,
            seen.errors.len(),
            seen.outage_msec()
        ));
        assert!(
            seen.rounds > 0 && seen.errors.is_empty(),
            "{phase}, {}: {seen:?}",
            place.engine
        );
        assert_own_figures(place);
    }
}

/// Upgrades while the containers read: nobody notices.
fn upgrades(places: &[Place], package: &Path) {
    let (holder, server) = installed_program_serves();
    let old_version = command(PROGRAM, &["--version"]).ok();
    let mounts = mounts_of(places);
    let (begin, _) = apt(&["install", package.to_str().expect("ASCII")]);
    let (new_holder, new_server) = installed_program_serves();
    places.iter().for_each(|place| place.record.reads());
    assert_nothing_wrong(places, "upgrade", begin, now_msec());
    assert_eq!(
        new_holder,
        holder,
        "the daemon was started again: {}",
        log()
    );
    assert_ne!(new_server, server, "the old program serves on: {}", log());
    assert_ne!(command(PROGRAM, &["--version"]).ok(), old_version);
    assert_eq!(mounts_of(places), mounts, "{}", log());
}

/// Removes the package while the containers read: from then on they see the host.
fn is_removed(places: &[Place]) {
    let (holder, server) = installed_program_serves();
    systemctl(&["enable", "--now", NRI_UNIT]).ok();
    let (begin, end) = apt(&["remove", OURS]);
    for unit in [UNIT, NRI_UNIT] {
        let state = property_of(unit, "ActiveState");
        assert!(
            ["inactive", "failed"].contains(&state.as_str()),
            "{unit}: {state}"
        );
    }
    let wanted = Path::new("/etc/systemd/system/multi-user.target.wants").join(NRI_UNIT);
    assert!(!wanted.is_symlink(), "the plugin is still enabled");
    assert!(mounted_at(Path::new(POINT)).is_none(), "still mounted");
    for pid in [holder, server] {
        assert!(
            !Path::new(&format!("/proc/{pid}")).exists(),
            "{pid} lives on"
        );
    }
    let hosts = keyed(&fs::read_to_string("/proc/meminfo").expect("meminfo"))["MemTotal"];
    for place in places {
        place.record.reads();
        let seen = place.record.between(begin, end);
        assert!(seen.errors.is_empty(), "{}: {seen:?}", place.engine);
        let text = place
            .exec(&["cat", "/proc/meminfo", "/proc/self/mountinfo"])
            .ok();
        assert_eq!(keyed(&text)["MemTotal"], hosts, "{}: {text}", place.engine);
        assert!(!text.contains(" - fuse.lxcfs "), "{}: {text}", place.engine);
    }
}

/// Purges the package when no container runs any more.
fn is_purged(installed: &[PathBuf]) {
    apt(&["purge", OURS]);
    assert_eq!(status_of(OURS), "");
    let mut own = installed.to_vec();
    own.extend(
        [
            POINT,
            "/etc/lxcfs",
            "/run/lxcfs.pid",
            "/run/lxcfs-remount.lock",
        ]
        .map(PathBuf::from),
    );
    own.retain(|path| path.symlink_metadata().is_ok());
    assert_eq!(own, [] as [PathBuf; 0], "left behind");
    assert_eq!(property("LoadState"), "not-found");
    let find = "find /etc/systemd /run/systemd/system /var/lib/systemd \
                -name 'lxcfs.service*' -o -name 'lxcfs-nri.service*'";
    assert_eq!(command("sh", &["-c", find]).ok(), "");
}

//! However the daemon was started, an upgrade makes way for the program that is installed.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::daemon::binary;
use crate::common::{Daemon, beside_others, patience, run_within, wait_for};
use crate::crash::server_of;
use crate::planned::{executable, take_over};
use crate::unit::install;

/// A directory with the program in it.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().expect("a directory"));
        install(&binary(), &place.program());
        place
    }

    fn dir(&self) -> &Path {
        self.0.path()
    }

    fn program(&self) -> PathBuf {
        self.dir().join("lxcfs")
    }
}

/// As `cp` does when the program is in use.
fn copy_over(program: &Path, place: &Path) {
    let mut copy = Command::new("cp");
    let copy = copy.arg("--remove-destination").args([program, place]);
    run_within(copy, patience(30)).ok();
}

#[track_caller]
fn assert_runs(daemon: &Daemon, program: &Path) {
    let installed = fs::metadata(program).expect("the program");
    let installed = (installed.dev(), installed.ino());
    for (whose, pid, name) in [
        ("holder", daemon.pid(), "lxcfs"),
        ("server", server_of(daemon), "lxcfs-server"),
    ] {
        assert_eq!(
            executable(pid),
            installed,
            "an old {whose}: {}",
            daemon.log()
        );
        let found = || fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        let is_named = || (found().trim_end() == name).then_some(());
        let named = wait_for(patience(5), is_named);
        assert!(named.is_some(), "the {whose} is called {}", found());
    }
}

/// Upgrades a daemon that was started by `command` from the program in `place`, twice.
#[track_caller]
fn upgrades(command: Command, place: &Place) {
    let daemon = Daemon::start_command(command, &[]);
    for install in [install, copy_over, install] {
        install(&binary(), &place.program());
        take_over(&daemon);
        assert_runs(&daemon, &place.program());
    }
}

#[test]
fn a_daemon_started_by_its_bare_name_is_upgraded() {
    let _turn = beside_others();
    let place = Place::new();
    let path = format!("{}:/usr/bin:/bin", place.dir().display());
    let mut command = Command::new("lxcfs");
    command.env("PATH", &path);
    upgrades(command, &place);
    let mut renamed = Command::new("lxcfs");
    renamed.env("PATH", &path).arg0("another-name");
    upgrades(renamed, &place);
}

#[test]
fn a_daemon_started_by_a_relative_path_is_upgraded() {
    let _turn = beside_others();
    let place = Place::new();
    let mut command = Command::new("sh");
    command.current_dir(place.dir());
    upgrades_by_shell(command, "exec ./lxcfs \"$@\"", &place);
}

#[test]
fn a_daemon_started_by_a_wrapper_is_upgraded() {
    let _turn = beside_others();
    let place = Place::new();
    let wrapper = place.dir().join("wrapper");
    let text = format!("#!/bin/sh\nexec '{}' \"$@\"\n", place.program().display());
    fs::write(&wrapper, text).expect("a script");
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).expect("permissions");
    upgrades(Command::new(&wrapper), &place);
}

#[track_caller]
fn upgrades_by_shell(mut command: Command, script: &str, place: &Place) {
    command.args(["-c", script, "sh"]);
    upgrades(command, place);
}

#[test]
fn a_daemon_started_by_the_dynamic_linker_is_upgraded() {
    let _turn = beside_others();
    let place = Place::new();
    let headers = fs::read(binary()).expect("the program");
    let linker = ["/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1"]
        .into_iter()
        .find(|linker| Path::new(linker).exists() && contains(&headers, linker.as_bytes()));
    let Some(linker) = linker else {
        crate::common::skip!("the program needs no dynamic linker that is known");
    };
    let mut command = Command::new(linker);
    command.arg(place.program());
    upgrades(command, &place);
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// As `alternatives` does it: the link leads to another program from now on.
#[test]
fn a_daemon_started_by_a_link_goes_on_with_what_the_link_leads_to_by_then() {
    let _turn = beside_others();
    let (old, new, bin) = (Place::new(), Place::new(), Place::new());
    let link = bin.program();
    let lead_to = |place: &Place| {
        let _ = fs::remove_file(&link);
        symlink(place.program(), &link).expect("a link");
    };
    lead_to(&old);
    let mut command = Command::new("lxcfs");
    command.env("PATH", bin.dir());
    let daemon = Daemon::start_command(command, &[]);
    for place in [&new, &old, &new] {
        lead_to(place);
        take_over(&daemon);
        assert_runs(&daemon, &place.program());
    }
}

/// The holder has become its own program again meanwhile, under another path.
#[test]
fn a_daemon_whose_upgrade_failed_goes_on_with_the_next_one() {
    let _turn = beside_others();
    let place = Place::new();
    let mut command = Command::new("lxcfs");
    command.env("PATH", place.dir());
    let daemon = Daemon::start_command(command, &[]);
    // Says that it can go on, and cannot be executed by the time it should.
    let broken = place.dir().join("broken");
    let text = format!(
        "#!/bin/sh\n/bin/rm -f '{}'\nexec '{}' \"$@\"\n",
        place.program().display(),
        binary().display()
    );
    fs::write(&broken, text).expect("a script");
    fs::set_permissions(&broken, fs::Permissions::from_mode(0o755)).expect("permissions");
    fs::rename(&broken, place.program()).expect("renaming");
    take_over(&daemon);
    install(&binary(), &place.program());
    take_over(&daemon);
    assert_runs(&daemon, &place.program());
}

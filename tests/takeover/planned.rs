//! Servers and holders that make way for others.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use lxcfs::host::kernel_is_since;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::common::daemon::binary;
use crate::common::figures::keyed;
use crate::common::{
    Cell, Daemon, Limits, alone, beside_others, open_fds, patience, run, skip, slowness, wait_for,
};
use crate::crash::{SLOW, all_seen, eight_readers, server_of};
use crate::faults::FAULT;
use crate::unit::install;
use crate::watcher::Watcher;

/// Another version of the program, which `scripts/test` has built.
pub fn other_version() -> Option<std::path::PathBuf> {
    std::env::var_os("LXCFS_NEXT_BIN").map(Into::into)
}

/// Takes over by signal, and waits until another server serves.
#[track_caller]
pub fn take_over(daemon: &Daemon) {
    let before = server_of(daemon);
    daemon.signal(Signal::SIGUSR1);
    let other = wait_for(patience(10), || (server_of(daemon) != before).then_some(()));
    assert!(other.is_some(), "no takeover: {}", daemon.log());
}

pub fn executable(pid: i32) -> (u64, u64) {
    let metadata = fs::metadata(format!("/proc/{pid}/exe")).expect("the program of a process");
    (metadata.dev(), metadata.ino())
}

#[track_caller]
fn upgrades_under_load(options: &[&str], scenario: &str) {
    let Some(next) = other_version() else {
        skip!("LXCFS_NEXT_BIN does not name a second version; scripts/test builds one");
    };
    let versions = [next, binary()];
    let version = |program: &Path| run(std::process::Command::new(program).arg("--version")).ok();
    assert_ne!(version(&versions[0]), version(&versions[1]));
    let dir = tempfile::tempdir().expect("a directory");
    let place = dir.path().join("lxcfs");
    install(&versions[1], &place);
    let _turn = alone();
    let mut daemon = Daemon::start_program_with(&place, options, &[(FAULT, SLOW)]);
    // The first one has inherited what this program was started with.
    take_over(&daemon);
    let fds = open_fds(daemon.pid());
    let (cells, watchers) = eight_readers(&daemon);
    // Under emulation it is the newer kernel that matters, not how often.
    let rounds = if slowness() == 1 { 200 } else { 4 };
    for round in 0..rounds {
        std::thread::sleep(Duration::from_millis(200) * slowness());
        // A restart of the same version, then an upgrade.
        if round % 2 == 1 {
            install(&versions[round / 2 % 2], &place);
        }
        take_over(&daemon);
        let installed = fs::metadata(&place).expect("the program");
        let installed = (installed.dev(), installed.ino());
        assert_eq!(
            executable(daemon.pid()),
            installed,
            "the holder is of an old version"
        );
        assert_eq!(
            executable(server_of(&daemon)),
            installed,
            "the server is of an old version"
        );
    }
    let seen = all_seen(watchers);
    seen.report(&format!(
        "{rounds} x SIGUSR1, two versions in turn{scenario}"
    ));
    seen.assert_nothing_wrong();
    assert!(daemon.is_running());
    assert_eq!(open_fds(daemon.pid()), fds, "fds of the holder");
    drop(cells);
}

/// Beside others a container with many readers is held back.
#[test]
fn requests_that_wait_for_their_turn_survive_restarts_and_kills() {
    if !kernel_is_since(6, 9) {
        skip!("a kernel before 6.9 cannot send requests again");
    }
    let _turn = alone();
    let daemon = Daemon::start(&[]);
    let (cells, mut watchers) = eight_readers(&daemon);
    let noisy = Cell::start(&Limits {
        memory_bytes: Some(900 << 20),
        ..Limits::default()
    });
    let proc = daemon.path("proc");
    watchers.push(Watcher::start(noisy.inside(), &proc, 64, Duration::ZERO));
    for round in 0..20 {
        std::thread::sleep(Duration::from_millis(200) * slowness());
        if round % 2 == 0 {
            take_over(&daemon);
        } else {
            let _ = kill(Pid::from_raw(server_of(&daemon)), Signal::SIGKILL);
        }
    }
    let seen = all_seen(watchers);
    seen.report("10 x SIGUSR1, 10 x SIGKILL beside 64 readers without a pause");
    seen.assert_nothing_wrong();
    drop((cells, noisy));
}

#[test]
fn restarts_and_upgrades_under_load_are_not_noticed() {
    upgrades_under_load(&[], "");
}

#[test]
fn restarts_and_upgrades_under_load_are_not_noticed_on_an_older_kernel() {
    upgrades_under_load(&["--no-resend"], ", older kernel");
}

/// Many come before the server that the last one has started serves.
#[test]
fn takeovers_in_quick_succession_are_not_noticed_on_an_older_kernel() {
    let _turn = alone();
    let mut daemon = Daemon::start_with(&["--no-resend"], &[(FAULT, SLOW)]);
    let (cells, watchers) = eight_readers(&daemon);
    let mut takeovers = 0;
    let start = std::time::Instant::now();
    while start.elapsed() < Duration::from_secs(2) * slowness() {
        daemon.signal(Signal::SIGUSR1);
        takeovers += 1;
        // All moments of a start are met in turn.
        std::thread::sleep(Duration::from_millis(takeovers % 41) * slowness());
    }
    let seen = all_seen(watchers);
    seen.report(&format!(
        "{takeovers} x SIGUSR1 in quick succession, older kernel"
    ));
    seen.assert_nothing_wrong();
    assert!(daemon.is_running(), "{}", daemon.log());
    drop(cells);
}

#[test]
fn a_program_that_does_not_run_is_not_changed_to() {
    let _turn = beside_others();
    let dir = tempfile::tempdir().expect("a directory");
    let (place, broken) = (dir.path().join("lxcfs"), dir.path().join("broken"));
    install(&binary(), &place);
    let mut daemon = Daemon::start_as(&place, &[]);
    let server = server_of(&daemon);
    fs::write(&broken, "not a program").expect("a file");
    fs::set_permissions(
        &broken,
        fs::metadata(&place).expect("metadata").permissions(),
    )
    .expect("permissions");
    install(&broken, &place);
    for _ in 0..2 {
        daemon.signal(Signal::SIGUSR1);
        let refused = || daemon.log().contains("not going on").then_some(());
        wait_for(patience(10), refused).expect("a word about the program");
        assert!(
            daemon.answers() && server_of(&daemon) == server,
            "{}",
            daemon.log()
        );
        let _ = fs::remove_file(&place);
    }
    assert!(daemon.is_running());
}

/// As after a change of packages: a program that reads no requests would leave all readers waiting.
#[test]
fn another_program_under_the_same_name_is_not_changed_to() {
    let _turn = beside_others();
    let dir = tempfile::tempdir().expect("a directory");
    let place = dir.path().join("lxcfs");
    install(&binary(), &place);
    let daemon = Daemon::start_as(&place, &[]);
    let server = server_of(&daemon);
    let others = ["/bin/true", "/usr/bin/lxcfs"].map(Path::new);
    for (number, other) in others
        .into_iter()
        .filter(|other| other.exists())
        .enumerate()
    {
        install(other, &place);
        daemon.signal(Signal::SIGUSR1);
        let refused = || {
            let count = daemon.log().matches("not going on").count();
            (count == number + 1).then_some(())
        };
        wait_for(patience(10), refused).expect("a word about the program");
        assert!(
            daemon.answers() && server_of(&daemon) == server,
            "{}",
            daemon.log()
        );
    }
}

#[test]
fn what_sigusr2_has_switched_off_stays_off_in_the_next_server() {
    let _turn = beside_others();
    let daemon = Daemon::start(&[]);
    let cell = crate::common::Cell::start(&crate::common::Limits {
        memory_bytes: Some(64 << 20),
        ..Default::default()
    });
    // Other lines of the host's may have the same figure.
    let total = || keyed(&cell.read(&daemon, "proc/meminfo"))["MemTotal"];
    let off = || (total() != 64 << 10).then_some(());
    assert!(off().is_none());
    daemon.signal(Signal::SIGUSR2);
    wait_for(patience(5), off).expect("the host's figures");
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(server_of(&daemon)),
        Signal::SIGKILL,
    )
    .expect("killing the server");
    assert!(off().is_some(), "a crash switched the views on");
    take_over(&daemon);
    assert!(off().is_some(), "a takeover switched the views on");
}

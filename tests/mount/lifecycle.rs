//! Starting, and everything that may be in the way.

use std::fs::{self, File};
use std::os::unix::fs::{chown, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::common::daemon::{binary, mounted_at};
use crate::common::{Daemon, Ran, beside_others, patience, run_within, wait_for};

/// Runs the daemon's command line, which has to end by itself.
fn attempt(args: &[&str]) -> Ran {
    run_within(Command::new(binary()).args(args), patience(15))
}

/// One sentence for a person: one line that holds what matters.
#[track_caller]
fn assert_says(ran: &Ran, code: i32, words: &[&str]) {
    assert_eq!(ran.code, Some(code), "{ran:?}");
    assert_eq!(
        ran.err.trim().lines().count(),
        1,
        "not one line: {:?}",
        ran.err
    );
    for word in words {
        assert!(ran.err.contains(word), "no {word:?} in {:?}", ran.err);
    }
}

#[test]
fn a_second_daemon_is_refused_and_harms_nothing() {
    let _turn = beside_others();
    let mut first = Daemon::start(&[]);
    let pid_text = fs::read_to_string(first.pid_file()).expect("the pid file");
    let (point, pid_file) = (
        first.arg(""),
        first.pid_file().to_str().expect("ASCII").to_owned(),
    );
    let point = point.trim_end_matches('/');
    // Once with the running daemon's pid file, once with another.
    for (file, named) in [
        (pid_file.clone(), pid_file.as_str()),
        (format!("{pid_file}.other"), point),
    ] {
        assert_says(&attempt(&["-p", &file, point]), 1, &[named]);
        assert!(
            first.is_running(),
            "the first daemon ended: {}",
            first.log()
        );
        assert!(first.answers(), "the first daemon does not answer");
        assert_eq!(
            fs::read_to_string(&pid_file).ok().as_ref(),
            Some(&pid_text),
            "the pid file changed"
        );
    }
    let mountinfo = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    let stacked = mountinfo
        .lines()
        .filter(|line| line.split(' ').nth(4) == Some(point))
        .count();
    assert_eq!(stacked, 1, "a second mount lies over the first");
}

#[test]
fn a_pid_file_that_is_somebody_elses_or_leads_elsewhere_is_refused() {
    let _turn = beside_others();
    let dir = tempfile::tempdir().expect("a directory");
    let at = |name: &str| dir.path().join(name);
    fs::create_dir(at("mnt")).expect("a mount point");
    for name in ["precious", "others"] {
        fs::write(at(name), name).expect("a file");
    }
    symlink(at("precious"), at("link")).expect("a link");
    fs::hard_link(at("precious"), at("hard-link")).expect("a link");
    chown(at("others"), Some(65534), Some(65534)).expect("another owner");
    mkfifo(&at("fifo"), Mode::S_IRWXU).expect("a FIFO");
    for name in ["link", "hard-link", "others", "fifo"] {
        let (file, point) = (at(name), at("mnt"));
        let [file, point] = [&file, &point].map(|path| path.to_str().expect("ASCII"));
        assert_says(&attempt(&["-p", file, point]), 1, &[file]);
        assert!(mounted_at(&at("mnt")).is_none());
    }
    for name in ["precious", "others"] {
        assert_eq!(fs::read_to_string(at(name)).expect("the file"), name);
    }
}

#[test]
fn a_dead_mount_is_cleaned_at_start() {
    let _turn = beside_others();
    let mut killed = Daemon::start(&[]);
    killed.kill_all();
    // Not the state of the mount point, which the kernel knows without asking.
    let error = fs::read(killed.path("proc/meminfo"))
        .err()
        .and_then(|error| error.raw_os_error());
    // The latter is told to a request that was under way when the connection ended.
    let dead = [Some(libc::ENOTCONN), Some(libc::ECONNABORTED)].contains(&error);
    assert!(dead, "the mount is not dead: {error:?}");
    let other_pid_file = killed.pid_file().with_extension("again");
    let again = Daemon::start_at(&binary(), killed.point(), &other_pid_file, &[]);
    assert!(again.answers());
    drop(again);
    assert!(
        mounted_at(killed.point()).is_none(),
        "the dead mount is still below"
    );
}

#[test]
fn a_missing_mount_point_is_named() {
    assert_says(
        &attempt(&["-p", "/nonexistent/pid", "/nonexistent/mnt"]),
        1,
        &["/nonexistent"],
    );
    let dir = tempfile::tempdir().expect("a directory");
    let pid = dir.path().join("pid");
    let missing = dir.path().join("missing");
    let (pid, missing) = (
        pid.to_str().expect("ASCII"),
        missing.to_str().expect("ASCII"),
    );
    assert_says(&attempt(&["-p", pid, missing]), 1, &[missing]);
    assert!(!Path::new(pid).exists(), "the pid file is left");
}

#[test]
fn a_mount_point_that_is_a_file_is_named() {
    let dir = tempfile::tempdir().expect("a directory");
    let (pid, file) = (dir.path().join("pid"), dir.path().join("file"));
    fs::write(&file, "").expect("a file");
    let (pid, file) = (pid.to_str().expect("ASCII"), file.to_str().expect("ASCII"));
    assert_says(&attempt(&["-p", pid, file]), 1, &[file, "directory"]);
}

#[test]
fn usage_errors_exit_with_2() {
    for args in [&["--no-such-option", "/mnt"][..], &["/mnt", "/mnt2"], &[]] {
        let ran = attempt(args);
        assert_eq!(ran.code, Some(2), "{ran:?}");
        assert!(!ran.err.is_empty(), "{args:?} says nothing");
    }
}

#[test]
fn another_user_is_told_to_be_root() {
    let dir = tempfile::tempdir().expect("a directory");
    run_within(
        Command::new("chmod").arg("777").arg(dir.path()),
        patience(5),
    )
    .ok();
    let (point, copy) = (dir.path().join("mnt"), dir.path().join("lxcfs"));
    fs::create_dir(&point).expect("a directory");
    // The build directory may be closed to other users.
    fs::copy(binary(), &copy).expect("copying the binary");
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
    let ran = run_within(
        command
            .arg(copy)
            .arg("-p")
            .arg(dir.path().join("pid"))
            .arg(&point),
        patience(15),
    );
    assert_says(&ran, 1, &["root"]);
}

#[test]
fn version_and_help_answer_on_standard_output() {
    for flag in ["--version", "-v", "--help", "-h"] {
        let ran = attempt(&[flag]);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert!(!ran.out.is_empty(), "{flag} prints nothing");
    }
}

#[test]
fn a_reader_that_has_enough_is_no_failure_and_a_full_disk_is_one() {
    let own = std::process::id().to_string();
    for args in [
        &["--help"][..],
        &["mounts", "--format", "lxc"],
        &["cdi"],
        &["generate", "completions", "bash"],
        &["show", &own],
    ] {
        let (reader, writer) = nix::unistd::pipe().expect("a pipe");
        drop(reader);
        let to = |stdout: Stdio| {
            let mut command = Command::new(binary());
            let ran = command.args(args).stdout(stdout).output();
            let ran = ran.expect("the program under test");
            (
                ran.status.code(),
                String::from_utf8_lossy(&ran.stderr).into_owned(),
            )
        };
        let (code, said) = to(writer.into());
        assert_eq!(code, Some(0), "{args:?}: {said}");
        // There may be something to say of a process that nothing is attached to.
        let has_failed = said.lines().any(|line| !line.contains("warning: "));
        assert!(!has_failed, "{args:?}: {said}");
        let full = File::options().write(true).open("/dev/full");
        let (code, said) = to(full.expect("/dev/full").into());
        assert_eq!(code, Some(1), "{args:?}");
        assert!(said.contains("cannot print"), "{args:?}: {said}");
    }
}

#[test]
fn the_options_of_lxcfs_are_accepted() {
    let _turn = beside_others();
    let options = [
        "-f",
        "-l",
        "-u",
        "--enable-cfs",
        "--enable-pidfd",
        "--enable-cgroup",
        "-o",
        "allow_other",
    ];
    let daemon = Daemon::start(&options);
    assert!(daemon.answers());
    for option in [
        "--enable-loadavg",
        "--disable-swap",
        "--foreground",
        "--enable-psi-poll",
    ] {
        assert!(Daemon::start(&[option]).answers(), "{option}");
    }
}

#[test]
fn incus_can_start_kill_and_start_again() {
    let _turn = beside_others();
    let dir = tempfile::tempdir().expect("a directory");
    let (runtime, point, pid) = (
        dir.path().join("run"),
        dir.path().join("mnt"),
        dir.path().join("pid"),
    );
    fs::create_dir(&runtime).expect("a runtime directory");
    fs::create_dir(&point).expect("a mount point");
    let options = ["-f", "--runtime-dir", runtime.to_str().expect("ASCII")];
    for _ in 0..3 {
        let mut daemon = Daemon::start_at(&binary(), &point, &pid, &options);
        // Incus kills the pid it started, and only that.
        daemon.signal(nix::sys::signal::Signal::SIGKILL);
        assert!(daemon.ended().is_some());
        let served = || fs::read(daemon.path("proc/meminfo")).is_err().then_some(());
        let dead = wait_for(patience(5), served);
        assert!(dead.is_some(), "a process lives on and serves the mount");
        std::mem::forget(daemon);
    }
    let last = Daemon::start_at(&binary(), &point, &pid, &options);
    assert!(last.answers());
    drop(last);
    assert!(mounted_at(&point).is_none(), "a dead mount is left below");
}

#[test]
fn it_is_ready_in_a_fraction_of_a_second() {
    let _turn = crate::common::alone();
    let start = std::time::Instant::now();
    let daemon = Daemon::start(&[]);
    let took = start.elapsed();
    assert!(took < patience(1) / 10 * 3, "{took:?}");
    drop(daemon);
}

/// A daemon that waited for its own answer when it was killed would hold the connection for
/// ever: its readers would hang, and so would whoever waits for its end.
#[test]
fn a_daemon_killed_while_it_starts_ends_and_leaves_nobody_waiting() {
    let _turn = beside_others();
    let dir = tempfile::tempdir().expect("a directory");
    let (point, pid) = (dir.path().join("mnt"), dir.path().join("pid"));
    fs::create_dir(&point).expect("a mount point");
    for delay_msec in 0..25 {
        let mut starting = Command::new(binary())
            .arg("-p")
            .args([&pid, &point])
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("starting the daemon");
        std::thread::sleep(std::time::Duration::from_millis(delay_msec));
        starting.kill().expect("killing it");
        let ended = wait_for(patience(5), || starting.try_wait().ok().flatten());
        assert!(
            ended.is_some(),
            "killed {delay_msec} ms after its start it does not end"
        );
    }
    let last = Daemon::start_at(&binary(), &point, &pid, &[]);
    assert!(last.answers());
}

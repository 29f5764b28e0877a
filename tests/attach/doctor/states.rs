//! For every state that can be made here: what the doctor finds, and that its command mends it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Finding, Findings, Started};
use crate::common::daemon::binary;
use crate::common::mounts::{options_at, total_mib};
use crate::common::{Cell, Daemon, alone, patience, run_within, skip, wait_for};
use crate::running::{assert_has_views, attach, cell};

/// Types the command of the finding about `part`; after that nothing is to be mended.
#[track_caller]
fn mend(point: &Path, part: &str) -> Finding {
    let found = Findings::of(point);
    assert!(found.of_lxcfs(part), "{found:?}");
    let finding = found.about(part);
    assert_ne!(finding.verdict, "ok", "{finding:?}");
    finding.mend();
    let mended = wait_for(patience(30), || {
        let found = Findings::of(point);
        let is_healthy = found.to_mend("lxcfs").is_empty() && !found.of_lxcfs(part);
        is_healthy.then_some(())
    });
    assert!(mended.is_some(), "{finding:?}: {:?}", Findings::of(point));
    finding
}

/// A process of a container that opens, reads and closes a view again and again.
struct Reader {
    child: Child,
    failures: PathBuf,
    reads: PathBuf,
    _dir: tempfile::TempDir,
}

impl Reader {
    #[track_caller]
    fn of(cell: &Cell) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let (failures, reads) = (dir.path().join("failures"), dir.path().join("reads"));
        let script = format!(
            "while :; do read -r line < /proc/{}/root/proc/meminfo || echo failed; echo read >&2; sleep 0.01; done",
            cell.init
        );
        let mut command = cell.command(&["sh", "-c", &script]);
        let child = command
            .stdin(Stdio::null())
            .stdout(fs::File::create(&failures).expect("a file"))
            .stderr(fs::File::create(&reads).expect("a file"))
            .spawn()
            .expect("a reader");
        let reader = Self {
            child,
            failures,
            reads,
            _dir: dir,
        };
        reader.goes_on();
        reader
    }

    /// Waits for another ten reads.
    #[track_caller]
    fn goes_on(&self) {
        let size = || fs::metadata(&self.reads).map_or(0, |metadata| metadata.len());
        let before = size();
        let more = wait_for(patience(20), || (size() >= before + 50).then_some(()));
        assert!(more.is_some(), "the reader waits");
    }

    #[track_caller]
    fn saw_nothing(&self) {
        self.goes_on();
        let failures = fs::read_to_string(&self.failures).expect("the failures");
        assert_eq!(failures, "");
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn views_that_are_off_are_switched_on() {
    let _turn = alone();
    let daemon = Daemon::start(&[]);
    daemon.signal(Signal::SIGUSR2);
    let off = wait_for(patience(10), || {
        Findings::of(daemon.point())
            .speaks_of("the views off")
            .then_some(())
    });
    assert!(off.is_some(), "{:?}", Findings::of(daemon.point()));
    let finding = mend(daemon.point(), "the views off");
    assert_eq!(
        finding.command,
        Some(format!("kill -USR2 {}", daemon.pid()))
    );
    // A server that is started anew says so as well.
    daemon.signal(Signal::SIGUSR2);
    daemon.signal(Signal::SIGUSR1);
    let off = wait_for(patience(10), || {
        Findings::of(daemon.point())
            .speaks_of("the views off")
            .then_some(())
    });
    assert!(off.is_some(), "{:?}", Findings::of(daemon.point()));
    mend(daemon.point(), "the views off");
}

#[test]
fn a_configuration_that_was_changed_is_read() {
    let _turn = alone();
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("lxcfs.toml");
    let path = file.to_str().expect("an ASCII path");
    let write = |text: &str| fs::write(&file, text).expect("a configuration");
    write("[defaults]\nswap = false\n");
    let daemon = Daemon::start(&["--config", path]);
    let about = || Findings::of(daemon.point()).about(path);
    let found = Findings::of(daemon.point());
    assert!(
        found.speaks_of(&format!("{path} is in order and in force")),
        "{found:?}"
    );
    write("# The same.\n[defaults]\nswap = false\n");
    assert!(Findings::of(daemon.point()).speaks_of("in order and in force"));
    write("[defaults]\nswap = 1\n");
    let bad = Findings::of(daemon.point()).about(&format!("{path}, line 2"));
    assert_eq!(bad.verdict, "mend");
    assert!(
        bad.text
            .ends_with("the last good configuration is in force"),
        "{bad:?}"
    );
    write("[defaults]\nswap = true\n");
    mend(daemon.point(), "was changed and is not in force");
    assert!(
        Findings::of(daemon.point()).speaks_of("in order and in force"),
        "{:?}",
        about()
    );
}

#[test]
fn a_rule_that_matches_no_container_is_named() {
    let _turn = alone();
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("lxcfs.toml");
    let cell = cell("");
    let matching = cell.cgroup.dir("memory");
    let matching = matching.file_name().expect("a name").to_string_lossy();
    let rules = ["/no-such-*", &format!("/{matching}"), "**/neither"];
    let text = rules.map(|rule| format!("[[container]]\ncgroup = \"{rule}\"\nswap = false\n"));
    fs::write(&file, text.concat()).expect("a configuration");
    let runtime_dir = dir.path().to_str().expect("ASCII");
    let path = file.to_str().expect("ASCII");
    let daemon = Daemon::start(&["--config", path, "--runtime-dir", runtime_dir]);
    let found = Findings::of(daemon.point());
    let finding = found.about("no container that runs is matched by");
    assert_eq!(
        (finding.section.as_str(), finding.verdict.as_str()),
        ("lxcfs", "note")
    );
    let named = r#": number 1 (cgroup = "/no-such-*"), number 3 (cgroup = "**/neither");"#;
    assert!(finding.text.contains(named), "{finding:?}");
    fs::write(&file, &text[1]).expect("a configuration");
    mend(daemon.point(), "was changed and is not in force");
    let found = Findings::of(daemon.point());
    assert!(!found.speaks_of("is matched by"), "{found:?}");
}

#[test]
fn a_bad_configuration_without_a_daemon_is_not_in_force() {
    let _turn = alone();
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("lxcfs.toml");
    fs::write(&file, "").expect("a configuration");
    let mut daemon = Daemon::start(&["--config", file.to_str().expect("ASCII")]);
    fs::write(&file, "[defaults]\nswap = 1\n").expect("a configuration");
    daemon.signal(Signal::SIGTERM);
    assert!(daemon.ended().is_some());
    let found = Findings::of(daemon.point());
    assert!(!found.speaks_of("in force"), "{found:?}");
    assert!(found.speaks_of("is not mounted at"), "{found:?}");
}

#[test]
fn a_daemon_that_was_unmounted_lazily_is_mounted_again_and_serves_on() {
    let _turn = alone();
    let daemon = Daemon::start(&[]);
    let cell = cell("");
    attach(&daemon, &cell.init.to_string()).ok();
    let reader = Reader::of(&cell);
    umount2(daemon.point(), MntFlags::MNT_DETACH).expect("unmounting");
    let finding = mend(daemon.point(), "serves containers all the same");
    assert_eq!(
        finding.command,
        Some(format!("kill -USR1 {}", daemon.pid()))
    );
    assert!(daemon.answers());
    reader.saw_nothing();
    assert_has_views(&cell, 64);
}

#[test]
fn one_that_is_stopped_goes_on() {
    let _turn = alone();
    let daemon = Daemon::start(&[]);
    let cell = cell("");
    attach(&daemon, &cell.init.to_string()).ok();
    let reader = Reader::of(&cell);
    for pid in daemon.processes() {
        kill(Pid::from_raw(pid), Signal::SIGSTOP).expect("stopping a process");
    }
    let finding = mend(daemon.point(), " does not answer");
    let command = finding.command.expect("a command");
    assert!(command.starts_with("kill -CONT "), "{command}");
    reader.saw_nothing();
}

#[test]
fn a_newer_program_takes_over() {
    let _turn = alone();
    let dir = tempfile::tempdir().expect("a directory");
    let program = dir.path().join("lxcfs");
    let install = || {
        let fresh = dir.path().join("fresh");
        fs::copy(binary(), &fresh).expect("a program");
        fs::rename(&fresh, &program).expect("installing");
    };
    install();
    let daemon = Daemon::start_as(&program, &[]);
    assert!(!Findings::of(daemon.point()).speaks_of("can take over"));
    install();
    let finding = mend(daemon.point(), "can take over");
    assert_eq!(finding.verdict, "note");
    assert!(daemon.answers());
}

/// LXCFS, whose daemon the command ends.
#[test]
fn lxcfs_is_followed_without_a_failed_read() {
    let debians = PathBuf::from("/usr/bin/lxcfs");
    let is_ours = run_within(Command::new(&debians).arg("adopts"), patience(10)).succeeded();
    if !debians.exists() || is_ours {
        skip!("Debian's lxcfs is not installed");
    }
    let _turn = alone();
    let mut older = Daemon::start_as(&debians, &["-f"]);
    let bind = |file: &str| format!("mount --bind {} /{file}\n", older.arg(file));
    let cell = cell(&(bind("proc/meminfo") + &bind("proc/uptime")));
    let reader = Reader::of(&cell);
    let point = older.point().to_owned();
    let started = Started(&point);
    let finding = mend(&point, "an older LXCFS serves ");
    let command = finding.command.expect("a command");
    assert!(command.contains(" prepare "), "{command}");
    reader.saw_nothing();
    assert!(!older.is_running());
    assert!(started.pid().is_some());
    let own = i32::try_from(std::process::id()).expect("a pid");
    assert_eq!(options_at(own, point.to_str().expect("ASCII")).len(), 1);
    assert_eq!(total_mib(&cell), 64);
    assert!(!Path::new("/run/lxcfs-old/proc").exists());
}

//! `lxcfs run` on the real kernel: limits, namespaces, exit codes, and that nothing is
//! left behind however it ends. Needs root.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    unused_imports,
    reason = "tests, which share helpers with others"
)]

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid};

use common::daemon::{Daemon, binary};
use common::{Ran, children, has, patience, skip, unique, wait_for};

/// Environment variable by which the processes of one run are found.
const MARK: &str = "LXCFS_TEST_RUN";

/// Starts a program in a mount namespace without any lxcfs, so that a run has to serve
/// the views itself.
const WITHOUT_DAEMONS: &str = r#"
    grep ' fuse.lxcfs ' /proc/mounts | cut -d ' ' -f 2 | while read -r point; do
        umount -l "$point" 2>/dev/null
    done
    exec "$@""#;

macro_rules! needs_root {
    () => {
        if !Uid::effective().is_root() {
            skip!("needs root");
        }
    };
}

/// `lxcfs run` with these options.
fn command(options: &[&str], argv: &[&str]) -> Command {
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "sh", "-c", WITHOUT_DAEMONS, "sh"])
        .arg(binary())
        .arg("run")
        .args(options)
        .arg("--")
        .args(argv)
        .stdin(Stdio::null());
    command
}

#[track_caller]
fn run(options: &[&str], argv: &[&str]) -> Ran {
    common::run(&mut command(options, argv))
}

#[track_caller]
fn sh(options: &[&str], script: &str) -> Ran {
    run(options, &["sh", "-c", script])
}

/// A run that is going on.
struct Run {
    front: Pid,
    mark: String,
    child: Child,
}

impl Run {
    fn start(options: &[&str], argv: &[&str]) -> Self {
        let mark = unique("run");
        let child = command(options, argv)
            .env(MARK, &mark)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Self {
            front: Pid::from_raw(child.id().try_into().unwrap()),
            mark,
            child,
        }
    }

    /// Starts a script and waits for the line `ready` of it.
    #[track_caller]
    fn ready(script: &str) -> Self {
        let mut run = Self::start(&[], &["sh", "-c", script]);
        let output = run.child.stdout.as_mut().unwrap();
        let mut line = [0; 6];
        output.read_exact(&mut line).unwrap();
        assert_eq!(line, *b"ready\n");
        run
    }

    fn exit_code(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Kills the child of the front process that leads a session of its own.
    #[track_caller]
    fn kill_janitor(&self) {
        let leads_session = |pid: &i32| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let fields = stat.rsplit_once(") ").map_or("", |parts| parts.1);
            fields.split(' ').nth(3) == Some(&pid.to_string())
        };
        let janitor = wait_for(patience(10), || {
            children(self.front.as_raw())
                .into_iter()
                .find(leads_session)
        });
        kill(Pid::from_raw(janitor.unwrap()), Signal::SIGKILL).unwrap();
    }

    fn cgroups(&self) -> Vec<PathBuf> {
        cgroups_of(self.front)
    }

    #[track_caller]
    fn assert_nothing_left(&self) {
        assert_nothing_left(self.front, &self.mark);
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        // Only a test that failed leaves anything to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The cgroups of the run whose front process has, or had, this pid.
fn cgroups_of(front: Pid) -> Vec<PathBuf> {
    let prefix = format!("lxcfs-run-{front}-");
    let top = PathBuf::from("/sys/fs/cgroup");
    let hierarchies = fs::read_dir(&top)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    hierarchies
        .chain([top.clone()])
        .filter(|path| path.is_dir() && !path.is_symlink())
        .flat_map(|path| fs::read_dir(path).into_iter().flatten().flatten())
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix))
        .map(|entry| entry.path())
        .collect()
}

/// The living processes with this mark in their environment.
fn marked(mark: &str) -> Vec<String> {
    let entry = format!("{MARK}={mark}");
    let has_mark = |path: &PathBuf| {
        fs::read(path.join("environ")).is_ok_and(|environment| {
            environment
                .split(|byte| *byte == 0)
                .any(|variable| variable == entry.as_bytes())
        })
    };
    fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .map(|process| process.path())
        .filter(has_mark)
        .map(|path| fs::read_to_string(path.join("cmdline")).unwrap_or_default())
        .collect()
}

#[track_caller]
fn assert_nothing_left(front: Pid, mark: &str) {
    let gone = wait_for(patience(10), || {
        (cgroups_of(front).is_empty() && marked(mark).is_empty()).then_some(())
    });
    assert!(
        gone.is_some(),
        "left: {:?} {:?}",
        cgroups_of(front),
        marked(mark)
    );
}

fn await_line(reader: &mut BufReader<ChildStdout>, wanted: &str) {
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    assert_eq!(line.trim_end(), wanted);
}

#[test]
fn container_is_a_machine_of_its_own() {
    needs_root!();
    let script = "cut -d: -f3 /proc/self/cgroup | sort -u; hostname; cat /proc/1/comm; \
                  ls -d /proc/[0-9]* | wc -l";
    let text = sh(&[], script).ok();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines[..3], ["/", "lxcfs-run", "lxcfs"], "{text}");
    assert!(lines[3].parse::<u32>().unwrap() < 10, "{text}");

    for namespace in ["pid", "mnt", "cgroup", "uts", "ipc"] {
        let link = format!("/proc/self/ns/{namespace}");
        let own = run(&[], &["readlink", &link]).ok();
        assert_ne!(own.trim(), fs::read_link(&link).unwrap().to_str().unwrap());
    }
}

#[test]
fn views_lie_over_proc_and_sys() {
    needs_root!();
    let text = run(&["-m", "50m"], &["cat", "/proc/meminfo"]).ok();
    assert!(text.starts_with("MemTotal:          51200 kB\n"), "{text}");
    let mounts = run(&[], &["cat", "/proc/self/mounts"]).ok();
    for path in ["/proc/meminfo", "/proc/stat", "/sys/devices/system/cpu"] {
        let line = format!("lxcfs {path} fuse.lxcfs ");
        assert!(mounts.contains(&line), "{path}: {mounts}");
    }
}

#[test]
fn views_of_a_daemon_are_taken() {
    needs_root!();
    let daemon = Daemon::start(&[]);
    let point = daemon.point().to_str().unwrap();
    let script = format!("stat -c %d /proc/meminfo {point}/proc/meminfo");
    let wanted = Command::new(binary())
        .args(["run", "--views", point, "sh", "-c", &script])
        .output();
    let text = String::from_utf8(wanted.unwrap().stdout).unwrap();
    let devices: Vec<_> = text.lines().collect();
    assert_eq!(devices.len(), 2, "{text}");
    assert_eq!(devices[0], devices[1]);
}

#[test]
fn uptime_of_the_kernel_starts_at_zero() {
    needs_root!();
    if !Path::new("/proc/self/ns/time_for_children").exists() {
        skip!("the kernel has no time namespaces");
    }
    let text = sh(&[], "umount /proc/uptime && cat /proc/uptime").ok();
    let seconds: f64 = text.split(' ').next().unwrap().parse().unwrap();
    let most = patience(2).as_secs_f64();
    assert!((0.0..most).contains(&seconds), "{text}");
}

#[test]
fn memory_limit_is_enforced() {
    needs_root!();
    // A line without an end has to be held in memory as a whole.
    let script = "head -c 60000000 /dev/zero | tail -n 1 | wc -c";
    let text = sh(&["-m", "200m"], script).ok();
    assert_eq!(text.trim(), "60000000");
    let text = sh(&["-m", "20m", "--swap", "0"], script).ok();
    assert_ne!(text.trim(), "60000000");
}

#[test]
fn cpu_limit_is_enforced() {
    needs_root!();
    let script = "timeout 2 sh -c 'while :; do :; done'; times; \
                  cat /sys/fs/cgroup/cpu*/cpu.stat /sys/fs/cgroup/cpu.stat 2>/dev/null; true";
    let text = sh(&["--cpus", "0.2"], script).ok();
    // The second line is of the children: user and system time as `0m0.4s`.
    let children = text.lines().nth(1).unwrap();
    let user = children.split(['m', 's']).nth(1).unwrap();
    let seconds: f64 = user.parse().unwrap();
    // 0.4 s are allowed, and one more period at either end.
    assert!((0.02..0.7).contains(&seconds), "{text}");
    let throttled = text
        .lines()
        .find_map(|line| line.strip_prefix("nr_throttled "));
    assert!(throttled.unwrap().parse::<u64>().unwrap() > 0, "{text}");
}

#[test]
fn cpuset_is_applied() {
    needs_root!();
    let status = fs::read_to_string("/proc/self/status").unwrap();
    if !status.contains("Cpus_allowed_list:\t0-") {
        skip!("needs CPUs 0 and 1");
    }
    let text = run(&["--cpuset", "1"], &["cat", "/proc/self/status"]).ok();
    assert!(text.contains("\nCpus_allowed_list:\t1\n"), "{text}");
}

#[test]
fn exit_codes_are_passed_on() {
    needs_root!();
    for (script, code) in [
        ("exit 0", 0),
        ("exit 7", 7),
        ("exit 255", 255),
        ("kill -KILL $$", 137),
        ("kill -TERM $$", 143),
        ("kill -40 $$", 168),
    ] {
        assert_eq!(sh(&[], script).code, Some(code), "{script}");
    }
}

#[test]
fn what_cannot_be_run_is_told_in_one_sentence() {
    needs_root!();
    let cases: [(&[&str], &str, i32, &str); 9] = [
        (&[], "no-such-command", 127, "no-such-command"),
        (&[], "/etc/passwd", 126, "/etc/passwd"),
        (&["--cpuset", "16000"], "true", 1, "CPU 16000"),
        (&["--rootfs", "/no/where"], "true", 1, "/no/where"),
        (&["--rootfs", "/etc/passwd"], "true", 1, "not a directory"),
        (&["-m", "0"], "true", 2, "--memory"),
        (&["-m", "abc"], "true", 2, "--memory"),
        (&["--cpus", "nan"], "true", 2, "--cpus"),
        (&["--cpus", "-1"], "true", 2, "--cpus"),
    ];
    for (options, command, code, words) in cases {
        let ran = run(options, &[command]);
        let sentence = ran.err;
        assert_eq!(ran.code, Some(code), "{sentence}");
        assert!(sentence.starts_with("lxcfs: "), "{sentence}");
        assert!(sentence.contains(words), "{sentence}");
        assert_eq!(sentence.lines().count(), 1, "{sentence}");
    }
}

#[test]
fn views_of_something_else_are_refused() {
    needs_root!();
    let ran = run(&["--views", "/etc"], &["true"]);
    assert_eq!(ran.code, Some(1));
    assert_eq!(ran.err, "lxcfs: no lxcfs answers at --views /etc\n");
}

#[test]
fn without_root_it_says_so() {
    needs_root!();
    // Where the binary was built may be out of reach for others.
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let copy = directory.path().join("lxcfs");
    fs::copy(binary(), &copy).unwrap();
    let ran = common::run(Command::new(copy).args(["run", "true"]).uid(65534));
    assert_eq!(ran.code, Some(1));
    assert_eq!(ran.err, "lxcfs: run needs root; start it with sudo\n");
}

#[test]
fn nothing_is_left_after_the_end() {
    needs_root!();
    // The command leaves a process, and cgroups of its own with itself in them.
    let mut run = Run::ready(
        "for d in /sys/fs/cgroup /sys/fs/cgroup/*; do \
             mkdir -p $d/inner/most && echo 0 > $d/inner/most/cgroup.procs; \
         done 2>/dev/null; \
         sleep 1000 & echo ready; sleep 0.2",
    );
    assert!(!run.cgroups().is_empty());
    assert!(!marked(&run.mark).is_empty());
    assert_eq!(run.exit_code(), Some(0));
    // Not sometime later: at once.
    assert_eq!(run.cgroups(), [] as [PathBuf; 0]);
    assert_eq!(marked(&run.mark), [] as [String; 0]);
}

#[test]
fn nothing_is_left_after_sigkill_of_the_front_process() {
    needs_root!();
    let mut run = Run::ready("sleep 1000 & echo ready; sleep 1000");
    run.kill();
    run.assert_nothing_left();
}

#[test]
fn nothing_is_left_after_sigkill_while_it_starts() {
    needs_root!();
    for milliseconds in 0..40 {
        let mut killed = Run::start(&["-m", "50m"], &["sleep", "1000"]);
        sleep(Duration::from_millis(milliseconds));
        killed.kill();
        let dead = wait_for(patience(10), || {
            marked(&killed.mark).is_empty().then_some(())
        });
        assert!(dead.is_some(), "{:?}", marked(&killed.mark));
        // A run that was killed before it had its janitor is left to the next one.
        run(&[], &["true"]).ok();
        killed.assert_nothing_left();
    }
}

#[test]
fn nothing_is_left_after_sigkill_of_the_janitor() {
    needs_root!();
    let mut run = Run::ready("echo ready; sleep 1000");
    run.kill_janitor();
    kill(run.front, Signal::SIGTERM).unwrap();
    assert_eq!(run.exit_code(), Some(143));
    run.assert_nothing_left();
}

#[test]
fn next_run_removes_what_is_left_when_all_were_killed() {
    needs_root!();
    let mut killed = Run::ready("echo ready; sleep 1000");
    killed.kill_janitor();
    killed.kill();
    let dead = wait_for(patience(10), || {
        marked(&killed.mark).is_empty().then_some(())
    });
    assert!(dead.is_some(), "{:?}", marked(&killed.mark));
    assert!(!killed.cgroups().is_empty());
    run(&[], &["true"]).ok();
    killed.assert_nothing_left();
}

#[test]
fn frozen_container_is_removed_too() {
    needs_root!();
    let mut run = Run::ready("echo ready; sleep 1000");
    let frozen = run
        .cgroups()
        .iter()
        .flat_map(|path| {
            [("freezer.state", "FROZEN"), ("cgroup.freeze", "1")].map(|file| (path, file))
        })
        .map(|(path, (file, frozen))| (path.join(file), frozen))
        .filter(|(file, frozen)| file.exists() && fs::write(file, frozen).is_ok())
        .count();
    if frozen == 0 {
        skip!("no cgroup can be frozen here");
    }
    run.kill();
    run.assert_nothing_left();
}

#[test]
fn killed_caller_leaves_the_command_to_its_end() {
    needs_root!();
    let mark = unique("run");
    let script = "exec 3<&0; \"$0\" run -- \
                  sh -c 'read x; echo ready; sleep 0.5; echo done' <&3 & echo $!; wait";
    let mut caller = Command::new("sh")
        .args(["-c", script])
        .arg(binary())
        .env(MARK, &mark)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(caller.stdout.take().unwrap());
    let mut front = String::new();
    output.read_line(&mut front).unwrap();
    let mut input = caller.stdin.take().unwrap();
    input.write_all(b"go\n").unwrap();
    await_line(&mut output, "ready");
    caller.kill().unwrap();
    caller.wait().unwrap();
    await_line(&mut output, "done");
    let front = Pid::from_raw(front.trim().parse().unwrap());
    assert_nothing_left(front, &mark);
}

#[test]
fn fifty_at_once_keep_apart_and_leave_nothing() {
    needs_root!();
    let runs: Vec<_> = (1..=50)
        .map(|code| {
            let script = format!("sleep 0.2; exit {code}");
            let options = ["-m", "20m", "--cpus", "0.5"];
            (code, Run::start(&options, &["sh", "-c", &script]))
        })
        .collect();
    for (code, mut run) in runs {
        assert_eq!(run.exit_code(), Some(code));
        assert_eq!(run.cgroups(), [] as [PathBuf; 0]);
        assert_eq!(marked(&run.mark), [] as [String; 0]);
    }
}

#[test]
fn signals_reach_the_command() {
    needs_root!();
    for signal in [
        Signal::SIGHUP,
        Signal::SIGINT,
        Signal::SIGQUIT,
        Signal::SIGTERM,
        Signal::SIGUSR1,
    ] {
        let name = signal.as_str().trim_start_matches("SIG");
        let script = format!("trap 'exit 42' {name}; echo ready; while :; do sleep 0.02; done");
        let mut run = Run::ready(&script);
        kill(run.front, signal).unwrap();
        assert_eq!(run.exit_code(), Some(42), "{signal}");
    }
}

#[test]
fn ctrl_c_reaches_the_command_once() {
    needs_root!();
    if !has("script") {
        skip!("needs script(1)");
    }
    let script = "trap \"echo caught\" INT; echo ready; sleep 5; sleep 0.5; exit 5";
    let command = format!("{} run -- sh -c '{script}'", binary().display());
    let mut terminal = Command::new("script")
        .args(["-qec", &command, "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(terminal.stdout.take().unwrap());
    await_line(&mut output, "ready");
    let mut keyboard = terminal.stdin.take().unwrap();
    keyboard.write_all(b"\x03").unwrap();
    let mut text = String::new();
    output.read_to_string(&mut text).unwrap();
    assert_eq!(terminal.wait().unwrap().code(), Some(5), "{text}");
    assert_eq!(text.matches("caught").count(), 1, "{text}");
}

#[test]
fn orphans_are_reaped() {
    needs_root!();
    let script = "(sleep 0.1 & sleep 0.1 &); sleep 0.5; \
                  cat /proc/[0-9]*/stat | grep -c ') Z '; true";
    assert_eq!(sh(&[], script).ok().trim(), "0");
}

#[test]
fn runs_nest() {
    needs_root!();
    if !Path::new("/sys/fs/cgroup/memory").is_dir() {
        // A v2 cgroup with processes in it cannot give its children controllers.
        skip!("needs cgroup v1");
    }
    let binary = binary();
    let lxcfs = binary.to_str().unwrap();
    let inner = [lxcfs, "run", "-m", "50m", "head", "-n1", "/proc/meminfo"];
    let text = run(&["-m", "100m"], &inner).ok();
    assert_eq!(text, "MemTotal:          51200 kB\n");
}

#[test]
fn rootfs_becomes_the_root_and_is_let_go() {
    needs_root!();
    let rootfs = tempfile::tempdir().unwrap();
    let bin = rootfs.path().join("bin");
    fs::create_dir(&bin).unwrap();
    let works = fs::copy("/bin/busybox", bin.join("busybox")).is_ok()
        && Command::new("chroot")
            .arg(rootfs.path())
            .args(["/bin/busybox", "true"])
            .status()
            .is_ok_and(|status| status.success());
    if !works {
        skip!("needs busybox-static");
    }
    let path = rootfs.path().to_str().unwrap();
    let script = "set -e; b=/bin/busybox; $b head -n1 /proc/meminfo; $b ls /; \
                  echo x > /dev/null; $b ls /dev/pts/ptmx; \
                  $b ls -d /sys/devices/system/cpu; $b pwd";
    let shell = ["/bin/busybox", "sh", "-c", script];
    let text = run(&["-m", "50m", "--rootfs", path], &shell).ok();
    let expected = "MemTotal:          51200 kB\nbin\ndev\nproc\nsys\n/dev/pts/ptmx\n\
                    /sys/devices/system/cpu\n/\n";
    assert_eq!(text, expected);

    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!mounts.contains(path), "{mounts}");
    let ran = run(&["--rootfs", path], &["no-such-command"]);
    assert_eq!(ran.code, Some(127));
}

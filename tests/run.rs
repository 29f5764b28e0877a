//! `lxcfs run` on the real kernel: limits, namespaces, exit codes, and that nothing is
//! left behind however it ends. Needs root.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid};

const LXCFS: &str = env!("CARGO_BIN_EXE_lxcfs");

fn skip(test: &str, reason: &str) {
    eprintln!("SKIPPED {test}: {reason}");
}

/// A mounted lxcfs, which gives the runs their views.
struct Views {
    server: Child,
    directory: tempfile::TempDir,
}

impl Views {
    fn serve() -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let mountpoint = directory.path().join("mnt");
        fs::create_dir(&mountpoint).unwrap();
        let server = Command::new("/usr/bin/lxcfs")
            .args(["-f", "-p"])
            .args([&directory.path().join("pid"), &mountpoint])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        wait_until("views", || mountpoint.join("proc/meminfo").exists());
        Some(Self { server, directory })
    }
}

impl Views {
    fn mountpoint(&self) -> String {
        format!("{}/mnt", self.directory.path().display())
    }

    fn command(&self, options: &[&str], command: &[&str]) -> Command {
        let mut run = Command::new(LXCFS);
        run.args(["run", "--views", &self.mountpoint()])
            .args(options)
            .arg("--")
            .args(command)
            .stdin(Stdio::null());
        run
    }

    fn run(&self, options: &[&str], command: &[&str]) -> Output {
        self.command(options, command).output().unwrap()
    }

    fn sh(&self, options: &[&str], script: &str) -> Output {
        self.run(options, &["sh", "-c", script])
    }

    /// Starts a run and waits for the line `ready` of its script.
    fn start(&self, script: &str) -> Run {
        let mut child = self
            .command(&[], &["sh", "-c", script])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        await_line(&mut output, "ready");
        Run {
            front: pid_of(&child),
            child,
            _output: output,
        }
    }
}

/// A run that is going on.
struct Run {
    front: Pid,
    child: Child,
    _output: BufReader<ChildStdout>,
}

impl Run {
    fn exit_code(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Kills the child of the front process that leads a session of its own.
    fn kill_janitor(&self) {
        let front = self.front;
        let mut janitor = None;
        wait_until("the janitor is there", || {
            let children = format!("/proc/{front}/task/{front}/children");
            let children = fs::read_to_string(children).unwrap();
            janitor = children
                .split_ascii_whitespace()
                .find(|pid| {
                    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
                    let fields = stat.rsplit_once(") ").unwrap().1;
                    fields.split(' ').nth(3) == Some(*pid)
                })
                .map(|pid| Pid::from_raw(pid.parse().unwrap()));
            janitor.is_some()
        });
        kill(janitor.unwrap(), Signal::SIGKILL).unwrap();
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        // Only a test that failed leaves anything to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Views {
    fn drop(&mut self) {
        kill(pid_of(&self.server), Signal::SIGTERM).unwrap();
        self.server.wait().unwrap();
        // The server unmounts by a helper that may not be installed.
        let _ = Command::new("umount")
            .arg(self.directory.path().join("mnt"))
            .stderr(Stdio::null())
            .status();
    }
}

/// What a test needs: root and views. All tests that run at once share the latter.
fn needs(test: &str) -> Option<Arc<Views>> {
    static SHARED: Mutex<Weak<Views>> = Mutex::new(Weak::new());
    if !Uid::effective().is_root() {
        skip(test, "needs root");
        return None;
    }
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(views) = shared.upgrade() {
        return Some(views);
    }
    let Some(views) = Views::serve() else {
        skip(test, "needs the package lxcfs");
        return None;
    };
    let views = Arc::new(views);
    *shared = Arc::downgrade(&views);
    Some(views)
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < deadline, "timed out: {what}");
        sleep(Duration::from_millis(10));
    }
}

fn pid_of(child: &Child) -> Pid {
    Pid::from_raw(child.id().try_into().unwrap())
}

fn stdout(output: &Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{:?} {errors}", output.status);
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn await_line(reader: &mut impl BufRead, wanted: &str) {
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    assert_eq!(line.trim_end(), wanted);
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

/// Processes whose command line has this word in it.
fn processes_with(word: &str) -> Vec<PathBuf> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    processes
        .map(|entry| entry.path())
        .filter(|path| {
            fs::read(path.join("cmdline"))
                .is_ok_and(|line| String::from_utf8_lossy(&line).contains(word))
        })
        .collect()
}

fn assert_nothing_left(front: Pid, word: &str) {
    wait_until("everything is removed", || {
        cgroups_of(front).is_empty() && processes_with(word).is_empty()
    });
}

#[test]
fn container_is_a_machine_of_its_own() {
    let Some(views) = needs("container_is_a_machine_of_its_own") else {
        return;
    };
    let script = "cut -d: -f3 /proc/self/cgroup | sort -u; hostname; cat /proc/1/comm; \
                  ls -d /proc/[0-9]* | wc -l";
    let text = stdout(&views.sh(&[], script));
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines[..3], ["/", "lxcfs-run", "lxcfs"], "{text}");
    assert!(lines[3].parse::<u32>().unwrap() < 10, "{text}");

    for namespace in ["pid", "mnt", "cgroup", "uts", "ipc"] {
        let link = format!("/proc/self/ns/{namespace}");
        let own = stdout(&views.run(&[], &["readlink", &link]));
        assert_ne!(own.trim(), fs::read_link(&link).unwrap().to_str().unwrap());
    }
}

#[test]
fn views_lie_over_proc_and_sys() {
    let Some(views) = needs("views_lie_over_proc_and_sys") else {
        return;
    };
    let text = stdout(&views.run(&["-m", "50m"], &["cat", "/proc/meminfo"]));
    assert!(text.starts_with("MemTotal:          51200 kB\n"), "{text}");
    let mounts = stdout(&views.run(&[], &["cat", "/proc/self/mounts"]));
    for path in ["/proc/meminfo", "/proc/stat", "/sys/devices/system/cpu"] {
        let line = format!("lxcfs {path} fuse.lxcfs ");
        assert!(mounts.contains(&line), "{path}: {mounts}");
    }
}

#[test]
fn uptime_of_the_kernel_starts_at_zero() {
    let test = "uptime_of_the_kernel_starts_at_zero";
    let Some(views) = needs(test) else { return };
    if !Path::new("/proc/self/ns/time_for_children").exists() {
        return skip(test, "the kernel has no time namespaces");
    }
    let text = stdout(&views.sh(&[], "umount /proc/uptime && cat /proc/uptime"));
    let seconds: f64 = text.split(' ').next().unwrap().parse().unwrap();
    assert!((0.0..2.0).contains(&seconds), "{text}");
}

#[test]
fn memory_limit_is_enforced() {
    let Some(views) = needs("memory_limit_is_enforced") else {
        return;
    };
    // A line without an end has to be held in memory as a whole.
    let script = "head -c 60000000 /dev/zero | tail -n 1 | wc -c";
    let text = stdout(&views.sh(&["-m", "200m"], script));
    assert_eq!(text.trim(), "60000000");
    let text = stdout(&views.sh(&["-m", "20m", "--swap", "0"], script));
    assert_ne!(text.trim(), "60000000");
}

#[test]
fn cpu_limit_is_enforced() {
    let Some(views) = needs("cpu_limit_is_enforced") else {
        return;
    };
    let script = "timeout 2 sh -c 'while :; do :; done'; times; \
                  cat /sys/fs/cgroup/cpu*/cpu.stat /sys/fs/cgroup/cpu.stat 2>/dev/null; true";
    let text = stdout(&views.sh(&["--cpus", "0.2"], script));
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
    let test = "cpuset_is_applied";
    let Some(views) = needs(test) else { return };
    let status = fs::read_to_string("/proc/self/status").unwrap();
    if !status.contains("Cpus_allowed_list:\t0-") {
        return skip(test, "needs CPUs 0 and 1");
    }
    let text = stdout(&views.run(&["--cpuset", "1"], &["cat", "/proc/self/status"]));
    assert!(text.contains("\nCpus_allowed_list:\t1\n"), "{text}");
}

#[test]
fn exit_codes_are_passed_on() {
    let Some(views) = needs("exit_codes_are_passed_on") else {
        return;
    };
    for (script, code) in [
        ("exit 0", 0),
        ("exit 7", 7),
        ("exit 255", 255),
        ("kill -KILL $$", 137),
        ("kill -TERM $$", 143),
        ("kill -40 $$", 168),
    ] {
        assert_eq!(views.sh(&[], script).status.code(), Some(code), "{script}");
    }
}

#[test]
fn what_cannot_be_run_is_told_in_one_sentence() {
    let Some(views) = needs("what_cannot_be_run_is_told_in_one_sentence") else {
        return;
    };
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
        let output = views.run(options, &[command]);
        let sentence = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{sentence}");
        assert!(sentence.starts_with("lxcfs: "), "{sentence}");
        assert!(sentence.contains(words), "{sentence}");
        assert_eq!(sentence.lines().count(), 1, "{sentence}");
    }
}

#[test]
fn views_of_something_else_are_refused() {
    if !Uid::effective().is_root() {
        return skip("views_of_something_else_are_refused", "needs root");
    }
    let output = Command::new(LXCFS)
        .args(["run", "--views", "/etc", "true"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        "lxcfs: no lxcfs answers at --views /etc\n"
    );
}

#[test]
fn without_root_it_says_so() {
    if !Uid::effective().is_root() {
        return skip("without_root_it_says_so", "needs root to drop it");
    }
    // Where the binary was built may be out of reach for others.
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let binary = directory.path().join("lxcfs");
    fs::copy(LXCFS, &binary).unwrap();
    let output = Command::new(binary)
        .args(["run", "true"])
        .uid(65534)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        "lxcfs: run needs root; start it with sudo\n"
    );
}

#[test]
fn nothing_is_left_after_the_end() {
    let Some(views) = needs("nothing_is_left_after_the_end") else {
        return;
    };
    // The command leaves a process, and cgroups of its own with itself in them.
    let mut run = views.start(
        "for d in /sys/fs/cgroup /sys/fs/cgroup/*; do \
             mkdir -p $d/inner/most && echo 0 > $d/inner/most/cgroup.procs; \
         done 2>/dev/null; \
         sleep 271828 & echo ready; sleep 0.2",
    );
    assert!(!cgroups_of(run.front).is_empty());
    assert_eq!(run.exit_code(), Some(0));
    // Not sometime later: at once.
    assert_eq!(cgroups_of(run.front), [] as [PathBuf; 0]);
    assert_eq!(processes_with("271828"), [] as [PathBuf; 0]);
}

#[test]
fn nothing_is_left_after_sigkill_of_the_front_process() {
    let Some(views) = needs("nothing_is_left_after_sigkill_of_the_front_process") else {
        return;
    };
    let mut run = views.start("sleep 271829 & echo ready; sleep 271829");
    run.kill();
    assert_nothing_left(run.front, "271829");
}

#[test]
fn nothing_is_left_after_sigkill_while_it_starts() {
    let Some(views) = needs("nothing_is_left_after_sigkill_while_it_starts") else {
        return;
    };
    for step in 0..25 {
        let mut child = views
            .command(&["-m", "50m"], &["sleep", "271830"])
            .spawn()
            .unwrap();
        sleep(Duration::from_millis(step));
        let front = pid_of(&child);
        child.kill().unwrap();
        child.wait().unwrap();
        wait_until("its processes die", || processes_with("271830").is_empty());
        // A run that was killed before it had its janitor is left to the next one.
        stdout(&views.run(&[], &["true"]));
        assert_nothing_left(front, "271830");
    }
}

#[test]
fn nothing_is_left_after_sigkill_of_the_janitor() {
    let Some(views) = needs("nothing_is_left_after_sigkill_of_the_janitor") else {
        return;
    };
    let mut run = views.start("echo ready; sleep 271831");
    run.kill_janitor();
    kill(run.front, Signal::SIGTERM).unwrap();
    assert_eq!(run.exit_code(), Some(143));
    assert_nothing_left(run.front, "271831");
}

#[test]
fn next_run_removes_what_is_left_when_all_were_killed() {
    let Some(views) = needs("next_run_removes_what_is_left_when_all_were_killed") else {
        return;
    };
    let mut run = views.start("echo ready; sleep 271832");
    run.kill_janitor();
    run.kill();
    wait_until("the command dies", || processes_with("271832").is_empty());
    stdout(&views.run(&[], &["true"]));
    assert_nothing_left(run.front, "271832");
}

#[test]
fn frozen_container_is_removed_too() {
    let test = "frozen_container_is_removed_too";
    let Some(views) = needs(test) else { return };
    let mut run = views.start("echo ready; sleep 271833");
    let frozen = cgroups_of(run.front)
        .iter()
        .flat_map(|path| {
            [("freezer.state", "FROZEN"), ("cgroup.freeze", "1")].map(|file| (path, file))
        })
        .map(|(path, (file, frozen))| (path.join(file), frozen))
        .filter(|(file, frozen)| file.exists() && fs::write(file, frozen).is_ok())
        .count();
    if frozen == 0 {
        skip(test, "no cgroup can be frozen here");
    }
    run.kill();
    assert_nothing_left(run.front, "271833");
}

#[test]
fn killed_caller_leaves_the_command_to_its_end() {
    let Some(views) = needs("killed_caller_leaves_the_command_to_its_end") else {
        return;
    };
    let script = format!(
        "{LXCFS} run --views {} -- sh -c 'read x; echo ready; sleep 0.5; echo 271834' <&3 & echo $!; wait",
        views.mountpoint()
    );
    let mut caller = Command::new("sh")
        .args(["-c", &format!("exec 3<&0; {script}")])
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
    await_line(&mut output, "271834");
    assert_nothing_left(Pid::from_raw(front.trim().parse().unwrap()), "271834");
}

#[test]
fn fifty_at_once_keep_apart_and_leave_nothing() {
    let Some(views) = needs("fifty_at_once_keep_apart_and_leave_nothing") else {
        return;
    };
    let children: Vec<_> = (1..=50)
        .map(|code| {
            let script = format!("sleep 0.2; exit {code}");
            let child = views
                .command(&["-m", "20m", "--cpus", "0.5"], &["sh", "-c", &script])
                .spawn();
            (code, child.unwrap())
        })
        .collect();
    for (code, mut child) in children {
        assert_eq!(child.wait().unwrap().code(), Some(code));
        assert_eq!(cgroups_of(pid_of(&child)), [] as [PathBuf; 0]);
    }
}

#[test]
fn signals_reach_the_command() {
    let Some(views) = needs("signals_reach_the_command") else {
        return;
    };
    for signal in [
        Signal::SIGHUP,
        Signal::SIGINT,
        Signal::SIGQUIT,
        Signal::SIGTERM,
        Signal::SIGUSR1,
    ] {
        let name = signal.as_str().trim_start_matches("SIG");
        let script = format!("trap 'exit 42' {name}; echo ready; while :; do sleep 0.02; done");
        let mut run = views.start(&script);
        kill(run.front, signal).unwrap();
        assert_eq!(run.exit_code(), Some(42), "{signal}");
    }
}

#[test]
fn ctrl_c_reaches_the_command_once() {
    let test = "ctrl_c_reaches_the_command_once";
    let Some(views) = needs(test) else { return };
    let script = "trap \"echo caught\" INT; echo ready; sleep 5; sleep 0.5; exit 5";
    let command = format!(
        "{LXCFS} run --views {} -- sh -c '{script}'",
        views.mountpoint()
    );
    let child = Command::new("script")
        .args(["-qec", &command, "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let Ok(mut terminal) = child else {
        return skip(test, "needs script(1)");
    };
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
    let Some(views) = needs("orphans_are_reaped") else {
        return;
    };
    let script = "(sleep 0.1 & sleep 0.1 &); sleep 0.5; \
                  cat /proc/[0-9]*/stat | grep -c ') Z '; true";
    assert_eq!(stdout(&views.sh(&[], script)).trim(), "0");
}

#[test]
fn runs_nest() {
    let test = "runs_nest";
    let Some(views) = needs(test) else { return };
    if !Path::new("/sys/fs/cgroup/memory").is_dir() {
        // A v2 cgroup with processes in it cannot give its children controllers.
        return skip(test, "needs cgroup v1");
    }
    let inner = [
        LXCFS,
        "run",
        "--views",
        &views.mountpoint(),
        "-m",
        "50m",
        "--",
        "head",
        "-n1",
        "/proc/meminfo",
    ];
    let text = stdout(&views.run(&["-m", "100m"], &inner));
    assert_eq!(text, "MemTotal:          51200 kB\n");
}

#[test]
fn rootfs_becomes_the_root_and_is_let_go() {
    let test = "rootfs_becomes_the_root_and_is_let_go";
    let Some(views) = needs(test) else { return };
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
        return skip(test, "needs busybox-static");
    }
    let path = rootfs.path().to_str().unwrap();
    let script = "set -e; b=/bin/busybox; $b head -n1 /proc/meminfo; $b ls /; \
                  echo x > /dev/null; $b ls /dev/pts/ptmx; \
                  $b ls -d /sys/devices/system/cpu; $b pwd";
    let shell = ["/bin/busybox", "sh", "-c", script];
    let text = stdout(&views.run(&["-m", "50m", "--rootfs", path], &shell));
    let expected = "MemTotal:          51200 kB\nbin\ndev\nproc\nsys\n/dev/pts/ptmx\n\
                    /sys/devices/system/cpu\n/\n";
    assert_eq!(text, expected);

    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!mounts.contains(path), "{mounts}");
    let output = views.run(&["--rootfs", path], &["no-such-command"]);
    assert_eq!(output.status.code(), Some(127));
}

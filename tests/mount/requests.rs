//! How much one access costs: the requests the kernel sends, seen by tracing the daemon.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::common::{Daemon, alone, has, patience, run, skip, wait_for};

/// strace on all processes of a daemon.
struct Trace {
    strace: Child,
    dir: tempfile::TempDir,
}

impl Trace {
    fn start(daemon: &Daemon, options: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let pids = daemon
            .processes()
            .into_iter()
            .map(|pid| pid.to_string())
            .collect::<Vec<_>>()
            .join(",");
        let mut strace = Command::new("strace")
            .args(["-f", "-y", "-xx", "-s", "8", "-p", &pids])
            .args(options)
            .arg("-o")
            .arg(dir.path().join("trace"))
            .stderr(fs::File::create(dir.path().join("messages")).expect("a file"))
            .stdin(Stdio::null())
            .spawn()
            .expect("starting strace");
        let traced = |pid: &i32| {
            let tasks = fs::read_dir(format!("/proc/{pid}/task"))
                .into_iter()
                .flatten()
                .flatten();
            let status = |task: fs::DirEntry| {
                fs::read_to_string(task.path().join("status")).unwrap_or_default()
            };
            tasks
                .map(status)
                .all(|text| !text.contains("TracerPid:\t0\n"))
        };
        let attached = wait_for(patience(10), || {
            daemon.processes().iter().all(traced).then_some(())
        });
        if attached.is_none() {
            let _ = strace.kill();
            panic!(
                "strace does not attach: {}",
                fs::read_to_string(dir.path().join("messages")).unwrap_or_default()
            );
        }
        Self { strace, dir }
    }

    /// Ends the trace and returns its lines.
    fn lines(mut self) -> Vec<String> {
        // RELEASE is sent after close(2) has returned.
        sleep(Duration::from_millis(300));
        let pid = Pid::from_raw(i32::try_from(self.strace.id()).expect("a pid"));
        kill(pid, Signal::SIGINT).expect("ending strace");
        let _ = self.strace.wait();
        let text = fs::read_to_string(self.dir.path().join("trace")).expect("the trace");
        text.lines().map(str::to_owned).collect()
    }
}

/// The bytes that strace writes as `\x68\x00`.
fn bytes(hex: &str) -> Vec<u8> {
    hex.split("\\x")
        .skip(1)
        .filter_map(|digits| u8::from_str_radix(digits, 16).ok())
        .collect()
}

/// The path in `<>` behind a descriptor.
fn path_of(line: &str) -> String {
    let hex = line
        .split_once('<')
        .and_then(|(_, rest)| rest.split_once('>'))
        .map_or("", |(path, _)| path);
    String::from_utf8_lossy(&bytes(hex)).into_owned()
}

/// Names of the FUSE requests in a trace of reads from the device: bytes 4 to 8 of each.
fn requests(lines: &[String]) -> Vec<String> {
    let opcode = |line: &String| -> Option<u32> {
        let start = bytes(line.split_once('"')?.1.split_once('"')?.0);
        Some(u32::from_ne_bytes(start.get(4..8)?.try_into().ok()?))
    };
    let name = |opcode: u32| match opcode {
        1 => "LOOKUP".to_owned(),
        3 => "GETATTR".to_owned(),
        14 => "OPEN".to_owned(),
        15 => "READ".to_owned(),
        18 => "RELEASE".to_owned(),
        25 => "FLUSH".to_owned(),
        34 => "ACCESS".to_owned(),
        other => format!("opcode {other}"),
    };
    lines.iter().filter_map(opcode).map(name).collect()
}

/// `cat` asks for the size by fstat(2), which the kernel cannot answer by itself since
/// Linux 6.5 (see src/fs/sendfile.rs). Programs that just read cost nothing more.
#[test]
fn a_cat_of_a_bound_file_is_open_read_read_release_and_its_own_fstat() {
    if !has("strace") {
        skip!("strace is not installed");
    }
    let _turn = alone();
    let daemon = Daemon::start(&[]);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let bound = dir.path().join("meminfo");
    fs::write(&bound, "").expect("a file to bind over");
    run(Command::new("mount")
        .arg("--bind")
        .arg(daemon.path("proc/meminfo"))
        .arg(&bound))
    .ok();
    let cat = || run(Command::new("cat").arg(&bound));
    cat().ok();
    // At its start the daemon opens all of these itself.
    let files = fs::read_dir(daemon.path("proc")).expect("a directory");
    for file in files.chain(
        fs::read_dir(daemon.path("proc/pressure"))
            .into_iter()
            .flatten(),
    ) {
        let _ = fs::File::open(file.expect("an entry").path());
    }
    let options = ["-e", "trace=read,readv", "-P", "/dev/fuse"];
    let trace = Trace::start(&daemon, &options);
    let read = cat();
    let of_cat = requests(&trace.lines());
    let trace = Trace::start(&daemon, &options);
    let plain = run(Command::new("dd")
        .args(["bs=64k", "status=none"])
        .arg(format!("if={}", bound.display())));
    let of_dd = requests(&trace.lines());
    run(Command::new("umount").arg(&bound)).ok();
    assert!(read.ok().starts_with("MemTotal:"));
    assert!(plain.ok().starts_with("MemTotal:"));
    let of_cat: Vec<_> = of_cat
        .iter()
        .filter(|request| *request != "GETATTR")
        .collect();
    assert_eq!(of_cat, ["OPEN", "READ", "READ", "RELEASE"]);
    assert_eq!(of_dd, ["OPEN", "READ", "READ", "RELEASE"]);
}

#[test]
fn stat_does_not_make_the_daemon_read_any_content() {
    if !has("strace") {
        skip!("strace is not installed");
    }
    let _turn = alone();
    let daemon = Daemon::start(&[]);
    let trace = Trace::start(&daemon, &["-e", "trace=read,readv,pread64,preadv,sendfile"]);
    let below = [
        "proc/meminfo",
        "proc/slabinfo",
        "sys/devices/system/cpu/uevent",
        "sys/devices/system/cpu/cpu0/uevent",
    ];
    for path in below {
        let _ = fs::metadata(daemon.path(path));
    }
    let lines = trace.lines();
    let paths: Vec<String> = lines.iter().map(|line| path_of(line)).collect();
    assert!(
        paths.iter().any(|path| path == "/dev/fuse"),
        "the trace saw no request: {lines:#?}"
    );
    let content = |path: &&String| below.iter().any(|file| path.ends_with(&format!("/{file}")));
    assert_eq!(paths.iter().find(content), None);
}

//! What the command and its caller get of each other: signals, exit codes, messages.

use std::fs;
use std::io::{BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};

use crate::common::daemon::binary;
use crate::common::{self, Ran, has, skip};
use crate::runner::{Run, WITHOUT_DAEMONS, await_line, needs_root, run, sh};

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

/// `lxcfs run` by the root of a user namespace with the cgroups of the host.
fn in_user_namespace(prepare: &str, argv: &[&str]) -> Ran {
    let script = format!("{prepare}\n{WITHOUT_DAEMONS}");
    let mut command = Command::new("unshare");
    command
        .args([
            "--mount",
            "--user",
            "--map-root-user",
            "sh",
            "-c",
            &script,
            "sh",
        ])
        .arg(binary())
        .args(["run", "-m", "50m", "--"])
        .args(argv);
    common::run(&mut command)
}

#[test]
fn root_of_a_user_namespace_sees_its_limit() {
    needs_root!();
    let ran = in_user_namespace("", &["head", "-n", "1", "/proc/meminfo"]);
    assert_eq!(ran.out, "MemTotal:          51200 kB\n", "{ran:?}");
    assert!(ran.succeeded(), "{ran:?}");
    assert!(ran.err.lines().count() <= 1, "{ran:?}");
}

#[test]
fn a_setting_that_allows_no_more_namespaces_is_named() {
    needs_root!();
    for kind in ["mnt", "pid", "cgroup", "uts"] {
        let setting = format!("user.max_{kind}_namespaces");
        let forbid = format!("echo 0 > /proc/sys/{}", setting.replace('.', "/"));
        let ran = in_user_namespace(&forbid, &["true"]);
        assert_eq!((ran.code, ran.err.lines().count()), (Some(1), 1), "{ran:?}");
        assert!(ran.err.contains(&setting), "{ran:?}");
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

fn is_ignored(signal: Signal) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = u64::from_str_radix(line.unwrap().trim(), 16).unwrap();
    mask >> (signal as i32 - 1) & 1 == 1
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
        // A shell cannot catch what was ignored when it was started, by nohup(1) for one.
        if is_ignored(signal) {
            continue;
        }
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
    if is_ignored(Signal::SIGINT) {
        skip!("SIGINT is ignored here, which a shell cannot undo");
    }
    let script = "trap \"echo caught; caught=yes\" INT; echo ready; \
                  for i in $(seq 1000); do sleep 0.05; [ -z \"$caught\" ] || break; done; sleep 0.5; exit 5";
    let command = format!("exec {} run -- sh -c '{script}'", binary().display());
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
    // Each has its line in /proc until somebody has waited for it.
    let script = "count() { set -- /proc/[0-9]*; echo $#; }; before=$(count); \
                  (sleep 0.1 & sleep 0.1 &); for i in $(seq 200); do \
                      sleep 0.1; [ $(count) -gt $before ] || break; \
                  done; echo $(($(count) - before))";
    assert_eq!(sh(&[], script).ok().trim(), "0");
}

//! Nothing is left behind, however a run ends.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::common::daemon::binary;
use crate::common::{patience, skip, slowness, unique, wait_for};
use crate::runner::{MARK, Run, assert_nothing_left, await_line, marked, needs_root, run};

#[test]
fn nothing_is_left_after_the_end() {
    needs_root!();
    // The command leaves a process, and cgroups of its own with itself in them.
    let dir = tempfile::tempdir().unwrap();
    let end = dir.path().join("end");
    let mut run = Run::ready(&format!(
        "for d in /sys/fs/cgroup /sys/fs/cgroup/*; do \
             mkdir -p $d/inner/most && echo 0 > $d/inner/most/cgroup.procs; \
         done 2>/dev/null; \
         sleep 1000 & echo ready; until [ -e {} ]; do sleep 0.05; done",
        end.display()
    ));
    assert!(!run.cgroups().is_empty());
    assert!(!marked(&run.mark).is_empty());
    fs::write(end, "").unwrap();
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
    // Fewer and further apart under emulation, where a start takes longer.
    let rounds = if slowness() == 1 { 40 } else { 10 };
    for round in 0..rounds {
        let mut killed = Run::start(&["-m", "50m"], &["sleep", "1000"]);
        sleep(Duration::from_millis(40) * slowness() * round / rounds);
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
    // Nobody is left who would remove the cgroups, but for this run or that of another test.
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

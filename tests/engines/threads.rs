//! Threads of a container that come and go between two reads by the same reader.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::common::{Cell, Daemon, Inside, Limits, beside_others, children, patience, wait_for};

/// Longer than a text serves.
const PAUSE: Duration = Duration::from_millis(20);

/// Does what it is told on its standard input; `ask KEY` has it tell that figure of `stat`, which it reads without
/// another process.
const SHELL: &str = r#"
    while read -r order; do
        case $order in
        ask\ *)
            while read -r key value; do
                case $key in ${order#ask }) figure=$value ;; esac
            done < "$1"
            echo "$figure" ;;
        *)  eval "$order"
            echo "$!" ;;
        esac
    done"#;

/// A shell in a container.
struct Shell {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Shell {
    fn start(inside: &Inside, daemon: &Daemon) -> Self {
        let stat = daemon.arg("proc/stat");
        let mut command = inside.command(&["sh", "-c", SHELL, "shell", &stat]);
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("starting a shell");
        Self {
            orders: child.stdin.take().expect("its input"),
            answers: BufReader::new(child.stdout.take().expect("its output")),
            child,
        }
    }

    /// Gives the number that the shell answers with.
    #[track_caller]
    fn order(&mut self, order: &str) -> u64 {
        writeln!(self.orders, "{order}").expect("giving an order");
        let mut answer = String::new();
        self.answers.read_line(&mut answer).expect("an answer");
        answer.trim().parse().unwrap_or_else(|_| panic!("{answer}"))
    }

    fn running(&mut self) -> u64 {
        self.ask("procs_running")
    }

    /// A figure of `stat`, of a text of its own.
    #[track_caller]
    fn ask(&mut self, key: &str) -> u64 {
        sleep(PAUSE);
        self.order(&format!("ask {key}"))
    }

    /// Reads until a reader in steady circumstances is known as well as can be.
    #[track_caller]
    fn reads_alone(&mut self) {
        let mut quiet = 0;
        let calm = wait_for(patience(20), || {
            quiet = if self.running() == 1 { quiet + 1 } else { 0 };
            (quiet == 5).then_some(())
        });
        assert!(calm.is_some(), "somebody else runs in the container");
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn move_to(pid: i32, inside: &Inside, outside: bool) {
    let parent = inside.cgroup.parent();
    let cgroup = if outside { &parent } else { &inside.cgroup };
    let script = cgroup
        .enter_script()
        .replace("echo 0", &format!("echo {pid}"));
    crate::common::sh(&script).ok();
}

#[test]
fn a_thread_that_takes_the_place_of_another_is_seen_at_once() {
    let _turn = beside_others();
    let daemon = Daemon::start(&[]);
    let cell = Cell::start(&Limits::default());
    let mut shell = Shell::start(&cell, &daemon);
    shell.order("sleep 1000 &");
    for _ in 0..3 {
        shell.reads_alone();
        shell.order("kill $!; wait $! 2> /dev/null; while :; do :; done &");
        assert_eq!(shell.running(), 2, "one more that runs, none that sleeps");
        shell.order("kill $!; wait $! 2> /dev/null; sleep 1000 &");
    }
    shell.reads_alone();
    // One that has ended and is not waited for is among those that are counted.
    shell.order("(sleep 0.1 & exec sleep 1000) &");
    sleep(Duration::from_millis(300));
    shell.reads_alone();
    shell.order("while :; do :; done &");
    assert_eq!(shell.running(), 2);
}

#[test]
fn a_thread_that_is_moved_in_for_another_is_seen_at_once() {
    let _turn = beside_others();
    let daemon = Daemon::start(&[]);
    let cell = Cell::start(&Limits::default());
    let mut shell = Shell::start(&cell, &daemon);
    shell.order("sleep 1000 &");
    let is_sleeper = |pid: &i32| {
        let command = fs::read(format!("/proc/{pid}/cmdline"));
        command.is_ok_and(|command| command == b"sleep\x001000\x00")
    };
    let sleeper = wait_for(patience(10), || cell.guests().into_iter().find(is_sleeper));
    let sleeper = sleeper.expect("the sleeper");
    let mut busy = Command::new("sh");
    let busy = busy.args(["-c", "while :; do :; done"]).spawn();
    let mut busy = busy.expect("starting a busy process");
    let pid = i32::try_from(busy.id()).expect("a pid");
    let mut seen = Vec::new();
    for is_in in [true, false, true] {
        shell.reads_alone();
        move_to(pid, &cell, !is_in);
        move_to(sleeper, &cell, is_in);
        seen.push(shell.running());
        if is_in {
            move_to(pid, &cell, true);
            move_to(sleeper, &cell, false);
        }
    }
    let _ = busy.kill();
    let _ = busy.wait();
    move_to(sleeper, &cell, false);
    assert_eq!(seen, [2, 1, 2]);
}

#[test]
fn processes_does_not_fall_when_the_newest_process_ends() {
    let _turn = beside_others();
    let mut daemon = Daemon::start(&[]);
    let cell = Cell::start(&Limits::default());
    let mut shell = Shell::start(&cell, &daemon);
    let pids: Vec<u64> = (0..100).map(|_| shell.order("sleep 1000 &")).collect();
    let before = shell.ask("processes");
    assert!(pids.iter().all(|pid| before >= *pid), "{before}");
    let pids: Vec<String> = pids.iter().map(u64::to_string).collect();
    shell.order(&format!("kill {}; wait", pids.join(" ")));
    let after = shell.ask("processes");
    assert!(after >= before, "{before}, then {after}");
    // Nor does a server forget it that is killed.
    for server in children(daemon.pid()) {
        let _ = kill(Pid::from_raw(server), Signal::SIGKILL);
    }
    let after = shell.ask("processes");
    assert!(
        after >= before,
        "{before}, then {after} after another server came"
    );
    assert!(daemon.is_running(), "{}", daemon.log());
}

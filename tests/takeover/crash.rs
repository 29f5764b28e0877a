//! Servers that are killed.

use std::process::Command;
use std::time::{Duration, Instant};

use lxcfs::host::kernel_is_since;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::common::daemon::binary;
use crate::common::{
    Cell, Daemon, Limits, alone, beside_others, children, open_fds, patience, report, run, skip,
    slowness, wait_for,
};
use crate::faults::{self, FAULT};
use crate::watcher::{Seen, Watcher};

/// Makes a request slow, so that each kill hits some that are being worked on.
pub const SLOW: &str = "meminfo:delay=5,stat:delay=5";

/// The server that serves now.
#[track_caller]
pub fn server_of(daemon: &Daemon) -> i32 {
    let server = wait_for(patience(5), || {
        children(daemon.pid())
            .into_iter()
            .find(|pid| command_line(*pid).contains("serve"))
    });
    server.unwrap_or_else(|| panic!("no server: {}", daemon.log()))
}

fn command_line(pid: i32) -> String {
    let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\0', " ")
}

/// Four containers with two readers each.
pub fn eight_readers(daemon: &Daemon) -> (Vec<Cell>, Vec<Watcher>) {
    let cells: Vec<Cell> = (1..=4)
        .map(|number| {
            Cell::start(&Limits {
                memory_bytes: Some((number * 64) << 20),
                cpus: Some(1.0),
                ..Limits::default()
            })
        })
        .collect();
    let watchers = cells
        .iter()
        .map(|cell| {
            Watcher::start(
                cell.inside(),
                &daemon.path("proc"),
                2,
                Duration::from_micros(500),
            )
        })
        .collect();
    (cells, watchers)
}

pub fn all_seen(watchers: Vec<Watcher>) -> Seen {
    let mut all = Seen::default();
    for watcher in watchers {
        all.add(watcher.stop());
    }
    all
}

/// Kills servers for a while; gives how many.
fn kill_servers(daemon: &Daemon, signal: Signal, interval: Duration, time: Duration) -> u32 {
    let start = Instant::now();
    let mut kills = 0;
    while start.elapsed() < time {
        std::thread::sleep(interval);
        let _ = kill(Pid::from_raw(server_of(daemon)), signal);
        kills += 1;
    }
    kills
}

#[test]
fn nobody_notices_that_servers_are_killed_ten_times_a_second() {
    let _turn = alone();
    let mut daemon = Daemon::start_with(&[], &[(FAULT, SLOW)]);
    let (cells, watchers) = eight_readers(&daemon);
    let fds = open_fds(daemon.pid());
    let interval = Duration::from_millis(100) * slowness();
    // Under emulation it is the newer kernel that matters, not how often.
    let time = Duration::from_secs(if slowness() == 1 { 60 } else { 25 });
    let kills = kill_servers(&daemon, Signal::SIGKILL, interval, time);
    let seen = all_seen(watchers);
    seen.report(&format!("{kills} x SIGKILL"));
    seen.assert_nothing_wrong();
    assert!(daemon.is_running(), "{}", daemon.log());
    assert_eq!(open_fds(daemon.pid()), fds, "fds of the holder");
    drop(cells);
}

#[test]
fn nobody_notices_that_servers_crash() {
    if !kernel_is_since(6, 9) {
        skip!("a kernel before 6.9 cannot send requests again");
    }
    let _turn = alone();
    let daemon = Daemon::start(&[]);
    let (cells, watchers) = eight_readers(&daemon);
    for signal in [
        Signal::SIGSEGV,
        Signal::SIGABRT,
        Signal::SIGBUS,
        Signal::SIGILL,
    ] {
        let interval = Duration::from_millis(400) * slowness();
        kill_servers(&daemon, signal, interval, Duration::from_secs(2));
    }
    let seen = all_seen(watchers);
    seen.report("SIGSEGV, SIGABRT, SIGBUS, SIGILL");
    seen.assert_nothing_wrong();
    drop(cells);
}

/// From the kill to the next answer.
#[test]
fn the_gap_is_a_few_milliseconds() {
    let _turn = alone();
    let daemon = Daemon::start(&[]);
    let mut gaps: Vec<Duration> = (0..40)
        .map(|_| {
            std::thread::sleep(Duration::from_millis(20) * slowness());
            let server = server_of(&daemon);
            let start = Instant::now();
            kill(Pid::from_raw(server), Signal::SIGKILL).expect("killing the server");
            daemon.read("proc/uptime");
            start.elapsed()
        })
        .collect();
    gaps.sort_unstable();
    report(&format!(
        "gap after SIGKILL: median {:?}, longest {:?}",
        gaps[20], gaps[39]
    ));
    // Most of it is the start of a program, which takes its time on a busy machine.
    let start = Instant::now();
    for _ in 0..10 {
        run(Command::new(binary()).arg("--version")).ok();
    }
    let starts = if slowness() > 1 { 20 } else { 5 };
    let most = Duration::from_millis(10) * slowness() + start.elapsed() * starts / 10;
    assert!(gaps[20] < most, "{gaps:?}, at most {most:?}");
}

/// A kernel before 6.9 cannot send requests again: those in flight fail, and only those.
#[test]
fn on_an_older_kernel_only_requests_in_flight_fail_and_nobody_hangs() {
    if !faults::are_there() {
        skip!("a release build has no slow requests");
    }
    let _turn = alone();
    let slow = "meminfo:delay=20";
    let daemon = Daemon::start_with(&["--no-resend"], &[(FAULT, slow)]);
    let (cells, watchers) = eight_readers(&daemon);
    let interval = Duration::from_millis(200) * slowness();
    let kills = kill_servers(
        &daemon,
        Signal::SIGKILL,
        interval,
        Duration::from_secs(10) * slowness(),
    );
    let seen = all_seen(watchers);
    seen.report(&format!("{kills} x SIGKILL, older kernel"));
    assert!(seen.reads > seen.errors + u64::from(kills), "{seen:?}");
    for wrong in &seen.wrong {
        assert!(
            wrong.contains("Software caused connection abort"),
            "{wrong}"
        );
    }
    // No thread of a server has more than one request in flight.
    assert!(seen.errors > 0, "no kill hit a request in flight");
    assert!(seen.errors <= u64::from(kills) * 4, "{seen:?}");
    drop(cells);
}

/// The reader holds its file open meanwhile, and its server is another one at each read.
#[test]
fn an_open_file_is_read_on_after_a_takeover() {
    let _turn = beside_others();
    let daemon = Daemon::start(&[]);
    let cell = Cell::start(&Limits::default());
    let dir = tempfile::tempdir().expect("a directory");
    let (half, go) = (dir.path().join("half"), dir.path().join("go"));
    let script = format!(
        "exec 3< {}; head -c 20 <&3 > /dev/null; touch {}; while [ ! -e {} ]; do sleep 0.01; done; cat <&3",
        daemon.arg("proc/cpuinfo"),
        half.display(),
        go.display()
    );
    let reader = cell
        .command(&["sh", "-c", &script])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("starting a reader");
    wait_for(patience(10), || half.exists().then_some(())).expect("half of the file is read");
    let before = cell.read(&daemon, "proc/cpuinfo");
    kill(Pid::from_raw(server_of(&daemon)), Signal::SIGKILL).expect("killing the server");
    std::fs::write(&go, "").expect("a file");
    let rest = reader
        .wait_with_output()
        .expect("the reader's output")
        .stdout;
    let rest = String::from_utf8(rest).expect("text");
    assert!(
        before.ends_with(&rest) && rest.len() + 20 == before.len(),
        "{rest:?}"
    );
}

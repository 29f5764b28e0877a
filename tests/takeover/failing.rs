//! Requests and servers that go wrong again and again.

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::common::daemon::mounted_at;
use crate::common::{
    Cell, Daemon, Limits, beside_others, patience, run_within, sh, skip, slowness, wait_for,
};
use crate::crash::server_of;
use crate::faults::{self, FAULT};

fn errno_of_reading(daemon: &Daemon, file: &str) -> Option<i32> {
    std::fs::read(daemon.path(file))
        .err()
        .and_then(|error| error.raw_os_error())
}

/// Long enough for a server that is well, on a busy machine too.
fn watchdog() -> Duration {
    Duration::from_secs(if slowness() == 1 { 3 } else { 8 })
}

fn with_watchdog() -> Daemon {
    let usec = watchdog().as_micros().to_string();
    Daemon::start_with(&[], &[("WATCHDOG_USEC", &usec)])
}

/// The state of a process as `/proc/PID/status` has it.
fn state_of(pid: i32) -> String {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("State:"));
    line.and_then(|line| line.split_whitespace().next())
        .unwrap_or_default()
        .to_owned()
}

#[test]
fn a_request_that_kills_its_server_twice_is_answered_with_eio() {
    if !faults::are_there() {
        skip!("a release build has no request that kills");
    }
    let _turn = beside_others();
    for fault in ["swaps:abort", "swaps:segv"] {
        let mut daemon = Daemon::start_with(&[], &[(FAULT, fault)]);
        for _ in 0..12 {
            assert_eq!(
                errno_of_reading(&daemon, "proc/swaps"),
                Some(libc::EIO),
                "{}",
                daemon.log()
            );
            assert!(daemon.answers(), "others are not served: {}", daemon.log());
        }
        assert_eq!(
            daemon.log().matches("starting another one").count(),
            24,
            "{}",
            daemon.log()
        );
        assert!(daemon.is_running());
    }
}

#[test]
fn a_defect_costs_one_request_and_the_log_names_who_asked_for_what() {
    if !faults::are_there() {
        skip!("a release build has no request that fails by a defect");
    }
    let _turn = beside_others();
    let daemon = Daemon::start_with(&["-d"], &[(FAULT, "swaps:panic")]);
    let server = server_of(&daemon);
    let failed = errno_of_reading(&daemon, "proc/swaps");
    assert_eq!(failed, Some(libc::EIO), "{}", daemon.log());
    daemon.read("proc/uptime");
    assert_eq!(server_of(&daemon), server, "{}", daemon.log());
    let log = daemon.log();
    let has_line = |words: &[&str]| {
        log.lines()
            .any(|line| words.iter().all(|word| line.contains(word)))
    };
    let asked = format!("read of /proc/swaps by thread {} ", nix::unistd::gettid());
    assert!(
        has_line(&["ERROR", "request 0x", &asked, " in cgroup /"]),
        "{log}"
    );
    assert!(
        has_line(&["ERROR", "a fault on demand", "src/fs/fault.rs:"]),
        "{log}"
    );
    assert!(
        has_line(&["DEBUG", "open of /proc/uptime by thread", ": answered in "]),
        "{log}"
    );
}

#[test]
fn a_server_that_does_not_answer_any_more_is_replaced() {
    let _turn = beside_others();
    let daemon = with_watchdog();
    let server = server_of(&daemon);
    kill(Pid::from_raw(server), Signal::SIGSTOP).expect("stopping the server");
    wait_for(patience(5), || (state_of(server) == "T").then_some(())).expect("a stopped server");
    let start = Instant::now();
    daemon.read("proc/meminfo");
    assert!(start.elapsed() < patience(10), "{:?}", start.elapsed());
    assert_ne!(server_of(&daemon), server);
    assert!(daemon.log().contains("does not answer"), "{}", daemon.log());
}

#[test]
fn a_server_that_answers_others_is_not_replaced_though_its_own_read_takes_long() {
    if !faults::are_there() {
        skip!("a release build answers its own read at once");
    }
    let _turn = beside_others();
    let usec = watchdog().as_micros().to_string();
    let delay = format!("uptime:delay={}", watchdog().as_millis() / 2);
    let daemon = Daemon::start_with(&[], &[("WATCHDOG_USEC", &usec), (FAULT, &delay)]);
    let server = server_of(&daemon);
    let cell = Cell::start(&Limits::default());
    let script = r#"while :; do read -r line < "$0"; sleep 0.1; done"#;
    let mut reader = cell.spawn(&["sh", "-c", script, &daemon.arg("proc/meminfo")]);
    std::thread::sleep(watchdog() * 3);
    assert!(
        daemon.log().contains("are answered slowly"),
        "{}",
        daemon.log()
    );
    assert_eq!(server_of(&daemon), server, "{}", daemon.log());
    let _ = reader.kill();
    let _ = reader.wait();
}

#[test]
fn a_server_that_is_idle_is_not_replaced() {
    let _turn = beside_others();
    let daemon = with_watchdog();
    let server = server_of(&daemon);
    std::thread::sleep(watchdog() * 2 + Duration::from_secs(1));
    assert_eq!(server_of(&daemon), server, "{}", daemon.log());
}

#[test]
fn when_no_server_lives_the_readers_get_an_error_and_the_daemon_ends() {
    let _turn = beside_others();
    let mut daemon = Daemon::start(&[]);
    // No further server can be given its fds.
    let holder = daemon.pid().to_string();
    sh(&format!("prlimit --pid {holder} --nofile=8:8")).ok();
    kill(Pid::from_raw(server_of(&daemon)), Signal::SIGKILL).expect("killing the server");
    let mut reader = std::process::Command::new("cat");
    let ran = run_within(reader.arg(daemon.path("proc/meminfo")), patience(20));
    assert!(!ran.succeeded(), "{ran:?}");
    let status = daemon.ended().expect("the daemon ends");
    assert_eq!(status.code(), Some(1), "{}", daemon.log());
    assert!(daemon.log().contains("giving up"), "{}", daemon.log());
    assert!(mounted_at(daemon.point()).is_none(), "still mounted");
}

#[test]
fn readers_of_a_daemon_whose_holder_is_killed_get_an_error_at_once() {
    let _turn = beside_others();
    let mut daemon = Daemon::start(&[]);
    let open = std::fs::File::open(daemon.path("proc/meminfo")).expect("opening");
    daemon.signal(Signal::SIGKILL);
    daemon.ended().expect("the end of the holder");
    let failed = wait_for(patience(5), || errno_of_reading(&daemon, "proc/meminfo"));
    assert!(
        [Some(libc::ENOTCONN), Some(libc::ECONNABORTED)].contains(&failed),
        "{failed:?}"
    );
    drop(open);
}

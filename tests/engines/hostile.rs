//! What one container does must not delay another one's reads, nor spoil its own.

use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::common::cell::sleeper_named;
use crate::common::cgroup::cgroup_version;
use crate::common::figures::{keyed, uptime};
use crate::common::load::hammer;
use crate::common::{
    Cell, Daemon, Inside, Limits, alone, beside_others, patience, skip, slowness, wait_for,
};
use crate::reader::{Hammer, Reader};
use crate::stand::Stand;

const MIB: u64 = 1 << 20;

fn limited(mib: u64) -> Cell {
    Cell::start(&Limits {
        memory_bytes: Some(mib * MIB),
        ..Limits::default()
    })
}

#[track_caller]
fn assert_sees(inside: &Inside, daemon: &Daemon, mib: u64) {
    let start = Instant::now();
    let total = keyed(&inside.read(daemon, "proc/meminfo"))["MemTotal"];
    assert_eq!(total, mib * 1024, "another container's view");
    assert!(
        start.elapsed() < patience(2),
        "a read took {:?}",
        start.elapsed()
    );
}

#[test]
fn uptime_is_right_whatever_init_is_called() {
    let _turn = beside_others();
    let daemon = Daemon::start(&[]);
    let dir = tempfile::tempdir().expect("a directory");
    for name in ["a b", "a) R 1 (", ") S 1 1 1 0 -1 4", "a\nb", "a)\n1 (b) R"] {
        let program = sleeper_named(dir.path(), name);
        for cgroup_namespace in [true, false] {
            let limits = Limits {
                memory_bytes: Some(48 * MIB),
                ..Limits::default()
            };
            let cell = Cell::with_init(&limits, &[&program, Path::new("100000")], cgroup_namespace);
            sleep(Duration::from_millis(300));
            let (age, idle) = uptime(&cell.read(&daemon, "proc/uptime"));
            assert!(
                (0.2..30.0 * f64::from(slowness())).contains(&age) && idle >= 0.0,
                "{name:?}: {age} {idle}"
            );
            assert_sees(&cell, &daemon, 48);
        }
    }
}

#[test]
fn a_frozen_container_delays_nobody() {
    let _turn = beside_others();
    let daemon = Daemon::start(&[]);
    let (frozen, other) = (limited(40), limited(80));
    if !frozen.cgroup.can_freeze() {
        skip!("no freezer");
    }
    let time = Duration::from_secs(3) * slowness();
    let hammers = Reader::hammer(
        &frozen,
        &daemon.arg("proc/stat"),
        Hammer { readers: 16, time },
    );
    let reading = wait_for(patience(5), || (!frozen.guests().is_empty()).then_some(()));
    assert!(reading.is_some(), "no readers in the container");
    sleep(Duration::from_millis(300));
    for _ in 0..5 {
        frozen.cgroup.freeze(true);
        let settled = wait_for(patience(5), || frozen.cgroup.is_frozen().then_some(()));
        assert!(
            settled.is_some(),
            "not frozen: its readers wait for the daemon"
        );
        for file in [
            "meminfo",
            "stat",
            "uptime",
            "loadavg",
            "cpuinfo",
            "diskstats",
        ] {
            other.read(&daemon, &format!("proc/{file}"));
        }
        assert_sees(&other, &daemon, 80);
        frozen.cgroup.freeze(false);
    }
    let figures = hammers.figures();
    assert_eq!(figures.errors, 0, "{figures:?}");
    assert_sees(&frozen, &daemon, 40);
}

#[test]
fn a_reader_in_a_container_with_a_frozen_init_is_answered() {
    if cgroup_version() == 2 {
        skip!("on cgroup v2 the readers of a frozen container are frozen too");
    }
    let _turn = beside_others();
    let daemon = Daemon::start(&[]);
    let cell = limited(40);
    cell.cgroup.freeze(true);
    // The freezer is a hierarchy of its own: this reader is in all other cgroups of the container.
    let entering: String = cell
        .cgroup
        .enter_script()
        .lines()
        .filter(|line| !line.contains("/freezer/"))
        .map(|line| format!("{line}\n"))
        .collect();
    for file in ["meminfo", "uptime", "stat", "loadavg"] {
        let path = daemon.arg(&format!("proc/{file}"));
        let text = crate::common::sh(&format!(
            "{entering} exec nsenter -t {} --pid -- cat {path}",
            cell.init
        ))
        .ok();
        assert!(!text.is_empty());
        assert!(
            file != "meminfo" || text.starts_with("MemTotal:          40960 kB"),
            "{text}"
        );
    }
}

#[test]
fn a_stopped_init_delays_nobody_not_even_its_own_container() {
    let _turn = beside_others();
    let daemon = Daemon::start(&[]);
    let (stopped, other) = (limited(40), limited(80));
    kill(Pid::from_raw(stopped.init), Signal::SIGSTOP).expect("stopping an init");
    assert_sees(&stopped, &daemon, 40);
    assert_sees(&other, &daemon, 80);
    assert!(uptime(&stopped.read(&daemon, "proc/uptime")).0 > 0.0);
    kill(Pid::from_raw(stopped.init), Signal::SIGCONT).expect("continuing an init");
}

#[test]
fn readers_killed_during_their_reads_leave_the_daemon_well() {
    let _turn = beside_others();
    let mut daemon = Daemon::start(&[]);
    let (hostile, other) = (limited(40), limited(80));
    for round in 0..10 {
        let time = Duration::from_secs(60);
        let reader = Reader::hammer(
            &hostile,
            &daemon.arg("proc/stat"),
            Hammer { readers: 8, time },
        );
        let reading = wait_for(patience(5), || (!hostile.guests().is_empty()).then_some(()));
        assert!(reading.is_some(), "no readers in the container");
        sleep(Duration::from_millis(20 + 13 * round));
        let gone = wait_for(patience(5), || {
            let readers = hostile.guests();
            for pid in &readers {
                let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
            }
            readers.is_empty().then_some(())
        });
        assert!(gone.is_some(), "a killed reader does not end");
        drop(reader);
        assert_sees(&other, &daemon, 80);
    }
    assert_sees(&hostile, &daemon, 40);
    assert!(daemon.is_running(), "{}", daemon.log());
}

#[test]
fn ten_thousand_open_handles_of_one_container_cost_bounded_memory_and_no_time() {
    let _turn = alone();
    let daemon = Daemon::start(&[]);
    let (hostile, other) = (limited(400), limited(80));
    other.read(&daemon, "proc/stat");
    let before_kb = daemon.rss_kb();
    // Several processes, since one may not open so many files everywhere.
    let holders: Vec<Reader> = (0..12)
        .map(|_| Reader::holding(&hostile, &daemon.arg("proc/meminfo"), 840))
        .collect();
    let grown_kb = daemon.rss_kb().saturating_sub(before_kb);
    assert_sees(&other, &daemon, 80);
    assert_sees(&hostile, &daemon, 400);
    assert!(grown_kb < 32 << 10, "{grown_kb} kB more for 10080 handles");
    drop(holders);
    assert_sees(&other, &daemon, 80);
}

#[test]
fn a_container_with_64_readers_leaves_the_others_a_normal_time() {
    let _turn = alone();
    let daemon = Daemon::start(&[]);
    // The hostile one gets half a CPU: what it can take from others is then the daemon's doing, not the scheduler's.
    let hostile = Cell::start(&Limits {
        memory_bytes: Some(400 * MIB),
        cpus: Some(0.5),
        ..Limits::default()
    });
    let other = limited(80);
    let time = Duration::from_secs(if slowness() == 1 { 3 } else { 10 });
    let one = Hammer { readers: 1, time };
    let read = || Reader::hammer(&other, &daemon.arg("proc/meminfo"), one).figures();
    let undisturbed = read();
    let hammers = Reader::hammer(
        &hostile,
        &daemon.arg("proc/cpuinfo"),
        Hammer {
            readers: 64,
            time: time * 3,
        },
    );
    assert!(wait_for(patience(5), || (!hostile.guests().is_empty()).then_some(())).is_some());
    let figures = read();
    assert_eq!(figures.errors, 0, "{figures:?}");
    // Before Linux 6.9 requests are worked on in the order of their arrival: up to 64 come before each of the three of a
    // read.
    // On a busy machine a reader waits without them too.
    assert!(figures.reads > 20, "{figures:?}");
    let normal = |hardware: u64, alone: Duration| {
        (Duration::from_millis(hardware) * slowness()).max(alone * 10)
    };
    assert!(
        figures.p50 < normal(40, undisturbed.p50) && figures.p99 < normal(200, undisturbed.p99),
        "{figures:?}, undisturbed {undisturbed:?}"
    );
    assert_eq!(hammers.figures().errors, 0);
}

#[test]
fn all_triggers_that_a_container_may_set_delay_nobody() {
    let _turn = alone();
    let mut stand = Stand::new();
    if !stand.daemon.path("proc/pressure/cpu").exists() {
        skip!("no pressure on this machine");
    }
    let triggers = Reader::with_triggers(&stand.big, &stand.path("proc/pressure/cpu"));
    stand.assert_unharmed();
    let grown_kb = stand.grown_kb();
    assert!(grown_kb < 16 << 10, "{grown_kb} kB more");
    drop(triggers);
}

#[test]
fn a_cgroup_that_vanishes_under_an_open_handle_gives_no_error() {
    let _turn = beside_others();
    let mut daemon = Daemon::start(&[]);
    for _ in 0..20 {
        let cell = limited(40);
        let path = daemon.arg("proc/meminfo");
        let mut slow = cell.spawn(&[
            "sh",
            "-c",
            &format!("while :; do cat {path} || exit 7; done"),
        ]);
        sleep(Duration::from_millis(30));
        drop(cell);
        assert_ne!(
            slow.wait().expect("the end of a reader").code(),
            Some(7),
            "a read failed while the container ended"
        );
    }
    assert!(daemon.is_running(), "{}", daemon.log());
    let host = hammer(&daemon.path("proc/meminfo"), 1, Duration::from_millis(200));
    assert!(host.errors == 0 && host.reads > 0, "{host:?}");
}

#[test]
fn a_view_of_a_cell_survives_a_move_of_its_limit() {
    let _turn = beside_others();
    let daemon = Daemon::start(&[]);
    let cell = limited(40);
    for mib in [40, 72, 33, 128] {
        cell.cgroup.set_memory_limit_bytes(mib * MIB);
        assert_sees(&cell, &daemon, mib);
    }
    let text = fs::read_to_string("/proc/meminfo").expect("meminfo");
    let keys = |text: &str| {
        text.lines()
            .filter_map(|line| Some(line.split_once(':')?.0.to_owned()))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        keys(&cell.read(&daemon, "proc/meminfo")),
        keys(&text),
        "the kernel's lines in the kernel's order"
    );
}

//! What containers see when a lxcfs ends for good.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::common::mounts::options_at;
use crate::common::{Cell, Daemon, alone, beside_others};
use crate::running::{assert_has_views, assert_sees_host, attach, cell, lxcfs, own_mounts};

#[test]
fn dead_views_can_be_taken_away() {
    let _turn = beside_others();
    let mut daemon = Daemon::start(&[]);
    let cell = cell("");
    let before = own_mounts(cell.init);
    attach(&daemon, &cell.init.to_string()).ok();
    daemon.kill_all();
    let ran = lxcfs(&["detach", &cell.init.to_string()]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(own_mounts(cell.init), before);
    assert_sees_host(&cell, 64);
}

/// Takes away the views of the lxcfs at `views` everywhere. What was done with the memory file of each of these
/// containers.
#[track_caller]
fn detach_everywhere<const N: usize>(views: &str, cells: [&Cell; N]) -> [Option<String>; N] {
    let ran = lxcfs(&["detach", "--all", "--views", views]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    cells.map(|cell| {
        let of_cell = |line: &str| {
            let (before, result) = line.split_once(" /proc/meminfo ")?;
            let pid = before.split_whitespace().last()?;
            (pid == cell.init.to_string()).then(|| result.trim().to_owned())
        };
        ran.out.lines().find_map(of_cell)
    })
}

#[test]
fn at_the_end_of_a_lxcfs_all_its_views_go_and_those_of_dead_ones() {
    let _turn = alone();
    let (mut dead, mut leaving, staying) =
        (Daemon::start(&[]), Daemon::start(&[]), Daemon::start(&[]));
    let views = leaving.point().to_str().expect("an ASCII path").to_owned();
    // As an engine mounts them, and as an operator may.
    let bound = &cell(&format!(
        "mount --bind '{views}/proc/meminfo' /proc/meminfo; mount --bind '{views}/proc' /mnt"
    ));
    let [attached, of_dead, of_other] = &[cell(""), cell(""), cell("")];
    let before = [attached, of_dead].map(|cell| own_mounts(cell.init));
    attach(&leaving, &attached.init.to_string()).ok();
    attach(&dead, &of_dead.init.to_string()).ok();
    attach(&staying, &of_other.init.to_string()).ok();
    let kept = own_mounts(of_other.init);
    dead.kill_all();

    let cells = [bound, attached, of_dead, of_other];
    let detached = || Some("detached".to_owned());
    let done = detach_everywhere(&views, cells);
    assert_eq!(done, [detached(), detached(), detached(), None]);
    for cell in [bound, attached, of_dead] {
        assert_sees_host(cell, 64);
    }
    assert!(options_at(bound.init, "/mnt").is_empty());
    let after = [attached, of_dead].map(|cell| own_mounts(cell.init));
    assert_eq!(after, before);
    assert_eq!(own_mounts(of_other.init), kept);
    assert_has_views(of_other, 64);
    assert_eq!(detach_everywhere(&views, cells), [None, None, None, None]);
    assert!(leaving.answers(), "the host has lost the mount");

    // Who started too late for that has dead views once the daemon has ended.
    attach(&leaving, &attached.init.to_string()).ok();
    leaving.kill_all();
    let done = detach_everywhere(&views, cells);
    assert_eq!(done, [None, detached(), None, None]);
    assert_sees_host(attached, 64);
    assert_has_views(of_other, 64);
}

#[test]
fn a_lxcfs_that_does_not_answer_keeps_no_other_from_leaving() {
    let _turn = alone();
    let (silent, leaving) = (Daemon::start(&[]), Daemon::start(&[]));
    let views = leaving.point().to_str().expect("an ASCII path");
    let [of_silent, attached] = &[cell(""), cell("")];
    attach(&silent, &of_silent.init.to_string()).ok();
    attach(&leaving, &attached.init.to_string()).ok();
    let processes = silent.processes();
    let signal_all = |signal| {
        for pid in &processes {
            kill(Pid::from_raw(*pid), signal).expect("a process of the daemon");
        }
    };
    signal_all(Signal::SIGSTOP);
    let done = detach_everywhere(views, [of_silent, attached]);
    signal_all(Signal::SIGCONT);
    let left_alone = "left alone: its lxcfs does not answer".to_owned();
    assert_eq!(done, [Some(left_alone), Some("detached".to_owned())]);
    assert_sees_host(attached, 64);
    assert_has_views(of_silent, 64);
}

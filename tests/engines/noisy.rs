//! A container whose readers never pause, beside others.

use std::thread::sleep;
use std::time::Duration;

use lxcfs::host::kernel_is_since;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::common::figures::keyed;
use crate::common::{
    Cell, Daemon, Limits, alone, beside_others, patience, skip, slowness, wait_for,
};
use crate::reader::{Hammer, Reader};

fn limited(mebibytes: u64) -> Cell {
    Cell::start(&Limits {
        memory_bytes: Some(mebibytes << 20),
        ..Limits::default()
    })
}

#[track_caller]
fn assert_sees(cell: &Cell, daemon: &Daemon, mebibytes: u64) {
    let text = cell.read(daemon, "proc/meminfo");
    assert_eq!(keyed(&text)["MemTotal"], mebibytes << 10);
}

/// Has 64 threads read without a pause.
fn noise(cell: &Cell, daemon: &Daemon, time: Duration) -> Reader {
    let readers = 64;
    let reader = Reader::hammer(cell, &daemon.arg("proc/meminfo"), Hammer { readers, time });
    let reads = || {
        let guests = cell.guests();
        let threads =
            |pid: &i32| std::fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
        (guests.iter().map(threads).sum::<usize>() > readers).then_some(())
    };
    wait_for(patience(20), reads).expect("readers in the container");
    reader
}

#[test]
fn a_reader_does_not_queue_behind_64_of_another_container() {
    if !kernel_is_since(6, 9) {
        skip!("a kernel before 6.9 cannot send requests again");
    }
    let _turn = alone();
    let daemon = Daemon::start(&[]);
    let (noisy, others) = (limited(400), [limited(80), limited(90)]);
    let time = Duration::from_secs(2) * slowness();
    let one = Hammer { readers: 1, time };
    let noise = noise(&noisy, &daemon, time * 3);
    let path = daemon.arg("proc/meminfo");
    let readers = others
        .each_ref()
        .map(|other| Reader::hammer(other, &path, one));
    let figures = readers.map(Reader::figures);
    assert_sees(&others[0], &daemon, 80);
    assert_sees(&others[1], &daemon, 90);
    assert_sees(&noisy, &daemon, 400);
    let noise = noise.figures();
    assert_eq!(noise.errors, 0, "{noise:?}");
    for figures in figures {
        // In one queue for all each request would wait for those of all 64.
        assert!(
            figures.errors == 0 && figures.p50 * 2 < noise.p50,
            "{figures:?}, the 64: {noise:?}"
        );
    }
}

#[test]
fn nobody_hangs_when_readers_are_killed_that_wait_for_their_turn() {
    let _turn = beside_others();
    let daemon = Daemon::start(&[]);
    let (noisy, other) = (limited(400), limited(80));
    let time = Duration::from_secs(4) * slowness();
    let one = Hammer { readers: 1, time };
    let reader = Reader::hammer(&other, &daemon.arg("proc/stat"), one);
    for round in 0..8 {
        let noise = noise(&noisy, &daemon, time);
        sleep(Duration::from_millis(20 * round));
        for pid in noisy.guests() {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        let gone = || noisy.guests().is_empty().then_some(());
        wait_for(patience(10), gone).expect("readers that can be killed");
        drop(noise);
    }
    let figures = reader.figures();
    assert_eq!(figures.errors, 0, "{figures:?}");
    assert_sees(&noisy, &daemon, 400);
    assert_sees(&other, &daemon, 80);
}

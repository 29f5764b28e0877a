use proptest::prelude::*;

use super::*;

#[test]
fn grows_by_the_share_of_the_host() {
    let mut share = Apportioned::default();
    share.advance(25, 100, &[1000, 40]);
    assert_eq!((share.get(0), share.get(1), share.get(2)), (250, 10, 0));
    // Half of the new work now.
    share.advance(75, 200, &[1200, 40]);
    assert_eq!((share.get(0), share.get(1)), (350, 10));
}

#[test]
fn who_does_nothing_gets_nothing() {
    let mut share = Apportioned::default();
    share.advance(0, 100, &[1000]);
    share.advance(0, 5_000, &[99_000]);
    assert_eq!(share.get(0), 0);
}

#[test]
fn small_increments_add_up() {
    let mut share = Apportioned::default();
    for step in 1..=9_000 {
        share.advance(step, 3 * step, &[step]);
    }
    assert!(share.get(0).abs_diff(3_000) <= 1, "{share:?}");
}

#[test]
fn increments_wait_while_the_whole_stands_still() {
    let mut share = Apportioned::default();
    share.advance(0, 100, &[1000]);
    share.advance(50, 100, &[1500]);
    assert_eq!(share.get(0), 0);
    share.advance(50, 200, &[2000]);
    assert_eq!(share.get(0), 500);
}

#[test]
fn the_share_is_never_more_than_all() {
    let mut share = Apportioned::default();
    share.advance(500, 100, &[1000]);
    assert_eq!(share.get(0), 1000);
}

#[test]
fn figures_of_a_new_count_grow_from_there() {
    let mut share = Apportioned::default();
    share.advance(50, 100, &[1000]);
    share.advance(10, 40, &[200]);
    assert_eq!(share.get(0), 500);
    share.advance(20, 50, &[300]);
    assert_eq!(share.get(0), 600);
}

#[test]
fn readings_that_overtake_each_other_add_nothing() {
    let mut share = Apportioned::default();
    for _ in 0..100 {
        share.advance(50, 100, &[1000]);
        share.advance(49, 98, &[990]);
    }
    assert_eq!(share.get(0), 500);
}

proptest! {
    #[test]
    fn never_decreases_and_never_exceeds_the_host(
        steps in proptest::collection::vec((any::<u64>(), any::<u64>(), any::<u64>()), 1..30),
        monotone in any::<bool>(),
    ) {
        let mut share = Apportioned::default();
        let (mut part, mut whole, mut host) = (0_u64, 0_u64, 0_u64);
        for step in steps {
            (part, whole, host) = if monotone {
                let small = |value: u64| value >> 6;
                (part + small(step.0), whole + small(step.1), host + small(step.2))
            } else {
                step
            };
            let before = share.get(0);
            share.advance(part, whole, &[host]);
            prop_assert!(share.get(0) >= before);
            prop_assert!(!monotone || share.get(0) <= host);
        }
    }
}

fn disk(columns: [u64; 15]) -> Device {
    Device {
        columns: columns.to_vec(),
        ..Device::default()
    }
}

fn io(reads: u64, writes: u64, discards: u64) -> DeviceIo {
    DeviceIo {
        reads,
        writes,
        discards,
        ..DeviceIo::default()
    }
}

#[test]
fn disk_times_follow_the_share_of_each_kind_of_io() {
    let mut time = DiskTime::default();
    let host = disk([
        80, 20, 0, 1000, 190, 10, 0, 400, 0, 900, 2000, 100, 0, 0, 50,
    ]);
    // Half of the reads, a quarter of the writes, no discard, a quarter of all.
    time.advance(60_000, &host, &io(50, 50, 0));
    let expected = DiskMsec {
        read_msec: 500,
        write_msec: 100,
        discard_msec: 0,
        io_msec: 225,
        weighted_msec: 500,
    };
    assert_eq!(time.msec(), expected);
}

#[test]
fn a_young_container_is_not_busier_than_its_age() {
    let mut time = DiskTime::default();
    let mut host = disk([100, 0, 0, 0, 0, 0, 0, 0, 0, 500_000, 0, 0, 0, 0, 0]);
    time.advance(2_000, &host, &io(90, 0, 0));
    assert_eq!(time.msec().io_msec, 2_000);
    host.columns[0] = 200;
    time.advance(2_000, &host, &io(90, 0, 0));
    time.advance(60_000, &host, &io(90, 0, 0));
    assert_eq!(time.msec().io_msec, 2_000 + IO_CARRY_MSEC);
}

#[test]
fn a_disk_goes_on_when_another_server_counts_the_age_from_elsewhere() {
    let mut time = DiskTime::default();
    let mut host = disk([100, 0, 0, 0, 0, 0, 0, 0, 0, 500, 0, 0, 0, 0, 0]);
    // With `--uptime=host`, then without.
    time.advance(9_000_000, &host, &io(100, 0, 0));
    time.advance(60_000, &host, &io(100, 0, 0));
    (host.columns[0], host.columns[9]) = (200, 700);
    time.advance(61_000, &host, &io(200, 0, 0));
    assert_eq!(time.msec().io_msec, 700);
}

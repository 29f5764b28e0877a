use proptest::prelude::*;

use super::*;

const SEC: u64 = 1_000_000_000;
const MSEC: u64 = 1_000_000;

fn cpus(text: &str) -> CpuSet {
    CpuSet::parse("cpuset.cpus", text).unwrap()
}

fn usage(user_nsec: u64, system_nsec: u64, throttled_nsec: u64) -> CpuUsage {
    CpuUsage {
        user_nsec,
        system_nsec,
        throttled_nsec,
        ..CpuUsage::default()
    }
}

fn used_nsec(times: &Times) -> u64 {
    times.user_nsec + times.nice_nsec + times.system_nsec
}

fn sum_nsec(times: &Times) -> u64 {
    used_nsec(times) + times.idle_nsec + times.steal_nsec
}

#[test]
fn first_read_covers_the_whole_life() {
    let mut time = CpuTime::new(100 * SEC);
    time.advance(
        110 * SEC,
        &cpus("2-3"),
        &usage(3 * SEC, SEC, 0),
        &mut Away::default(),
    );
    let ids: Vec<usize> = time.cpus().iter().map(|cpu| cpu.id).collect();
    assert_eq!(ids, [2, 3]);
    assert_eq!(
        time.total(),
        Times {
            user_nsec: 3 * SEC,
            system_nsec: SEC,
            idle_nsec: 16 * SEC,
            ..Times::default()
        }
    );
}

#[test]
fn niced_time_is_not_shown_twice() {
    let mut time = CpuTime::new(0);
    let usage = CpuUsage {
        nice_nsec: Some(2 * SEC),
        ..usage(3 * SEC, 0, 0)
    };
    time.advance(10 * SEC, &cpus("0"), &usage, &mut Away::default());
    assert_eq!(time.total().nice_nsec, 2 * SEC);
    assert_eq!(time.total().user_nsec, SEC);
}

#[test]
fn use_from_before_the_container_is_cut_to_its_capacity() {
    let mut time = CpuTime::new(0);
    time.advance(
        2 * SEC,
        &cpus("0"),
        &usage(60 * SEC, 40 * SEC, 0),
        &mut Away::default(),
    );
    let total = time.total();
    assert_eq!(
        (total.user_nsec, total.system_nsec),
        (1_200 * MSEC, 800 * MSEC)
    );
    assert_eq!(total.idle_nsec, 0);
    // One second is made up for, the rest is forgotten.
    time.advance(
        12 * SEC,
        &cpus("0"),
        &usage(60 * SEC, 40 * SEC, 0),
        &mut Away::default(),
    );
    assert_eq!(used_nsec(&time.total()), 3 * SEC);
}

#[test]
fn use_from_before_cpus_were_taken_away_is_not_lost() {
    let mut time = CpuTime::new(0);
    let mut away = Away::default();
    let mut all = |now_nsec, shown: &str, used_nsec| {
        time.advance(now_nsec, &cpus(shown), &usage(used_nsec, 0, 0), &mut away);
        let mut total = time.total();
        total.add(&away.total());
        total
    };
    all(10 * SEC, "0-3", 40 * SEC);
    // Taken away after 9 of these 10 seconds.
    assert_eq!(used_nsec(&all(20 * SEC, "0", 77 * SEC)), 77 * SEC);
    assert_eq!(sum_nsec(&all(30 * SEC, "0", 77 * SEC)), (77 + 10) * SEC);
}

/// A busy loop under a quota of half a CPU, as the kernel accounts it: the
/// throttled time appears when the throttling ends.
fn half_a_cpu(now_nsec: u64) -> CpuUsage {
    let periods = now_nsec / (100 * MSEC);
    let running = (now_nsec % (100 * MSEC)).min(50 * MSEC);
    usage(periods * 50 * MSEC + running, 0, periods * 50 * MSEC)
}

#[test]
fn half_a_cpu_under_load_is_half_busy_and_half_stolen_at_any_rate_of_reading() {
    for interval_msec in [1, 7, 33, 100, 1_000, 60_000] {
        let mut time = CpuTime::new(0);
        for now_msec in (0..=60_000_u64).step_by(interval_msec) {
            let now_nsec = now_msec * MSEC;
            time.advance(
                now_nsec,
                &cpus("0"),
                &half_a_cpu(now_nsec),
                &mut Away::default(),
            );
        }
        let total = time.total();
        let percent = |nsec: u64| nsec * 100 / sum_nsec(&total);
        assert!((49..=50).contains(&percent(total.user_nsec)), "{total:?}");
        assert!((48..=50).contains(&percent(total.steal_nsec)), "{total:?}");
    }
}

#[test]
fn throttling_beyond_the_idle_capacity_does_not_linger() {
    let mut time = CpuTime::new(0);
    time.advance(
        SEC,
        &cpus("0"),
        &usage(SEC / 2, 0, 7 * SEC),
        &mut Away::default(),
    );
    assert_eq!(time.total().steal_nsec, SEC / 2);
    time.advance(
        3 * SEC,
        &cpus("0"),
        &usage(SEC / 2, 0, 7 * SEC),
        &mut Away::default(),
    );
    assert_eq!(time.total().steal_nsec, SEC / 2 + STEAL_CARRY_NSEC);
}

#[test]
fn frequent_reading_neither_loses_nor_invents_time() {
    let mut time = CpuTime::new(0);
    for step in 1..=100_000_u64 {
        let now_nsec = step * 1_000_003;
        let usage = usage(now_nsec / 3, now_nsec / 7, 0);
        time.advance(now_nsec, &cpus("0-2"), &usage, &mut Away::default());
    }
    let now_nsec = 100_000 * 1_000_003;
    let total = time.total();
    assert_eq!(sum_nsec(&total), 3 * now_nsec);
    assert_eq!(total.user_nsec, now_nsec / 3);
    assert_eq!(total.system_nsec, now_nsec / 7);
}

#[test]
fn system_time_counted_in_whole_ticks_is_not_lost_at_frequent_reading() {
    // Half user, half system time of one busy CPU, as cgroup v1 tells it: the sum
    // is precise, the system time comes in ticks of 10 ms.
    let mut time = CpuTime::new(0);
    for now_msec in 1..=10_000_u64 {
        let system_nsec = now_msec / 20 * 10 * MSEC;
        let user_nsec = now_msec * MSEC - system_nsec;
        time.advance(
            now_msec * MSEC,
            &cpus("0"),
            &usage(user_nsec, system_nsec, 0),
            &mut Away::default(),
        );
    }
    let total = time.total();
    assert!(
        (4_980 * MSEC..=5_000 * MSEC).contains(&total.system_nsec),
        "{total:?}"
    );
    assert_eq!(used_nsec(&total), 10 * SEC);
}

#[test]
fn a_burst_on_more_cpus_than_are_shown_is_made_up_for() {
    let mut time = CpuTime::new(0);
    time.advance(
        10 * MSEC,
        &cpus("0"),
        &usage(80 * MSEC, 0, 0),
        &mut Away::default(),
    );
    assert_eq!(time.total().user_nsec, 10 * MSEC);
    time.advance(
        100 * MSEC,
        &cpus("0"),
        &usage(80 * MSEC, 0, 0),
        &mut Away::default(),
    );
    assert_eq!(time.total().user_nsec, 80 * MSEC);
    assert_eq!(time.total().idle_nsec, 20 * MSEC);
}

#[test]
fn a_new_cgroup_with_smaller_counters_counts_from_there() {
    let mut time = CpuTime::new(0);
    time.advance(
        10 * SEC,
        &cpus("0"),
        &usage(6 * SEC, 0, 2 * SEC),
        &mut Away::default(),
    );
    time.advance(
        11 * SEC,
        &cpus("0"),
        &usage(SEC, 0, SEC),
        &mut Away::default(),
    );
    time.advance(
        12 * SEC,
        &cpus("0"),
        &usage(SEC + SEC / 2, 0, SEC),
        &mut Away::default(),
    );
    assert_eq!(time.total().user_nsec, 6 * SEC + SEC / 2);
    assert_eq!(time.total().steal_nsec, 2 * SEC);
    assert_eq!(sum_nsec(&time.total()), 12 * SEC);
}

#[test]
fn readings_that_overtake_each_other_are_not_counted_twice() {
    let mut time = CpuTime::new(0);
    for step in 100..=1_000_u64 {
        let now_nsec = step * 10 * MSEC;
        let late_nsec = now_nsec - 9 * MSEC;
        time.advance(
            now_nsec,
            &cpus("0"),
            &usage(now_nsec / 2, 0, now_nsec / 4),
            &mut Away::default(),
        );
        time.advance(
            late_nsec,
            &cpus("0"),
            &usage(late_nsec / 2, 0, late_nsec / 4),
            &mut Away::default(),
        );
    }
    let total = time.total();
    assert_eq!((total.user_nsec, total.steal_nsec), (5 * SEC, SEC * 5 / 2));
}

#[test]
fn measured_use_stays_on_its_cpu_and_hidden_use_goes_where_there_is_room() {
    let mut time = CpuTime::new(0);
    let usage = CpuUsage {
        per_cpu_nsec: Some(vec![9 * SEC, SEC, 0, 2 * SEC]),
        ..usage(12 * SEC, 0, 0)
    };
    time.advance(10 * SEC, &cpus("0-1"), &usage, &mut Away::default());
    let used: Vec<u64> = time
        .cpus()
        .iter()
        .map(|cpu| used_nsec(&cpu.times))
        .collect();
    assert_eq!(used, [10 * SEC, 2 * SEC]);
}

#[test]
fn a_cpu_that_comes_back_goes_on_where_it_was() {
    let mut time = CpuTime::new(0);
    let mut away = Away::default();
    let mut sums = |now_nsec, shown: &str| {
        time.advance(now_nsec, &cpus(shown), &usage(8 * SEC, 0, 0), &mut away);
        let sum = |cpu: &Cpu| (cpu.id, sum_nsec(&cpu.times));
        let shown: Vec<_> = time.cpus().iter().map(sum).collect();
        (shown, sum_nsec(&away.total()))
    };
    let all = (0..4).map(|id| (id, 10 * SEC)).collect();
    assert_eq!(sums(10 * SEC, "0-3"), (all, 0));
    let two = vec![(2, 10 * SEC), (3, 10 * SEC)];
    assert_eq!(sums(10 * SEC, "2-3"), (two, 20 * SEC));
    let three = vec![(1, 11 * SEC), (2, 11 * SEC), (5, SEC)];
    assert_eq!(sums(11 * SEC, "1-2,5"), (three, 20 * SEC));
    assert_eq!(sums(13 * SEC, "0"), (vec![(0, 12 * SEC)], 33 * SEC));
}

#[test]
fn no_cpus_or_a_clock_that_goes_back_change_nothing() {
    let mut time = CpuTime::new(5 * SEC);
    time.advance(
        6 * SEC,
        &CpuSet::new(),
        &usage(SEC, 0, 0),
        &mut Away::default(),
    );
    assert_eq!(time.total(), Times::default());
    time.advance(6 * SEC, &cpus("0"), &usage(SEC, 0, 0), &mut Away::default());
    let before = time.total();
    time.advance(
        3 * SEC,
        &CpuSet::new(),
        &usage(SEC, 0, 0),
        &mut Away::default(),
    );
    assert_eq!(time.total(), before);
    time.advance(
        7 * SEC,
        &CpuSet::new(),
        &usage(SEC, 0, 0),
        &mut Away::default(),
    );
    assert_eq!(sum_nsec(&time.total()), 2 * SEC);
}

#[derive(Debug, Clone)]
struct Step {
    elapsed_nsec: u64,
    first_cpu: usize,
    cpus: usize,
    usage: CpuUsage,
}

fn counter() -> impl Strategy<Value = u64> {
    prop_oneof![
        8 => 0..20 * SEC,
        1 => Just(u64::MAX),
        1 => any::<u64>(),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let usage = (
        counter(),
        counter(),
        counter(),
        proptest::option::of(counter()),
        proptest::option::of(proptest::collection::vec(counter(), 0..9)),
    );
    let elapsed = prop_oneof![Just(0), 0..MSEC, 0..100 * SEC];
    (elapsed, 0..4_usize, 0..5_usize, usage).prop_map(
        |(elapsed_nsec, first_cpu, cpus, (user, system, throttled, nice, per_cpu))| Step {
            elapsed_nsec,
            first_cpu,
            cpus,
            usage: CpuUsage {
                user_nsec: user,
                system_nsec: system,
                nice_nsec: nice,
                throttled_nsec: throttled,
                per_cpu_nsec: per_cpu,
            },
        },
    )
}

fn not_less(before: &Times, after: &Times) -> bool {
    before.user_nsec <= after.user_nsec
        && before.nice_nsec <= after.nice_nsec
        && before.system_nsec <= after.system_nsec
        && before.idle_nsec <= after.idle_nsec
        && before.steal_nsec <= after.steal_nsec
}

proptest! {
    #[test]
    fn nothing_decreases_and_every_nanosecond_is_accounted_for(
        steps in proptest::collection::vec(step(), 1..40),
    ) {
        let mut time = CpuTime::new(0);
        let mut away = Away::default();
        let mut now_nsec = 0;
        let mut pending_nsec = 0;
        for step in steps {
            let before = (time.clone(), away.clone());
            now_nsec += step.elapsed_nsec;
            pending_nsec += step.elapsed_nsec;
            let shown: CpuSet = (step.first_cpu..step.first_cpu + step.cpus).collect();
            time.advance(now_nsec, &shown, &step.usage, &mut away);
            if time.cpus().is_empty() {
                continue;
            }
            // More than by the CPUs now only as far as there were more before.
            let count = time.cpus().len() as u64;
            let most = pending_nsec * count.max(before.0.cpus().len() as u64);
            let least = pending_nsec * count;
            let total = |time: &CpuTime, away: &Away| {
                let mut total = time.total();
                total.add(&away.total());
                total
            };
            let (old, new) = (total(&before.0, &before.1), total(&time, &away));
            let grown = sum_nsec(&new) - sum_nsec(&old);
            let rounding = if most > least { count } else { 0 };
            prop_assert!((least..=most + rounding).contains(&grown));
            pending_nsec = 0;
            prop_assert!(not_less(&old, &new));
            for old in before.0.cpus().iter().copied().chain(before.1.cpus()) {
                let mut now = time.cpus().iter().copied().chain(away.cpus());
                let new = now.find(|cpu| cpu.id == old.id).unwrap();
                prop_assert!(not_less(&old.times, &new.times));
            }
            let shown_only = |cpu: &Cpu| away.cpus().all(|other| other.id != cpu.id);
            prop_assert!(time.cpus().iter().all(shown_only));
        }
    }

    #[test]
    fn use_within_the_capacity_is_shown_in_full(
        steps in proptest::collection::vec((1..2_000_u64, 0..=100_u64, 0..=100_u64), 1..200),
        count in 1..5_usize,
        per_cpu in any::<bool>(),
    ) {
        let shown: CpuSet = (0..count).collect();
        let mut time = CpuTime::new(0);
        let (mut now_nsec, mut cgroup) = (0, CpuUsage::default());
        for (elapsed_msec, busy_percent, system_percent) in steps {
            now_nsec += elapsed_msec * MSEC;
            let used = elapsed_msec * MSEC * count as u64 / 100 * busy_percent;
            let system = used / 100 * system_percent;
            cgroup.system_nsec += system;
            cgroup.user_nsec += used - system;
            // All of it measured on CPUs of which some are not shown.
            cgroup.per_cpu_nsec = per_cpu.then(|| vec![used / 2; 2 * count]);
            time.advance(now_nsec, &shown, &cgroup, &mut Away::default());
            prop_assert_eq!(time.total().user_nsec, cgroup.user_nsec);
            prop_assert_eq!(time.total().system_nsec, cgroup.system_nsec);
        }
    }
}

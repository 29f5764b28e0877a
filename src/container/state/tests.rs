use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::cgroup::Limit;
use crate::cgroup::account::{CpuUsage, Hugetlb, MemoryStat, Swap};
use crate::cgroup::vm_events::VmEvents;
use crate::container::journal::VERSION;
use crate::container::journal::stored::Stored;
use crate::parse::diskstats::Device;

fn stored(state: &State) -> Vec<u8> {
    let mut out = Vec::new();
    state.store(&mut out);
    out
}

/// What one round of reading does to a state.
fn advance(state: &mut State, now_nsec: u64, figures: &[u64; 6]) {
    let [user, system, nice, throttled, reads, host] = *figures;
    let usage = CpuUsage {
        user_nsec: user,
        system_nsec: system,
        nice_nsec: (nice % 2 == 0).then_some(nice),
        throttled_nsec: throttled,
        per_cpu_nsec: (system % 2 == 0).then(|| vec![user, system, nice]),
    };
    let shown: CpuSet = (0..1 + (nice % 70) as usize).collect();
    let away = &mut state.cpus_away;
    state.cpu.advance(now_nsec, &shown, &usage, away);
    state.counters.advance(user, host, &[host, reads, nice]);
    let io = DeviceIo {
        major: 8,
        minor: u32::try_from(nice % 3).unwrap(),
        reads,
        writes: user,
        ..DeviceIo::default()
    };
    let device = Device {
        major: io.major,
        minor: io.minor,
        name: "sda".to_owned(),
        columns: vec![host; 17],
    };
    let time = state.disk_times.entry((io.major, io.minor)).or_default();
    time.advance(now_nsec / 1_000_000, &device, &io);
    match &mut state.load {
        Some(kept) => kept.advance(throttled % 1000, now_nsec),
        None => state.load = Some(KeptLoad::new(reads % 1000, 0, now_nsec)),
    }
    let mut events = VmEvents::default();
    events.set("pgfault", user);
    events.set("pgpgin", reads);
    state.vm_counters.advance(&events);
    state.io = vec![io];
    state.cpus_shown = shown;
    state.memory = Memory {
        limit_bytes: Limit::Value(host),
        usage_bytes: user,
        stat: MemoryStat {
            anon: Some(system),
            ..MemoryStat::default()
        },
        swap: (host % 2 == 0).then_some(Swap {
            limit_bytes: Limit::Max,
            usage_bytes: nice,
        }),
        hugetlb: vec![
            Hugetlb {
                page_kb: 2048,
                limit_bytes: Limit::Max,
                usage_bytes: reads,
            };
            2
        ],
    };
}

fn figures() -> impl Strategy<Value = [u64; 6]> {
    prop_oneof![
        prop::array::uniform6(0..1_u64 << 40),
        prop::array::uniform6(any::<u64>())
    ]
}

proptest! {
    #[test]
    fn a_state_is_the_same_after_it_was_stored(rounds in vec(figures(), 0..5)) {
        let mut state = State::new(5);
        for (round, figures) in (1..).zip(&rounds) {
            advance(&mut state, round * 1_000_000_000, figures);
        }
        let bytes = stored(&state);
        prop_assert_eq!(State::restore(&mut bytes.as_slice()), Some(state));
    }

    #[test]
    fn a_state_that_is_cut_is_none_but_where_later_fields_begin(
        rounds in vec(figures(), 1..3),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut state = State::new(5);
        rounds.iter().for_each(|figures| advance(&mut state, 1 << 33, figures));
        let bytes = stored(&state);
        let cut = cut.index(bytes.len());
        let mut later = Vec::new();
        state.cpus_away.store(&mut later);
        let cpus_away = bytes.len() - later.len();
        state.highest_pid.store(&mut later);
        let highest_pid = bytes.len() - later.len();
        state.vm_counters.store(&mut later);
        if ![bytes.len() - later.len(), highest_pid, cpus_away].contains(&cut) {
            prop_assert_eq!(State::restore(&mut &bytes[..cut]), None);
        }
    }

    #[test]
    fn any_bytes_make_a_state_that_can_be_advanced_or_none(
        rounds in vec(figures(), 0..3),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 0..20),
        next in figures(),
    ) {
        let mut state = State::new(5);
        rounds.iter().for_each(|figures| advance(&mut state, 1 << 33, figures));
        let mut bytes = stored(&state);
        for (place, byte) in damage {
            *place.get_mut(&mut bytes) = byte;
        }
        if let Some(mut state) = State::restore(&mut bytes.as_slice()) {
            advance(&mut state, 1 << 34, &next);
            stored(&state);
        }
    }

    #[test]
    fn garbage_makes_a_state_that_can_be_advanced_or_none(
        bytes in vec(prop_oneof![Just(0), Just(255), any::<u8>()], 0..2_000),
        next in figures(),
    ) {
        if let Some(mut state) = State::restore(&mut bytes.as_slice()) {
            advance(&mut state, 1 << 34, &next);
        }
    }
}

#[test]
fn a_later_version_may_append_to_the_record() {
    let mut state = State::new(5);
    advance(&mut state, 1 << 33, &[1, 2, 3, 4, 5, 6]);
    let mut bytes = stored(&state);
    bytes.extend([1, 2, 3]);
    assert_eq!(State::restore(&mut bytes.as_slice()), Some(state));
}

/// The layout of version 1 as it was released first: without counters of memory management.
#[test]
fn a_record_of_an_earlier_release_is_understood() {
    let mut state = State::new(5);
    advance(&mut state, 1 << 33, &[2, 2, 2, 2, 2, 2]);
    let bytes = stored(&state);
    let mut restored = State::restore(&mut &bytes[..853]).expect("an older record");
    assert_eq!(restored.vm_counters, VmCounters::default());
    assert_eq!((&restored.cpu, &restored.io), (&state.cpu, &state.io));
    // The counters begin where those of the cgroup stand, as they do at a first read.
    advance(&mut restored, 1 << 34, &[2, 2, 2, 2, 2, 2]);
    assert_eq!(restored.vm_counters.get("pgfault"), 2);
}

/// A record that is shorter or longer than those of the same version before is misread by
/// the servers on either side of an upgrade, but for what is added at its end.
#[test]
fn a_record_of_another_layout_has_another_version() {
    let mut state = State::new(5);
    advance(&mut state, 1 << 33, &[2, 2, 2, 2, 2, 2]);
    let (vm_counters, highest_pid, cpus_away) = (8 + 51 * 16, 8, 8);
    let length = 853 + vm_counters + highest_pid + cpus_away;
    assert_eq!((VERSION, stored(&state).len()), (1, length));
}

#[test]
fn time_without_a_server_counts_for_the_load() {
    let mut kept = KeptLoad::new(0, 0, PERIOD_NSEC);
    assert!(!kept.is_late(2 * PERIOD_NSEC));
    assert!(kept.is_late(13 * PERIOD_NSEC));
    kept.advance(3, 13 * PERIOD_NSEC);
    assert_eq!(
        kept.read(13 * PERIOD_NSEC),
        Load::seeded(3, 12 * PERIOD_NSEC)
    );
    assert!(!kept.is_unused(100 * PERIOD_NSEC));
    assert!(kept.is_unused(1000 * PERIOD_NSEC));
}

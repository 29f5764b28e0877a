use super::*;
use crate::cgroup::Limit;
use crate::cgroup::account::{Memory, MemoryStat, Swap};
use crate::cgroup::vm_events::VmEvents;
use crate::parse::keyed;
use crate::parse::meminfo::MemInfo;
use crate::view::swaps::SwapView;

const MIB: u64 = 1 << 20;

fn memory() -> Memory {
    Memory {
        limit_bytes: Limit::Value(50 * MIB),
        usage_bytes: 20 * MIB,
        stat: MemoryStat {
            file: Some(8 * MIB),
            swapcached: Some(MIB),
            file_dirty: Some(2 * MIB),
            file_writeback: Some(MIB),
            anon: Some(10 * MIB),
            anon_thp: Some(4 * MIB),
            kernel_stack: Some(64 << 10),
            ..MemoryStat::default()
        },
        swap: Some(Swap {
            limit_bytes: Limit::Value(50 * MIB),
            usage_bytes: 5 * MIB,
        }),
        hugetlb: Vec::new(),
    }
}

fn counters() -> VmCounters {
    let mut events = VmEvents::default();
    for (name, value) in [
        ("pgfault", 9),
        ("pswpin", 7),
        ("zswpin", 6),
        ("oom_kill", 1),
    ] {
        events.set(name, value);
    }
    let mut counters = VmCounters::default();
    counters.advance(&events);
    counters
}

/// The value of a line, in a file that has just this one, changed by `change`.
fn value(name: &str, change: impl Fn(&mut Input<'_>)) -> u64 {
    let host = MemInfo::parse("MemTotal: 4000000 kB\nSwapTotal: 500000 kB\n");
    let (memory, counters) = (memory(), counters());
    let names = [name.to_owned()];
    let mut input = Input {
        names: &names,
        memory: meminfo::Input {
            host: &host,
            memory: &memory,
            swap: SwapView::new(500_000, memory.swap),
            hide_zswap: false,
        },
        counters: &counters,
        page_kb: 4,
        huge_page_kb: 2048,
        hide_swap: false,
    };
    change(&mut input);
    let mut out = Vec::new();
    render(&input, &mut out);
    let text = String::from_utf8(out).unwrap();
    keyed::flat_value(&text, name).unwrap()
}

#[test]
fn sizes_are_those_of_meminfo_in_pages() {
    for (name, bytes) in [
        ("nr_free_pages", 30 * MIB),
        ("nr_file_pages", 9 * MIB),
        ("nr_zone_write_pending", 3 * MIB),
        ("nr_anon_pages", 10 * MIB),
        ("nr_swapcached", MIB),
    ] {
        assert_eq!(value(name, |_| ()), bytes / 4096, "{name}");
        assert_eq!(
            value(name, |input| input.page_kb = 64),
            bytes / 65536,
            "{name}"
        );
    }
    assert_eq!(value("nr_kernel_stack", |_| ()), 64);
}

#[test]
fn huge_pages_are_counted_in_their_own_size() {
    assert_eq!(value("nr_anon_transparent_hugepages", |_| ()), 2);
    let without = |input: &mut Input<'_>| input.huge_page_kb = 0;
    assert_eq!(value("nr_anon_transparent_hugepages", without), 0);
}

#[test]
fn counters_are_the_containers_and_unknown_lines_are_zero() {
    assert_eq!(
        (value("pgfault", |_| ()), value("oom_kill", |_| ())),
        (9, 1)
    );
    assert_eq!(value("pgalloc_normal", |_| ()), 0);
    assert_eq!(value("nr_of_a_newer_kernel", |_| ()), 0);
}

#[test]
fn swapping_is_hidden_together_with_swap() {
    assert_eq!((value("pswpin", |_| ()), value("zswpin", |_| ())), (7, 6));
    assert_eq!(value("pswpin", |input| input.hide_swap = true), 0);
    assert_eq!(value("zswpin", |input| input.memory.hide_zswap = true), 0);
}

#[test]
fn a_host_without_the_file_gives_no_lines() {
    let host = MemInfo::default();
    let memory = memory();
    let input = Input {
        names: &[],
        memory: meminfo::Input {
            host: &host,
            memory: &memory,
            swap: SwapView::new(0, None),
            hide_zswap: false,
        },
        counters: &VmCounters::default(),
        page_kb: 4,
        huge_page_kb: 0,
        hide_swap: false,
    };
    let mut out = Vec::new();
    render(&input, &mut out);
    assert!(out.is_empty());
}

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::cgroup::Limit;
use crate::cgroup::account::{Hugetlb, MemoryStat, Swap};

const HOST_6_18: &str = include_str!("../../../tests/fixtures/views/meminfo/host-6.18");
const HOST_3_10: &str = include_str!("../../../tests/fixtures/views/meminfo/host-3.10");

const MIB: u64 = 1024 * 1024;

fn rendered(host: &MemInfo, memory: &Memory, hide_zswap: bool) -> String {
    let mut out = Vec::new();
    let host_swap_kb = host.get("SwapTotal").unwrap_or(0);
    let input = Input {
        host,
        memory,
        swap: SwapView::new(host_swap_kb, memory.swap),
        hide_zswap,
    };
    render(&input, &mut out);
    String::from_utf8(out).unwrap()
}

fn values(host: &str, memory: &Memory) -> HashMap<String, u64> {
    let text = rendered(&MemInfo::parse(host), memory, false);
    let lines = MemInfo::parse(&text).lines;
    lines
        .into_iter()
        .map(|line| (line.key, line.value))
        .collect()
}

/// A container on cgroup v2 with 512 MiB of memory and 100 MiB of swap.
fn on_v2() -> Memory {
    Memory {
        limit_bytes: Limit::Value(512 * MIB),
        usage_bytes: 300 * MIB,
        stat: MemoryStat {
            anon: Some(150 * MIB),
            file: Some(120 * MIB),
            kernel: Some(20 * MIB),
            kernel_stack: Some(MIB / 2),
            pagetables: Some(3 * MIB),
            sec_pagetables: Some(0),
            percpu: Some(MIB / 4),
            sock: Some(4096),
            vmalloc: Some(MIB / 8),
            shmem: Some(30 * MIB),
            zswap: Some(2 * MIB),
            zswapped: Some(6 * MIB),
            file_mapped: Some(40 * MIB),
            file_dirty: Some(5 * MIB),
            file_writeback: Some(MIB),
            swapcached: Some(MIB),
            anon_thp: Some(64 * MIB),
            file_thp: Some(4 * MIB),
            shmem_thp: Some(2 * MIB),
            inactive_anon: Some(100 * MIB),
            active_anon: Some(72 * MIB),
            inactive_file: Some(60 * MIB),
            active_file: Some(30 * MIB),
            unevictable: Some(8 * MIB),
            slab_reclaimable: Some(10 * MIB),
            slab_unreclaimable: Some(5 * MIB),
            slab: Some(15 * MIB),
            pgfault: Some(1),
            pgmajfault: Some(1),
        },
        swap: Some(Swap {
            limit_bytes: Limit::Value(100 * MIB),
            usage_bytes: 12 * MIB,
        }),
        hugetlb: vec![
            Hugetlb {
                page_kb: 2048,
                limit_bytes: Limit::Value(20 * MIB),
                usage_bytes: 4 * MIB,
            },
            Hugetlb {
                page_kb: 1_048_576,
                limit_bytes: Limit::Max,
                usage_bytes: 1024 * MIB,
            },
        ],
    }
}

/// A container on cgroup v1 with 50 MiB of memory, no swap accounting.
fn on_v1() -> Memory {
    Memory {
        limit_bytes: Limit::Value(50 * MIB),
        usage_bytes: 20 * MIB,
        stat: MemoryStat {
            anon: Some(8 * MIB),
            file: Some(11 * MIB),
            shmem: Some(MIB),
            file_mapped: Some(2 * MIB),
            file_dirty: Some(12_288),
            file_writeback: Some(0),
            anon_thp: Some(2 * MIB),
            inactive_anon: Some(0),
            active_anon: Some(9 * MIB),
            inactive_file: Some(6 * MIB),
            active_file: Some(4 * MIB),
            unevictable: Some(0),
            ..MemoryStat::default()
        },
        ..Memory::default()
    }
}

#[test]
fn renders_a_container_on_v2() {
    assert_eq!(
        rendered(&MemInfo::parse(HOST_6_18), &on_v2(), false),
        include_str!("../../../tests/fixtures/views/meminfo/container-6.18-v2")
    );
}

#[test]
fn renders_a_container_on_v1() {
    assert_eq!(
        rendered(&MemInfo::parse(HOST_3_10), &on_v1(), false),
        include_str!("../../../tests/fixtures/views/meminfo/container-3.10-v1")
    );
}

#[test]
fn without_a_limit_the_hosts_total_and_available_are_the_ceiling() {
    let memory = Memory {
        usage_bytes: 100 * MIB,
        ..Memory::default()
    };
    let values = values(HOST_3_10, &memory);
    assert_eq!(values["MemTotal"], 3_880_524);
    assert_eq!(values["MemFree"], 3_880_524 - 102_400);
    assert_eq!(values["MemAvailable"], 2_903_868);
}

#[test]
fn usage_above_a_lowered_limit_is_no_free_memory_rather_than_16_eib() {
    let memory = Memory {
        limit_bytes: Limit::Value(20 * MIB),
        ..on_v2()
    };
    let values = values(HOST_6_18, &memory);
    assert_eq!(values["MemFree"], 0);
    assert!(values["MemAvailable"] <= 20 * 1024);
    assert!(values["AnonPages"] <= 20 * 1024);
}

#[test]
fn a_stat_that_lags_behind_the_usage_does_not_exceed_it() {
    let memory = Memory {
        usage_bytes: 60 * MIB,
        ..on_v2()
    };
    let values = values(HOST_6_18, &memory);
    assert_eq!(
        values["MemFree"] + values["Cached"] + values["SReclaimable"],
        512 * 1024
    );
}

#[test]
fn commit_limit_follows_the_kernels_formula() {
    let values = values(HOST_6_18, &on_v2());
    // vm.overcommit_ratio is 50 there; huge pages are not committable.
    let ratio = (14_439_196.0 - 2_097_148.0) / (24_684_096.0 - 32_768.0);
    let expected = 512.0 * 1024.0 * ratio + 100.0 * 1024.0;
    #[allow(clippy::cast_precision_loss, reason = "a small number")]
    let shown = values["CommitLimit"] as f64;
    assert!((shown - expected).abs() < 2.0, "{shown} {expected}");
}

#[test]
fn zswap_can_be_hidden() {
    let text = rendered(&MemInfo::parse(HOST_6_18), &on_v2(), true);
    let shown = MemInfo::parse(&text);
    assert_eq!(
        (shown.get("Zswap"), shown.get("Zswapped")),
        (Some(0), Some(0))
    );
}

#[test]
fn huge_pages_without_a_limit_are_the_hosts_without_surplus() {
    let host = HOST_6_18.replace("HugePages_Surp:        0", "HugePages_Surp:        6");
    let memory = Memory {
        hugetlb: vec![Hugetlb {
            page_kb: 2048,
            limit_bytes: Limit::Max,
            usage_bytes: 4 * MIB,
        }],
        ..Memory::default()
    };
    let values = values(&host, &memory);
    assert_eq!(
        (values["HugePages_Total"], values["HugePages_Free"]),
        (10, 8)
    );
    assert_eq!(values["Hugetlb"], 20_480);
}

#[test]
fn a_line_of_a_newer_kernel_stays_but_tells_nothing_of_the_host() {
    let host = format!("{HOST_6_18}NewPages:        1234567 kB\nNewCount:     77\n");
    let text = rendered(&MemInfo::parse(&host), &on_v2(), false);
    assert!(text.ends_with("NewPages:              0 kB\nNewCount:              0\n"));
}

#[test]
fn the_hosts_own_file_is_reproduced_byte_for_byte_but_for_the_numbers() {
    let shape = |text: &str| text.replace(|c: char| c.is_ascii_digit(), " ");
    let text = rendered(&MemInfo::parse(HOST_6_18), &on_v2(), false);
    for (own, hosts) in text.lines().zip(HOST_6_18.lines()) {
        let (own_key, hosts_key) = (own.split(':').next(), hosts.split(':').next());
        assert_eq!(own_key, hosts_key);
        assert_eq!(own.len(), hosts.len(), "{own}");
        assert_eq!(shape(own).trim_end(), shape(hosts).trim_end());
    }
    assert!(text.len() <= 2047, "monit reads no more");
}

/// Keys of which the container's value is not bounded by its memory.
fn is_beyond_memory(key: &str) -> bool {
    key.starts_with("Swap")
        || key.starts_with("Vmalloc")
        || key.starts_with("Commit")
        || key.starts_with("Huge")
        || key == "Zswapped"
}

fn bytes() -> impl Strategy<Value = u64> {
    prop_oneof![4 => 0..1_u64 << 32, 2 => 0..1_u64 << 20, 1 => Just(0), 1 => Just(u64::MAX)]
}

fn limit() -> impl Strategy<Value = Limit> {
    prop_oneof![Just(Limit::Max), bytes().prop_map(Limit::Value)]
}

fn stat() -> impl Strategy<Value = MemoryStat> {
    proptest::collection::vec(proptest::option::of(bytes()), 22).prop_map(|values| {
        let mut values = values.into_iter();
        let mut next = || values.next().flatten();
        MemoryStat {
            anon: next(),
            file: next(),
            kernel_stack: next(),
            pagetables: next(),
            sec_pagetables: next(),
            percpu: next(),
            vmalloc: next(),
            shmem: next(),
            zswap: next(),
            zswapped: next(),
            file_mapped: next(),
            file_dirty: next(),
            file_writeback: next(),
            swapcached: next(),
            anon_thp: next(),
            inactive_anon: next(),
            active_anon: next(),
            inactive_file: next(),
            active_file: next(),
            unevictable: next(),
            slab_reclaimable: next(),
            slab_unreclaimable: next(),
            ..MemoryStat::default()
        }
    })
}

fn memory() -> impl Strategy<Value = Memory> {
    let swap = (limit(), bytes()).prop_map(|(limit_bytes, usage_bytes)| Swap {
        limit_bytes,
        usage_bytes,
    });
    let hugetlb = (
        prop_oneof![Just(2048), Just(0), Just(u64::MAX)],
        limit(),
        bytes(),
    )
        .prop_map(|(page_kb, limit_bytes, usage_bytes)| Hugetlb {
            page_kb,
            limit_bytes,
            usage_bytes,
        });
    (
        limit(),
        bytes(),
        stat(),
        proptest::option::of(swap),
        proptest::collection::vec(hugetlb, 0..3),
    )
        .prop_map(|(limit_bytes, usage_bytes, stat, swap, hugetlb)| Memory {
            limit_bytes,
            usage_bytes,
            stat,
            swap,
            hugetlb,
        })
}

/// Any of the known lines with any values, always with the total.
fn host() -> impl Strategy<Value = MemInfo> {
    let value = prop_oneof![6 => 0..1_u64 << 30, 1 => Just(0), 1 => Just(u64::MAX)];
    proptest::collection::vec(proptest::option::weighted(0.8, value), ROWS.len()).prop_map(
        |values| MemInfo {
            lines: ROWS
                .iter()
                .zip(values)
                .filter(|(row, value)| row.key == "MemTotal" || value.is_some())
                .map(|(row, value)| Line {
                    key: row.key.to_owned(),
                    value: value.unwrap_or(1 << 24),
                    in_kb: !row.key.starts_with("HugePages_"),
                })
                .collect(),
        },
    )
}

proptest! {
    #[test]
    fn the_lines_agree_with_each_other(host in host(), memory in memory()) {
        let text = rendered(&host, &memory, false);
        let shown = MemInfo::parse(&text);
        prop_assert_eq!(shown.lines.len(), host.lines.len());
        let get = |key| shown.get(key).unwrap_or(0);
        let has = |key| shown.get(key).is_some();
        let total = get("MemTotal");
        let used = (memory.usage_bytes / 1024).min(total);

        prop_assert!(total <= host.get("MemTotal").unwrap_or(0));
        prop_assert!(total <= memory.limit_bytes.or_at_most(u64::MAX) / 1024, "M16");
        if has("MemFree") {
            prop_assert_eq!(total - get("MemFree"), used, "M03, M17");
        }
        prop_assert!(get("MemAvailable") <= total, "M04");
        if let Some(host_available) = host.get("MemAvailable") {
            let floor = get("MemFree").min(host_available);
            prop_assert!(get("MemAvailable") >= floor, "M05");
        }
        let reclaimable = get("Buffers") + get("Cached") + get("SReclaimable");
        prop_assert!(get("MemFree") + reclaimable <= total, "M06");
        for state in ["Active", "Inactive"] {
            let parts = [format!("{state}(anon)"), format!("{state}(file)")];
            let parts: Option<Vec<u64>> = parts.iter().map(|key| shown.get(key)).collect();
            if let (Some(sum), Some(parts)) = (shown.get(state), parts) {
                prop_assert_eq!(sum, parts.iter().sum::<u64>(), "M07");
            }
        }
        if has("Slab") && has("SReclaimable") && has("SUnreclaim") {
            prop_assert_eq!(get("Slab"), get("SReclaimable") + get("SUnreclaim"), "M08");
        }
        if has("KReclaimable") {
            prop_assert!(get("SReclaimable") <= get("KReclaimable"), "M09");
        }
        if has("Cached") {
            prop_assert!(get("Shmem") <= get("Cached"), "M10");
        }
        for line in shown.lines.iter().filter(|line| !is_beyond_memory(&line.key)) {
            prop_assert!(line.value <= total, "M11: {} of {}", line.key, total);
        }
        if has("SwapTotal") {
            prop_assert!(get("SwapFree") <= get("SwapTotal"), "M12");
            let limit = get("CommitLimit").max(get("Committed_AS"));
            prop_assert!(limit <= total + get("SwapTotal"), "M14");
            if has("SwapFree") {
                let swap_used = get("SwapTotal") - get("SwapFree");
                prop_assert!(get("SwapCached").max(get("Zswapped")) <= swap_used);
            }
        }
    }

    #[test]
    fn what_the_host_does_with_its_memory_never_shows(memory in memory(), noise in any::<u64>()) {
        let mut host = MemInfo::parse(HOST_6_18);
        let before = rendered(&host, &memory, false);
        let settings = [
            "MemTotal", "MemAvailable", "SwapTotal", "CommitLimit", "VmallocTotal",
            "HugePages_Total", "HugePages_Surp", "Hugepagesize", "Hugetlb",
        ];
        for line in host.lines.iter_mut().filter(|line| !settings.contains(&&*line.key)) {
            line.value = noise;
        }
        prop_assert_eq!(rendered(&host, &memory, false), before);
    }
}

#[test]
fn a_host_file_without_lines_gives_an_empty_file() {
    assert_eq!(rendered(&MemInfo::default(), &on_v2(), false), "");
}

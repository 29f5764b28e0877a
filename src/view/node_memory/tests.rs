use proptest::prelude::*;

use super::*;

const HOST: [&str; 2] = [
    include_str!("../../../tests/fixtures/views/node/meminfo-node0"),
    include_str!("../../../tests/fixtures/views/node/meminfo-node1"),
];

fn host() -> Vec<NumaNode> {
    (0..)
        .zip(HOST)
        .map(|(id, text)| NumaNode {
            id,
            cpus: CpuSet::new(),
            meminfo: MemInfo::parse_node(text),
        })
        .collect()
}

fn own() -> MemInfo {
    MemInfo::parse(include_str!(
        "../../../tests/fixtures/views/node/meminfo-own"
    ))
}

const STAT: &str = "anon N0=20971520 N1=10485760
file N0=31457280 N1=104857600
kernel_stack N0=81920 N1=0
pagetables N0=163840 N1=0
shmem N0=0 N1=4194304
file_mapped N0=4194304 N1=0
inactive_anon N0=0 N1=4194304
active_anon N0=20971520 N1=6291456
inactive_file N0=31457280 N1=100663296
active_file N0=0 N1=0
slab_reclaimable N0=2097152 N1=0
slab_unreclaimable N0=0 N1=1048576
workingset_refault_file N0=12 N1=3
";

/// What the nodes show to a container with memory on these.
fn shown(memory: &str, stat: &str, name: &str, host_text: [&str; 2]) -> [String; 2] {
    let host = host();
    let input = Input {
        host: &host,
        memory: &CpuSet::parse("memory", memory).unwrap(),
        own: &own(),
        stat: &NumaStat::parse(stat, ""),
        hugetlb: &[Hugetlb {
            page_kb: 1_048_576,
            usage_bytes: 3 << 30,
            ..Hugetlb::default()
        }],
        page_kb: 4,
        huge_page_kb: 2048,
    };
    [0, 1].map(|node| render(&input, node, name, host_text[node]))
}

#[test]
fn shows_what_lies_on_each_node() {
    let [first, second] = shown("0-1", STAT, "meminfo", HOST);
    let expected = include_str!("../../../tests/fixtures/views/node/meminfo-node0-shown");
    assert_eq!(first, expected);
    let expected = include_str!("../../../tests/fixtures/views/node/meminfo-node1-shown");
    assert_eq!(second, expected);
}

#[test]
fn the_sums_are_the_lines_of_proc_meminfo() {
    for stat in [STAT, "", "total N0=7 N1=900000000\n", "anon N1=1\n"] {
        for memory in ["0-1", "0", "1"] {
            let nodes = shown(memory, stat, "meminfo", HOST).map(|text| MemInfo::parse_node(&text));
            let own = own();
            for key in [
                "MemTotal",
                "MemFree",
                "Active(anon)",
                "Inactive(file)",
                "AnonPages",
                "Mapped",
                "Slab",
                "Active",
                "KernelStack",
                "HugePages_Total",
                "HugePages_Free",
            ] {
                let sum: u64 = nodes.iter().map(|node| node.get(key).unwrap()).sum();
                assert_eq!(Some(sum), own.get(key), "{key} on {memory} by {stat:?}");
            }
            let cached: u64 = nodes
                .iter()
                .map(|node| node.get("FilePages").unwrap())
                .sum();
            assert_eq!(Some(cached), own.get("Cached"));
            for node in nodes {
                let value = |key| node.get(key).unwrap();
                assert_eq!(value("MemTotal"), value("MemFree") + value("MemUsed"));
                assert!(value("FilePages") + value("SReclaimable") <= value("MemUsed"));
            }
        }
    }
}

#[test]
fn a_node_without_memory_for_the_container_is_empty() {
    let [_, other] = shown("0", STAT, "meminfo", HOST);
    assert!(
        other.contains("Node 1 MemTotal:              0 kB\n"),
        "{other}"
    );
    let values = MemInfo::parse_node(&other).lines;
    assert!(values.iter().all(|line| line.value == 0), "{other}");
}

#[test]
fn vmstat_counts_the_same_in_pages() {
    let host = "nr_free_pages 5\nnr_inactive_file 7\nnr_kernel_stack 9\nnuma_hit 3\nnr_file_hugepages 4\nworkingset_refault_file 9\nnr_dirtied 4\n";
    let [first, second] = shown("0-1", STAT, "vmstat", [host, host]);
    let meminfo = shown("0-1", STAT, "meminfo", HOST).map(|text| MemInfo::parse_node(&text));
    let free_pages = meminfo[0].get("MemFree").unwrap() / 4;
    assert_eq!(
        first,
        format!(
            "nr_free_pages {free_pages}\nnr_inactive_file 7680\nnr_kernel_stack 80\nnuma_hit 0\nnr_file_hugepages 0\nworkingset_refault_file 12\nnr_dirtied 0\n"
        )
    );
    assert!(second.contains("workingset_refault_file 3\n"), "{second}");
}

#[test]
fn pools_of_huge_pages_agree_with_proc_meminfo() {
    let all = |name: &str| {
        let texts = shown("0-1", STAT, name, HOST);
        texts.map(|text| text.trim_end().parse::<u64>().unwrap())
    };
    // The host has them all on its second node.
    assert_eq!(all("hugepages/hugepages-2048kB/nr_hugepages"), [0, 8]);
    assert_eq!(all("hugepages/hugepages-2048kB/free_hugepages"), [0, 6]);
    assert_eq!(all("hugepages/hugepages-2048kB/surplus_hugepages"), [0, 0]);
    let used: u64 = all("hugepages/hugepages-1048576kB/nr_hugepages")
        .iter()
        .sum();
    assert_eq!(used, 3);
}

proptest! {
    #[test]
    fn parts_make_up_the_whole_and_stay_below_their_caps(
        nodes in prop::collection::vec((any::<u64>(), 0_u64..1 << 40), 1..9),
        permille in 0_u64..=1000,
    ) {
        let (weights, caps): (Vec<u64>, Vec<u64>) = nodes.into_iter().unzip();
        let all: u64 = caps.iter().sum();
        let value = all / 1000 * permille;
        let parts = divide(value, &weights, &caps);
        prop_assert_eq!(parts.iter().sum::<u64>(), value);
        prop_assert!(parts.iter().zip(&caps).all(|(part, cap)| part <= cap));
    }
}

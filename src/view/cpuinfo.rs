//! `/proc/cpuinfo`: the records of the CPUs shown, under their physical ids.

use super::{put, put_u64};
use crate::parse::cpu_list::CpuSet;
use crate::parse::cpuinfo::{Count, CpuInfo, Package, Segment};

/// Appends the host's file narrowed to `shown`.
///
/// What is not a CPU's stays, and so does every line of a record that is shown,
/// but for the numbers that would count hidden CPUs: `siblings` and `cpu cores`
/// where a part of the package is hidden, and the number of CPUs that s390 and
/// SPARC give. Of a file that has none of the CPUs shown nothing is taken: it has a form
/// that is not known.
pub fn render(host: &CpuInfo, shown: &CpuSet, out: &mut Vec<u8>) {
    let all_shown = shown;
    let shown = host.cpus().intersection(all_shown);
    if shown.is_empty() {
        for cpu in all_shown.iter() {
            put(out, "processor\t: ");
            put_u64(out, cpu as u64);
            put(out, "\n\n");
        }
        return;
    }
    if shown == *host.cpus() {
        out.extend_from_slice(host.text());
        return;
    }
    let narrowed: Vec<Narrowed> = host
        .packages()
        .iter()
        .filter_map(|package| Narrowed::new(package, &shown))
        .collect();
    for segment in host.segments() {
        if segment.cpu.is_some_and(|cpu| !shown.contains(cpu)) {
            continue;
        }
        match count(segment, &shown, &narrowed) {
            Some(count) => put_u64(out, count as u64),
            None => out.extend_from_slice(host.segment_text(segment)),
        }
    }
}

/// The number that takes the place of the segment, if it has to change.
fn count(segment: &Segment, shown: &CpuSet, narrowed: &[Narrowed]) -> Option<usize> {
    let package = || {
        let cpu = segment.cpu?;
        narrowed
            .iter()
            .find(|narrowed| narrowed.package.cpus.contains(cpu))
    };
    match segment.count? {
        Count::Processors => Some(shown.len()),
        Count::Siblings => package().map(|package| package.siblings),
        Count::Cores => package().map(|package| package.cores),
    }
}

/// What is left of a package of which only a part is shown.
struct Narrowed<'a> {
    package: &'a Package,
    siblings: usize,
    cores: usize,
}

impl<'a> Narrowed<'a> {
    /// `None` for a package that is shown whole or not at all.
    fn new(package: &'a Package, shown: &CpuSet) -> Option<Self> {
        let siblings = package.cpus.intersection_len(shown);
        let all = package.cpus.len();
        if siblings == 0 || siblings == all {
            return None;
        }
        let cores = if package.cores.is_empty() {
            // Assume that each core has equally many threads.
            let cpu_cores = package.cpu_cores.unwrap_or(all);
            siblings.saturating_mul(cpu_cores).div_ceil(all)
        } else {
            let some_shown = |core: &&CpuSet| core.intersection_len(shown) > 0;
            package.cores.iter().filter(some_shown).count()
        };
        Some(Self {
            package,
            siblings,
            cores,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn set(list: &str) -> CpuSet {
        CpuSet::parse("shown", list).unwrap()
    }

    fn narrowed(host: &[u8], shown: &str) -> String {
        let mut out = Vec::new();
        render(&CpuInfo::parse(host.to_vec()), &set(shown), &mut out);
        String::from_utf8(out).unwrap()
    }

    /// A host's file and what is to be seen of it, for the CPUs in the name.
    macro_rules! fixture {
        ($arch:literal, $shown:literal) => {{
            let host = include_bytes!(concat!("../../tests/fixtures/cpu-", $arch, "/cpuinfo"));
            let expected = include_str!(concat!(
                "../../tests/fixtures/cpu-",
                $arch,
                "/cpuinfo.",
                $shown
            ));
            assert_eq!(narrowed(host, $shown), expected);
            assert_eq!(narrowed(host, "0-1023").as_bytes(), host);
        }};
    }

    #[test]
    fn x86_counts_siblings_and_cores_in_each_package() {
        fixture!("x86", "1,3,7");
    }

    #[test]
    fn arm_keeps_the_board() {
        fixture!("arm", "2");
        fixture!("arm-old", "1");
    }

    #[test]
    fn arm64_before_3_19_keeps_what_follows_the_list_of_processors() {
        fixture!("arm64-old", "1-2");
        fixture!("arm64-old", "3");
    }

    #[test]
    fn power_keeps_the_platform() {
        fixture!("power", "1,8");
    }

    #[test]
    fn s390x_counts_processors_in_its_header() {
        fixture!("s390x", "0-1,6");
    }

    #[test]
    fn riscv_keeps_the_harts() {
        fixture!("riscv", "0,3");
    }

    #[test]
    fn loongarch_keeps_the_system_type() {
        fixture!("loongarch", "1-2");
    }

    #[test]
    fn sparc64_counts_its_cpus() {
        fixture!("sparc64", "4,13");
    }

    #[test]
    fn ia64_records_go_whole() {
        fixture!("ia64", "1");
    }

    #[test]
    fn a_cpu_without_a_record_adds_nothing() {
        let host = b"processor : 0\n\nprocessor : 2\n\n";
        assert_eq!(narrowed(host, "1-2"), "processor : 2\n\n");
    }

    #[test]
    fn a_file_of_an_unknown_form_is_never_the_hosts() {
        for host in ["", "CPUs: 8\n", "processor = 0\nprocessor = 1\n"] {
            let seen = narrowed(host.as_bytes(), "1,3");
            assert_eq!(seen, "processor\t: 1\n\nprocessor\t: 3\n\n", "{host:?}");
        }
    }

    #[test]
    fn there_is_always_a_record_for_a_cpu_that_is_shown() {
        let host = b"processor : 0\n\nprocessor : 2\n\n";
        assert_eq!(narrowed(host, "1"), "processor\t: 1\n\n");
    }

    #[test]
    fn cores_are_in_proportion_where_their_ids_do_not_tell_them_apart() {
        let record = |cpu, siblings, cores| {
            let core = cpu % 2;
            format!(
                "processor : {cpu}\nphysical id : 0\nsiblings : {siblings}\ncore id : {core}\ncpu cores : {cores}\n\n"
            )
        };
        let host: String = (0..4).map(|cpu| record(cpu, 4, 4)).collect();
        let expected: String = [0, 2, 3].map(|cpu| record(cpu, 3, 3)).concat();
        assert_eq!(narrowed(host.as_bytes(), "0,2-3"), expected);
    }

    #[test]
    fn a_count_that_is_no_number_is_never_the_hosts() {
        let host = b"processor : 0\nsiblings : 0x2\n\nprocessor : 1\nsiblings : 0x2\n\n";
        assert_eq!(narrowed(host, "1"), "processor : 1\nsiblings : 1\n\n");
        let host = b"processor : 0\nsiblings :\n\nprocessor : 1\nsiblings :\n\n";
        assert_eq!(narrowed(host, "1"), "processor : 1\nsiblings :\n\n");
    }

    fn line() -> impl Strategy<Value = String> {
        prop_oneof![
            Just("\n".to_owned()),
            (0..9_u8).prop_map(|cpu| format!("processor\t: {cpu}\n")),
            (0..9_u8).prop_map(|cpu| format!("\ncpu number : {cpu}\nphysical id : 0\n")),
            (0..9_u8).prop_map(|cpu| format!("processor {cpu}: version = FF\n")),
            (0..9_u8).prop_map(|cpu| format!("Cpu{cpu}ClkTck : 0\n")),
            (0..9_u8).prop_map(|id| format!("core id : {id}\n")),
            (0..9_u8).prop_map(|n| format!("siblings : {n}\n")),
            (0..9_u8).prop_map(|n| format!("cpu cores : {n}\n")),
            (0..9_u8).prop_map(|n| format!("# processors : {n}\n")),
            "[ -~]{0,12}\n",
        ]
    }

    proptest! {
        #[test]
        fn lists_the_cpus_shown_and_no_others(
            lines in proptest::collection::vec(line(), 0..40),
            shown in "[0-9](,[0-9]){0,4}",
        ) {
            let host = CpuInfo::parse(lines.concat().into_bytes());
            let shown = set(&shown);
            let mut out = Vec::new();
            render(&host, &shown, &mut out);
            let seen = CpuInfo::parse(out);
            let with_records = host.cpus().intersection(&shown);
            let expected = if with_records.is_empty() { &shown } else { &with_records };
            prop_assert_eq!(seen.cpus(), expected);
        }

        #[test]
        fn any_bytes_come_back_whole_when_all_is_shown(tail in any::<Vec<u8>>()) {
            let host = [b"processor : 0\n".as_slice(), &tail].concat();
            let mut out = Vec::new();
            render(&CpuInfo::parse(host.clone()), &set("0-16383"), &mut out);
            prop_assert_eq!(out, host);
        }

        #[test]
        fn the_segments_are_the_text(lines in proptest::collection::vec(line(), 0..40)) {
            let host = CpuInfo::parse(lines.concat().into_bytes());
            let parts: Vec<u8> = host
                .segments()
                .iter()
                .flat_map(|segment| host.segment_text(segment).to_vec())
                .collect();
            prop_assert_eq!(parts, host.text());
        }
    }
}

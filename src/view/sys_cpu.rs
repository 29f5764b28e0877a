//! `/sys/devices/system/cpu`: the host's tree without the CPUs that are not
//! shown (kernel: Documentation/ABI/testing/sysfs-devices-system-cpu and
//! Documentation/admin-guide/pm/cpufreq.rst).
//!
//! Paths are relative to that directory, e.g. `cpu3/topology/core_id`.

use super::sysfs::{Notation, Seen, numbered, without_counts};
use crate::parse::cpu_list::CpuSet;

/// Files of the top directory that list some of the CPUs shown. `possible` and
/// `kernel_max` are none of them: they are no count of CPUs but a promise of the kernel's
/// to programs, which size by them what it fills for each of its CPUs.
const LISTS: [&str; 4] = ["aarch32_el0", "housekeeping", "isolated", "nohz_full"];

/// Files of a frequency policy that are CPU ids with blanks between them.
const POLICY_LISTS: [&str; 3] = ["affected_cpus", "freqdomain_cpus", "related_cpus"];

/// Whose a part of the tree is.
#[derive(Debug, PartialEq, Eq)]
enum Owner {
    Machine,
    Cpu(usize),
    Policy(usize),
}

/// Whether `path` is not there for a reader to whom `shown` are shown: what
/// belongs to another CPU, or to a frequency policy (`cpufreq/policyN`) none of
/// whose CPUs is shown.
///
/// `related_cpus` gives the CPUs in the file of that name for the number of a
/// policy, online or not; the number itself is only that of one of them. A policy
/// for which it gives nothing is hidden.
pub fn hides(
    path: &str,
    shown: &CpuSet,
    related_cpus: impl FnOnce(usize) -> Option<CpuSet>,
) -> bool {
    match owner(path) {
        Owner::Machine => false,
        Owner::Cpu(cpu) => !shown.contains(cpu),
        Owner::Policy(policy) => {
            related_cpus(policy).is_none_or(|cpus| cpus.intersection_len(shown) == 0)
        }
    }
}

/// Whether `path` is a directory that is there for some readers only, so that
/// its attributes must not be cached: `cpuN` or `cpufreq/policyN`. What is
/// below them is reached through them.
#[must_use]
pub fn depends_on_reader(path: &str) -> bool {
    match owner(path) {
        Owner::Machine => false,
        Owner::Cpu(_) => !path.contains('/'),
        Owner::Policy(_) => path.matches('/').count() == 1,
    }
}

/// Whether the file `path` counts what has been going on on the host: idle states
/// entered, frequencies taken, throttling.
#[must_use]
pub fn counts_activity(path: &str) -> bool {
    let parts: Vec<&str> = path.split('/').collect();
    match parts.as_slice() {
        [_, "cpuidle", _, name] | [_, "cpuidle", _, "s2idle", name] => {
            ["above", "below", "rejected", "time", "usage"].contains(name)
        }
        [_, "thermal_throttle", _]
        | [_, "acpi_cppc", "feedback_ctrs"]
        | ["cpufreq", _, "stats", _]
        | [_, "cpufreq", "stats", _] => true,
        // How long the whole machine, a CPU of s390, one of POWER rested and worked.
        ["cpuidle", name] => name.ends_with("_residency_us"),
        [
            _,
            "idle_count" | "idle_time_us" | "purr" | "spurr" | "idle_purr" | "idle_spurr",
        ] => true,
        [.., "power", name] => {
            name.starts_with("runtime_active_") || *name == "runtime_suspended_time"
        }
        _ => false,
    }
}

/// What is to be seen of the file `path`: nothing of the CPUs that are not shown, and
/// nothing of the host's activity, whose counters are zero.
///
/// The lists of CPUs that are there follow from `shown` alone, so that all files agree
/// while CPUs come and go. Other files that do not list CPUs are facts about the machine
/// and stay as they are.
#[must_use]
pub fn narrow<'a>(path: &str, content: &'a [u8], shown: &CpuSet) -> Seen<'a> {
    if counts_activity(path) {
        return Seen::own(without_counts(path, &String::from_utf8_lossy(content)));
    }
    let parts: Vec<&str> = path.split('/').collect();
    match parts.as_slice() {
        ["online" | "present" | "enabled"] => Seen::own(Notation::List.text(shown, content)),
        // Those that are present and not online; the others are no part of this machine.
        ["offline"] => Seen::own(Notation::List.text(&CpuSet::new(), content)),
        _ => match notation(&parts) {
            Some(notation) => {
                let own: CpuSet = match owner(path) {
                    Owner::Cpu(cpu) => CpuSet::from_iter([cpu]).intersection(shown),
                    Owner::Machine | Owner::Policy(_) => CpuSet::new(),
                };
                Seen::kept(notation, content, shown, &own)
            }
            None => Seen::host(content),
        },
    }
}

fn notation(parts: &[&str]) -> Option<Notation> {
    match parts {
        [name] if LISTS.contains(name) => Some(Notation::List),
        [_, "topology", name] if name.ends_with("_list") => Some(Notation::List),
        [_, "topology", name] if name.ends_with("_siblings") || name.ends_with("_cpus") => {
            Some(Notation::Mask)
        }
        [_, "cache", _, "shared_cpu_list"] => Some(Notation::List),
        [_, "cache", _, "shared_cpu_map"] => Some(Notation::Mask),
        // Kernels of the 3.x years have the files of a policy in its CPUs.
        ["cpufreq", _, name] | [_, "cpufreq", name] if POLICY_LISTS.contains(name) => {
            Some(Notation::Ids)
        }
        _ => None,
    }
}

fn owner(path: &str) -> Owner {
    let mut parts = path.split('/');
    let first = parts.next().unwrap_or_default();
    if let Some(cpu) = numbered(first, "cpu") {
        return Owner::Cpu(cpu);
    }
    let policy = parts.next().filter(|_| first == "cpufreq");
    policy
        .and_then(|name| numbered(name, "policy"))
        .map_or(Owner::Machine, Owner::Policy)
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;

    fn set(list: &str) -> CpuSet {
        CpuSet::parse("shown", list).unwrap()
    }

    /// Policies 0 and 3 of a machine with CPUs 0-2 and 3-6; nothing of others.
    fn related_cpus(policy: usize) -> Option<CpuSet> {
        match policy {
            0 => Some(set("0-2")),
            3 => Some(set("3-6")),
            _ => None,
        }
    }

    fn hidden(path: &str, shown: &str) -> bool {
        hides(path, &set(shown), related_cpus)
    }

    fn seen(path: &str, content: &str, shown: &str) -> String {
        let seen = narrow(path, content.as_bytes(), &set(shown));
        assert!(!seen.is_unknown, "{path}");
        String::from_utf8(seen.content.into_owned()).unwrap()
    }

    #[test]
    fn hides_other_cpus_and_all_below_them() {
        for path in [
            "cpu2",
            "cpu2/topology/core_id",
            "cpu12",
            "cpu99999999999999999999",
        ] {
            assert!(hidden(path, "1,3"), "{path}");
        }
        for path in [
            "cpu1",
            "cpu3/online",
            "cpu",
            "cpufreq",
            "cpuidle",
            "cpu1x",
            "cpux",
            "",
        ] {
            assert!(!hidden(path, "1,3"), "{path}");
        }
    }

    #[test]
    fn a_policy_goes_when_none_of_its_cpus_is_shown() {
        assert!(hidden("cpufreq/policy0", "4"));
        assert!(!hidden("cpufreq/policy3", "4"));
        assert!(!hidden("cpufreq/policy3/related_cpus", "4"));
        assert!(hidden("cpufreq/policy7/related_cpus", "4"));
        assert!(!hidden("cpufreq/boost", "4"));
        assert!(!hidden("cpufreq/ondemand/policy0", "4"));
        assert!(!hidden("policy0", "4"));
    }

    #[test]
    fn only_directories_of_cpus_and_policies_come_and_go() {
        for path in ["cpu0", "cpu12", "cpufreq/policy0"] {
            assert!(depends_on_reader(path), "{path}");
        }
        for path in [
            "online",
            "cpu0/online",
            "cpufreq",
            "cpufreq/policy0/boost",
            "cpuidle",
            "",
        ] {
            assert!(!depends_on_reader(path), "{path}");
        }
    }

    #[test]
    fn the_lists_of_the_top_directory_agree() {
        for (file, host, expected) in [
            ("online", "1-5,8-19\n", "3,8-9\n"),
            ("present", "0-19\n", "3,8-9\n"),
            ("enabled", "0-31\n", "3,8-9\n"),
            ("offline", "0,6-7,20-63\n", "\n"),
            ("isolated", "9-10\n", "9\n"),
            ("nohz_full", "10-11\n", "\n"),
            ("nohz_full", "   (null)\n", "   (null)\n"),
            ("aarch32_el0", "3,10\n", "3\n"),
        ] {
            assert_eq!(seen(file, host, "3,8-9"), expected, "{file}");
        }
    }

    #[test]
    fn what_the_kernel_has_room_for_stays_the_hosts() {
        for (file, host) in [("possible", "0-95\n"), ("kernel_max", "8191\n")] {
            assert_eq!(seen(file, host, "3"), host, "{file}");
        }
    }

    #[test]
    fn a_cpu_that_has_just_come_or_gone_leaves_no_list_empty() {
        // The file has been read after the CPUs shown were found out.
        assert_eq!(seen("online", "0,3\n", "1-2"), "1-2\n");
        assert_eq!(seen("offline", "1-2\n", "1-2"), "\n");
    }

    #[test]
    fn topology_and_caches_know_the_cpus_shown_only() {
        for (path, host, expected) in [
            ("cpu1/topology/thread_siblings_list", "1,5\n", "1\n"),
            ("cpu1/topology/thread_siblings", "22\n", "02\n"),
            (
                "cpu1/topology/package_cpus",
                "ff,ffffffff\n",
                "00,00000006\n",
            ),
            ("cpu1/topology/core_cpus_list", "0-39\n", "1-2\n"),
            (
                "cpu1/topology/drawer_siblings",
                "0000,000000fc\n",
                "0000,00000004\n",
            ),
            ("cpu1/cache/index3/shared_cpu_list", "0-3\n", "1-2\n"),
            (
                "cpu1/cache/index3/shared_cpu_map",
                "0000000f\n",
                "00000006\n",
            ),
        ] {
            assert_eq!(seen(path, host, "1-2"), expected, "{path}");
        }
    }

    #[test]
    fn a_policy_knows_the_cpus_shown_only() {
        for path in [
            "cpufreq/policy3/related_cpus",
            "cpufreq/policy3/affected_cpus",
            "cpufreq/policy3/freqdomain_cpus",
            "cpu3/cpufreq/related_cpus",
        ] {
            assert_eq!(seen(path, "3 4 5 6\n", "4,6-7"), "4 6\n", "{path}");
            assert_eq!(seen(path, "3 4\n", "0"), "\n", "{path}");
        }
    }

    #[test]
    fn facts_stay_as_they_are() {
        for (path, text) in [
            ("kernel_max", "4095\n"),
            ("cpu2/online", "1\n"),
            ("cpu2/topology/core_id", "7\n"),
            ("cpu2/cache/index0/id", "3\n"),
            ("cpufreq/policy3/scaling_cur_freq", "2300000\n"),
            ("cpufreq/boost", "1\n"),
            ("smt/active", "1\n"),
            ("vulnerabilities/l1tf", "Not affected\n"),
        ] {
            assert_eq!(seen(path, text, "2"), text, "{path}");
        }
    }

    #[test]
    fn a_list_of_an_unknown_form_is_never_the_hosts() {
        for text in ["0-7\n\0", "0-\n", "999999999\n", "all\n"] {
            for (path, expected) in [
                ("isolated", "\n"),
                ("cpu2/topology/core_cpus_list", "2\n"),
                ("cpu2/topology/core_cpus", "4\n"),
                ("cpu2/cache/index0/shared_cpu_list", "2\n"),
                ("cpufreq/policy0/affected_cpus", "\n"),
                ("cpu2/cpufreq/related_cpus", "2\n"),
            ] {
                let seen = narrow(path, text.as_bytes(), &set("2-3"));
                assert!(seen.is_unknown, "{path} {text:?}");
                assert_eq!(*seen.content, *expected.as_bytes(), "{path} {text:?}");
            }
        }
        let seen = narrow("isolated", b"\xff\n", &set("2"));
        assert!(seen.is_unknown && *seen.content == *b"\n");
        assert_eq!(*narrow("online", b"\xff\n", &set("2")).content, *b"2\n");
    }

    #[test]
    fn the_notation_stays_where_nothing_is_hidden() {
        assert_eq!(seen("isolated", "0,1,2\n", "0-7"), "0,1,2\n");
        let seen = narrow("isolated", b"0-3\n", &set("0-3"));
        assert!(matches!(seen.content, Cow::Borrowed(_)));
    }

    #[test]
    fn the_hosts_activity_does_not_show() {
        let all = CpuSet::from_iter(0..4);
        let shown = |path, text: &str| {
            let seen = narrow(path, text.as_bytes(), &all).content;
            String::from_utf8(seen.into_owned()).unwrap()
        };
        assert_eq!(shown("cpu0/cpuidle/state1/usage", "12345\n"), "0\n");
        assert_eq!(shown("cpu0/cpuidle/state1/latency", "12\n"), "12\n");
        assert_eq!(
            shown("cpu0/thermal_throttle/core_throttle_count", "7\n"),
            "0\n"
        );
        assert_eq!(shown("cpu0/purr", "1f3a9\n"), "0\n");
        assert_eq!(shown("cpu0/idle_time_us", "5012\n"), "0\n");
        assert_eq!(
            shown("cpu0/acpi_cppc/feedback_ctrs", "ref:17 del:204\n"),
            "ref:0 del:0\n"
        );
        assert_eq!(shown("cpu0/power/runtime_active_time", "77\n"), "0\n");
        assert_eq!(shown("cpu0/power/control", "auto\n"), "auto\n");
        assert_eq!(
            shown(
                "cpufreq/policy0/stats/time_in_state",
                "800000 12\n900000 3\n"
            ),
            "800000 0\n900000 0\n"
        );
        let table = "   From  :    To\n         :    800000\n   800000:        17\n";
        assert_eq!(
            shown("cpufreq/policy0/stats/trans_table", table),
            "   From  :    To\n         :    800000\n   800000:        0\n"
        );
        assert_eq!(
            shown("cpufreq/policy0/stats/trans_table", "File 17 too large\n"),
            "File 0 too large\n"
        );
    }
}

//! Which CPUs of a package are threads of one core.

use std::collections::BTreeMap;

use crate::parse::cpu_list::CpuSet;

/// The CPUs of one socket, as far as they are online.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Package {
    /// All its CPUs.
    pub cpus: CpuSet,
    /// The CPUs of each of its cores; empty if the file does not tell.
    pub cores: Vec<CpuSet>,
    /// The number of cores the kernel gives, if it gives one.
    pub cpu_cores: Option<usize>,
}

/// What tells packages apart: `drawer id`, `book id` and `physical id`, of which
/// only s390 has the first two.
pub(super) type PackageKey<'a> = [Option<&'a [u8]>; 3];

/// All records of one package.
#[derive(Default)]
pub(super) struct PackageRecords<'a> {
    pub threads: Vec<Thread<'a>>,
    pub cpu_cores: Option<usize>,
}

/// What a record tells of the place of its CPU within the package.
pub(super) struct Thread<'a> {
    pub cpu: usize,
    pub core_id: Option<&'a [u8]>,
    pub apicid: Option<usize>,
}

impl Thread<'_> {
    pub(super) const fn new(cpu: usize) -> Self {
        Self {
            cpu,
            core_id: None,
            apicid: None,
        }
    }
}

impl From<&PackageRecords<'_>> for Package {
    fn from(records: &PackageRecords<'_>) -> Self {
        let cpus: CpuSet = records.threads.iter().map(|thread| thread.cpu).collect();
        let cores = records.cpu_cores.map(|count| records.cores(count));
        Self {
            cpus,
            cores: cores.unwrap_or_default(),
            cpu_cores: records.cpu_cores,
        }
    }
}

impl<'a> PackageRecords<'a> {
    /// The CPUs of each of `count` cores, if they can be told apart.
    ///
    /// The lowest bits of an APIC id number the threads of a core. `core id` is
    /// second choice: on AMD machines with several nodes in a package, threads of
    /// one core have different ids and cores of different nodes the same.
    fn cores(&self, count: usize) -> Vec<CpuSet> {
        let threads_per_core = self.threads.len().div_ceil(count.max(1));
        let thread_bits = threads_per_core.next_power_of_two().trailing_zeros();
        let told_apart = |cores: &Vec<CpuSet>| cores.len() == count;
        self.group(|thread| thread.apicid.map(|id| id >> thread_bits))
            .filter(told_apart)
            .or_else(|| self.group(|thread| thread.core_id).filter(told_apart))
            .unwrap_or_default()
    }

    /// The CPUs of each key; none if a thread has no key.
    fn group<K: Ord>(&self, key: impl Fn(&Thread<'a>) -> Option<K>) -> Option<Vec<CpuSet>> {
        let mut groups: BTreeMap<K, CpuSet> = BTreeMap::new();
        for thread in &self.threads {
            groups.entry(key(thread)?).or_default().insert(thread.cpu);
        }
        Some(groups.into_values().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The cores that are made of `(core id, apicid)` of CPU 0, 1, ...
    fn cores(cpu_cores: usize, ids: &[(&'static str, Option<usize>)]) -> Vec<String> {
        let mut records = PackageRecords {
            cpu_cores: Some(cpu_cores),
            ..Default::default()
        };
        for (cpu, (core_id, apicid)) in ids.iter().enumerate() {
            records.threads.push(Thread {
                cpu,
                core_id: Some(core_id.as_bytes()),
                apicid: *apicid,
            });
        }
        let cores = Package::from(&records).cores;
        cores.iter().map(CpuSet::to_string).collect()
    }

    #[test]
    fn threads_of_a_core_differ_in_the_last_bits_of_their_apicid() {
        let ids = [("0", 0), ("4", 8), ("0", 1), ("4", 9)].map(|(id, apic)| (id, Some(apic)));
        assert_eq!(cores(2, &ids), ["0,2", "1,3"]);
        assert_eq!(cores(4, &ids), ["0", "2", "1", "3"]);
    }

    #[test]
    fn amd_nodes_that_repeat_core_ids_do_not_mix_up_cores() {
        let ids = [("0", 32), ("1", 33), ("0", 34), ("1", 35)].map(|(id, apic)| (id, Some(apic)));
        assert_eq!(cores(2, &ids), ["0-1", "2-3"]);
    }

    #[test]
    fn core_ids_do_without_an_apicid() {
        let ids = [("0", None), ("7", None), ("0", None)];
        assert_eq!(cores(2, &ids), ["0,2", "1"]);
    }

    #[test]
    fn cores_that_do_not_add_up_are_unknown() {
        let ids = [("0", None), ("1", None), ("0", None), ("1", None)];
        assert!(cores(4, &ids).is_empty());
        assert!(cores(0, &ids).is_empty());
        assert!(cores(2, &[("0", Some(0)), ("0", None)]).is_empty());
    }
}

//! What the container's cgroup says from outside.

use std::collections::BTreeSet;

use crate::common::Cgroup;
use crate::common::figures::{cpu_list, keyed, try_cpu_list};

/// The cgroup's limits and accounting at one instant.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Truth {
    pub memory_limit_bytes: Option<u64>,
    pub memory_usage_bytes: u64,
    pub cpu_seconds: f64,
    /// CPUs that the limits allow, by their physical ids.
    pub cpus: BTreeSet<u32>,
    /// CPUs that its threads may run on.
    pub cpuset: BTreeSet<u32>,
    /// CPUs that the host's kernel has room for.
    pub possible: BTreeSet<u32>,
    /// To block devices.
    pub written_bytes: u64,
    /// `MemAvailable` of the host.
    pub host_available_kb: u64,
    /// The lines of the host's meminfo.
    pub host_keys: Vec<String>,
}

fn join<T: ToString>(parts: impl IntoIterator<Item = T>) -> String {
    let texts: Vec<String> = parts.into_iter().map(|part| part.to_string()).collect();
    texts.join(",")
}

impl Truth {
    pub fn of(cgroup: &Cgroup) -> Self {
        let meminfo = std::fs::read_to_string("/proc/meminfo").expect("the host's meminfo");
        let possible = std::fs::read_to_string("/sys/devices/system/cpu/possible");
        let keys = meminfo.lines().filter_map(|line| line.split(':').next());
        Self {
            memory_limit_bytes: cgroup.memory_limit_bytes(),
            memory_usage_bytes: cgroup.memory_usage_bytes(),
            cpu_seconds: cgroup.cpu_time().as_secs_f64(),
            cpus: cgroup.cpus_to_show(),
            cpuset: cgroup.cpuset(),
            possible: cpu_list(&possible.expect("the host's possible CPUs")),
            written_bytes: cgroup.written_bytes(),
            host_available_kb: keyed(&meminfo)["MemAvailable"],
            host_keys: keys.map(str::to_owned).collect(),
        }
    }

    /// One line, for a process in the container to read.
    pub fn to_line(&self) -> String {
        let limit = self.memory_limit_bytes.map(|limit| limit.to_string());
        [
            limit.unwrap_or_default(),
            self.memory_usage_bytes.to_string(),
            self.cpu_seconds.to_string(),
            join(&self.cpus),
            join(&self.cpuset),
            join(&self.possible),
            self.written_bytes.to_string(),
            self.host_available_kb.to_string(),
            join(&self.host_keys),
        ]
        .join(" ")
    }

    pub fn from_line(line: &str) -> Option<Self> {
        let mut words = line.trim_end_matches('\n').split(' ');
        Some(Self {
            memory_limit_bytes: words.next()?.parse().ok(),
            memory_usage_bytes: words.next()?.parse().ok()?,
            cpu_seconds: words.next()?.parse().ok()?,
            cpus: try_cpu_list(words.next()?)?,
            cpuset: try_cpu_list(words.next()?)?,
            possible: try_cpu_list(words.next()?)?,
            written_bytes: words.next()?.parse().ok()?,
            host_available_kb: words.next()?.parse().ok()?,
            host_keys: words.next()?.split(',').map(str::to_owned).collect(),
        })
    }
}

#[test]
fn a_truth_is_read_back_as_it_was_written() {
    let truth = Truth {
        memory_limit_bytes: None,
        memory_usage_bytes: 5,
        cpu_seconds: 1.25,
        cpus: [2].into(),
        cpuset: [2, 3].into(),
        possible: [0, 1, 2, 3].into(),
        written_bytes: 7,
        host_available_kb: 9,
        host_keys: vec!["MemTotal".to_owned(), "Active(anon)".to_owned()],
    };
    assert_eq!(Truth::from_line(&truth.to_line()), Some(truth));
    assert_eq!(Truth::from_line("test result: ok"), None);
}

//! All files of a container at one time, beside what its cgroup says.

use std::collections::{BTreeMap, BTreeSet};

use crate::common::Inside;
use crate::common::docker::SIX_FILES;
use crate::common::figures::Stat;

const TREE: &str = "/sys/devices/system/cpu";

/// All files as one process in the container reads them, one after the other.
pub struct Snapshot {
    /// When each file was read, in seconds.
    pub at: BTreeMap<String, f64>,
    pub files: BTreeMap<String, String>,
    pub cpu_dirs: BTreeSet<u32>,
    /// CPU seconds and bytes of memory that the cgroup says were used, before and after.
    pub cpu_seconds: (f64, f64),
    pub memory_bytes: (u64, u64),
    pub limit_bytes: Option<u64>,
}

impl Snapshot {
    pub fn take(inside: &Inside) -> Self {
        let lists =
            ["online", "offline", "present", "possible"].map(|name| format!("{TREE}/{name}"));
        let proc = SIX_FILES
            .iter()
            .chain(&["loadavg"])
            .map(|name| format!("/proc/{name}"));
        let names: Vec<String> = proc.chain(lists).collect();
        let script = format!(
            "for f in {}; do echo \"@@ $f $(date +%s.%N)\"; cat $f; done; echo '@@ topology'; cat {TREE}/cpu[0-9]*/topology/*_list; \
             echo '@@ dirs'; ls {TREE}",
            names.join(" ")
        );
        let figures = || {
            (
                inside.cgroup.cpu_time().as_secs_f64(),
                inside.cgroup.memory_usage_bytes(),
            )
        };
        let before = figures();
        let text = crate::common::run(&mut inside.command_in_rootfs(&["sh", "-c", &script])).ok();
        let after = figures();
        let (mut files, mut at) = (BTreeMap::new(), BTreeMap::new());
        for (head, content) in text.split("@@ ").filter_map(|part| part.split_once('\n')) {
            let (path, time) = head.split_once(' ').unwrap_or((head, "0"));
            let name = path.rsplit('/').next().unwrap_or(path);
            files.insert(name.to_owned(), content.to_owned());
            at.insert(name.to_owned(), time.parse().expect("a time"));
        }
        let cpu_dirs: BTreeSet<u32> = files["dirs"]
            .lines()
            .filter_map(|name| name.strip_prefix("cpu")?.parse().ok())
            .collect();
        Self {
            at,
            files,
            cpu_dirs,
            cpu_seconds: (before.0, after.0),
            memory_bytes: (before.1, after.1),
            limit_bytes: inside.cgroup.memory_limit_bytes(),
        }
    }

    pub fn stat(&self) -> Stat {
        Stat::parse(&self.files["stat"])
    }
}

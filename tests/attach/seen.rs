//! What a container with 50 MB and one CPU sees.

use std::collections::BTreeMap;

use crate::common::figures::{cpuinfo_ids, keyed, uptime};
use crate::common::patience;

/// Prints what [`Seen`] is made of; needs a shell, cat and echo.
pub const PRINT: &str = "cat /proc/meminfo; echo ==; cat /proc/cpuinfo; echo ==; cat /proc/uptime; echo ==; \
    cat /sys/devices/system/cpu/online; echo ==; cat /proc/self/mountinfo; echo ==; \
    if [ -e /proc/pressure/memory ]; then cat /proc/pressure/memory; echo ==; \
    (echo 'some 150000 2000000' > /proc/pressure/memory) 2>&1; fi; true";

/// The output of [`PRINT`].
#[derive(Debug)]
pub struct Seen {
    text: String,
    /// Options of the mounts of lxcfs, by what they lie over; empty if another lies over one.
    views: BTreeMap<String, String>,
}

impl Seen {
    pub fn parse(text: &str) -> Self {
        let mut views = BTreeMap::new();
        for line in part(text, 4).lines() {
            let words: Vec<&str> = line.split(' ').collect();
            let options = if line.contains(" - fuse.lxcfs ") {
                words[5]
            } else {
                ""
            };
            views.insert(words[4].to_owned(), options.to_owned());
        }
        views.retain(|_, options| !options.is_empty());
        Self {
            text: text.to_owned(),
            views,
        }
    }

    /// Whether one of ours is topmost at a path.
    pub fn has(&self, path: &str) -> bool {
        self.views.contains_key(path)
    }

    /// Memory, CPUs and uptime are the container's own.
    #[track_caller]
    pub fn is_own(&self) {
        let text = &self.text;
        assert_eq!(keyed(part(text, 0))["MemTotal"], 50 << 10, "{text}");
        assert_eq!(cpuinfo_ids(part(text, 1)).len(), 1, "{text}");
        assert!(
            uptime(part(text, 2)).0 < patience(60).as_secs_f64(),
            "{text}"
        );
        assert!(!part(text, 3).contains(['-', ',']), "{text}");
        for path in ["/proc/stat", "/proc/loadavg", "/sys/devices/system/cpu"] {
            let options = self.views.get(path).map_or("", String::as_str);
            assert!(
                options.starts_with("ro,nosuid,nodev"),
                "{path} {options}: {text}"
            );
        }
    }

    /// Pressure, and what else runtimes refuse to mount, is attached too; where the kernel has
    /// pressure, root can set triggers.
    #[track_caller]
    pub fn has_the_rest(&self, is_root: bool) {
        let text = &self.text;
        assert!(
            self.has("/proc/vmstat") && self.has("/proc/softirqs"),
            "{text}"
        );
        if !std::path::Path::new("/proc/pressure/memory").exists() {
            return;
        }
        let options = &self.views["/proc/pressure"];
        assert!(options.starts_with("rw,nosuid,nodev"), "{options}");
        let total = part(text, 5).split("total=").nth(1).expect("a total");
        let total: f64 = total
            .lines()
            .next()
            .and_then(|total| total.parse().ok())
            .expect("a number");
        assert!(total / 1e6 < patience(60).as_secs_f64(), "{text}");
        assert!(part(text, 6).trim().is_empty() || !is_root, "{text}");
    }

    /// Nothing is attached: the container sees the host.
    #[track_caller]
    pub fn is_the_hosts(&self) {
        assert_eq!(self.views, BTreeMap::new(), "{}", self.text);
        let total = keyed(part(&self.text, 0))["MemTotal"];
        assert!(total > 100 << 10, "{}", self.text);
    }
}

fn part(text: &str, number: usize) -> &str {
    let found = text.split("==\n").nth(number);
    found.unwrap_or_else(|| panic!("no part {number} in {text}"))
}

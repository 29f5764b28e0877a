//! What a container shows of itself, whoever started it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::common::figures::{Stat, cpu_list, cpuinfo_ids, keyed, uptime};
use crate::common::{patience, run};

/// The memory limit that the tests give to containers, in kB.
pub const LIMIT_KB: u64 = 50 << 10;

/// A script that prints what [`Shown`] reads. It has double quotes and no single ones.
pub const PRINT: &str = "for f in meminfo cpuinfo stat uptime self/mountinfo; do echo \"== $f\"; cat /proc/$f; done; \
    echo == online; cat /sys/devices/system/cpu/online; echo == nproc; nproc; \
    echo == free; if test -x /free; then /free -k; else free -k; fi; \
    echo == pressure; cat /proc/pressure/cpu; echo == trigger; \
    if test -e /proc/pressure; then (echo \"some 150000 2000000\" > /proc/pressure/memory) 2>&1; fi; echo == end";

/// Puts procps' free into a root file system, as `/free`: that of busybox asks the kernel by sysinfo(2).
#[track_caller]
pub fn add_free(root: &Path) {
    let script = "cp /usr/bin/free \"$1\" && ldd /usr/bin/free | grep -o \"/[^ ]*\" | xargs cp -L --parents -t \"$1\"";
    run(Command::new("sh").args(["-ec", script, "add"]).arg(root)).ok();
}

/// Where a mount is, and its options and whether it is one of lxcfs.
fn of_mountinfo(line: &str) -> Option<(&str, (&str, bool))> {
    let mut words = line.split(' ').skip(4);
    let (place, options) = (words.next()?, words.next()?);
    Some((place, (options, line.contains(" - fuse.lxcfs "))))
}

/// What [`PRINT`] printed in a container.
#[derive(Debug)]
pub struct Shown(String);

impl Shown {
    #[track_caller]
    pub fn new(text: &str) -> Self {
        assert!(text.contains("== end"), "the container ended early: {text}");
        Self(text.replace('\r', ""))
    }

    #[track_caller]
    pub fn part(&self, name: &str) -> &str {
        let (_, rest) = self
            .0
            .split_once(&format!("== {name}\n"))
            .unwrap_or_else(|| panic!("no {name} in {}", self.0));
        rest.split("== ").next().unwrap_or(rest)
    }

    /// The options of what is topmost, by what it lies over.
    fn mounts(&self) -> BTreeMap<&str, (&str, bool)> {
        let mounts = self.part("self/mountinfo").lines();
        mounts.filter_map(of_mountinfo).collect()
    }

    /// Over which of its own files there are those of lxcfs. Services see other mounts of the host, too.
    pub fn attached(&self) -> BTreeSet<String> {
        let mounts = self.mounts().into_iter();
        let ours = mounts.filter_map(|(place, (_, is_ours))| is_ours.then_some(place));
        ours.filter(|place| {
            ["/proc/", "/sys/", "/var/"]
                .iter()
                .any(|own| place.starts_with(own))
        })
        .map(str::to_owned)
        .collect()
    }

    /// Whether a file of lxcfs is topmost at a place.
    pub fn has(&self, place: &str) -> bool {
        self.attached().contains(place)
    }

    /// The options of the mount at a place.
    #[track_caller]
    pub fn options(&self, place: &str) -> &str {
        let mounts = self.mounts();
        let mount = mounts.get(place).map(|(options, _)| *options);
        mount.unwrap_or_else(|| panic!("nothing is mounted at {place}: {}", self.0))
    }

    pub fn memory_kb(&self) -> u64 {
        keyed(self.part("meminfo"))["MemTotal"]
    }

    /// Memory, CPUs and uptime are those of a container with 50 MB and a quota of one CPU, and nobody can change them.
    #[track_caller]
    pub fn assert_own(&self) {
        let text = &self.0;
        assert_eq!(self.memory_kb(), LIMIT_KB, "{text}");
        assert_eq!(cpuinfo_ids(self.part("cpuinfo")).len(), 1, "{text}");
        assert_eq!(cpu_list(self.part("online")).len(), 1, "{text}");
        assert!(
            uptime(self.part("uptime")).0 < patience(60).as_secs_f64(),
            "{text}"
        );
        for place in ["/proc/stat", "/proc/loadavg", "/sys/devices/system/cpu"] {
            assert!(self.has(place), "{place}: {text}");
            let options = self.options(place);
            assert!(options.starts_with("ro,nosuid,nodev"), "{place}: {options}");
        }
    }

    /// Pressure, and what else runtimes refuse to mount, is attached too; where the kernel has pressure, root can set
    /// triggers.
    #[track_caller]
    pub fn assert_rest(&self, is_root: bool) {
        let text = &self.0;
        assert!(
            self.has("/proc/vmstat") && self.has("/proc/softirqs"),
            "{text}"
        );
        if !Path::new("/proc/pressure").exists() {
            return;
        }
        self.assert_own_pressure();
        let options = self.options("/proc/pressure");
        assert!(options.starts_with("rw,nosuid,nodev"), "{options}");
        let said = self.part("trigger");
        assert!(said.trim().is_empty() || !is_root, "{text}");
    }

    /// All figures are those of a container with 50 MB and the first CPU.
    #[track_caller]
    pub fn assert_limited(&self) {
        self.assert_memory_and_cpus();
        self.assert_own_uptime();
    }

    #[track_caller]
    pub fn assert_memory_and_cpus(&self) {
        let text = &self.0;
        assert_eq!(self.memory_kb(), LIMIT_KB, "{text}");
        let free = self
            .part("free")
            .lines()
            .find(|line| line.starts_with("Mem:"));
        let total = free.and_then(|line| line.split_whitespace().nth(1));
        assert_eq!(total, Some("51200"), "{text}");
        self.assert_one_cpu();
    }

    #[track_caller]
    fn assert_own_uptime(&self) {
        let text = &self.0;
        let host = fs::read_to_string("/proc/uptime").expect("uptime");
        let (own, host) = (uptime(self.part("uptime")).0, uptime(&host).0);
        // Nothing here lives longer than the tests, and they start long after the machine.
        assert!(own < host - 1.0, "{host}: {text}");
    }

    #[track_caller]
    fn assert_one_cpu(&self) {
        let text = &self.0;
        assert_eq!(self.part("nproc").trim(), "1", "{text}");
        assert_eq!(cpuinfo_ids(self.part("cpuinfo")), [0].into(), "{text}");
        assert_eq!(cpu_list(self.part("online")), [0].into(), "{text}");
        assert_eq!(Stat::parse(self.part("stat")).ids(), [0].into(), "{text}");
    }

    /// Pressure is the container's own where the kernel has it.
    #[track_caller]
    pub fn assert_own_pressure(&self) {
        if !Path::new("/proc/pressure").exists() {
            return;
        }
        assert!(self.attached().contains("/proc/pressure"), "{}", self.0);
        let total = |text: &str| -> Option<u64> {
            text.lines()
                .next()?
                .split_once("total=")?
                .1
                .trim()
                .parse()
                .ok()
        };
        let own = total(self.part("pressure")).expect("a line of pressure");
        let host = fs::read_to_string("/proc/pressure/cpu").expect("the host's pressure");
        let host = total(&host).expect("a line of pressure");
        assert!(own < host || host == 0, "{host}: {}", self.0);
    }

    /// It has started without the views.
    #[track_caller]
    pub fn assert_without_views(&self) {
        assert_eq!(self.attached(), BTreeSet::new(), "{}", self.0);
        let host = fs::read_to_string("/proc/meminfo").expect("meminfo");
        assert_eq!(self.memory_kb(), keyed(&host)["MemTotal"], "{}", self.0);
    }
}

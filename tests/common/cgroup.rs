//! The cgroups of a container, whatever the layout: what the kernel itself says, to compare views with.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::figures::cpu_list;
use super::{patience, unique, wait_for};

const CONTROLLERS: [&str; 7] = [
    "memory", "cpu", "cpuacct", "cpuset", "blkio", "freezer", "pids",
];

/// One cgroup per hierarchy, as a container has them.
#[derive(Debug, Clone)]
pub struct Cgroup {
    /// v1 directories by controller.
    v1: BTreeMap<String, PathBuf>,
    v2: Option<PathBuf>,
}

/// Where the hierarchies are mounted.
fn mounts() -> Cgroup {
    let mut all = Cgroup {
        v1: BTreeMap::new(),
        v2: None,
    };
    let mountinfo = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    for line in mountinfo.lines() {
        let Some((front, back)) = line.split_once(" - ") else {
            continue;
        };
        let point = PathBuf::from(front.split(' ').nth(4).expect("a mount point"));
        let mut back = back.split(' ');
        match back.next() {
            Some("cgroup2") if all.v2.is_none() => all.v2 = Some(point),
            Some("cgroup") => {
                for option in back.nth(1).unwrap_or_default().split(',') {
                    if CONTROLLERS.contains(&option) {
                        all.v1.insert(option.to_owned(), point.clone());
                    }
                }
            }
            _ => {}
        }
    }
    all
}

/// 1 when the memory controller is on a v1 hierarchy (hybrid machines too), else 2.
pub fn cgroup_version() -> u32 {
    if mounts().v1.contains_key("memory") {
        1
    } else {
        2
    }
}

impl Cgroup {
    /// The cgroups a process is in.
    #[track_caller]
    pub fn of(pid: i32) -> Self {
        let mounts = mounts();
        let text =
            fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("the cgroups of a process");
        let mut found = Self {
            v1: BTreeMap::new(),
            v2: None,
        };
        for line in text.lines() {
            let mut fields = line.splitn(3, ':').skip(1);
            let (controllers, path) = (
                fields.next().expect("controllers"),
                fields.next().expect("a path"),
            );
            let below = path.trim_start_matches('/');
            if controllers.is_empty() {
                found.v2 = mounts.v2.as_ref().map(|root| root.join(below));
            }
            for controller in controllers.split(',') {
                if let Some(root) = mounts.v1.get(controller) {
                    found.v1.insert(controller.to_owned(), root.join(below));
                }
            }
        }
        found
    }

    /// Makes a cgroup with this name below the roots.
    pub fn create() -> Self {
        mounts().child(&unique("cell"))
    }

    /// Makes a cgroup below this one.
    pub fn child(&self, name: &str) -> Self {
        let mut made = Self {
            v1: BTreeMap::new(),
            v2: None,
        };
        for (controller, parent) in &self.v1 {
            let dir = parent.join(name);
            fs::create_dir_all(&dir).expect("making a v1 cgroup");
            if controller == "cpuset" {
                for file in ["cpuset.cpus", "cpuset.mems"] {
                    let inherited =
                        fs::read_to_string(parent.join(file)).expect("the parent's cpuset");
                    fs::write(dir.join(file), inherited).expect("inheriting a cpuset");
                }
            }
            made.v1.insert(controller.clone(), dir);
        }
        if let Some(parent) = &self.v2 {
            for controller in ["memory", "cpu", "cpuset", "io", "pids"] {
                let _ = fs::write(
                    parent.join("cgroup.subtree_control"),
                    format!("+{controller}"),
                );
            }
            let dir = parent.join(name);
            fs::create_dir_all(&dir).expect("making a v2 cgroup");
            made.v2 = Some(dir);
        }
        made
    }

    /// The cgroup that this one lies in.
    pub fn parent(&self) -> Self {
        let up = |dir: &PathBuf| dir.parent().unwrap_or(dir).to_owned();
        let v1 = self.v1.iter().map(|(name, dir)| (name.clone(), up(dir)));
        Self {
            v1: v1.collect(),
            v2: self.v2.as_ref().map(up),
        }
    }

    /// The directory that answers for a controller.
    #[track_caller]
    pub fn dir(&self, controller: &str) -> &Path {
        self.v1
            .get(controller)
            .or(self.v2.as_ref())
            .expect("a hierarchy")
    }

    /// Whether the controller is on a v1 hierarchy.
    pub fn is_v1(&self, controller: &str) -> bool {
        self.v1.contains_key(controller)
    }

    fn all(&self) -> BTreeSet<&PathBuf> {
        self.v1.values().chain(&self.v2).collect()
    }

    /// Shell words that move the shell running them into this cgroup.
    pub fn enter_script(&self) -> String {
        self.all()
            .iter()
            .map(|dir| format!("echo 0 > '{}/cgroup.procs'\n", dir.display()))
            .collect()
    }

    pub fn processes(&self) -> Vec<i32> {
        let list = fs::read_to_string(self.dir("memory").join("cgroup.procs")).unwrap_or_default();
        list.lines().filter_map(|line| line.parse().ok()).collect()
    }

    /// Ends every process in here and removes the directories.
    pub fn remove(&self) {
        self.freeze(false);
        let gone = wait_for(patience(10), || {
            for pid in self.processes() {
                let _ = nix::sys::signal::kill(
                    nix::unistd::Pid::from_raw(pid),
                    nix::sys::signal::Signal::SIGKILL,
                );
            }
            for dir in self.all() {
                let _ = fs::remove_dir(dir);
            }
            self.all().iter().all(|dir| !dir.exists()).then_some(())
        });
        if gone.is_none() {
            eprintln!("cannot remove the cgroup {self:?}");
        }
    }

    fn v1_or_v2<'a>(&self, controller: &str, v1: &'a str, v2: &'a str) -> (bool, &'a str) {
        if self.v1.contains_key(controller) {
            (true, v1)
        } else {
            (false, v2)
        }
    }

    /// The text of a file that differs in name between the layouts.
    #[track_caller]
    pub fn text(&self, controller: &str, v1: &str, v2: &str) -> String {
        let (_, file) = self.v1_or_v2(controller, v1, v2);
        let path = self.dir(controller).join(file);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    #[track_caller]
    fn write(&self, controller: &str, v1: &str, v2: &str, value: &str) {
        let (_, file) = self.v1_or_v2(controller, v1, v2);
        let path = self.dir(controller).join(file);
        fs::write(&path, value)
            .unwrap_or_else(|error| panic!("{} = {value}: {error}", path.display()));
    }

    pub fn memory_usage_bytes(&self) -> u64 {
        let text = self.text("memory", "memory.usage_in_bytes", "memory.current");
        text.trim().parse().expect("a usage")
    }

    /// A counter of `memory.stat`, of the whole subtree.
    pub fn memory_stat(&self, v1: &str, v2: &str) -> u64 {
        let (_, key) = self.v1_or_v2("memory", v1, v2);
        let stat = self.text("memory", "memory.stat", "memory.stat");
        let mut lines = stat.lines().filter_map(|line| line.split_once(' '));
        lines
            .find(|(name, _)| *name == key)
            .map_or(0, |(_, value)| value.parse().expect("a counter"))
    }

    /// The smallest limit on the path to the root, `None` without one.
    pub fn memory_limit_bytes(&self) -> Option<u64> {
        let (_, file) = self.v1_or_v2("memory", "memory.limit_in_bytes", "memory.max");
        let limits = self
            .dir("memory")
            .ancestors()
            .map_while(|dir| fs::read_to_string(dir.join(file)).ok());
        limits
            .filter_map(|text| text.trim().parse().ok())
            .filter(|limit| *limit < 1 << 60)
            .min()
    }

    pub fn set_memory_limit_bytes(&self, bytes: u64) {
        self.write(
            "memory",
            "memory.limit_in_bytes",
            "memory.max",
            &bytes.to_string(),
        );
    }

    /// Sets the quota, in CPUs.
    pub fn set_cpus(&self, cpus: f64) {
        let quota = format!("{:.0}", cpus * 100_000.0);
        self.write("cpu", "cpu.cfs_quota_us", "cpu.max", &quota);
    }

    pub fn set_cpuset(&self, list: &str) {
        self.write("cpuset", "cpuset.cpus", "cpuset.cpus", list);
    }

    pub fn cpuset(&self) -> BTreeSet<u32> {
        let list = self.dir("cpuset").ancestors().find_map(|dir| {
            let (_, file) =
                self.v1_or_v2("cpuset", "cpuset.effective_cpus", "cpuset.cpus.effective");
            fs::read_to_string(dir.join(file)).ok()
        });
        cpu_list(&list.expect("a cpuset"))
    }

    /// The smallest quota on the path to the root in CPUs.
    fn quota(&self) -> Option<f64> {
        let of = |dir: &Path| -> Option<f64> {
            let text = if self.v1.contains_key("cpu") {
                let part = |file| fs::read_to_string(dir.join(file)).ok();
                format!(
                    "{} {}",
                    part("cpu.cfs_quota_us")?.trim(),
                    part("cpu.cfs_period_us")?.trim()
                )
            } else {
                fs::read_to_string(dir.join("cpu.max")).ok()?
            };
            let (quota, period) = text.trim().split_once(' ')?;
            let quota: f64 = quota.parse().ok().filter(|quota| *quota > 0.0)?;
            Some(quota / period.parse::<f64>().ok()?)
        };
        self.dir("cpu")
            .ancestors()
            .filter_map(of)
            .min_by(f64::total_cmp)
    }

    /// The CPUs a container in here must see: the lowest of its cpuset, as many as its quota needs.
    pub fn cpus_to_show(&self) -> BTreeSet<u32> {
        let set = self.cpuset();
        let most = self.quota().map_or(set.len(), |quota| {
            (1..set.len())
                .find(|n| *n as f64 >= quota)
                .unwrap_or(set.len())
        });
        set.into_iter().take(most).collect()
    }

    /// CPU time used so far.
    pub fn cpu_time(&self) -> Duration {
        if self.v1.contains_key("cpuacct") {
            let text = self.text("cpuacct", "cpuacct.usage", "");
            return Duration::from_nanos(text.trim().parse().expect("nanoseconds"));
        }
        let stat = self.text("cpu", "", "cpu.stat");
        let usage = stat
            .lines()
            .find_map(|line| line.strip_prefix("usage_usec "))
            .expect("usage_usec");
        Duration::from_micros(usage.parse().expect("microseconds"))
    }

    /// Time for which the quota kept runnable threads from running.
    pub fn throttled_time(&self) -> Duration {
        let stat = self.text("cpu", "cpu.stat", "cpu.stat");
        let of = |key| {
            stat.lines()
                .find_map(|line| line.strip_prefix(key)?.trim().parse().ok())
        };
        let v2 = of("throttled_usec").map(Duration::from_micros);
        v2.or(of("throttled_time").map(Duration::from_nanos))
            .unwrap_or_default()
    }

    /// Has the kernel count what is written to the disk under a path: a v1 cgroup counts only once it has a rule.
    pub fn count_writes_to(&self, path: &Path) {
        use std::os::unix::fs::MetadataExt as _;
        let device = fs::metadata(path).expect("the state of a directory").dev();
        let (major, minor) = (nix::sys::stat::major(device), nix::sys::stat::minor(device));
        let disk = fs::canonicalize(format!("/sys/dev/block/{major}:{minor}")).unwrap_or_default();
        let disk = if disk.join("partition").exists() {
            disk.parent().unwrap_or(&disk)
        } else {
            &disk
        };
        let number = fs::read_to_string(disk.join("dev")).unwrap_or_default();
        if self.v1.contains_key("blkio") {
            let rule = format!("{} 100000000000", number.trim());
            let _ = fs::write(
                self.dir("blkio").join("blkio.throttle.write_bps_device"),
                rule,
            );
        }
    }

    /// Bytes written to block devices so far, over all devices.
    pub fn written_bytes(&self) -> u64 {
        let v1 = self.v1.contains_key("blkio");
        let path = self.dir("blkio").join(if v1 {
            "blkio.throttle.io_service_bytes_recursive"
        } else {
            "io.stat"
        });
        let text = fs::read_to_string(path).unwrap_or_default();
        let number = |word: &str| word.parse::<u64>().unwrap_or(0);
        if v1 {
            let lines = text
                .lines()
                .map(|line| line.split_whitespace().collect::<Vec<_>>());
            return lines
                .filter(|words| words.get(1) == Some(&"Write"))
                .map(|words| number(words[2]))
                .sum();
        }
        text.split_whitespace()
            .filter_map(|word| word.strip_prefix("wbytes="))
            .map(number)
            .sum()
    }

    /// Whether the machine can freeze this cgroup.
    pub fn can_freeze(&self) -> bool {
        let (_, file) = self.v1_or_v2("freezer", "freezer.state", "cgroup.freeze");
        self.dir("freezer").join(file).exists()
    }

    /// Stops or continues everything in here.
    pub fn freeze(&self, frozen: bool) {
        let (v1, file) = self.v1_or_v2("freezer", "freezer.state", "cgroup.freeze");
        let value = match (v1, frozen) {
            (true, true) => "FROZEN",
            (true, false) => "THAWED",
            (false, true) => "1",
            (false, false) => "0",
        };
        let _ = fs::write(self.dir("freezer").join(file), value);
    }

    pub fn is_frozen(&self) -> bool {
        let text = self.text("freezer", "freezer.state", "cgroup.events");
        text.trim() == "FROZEN" || text.lines().any(|line| line == "frozen 1")
    }
}

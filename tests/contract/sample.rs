//! What a program in the container can read at one instant.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use nix::sched::{CpuSet, sched_getaffinity};
use nix::sys::sysinfo::sysinfo;
use nix::time::{ClockId, clock_gettime};
use nix::unistd::{Pid, SysconfVar, gettid, sysconf};

use crate::common::USER_HZ;
use crate::common::figures::{Stat, diskstats, keyed};
use crate::inside::contradicts_itself;
use crate::truth::Truth;

pub const CPU_TREE: &str = "/sys/devices/system/cpu";
pub const NODE_TREE: &str = "/sys/devices/system/node";

/// Those whose figures depend on the time come first, one after the other.
const FILES: [&str; 14] = [
    "/proc/uptime",
    "/proc/stat",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/swaps",
    "/proc/vmstat",
    "/proc/slabinfo",
    "/proc/diskstats",
    "/proc/pressure/cpu",
    "/proc/pressure/io",
    "/proc/pressure/memory",
    "/proc/pressure/irq",
    "/proc/cpuinfo",
    "/proc/interrupts",
];

/// How often a sample is taken at most.
const ATTEMPTS: u32 = 6;

/// Seconds of `CLOCK_BOOTTIME`, in the container's time namespace.
pub fn boottime() -> f64 {
    seconds(ClockId::CLOCK_BOOTTIME)
}

fn seconds(clock: ClockId) -> f64 {
    let time = clock_gettime(clock).expect("a clock");
    Duration::from(time).as_secs_f64()
}

/// A file's text and when it was read, in seconds of [`boottime`].
#[derive(Debug, Clone, Default)]
pub struct Text {
    pub text: String,
    pub began: f64,
    pub ended: f64,
}

impl Text {
    fn read(path: &str) -> Option<Self> {
        let began = boottime();
        let bytes = fs::read(path).ok()?;
        let ended = boottime();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        Some(Self { text, began, ended })
    }
}

/// A thread by its `/proc/PID/task/TID/stat`.
#[derive(Debug, Clone)]
pub struct Thread {
    pub process: u32,
    pub state: char,
    /// Since the boot that the kernel tells this container of.
    pub start_seconds: f64,
    pub processor: u32,
}

/// A thread that this process has just started and that still lives.
#[derive(Debug, Clone, Default)]
pub struct Newest {
    pub id: u32,
    pub start_seconds: f64,
    /// Wall clock before and after its start.
    pub wall: (f64, f64),
}

/// What system calls say.
#[derive(Debug, Clone, Default)]
pub struct Calls {
    pub wall: f64,
    pub boottime: f64,
    pub memory_kb: u64,
    pub uptime_seconds: f64,
    pub load: f64,
    pub affinity: BTreeSet<u32>,
    /// `getconf _NPROCESSORS_ONLN` and `_NPROCESSORS_CONF`.
    pub online: usize,
    pub configured: usize,
    pub in_time_namespace: bool,
}

/// Everything at one instant, nearly.
#[derive(Debug, Clone, Default)]
pub struct Sample {
    /// Before and after.
    pub truth: (Truth, Truth),
    /// By path.
    pub texts: BTreeMap<String, Text>,
    /// Paths of those that come from lxcfs.
    pub served: BTreeSet<String>,
    /// The entries of each directory of the trees of CPUs and nodes, as readdir lists them.
    pub lists: BTreeMap<String, Vec<String>>,
    /// Symbolic links there, and whether they lead to anything.
    pub links: BTreeMap<String, bool>,
    /// Visible in `/proc`, before and after.
    pub threads: (Vec<Thread>, Vec<Thread>),
    pub newest: Newest,
    pub calls: Calls,
    /// The text of `/proc/diskstats` after those of single disks.
    pub disks_after: String,
    /// What this process has written to the disk so far.
    pub written_bytes: u64,
}

impl Sample {
    /// Takes one after `next`; `truth` asks for what the cgroup says at that moment.
    ///
    /// Files are read one after the other, so that those about the same figure may differ when that changes meanwhile.
    /// Such a sample is taken again, and kept when that happens each time.
    pub fn take(next: impl FnOnce(), truth: impl Fn() -> Truth, written: impl Fn() -> u64) -> Self {
        next();
        let mounts = Mounts::read();
        let mut sample = Self::moment(&mounts, &truth, &written);
        for _ in 1..ATTEMPTS {
            if sample.is_of_one_moment() {
                break;
            }
            sample = Self::moment(&mounts, &truth, &written);
        }
        for tree in [CPU_TREE, NODE_TREE] {
            sample.walk(tree);
        }
        sample.note_served(&mounts);
        sample
    }

    /// Reads everything that changes by itself.
    fn moment(mounts: &Mounts, truth: &impl Fn() -> Truth, written: &impl Fn() -> u64) -> Self {
        let mut sample = Newest::beside(|newest| {
            let mut sample = Self {
                newest: newest.clone(),
                written_bytes: written(),
                ..Self::default()
            };
            sample.truth.0 = truth();
            sample.threads.0 = visible_threads();
            sample.read(FILES.iter().map(|path| (*path).to_owned()));
            sample.calls = calls();
            sample.threads.1 = visible_threads();
            sample.truth.1 = truth();
            sample
        });
        let disks = diskstats(sample.any_text("/proc/diskstats")).into_keys();
        sample.read(disks.map(|disk| format!("/sys/block/{disk}/stat")));
        // Long enough for a text of its own.
        std::thread::sleep(Duration::from_millis(10));
        sample.disks_after = fs::read_to_string("/proc/diskstats").unwrap_or_default();
        sample.note_served(mounts);
        sample
    }

    /// Whether nothing changed that several files tell of.
    fn is_of_one_moment(&self) -> bool {
        let (before, after) = &self.truth;
        let limits = |truth: &Truth| (truth.memory_limit_bytes, truth.cpus.clone());
        limits(before) == limits(after) && !contradicts_itself(self)
    }

    fn note_served(&mut self, mounts: &Mounts) {
        let paths = self.texts.keys().chain(self.lists.keys());
        self.served = paths.filter(|path| mounts.serves(path)).cloned().collect();
    }

    fn read(&mut self, paths: impl Iterator<Item = String>) {
        for path in paths {
            if let Some(text) = Text::read(&path) {
                self.texts.insert(path, text);
            }
        }
    }

    fn walk(&mut self, dir: &str) {
        let Ok(entries) = fs::read_dir(dir) else {
            return;
        };
        let entries: Vec<_> = entries.flatten().collect();
        for entry in &entries {
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = format!("{dir}/{name}");
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => self.walk(&path),
                Ok(kind) if kind.is_symlink() => {
                    let leads = fs::metadata(&path).is_ok();
                    self.links.insert(path, leads);
                }
                _ if tells_of_cpus(&name) => self.read(std::iter::once(path)),
                _ => {}
            }
        }
        let names = entries.iter().map(|entry| entry.file_name());
        let names = names.map(|name| name.to_string_lossy().into_owned());
        self.lists.insert(dir.to_owned(), names.collect());
    }

    /// The text of a file whether lxcfs serves it or the kernel.
    fn any_text(&self, path: &str) -> &str {
        self.texts.get(path).map_or("", |text| &text.text)
    }

    /// A file that lxcfs serves, or why it does not.
    pub fn file(&self, path: &str) -> Result<&Text, String> {
        match self.texts.get(path) {
            None => Err(format!("there is no {path}")),
            Some(_) if !self.served.contains(path) => Err(format!("{path} is not bound")),
            Some(text) => Ok(text),
        }
    }

    /// Keys and values of a file that lxcfs serves.
    pub fn keyed(&self, path: &str) -> Result<BTreeMap<String, u64>, String> {
        self.file(path).map(|text| keyed(&text.text))
    }

    /// `/proc/stat`, when lxcfs serves it and it can be parsed.
    pub fn stat(&self) -> Option<(Stat, &Text)> {
        let text = self.file("/proc/stat").ok()?;
        Some((Stat::try_parse(&text.text)?, text))
    }

    /// `/proc/uptime` in seconds, when lxcfs serves it and it can be parsed.
    pub fn uptime(&self) -> Option<((f64, f64), &Text)> {
        let text = self.file("/proc/uptime").ok()?;
        let words = text.text.split_whitespace().map(str::parse);
        match words.collect::<Result<Vec<f64>, _>>().ok()?[..] {
            [up, idle] => Some(((up, idle), text)),
            _ => None,
        }
    }
}

/// Whether a file of the trees is a list or mask of CPUs or nodes, or of use in telling them apart.
fn tells_of_cpus(name: &str) -> bool {
    let names = [
        "online",
        "offline",
        "present",
        "possible",
        "kernel_max",
        "isolated",
        "core_id",
        "cpulist",
        "cpumap",
        "meminfo",
    ];
    let ends = ["_list", "_map", "_cpus", "_siblings"];
    names.contains(&name) || ends.iter().any(|end| name.ends_with(end))
}

/// The mount points of this process and whether lxcfs is mounted there.
struct Mounts(Vec<(String, bool)>);

impl Mounts {
    fn read() -> Self {
        let mountinfo = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
        let mount = |line: &str| {
            let (front, back) = line.split_once(" - ")?;
            let point = front.split(' ').nth(4)?.to_owned();
            Some((point, back.starts_with("fuse.lxcfs ")))
        };
        Self(mountinfo.lines().filter_map(mount).collect())
    }

    fn serves(&self, path: &str) -> bool {
        let path = fs::canonicalize(path).unwrap_or_default();
        let over = self.0.iter().filter(|(point, _)| path.starts_with(point));
        // The innermost mount counts, and the last of those at one point.
        over.max_by_key(|(point, _)| Path::new(point).components().count())
            .is_some_and(|(_, lxcfs)| *lxcfs)
    }
}

fn parse_thread(process: u32, stat: &str) -> Option<Thread> {
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    Some(Thread {
        process,
        state: fields.first()?.chars().next()?,
        start_seconds: fields.get(19)?.parse::<f64>().ok()? / USER_HZ,
        processor: fields.get(36)?.parse().ok()?,
    })
}

fn visible_threads() -> Vec<Thread> {
    let numbered = |dir: &str| -> Vec<u32> {
        let entries = fs::read_dir(dir).into_iter().flatten().flatten();
        let number = |name: std::ffi::OsString| name.to_str()?.parse().ok();
        entries
            .filter_map(|entry| number(entry.file_name()))
            .collect()
    };
    let threads = |process: u32| {
        let tasks = format!("/proc/{process}/task");
        let stats = numbered(&tasks).into_iter().filter_map(move |thread| {
            let stat = fs::read_to_string(format!("{tasks}/{thread}/stat")).ok()?;
            parse_thread(process, &stat)
        });
        stats.collect::<Vec<_>>()
    };
    numbered("/proc").into_iter().flat_map(threads).collect()
}

impl Newest {
    /// Has a thread started, which ends at the end of what is then done.
    fn beside<T>(act: impl FnOnce(&Self) -> T) -> T {
        let wall = seconds(ClockId::CLOCK_REALTIME);
        let (started, start) = mpsc::channel();
        let (end, ended) = mpsc::channel::<()>();
        let body = move || {
            let id = gettid().as_raw().unsigned_abs();
            let stat = fs::read_to_string("/proc/thread-self/stat").unwrap_or_default();
            let _ = started.send((id, parse_thread(id, &stat)));
            let _ = ended.recv();
        };
        std::thread::scope(|scope| {
            scope.spawn(body);
            let (id, thread) = start.recv().expect("a thread");
            let wall = (wall, seconds(ClockId::CLOCK_REALTIME));
            let start_seconds = thread.expect("the state of a thread").start_seconds;
            let done = act(&Self {
                id,
                start_seconds,
                wall,
            });
            drop(end);
            done
        })
    }
}

fn calls() -> Calls {
    let info = sysinfo().expect("sysinfo");
    let mask = sched_getaffinity(Pid::from_raw(0)).expect("an affinity");
    let allowed = (0..CpuSet::count()).filter(|cpu| mask.is_set(*cpu).unwrap_or(false));
    let count = |which| {
        sysconf(which)
            .ok()
            .flatten()
            .map_or(0, |count| count as usize)
    };
    let offsets = fs::read_to_string("/proc/self/timens_offsets").unwrap_or_default();
    let shifted = |line: &str| {
        let mut words = line.split_whitespace();
        words.next() == Some("boottime") && words.any(|word| word != "0")
    };
    Calls {
        wall: seconds(ClockId::CLOCK_REALTIME),
        boottime: boottime(),
        memory_kb: info.ram_total() / 1024,
        uptime_seconds: info.uptime().as_secs_f64(),
        load: info.load_average().0,
        affinity: allowed.map(|cpu| cpu as u32).collect(),
        online: count(SysconfVar::_NPROCESSORS_ONLN),
        configured: count(SysconfVar::_NPROCESSORS_CONF),
        in_time_namespace: offsets.lines().any(shifted),
    }
}

//! The container in which the tools run, and how their figures are compared with the truth.

use std::fs;
use std::ops::RangeInclusive;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::common::docker::{Container, Docker, Image, options, proc_volumes};
use crate::common::figures::{cpu_list, numbers};
use crate::common::{Daemon, Inside, children, patience, run, slowness, wait_for};
use crate::table::{Table, Verdict};
use crate::truth::{Recorder, Whose, host_memory_kb, host_uptime, now_seconds, start_seconds};

/// Why a figure may be the host's; `None` for one that must be the container's.
pub type Limit = Option<&'static str>;
/// The figure comes from a file.
pub const FILE: Limit = None;
/// The figure comes from sysinfo(2).
pub const SYSINFO: Limit = Some("sysinfo(2)");
/// The figure is the number of CPUs on which the process may run.
pub const AFFINITY: Limit = Some("affinity");
/// The figure counts from the boot of the host, as start times of processes do.
pub const BTIME: Limit = Some("no time ns");

/// Files that every runc lets an engine bind.
const BOUND_BY_ENGINE: [&str; 7] = [
    "cpuinfo",
    "diskstats",
    "loadavg",
    "meminfo",
    "stat",
    "swaps",
    "uptime",
];

/// Binds the other files of `/proc` that the daemon serves, as far as this kernel has them.
const BIND_THE_REST: &str = r#"
    cd /lxcfs
    find proc -type f | while read -r file; do
        grep -q " /$file fuse" /proc/self/mounts || [ ! -e "/$file" ] || mount --bind "/lxcfs/$file" "/$file"
    done"#;

/// Directories of the daemon each entry of which is bound as a whole.
const TREES: [&str; 2] = ["sys/devices/system", "sys/block"];

/// What the container finds in `/tools`.
const TOOLS: [(&str, &str); 8] = [
    ("busy", include_str!("inside/busy")),
    ("screen.py", include_str!("inside/screen.py")),
    ("facts.py", include_str!("inside/facts.py")),
    ("facts.js", include_str!("inside/facts.js")),
    ("Facts.java", include_str!("inside/Facts.java")),
    ("collectd.conf", include_str!("inside/collectd.conf")),
    ("monitrc", include_str!("inside/monitrc")),
    ("nginx.conf", include_str!("inside/nginx.conf")),
];

/// kB written to the disk before the tools run.
pub const WRITTEN_KB: f64 = 8192.0;

/// A container with a busy process.
pub struct Stand {
    container: Container,
    pub inside: Inside,
    recorder: Recorder,
    busy: i32,
    /// The disk below `/data`, if the kernel counts what this container writes to it.
    pub disk: Option<String>,
    data: TempDir,
    _tools: TempDir,
}

impl Stand {
    pub fn start(docker: &'static Docker, daemon: &Daemon, limits: &str) -> Result<Self, String> {
        let tools = tools_dir();
        let data = tempfile::tempdir().map_err(|error| error.to_string())?;
        let mut line = options(limits);
        line.extend(proc_volumes(daemon, &BOUND_BY_ENGINE));
        let mut volume = |from: &str, to: &str| {
            line.extend(["-v".to_owned(), format!("{from}:{to}")]);
        };
        volume(&daemon.arg(""), "/lxcfs:ro");
        volume(tools.path().to_str().expect("ASCII"), "/tools:ro");
        volume(data.path().to_str().expect("ASCII"), "/data");
        for tree in TREES {
            let entries = fs::read_dir(daemon.path(tree)).map_err(|error| error.to_string())?;
            for entry in entries.flatten() {
                let below = format!("{tree}/{}", entry.file_name().to_string_lossy());
                volume(&daemon.arg(&below), &format!("/{below}:ro"));
            }
        }
        docker.prepare(Image::Tools)?;
        let script = "/tools/busy & while :; do sleep 100000; done";
        let container = docker.container_running(Image::Tools, &line, &["sh", "-c", script]);
        let inside = container.inside();
        inside.cgroup.count_writes_to(data.path());
        run(&mut inside.command_in_rootfs(&["sh", "-ec", BIND_THE_REST])).ok();
        let is_busy = |pid: &i32| {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            name.trim() == "busy"
        };
        let busy = wait_for(patience(10), || {
            children(inside.init).into_iter().find(is_busy)
        });
        let busy = busy.ok_or("the busy process did not start")?;
        let recorder = Recorder::start(inside.cgroup.clone(), busy);
        let mut stand = Self {
            container,
            inside,
            recorder,
            busy,
            disk: None,
            data,
            _tools: tools,
        };
        stand.write(WRITTEN_KB);
        if stand.inside.cgroup.written_bytes() > 0 {
            stand.disk = disk_below(stand.data.path());
        }
        Ok(stand)
    }

    /// Writes to the disk, past the page cache.
    fn write(&self, kb: f64) {
        self.container
            .exec_sh(&format!(
                "dd if=/dev/zero of=/data/f bs=4k count={} oflag=direct",
                kb / 4.0
            ))
            .ok();
    }

    /// Whether the image has a program; notes it in the table if not.
    pub fn has(&self, table: &mut Table, program: &str) -> bool {
        let found = self
            .container
            .exec_sh(&format!("command -v {program}"))
            .succeeded();
        if !found {
            table.absent(program);
        }
        found
    }

    /// Runs a script in the container and takes what it prints.
    pub fn observe(&self, script: &str) -> Observed<'_> {
        let from = Instant::now();
        let age_from = host_uptime();
        let load = "cat /proc/loadavg";
        let ran = self.container.exec_sh(&format!("{load}\n{script}\n{load}"));
        let (before, rest) = ran.out.split_once('\n').unwrap_or_default();
        let (text, after) = rest
            .trim_end()
            .rsplit_once('\n')
            .unwrap_or(("", rest.trim_end()));
        let shown = |line: &str| numbers(line).first().copied().unwrap_or_default();
        Observed {
            stand: self,
            text: format!("{text}\n{}", ran.err).trim_end().to_owned(),
            time: from..=Instant::now(),
            host_uptime: age_from..=host_uptime(),
            loads: [shown(before), shown(after)],
        }
    }

    /// The same while something is written to the disk at a steady pace.
    pub fn observe_writing(&self, script: &str) -> Observed<'_> {
        let write =
            "dd if=/dev/zero of=/data/g bs=64k count=1 oflag=direct conv=notrunc 2>/dev/null";
        self.observe(&format!(
            "(while :; do {write}; sleep 0.1; done) & writer=$!; {script}; kill $writer"
        ))
    }

    pub fn load_recorded(&self) -> f64 {
        self.recorder.load()
    }

    /// The ids of the CPUs that the container has.
    pub fn cpus(&self) -> std::collections::BTreeSet<u32> {
        self.inside.cgroup.cpus_to_show()
    }

    pub fn memory_kb(&self) -> f64 {
        let limit = self.inside.cgroup.memory_limit_bytes();
        limit.map_or_else(host_memory_kb, |bytes| (bytes / 1024) as f64)
    }

    /// Seconds between host boot and the start of the container.
    pub fn started(&self) -> f64 {
        start_seconds(self.inside.init)
    }

    /// The busy process's pid in the container.
    pub fn busy_pid(&self) -> String {
        let status = fs::read_to_string(format!("/proc/{}/status", self.busy)).expect("a process");
        let line = status.lines().find(|line| line.starts_with("NSpid:"));
        let pid = line.and_then(|line| line.split_whitespace().last());
        pid.expect("a pid in the container").to_owned()
    }
}

/// As most tools print a load.
pub fn two_decimals(figure: f64) -> f64 {
    (figure * 100.0).round() / 100.0
}

fn tools_dir() -> TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("a mode");
    for (name, content) in TOOLS {
        let path = dir.path().join(name);
        fs::write(&path, content).expect("a file");
        let mode = if name == "busy" { 0o755 } else { 0o600 };
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("a mode");
    }
    dir
}

/// The name of the whole disk under a path.
fn disk_below(path: &std::path::Path) -> Option<String> {
    use std::os::unix::fs::MetadataExt as _;
    let device = fs::metadata(path).ok()?.dev();
    let (major, minor) = (nix::sys::stat::major(device), nix::sys::stat::minor(device));
    let disk = fs::canonicalize(format!("/sys/dev/block/{major}:{minor}")).ok()?;
    let disk = if disk.join("partition").exists() {
        disk.parent()?
    } else {
        &disk
    };
    Some(disk.file_name()?.to_str()?.to_owned())
}

/// What a tool printed, and when.
pub struct Observed<'a> {
    stand: &'a Stand,
    pub text: String,
    time: RangeInclusive<Instant>,
    host_uptime: RangeInclusive<f64>,
    /// Load averages of the container, before and after.
    loads: [f64; 2],
}

impl Observed<'_> {
    /// The number with this index after the first occurrence of a text, on the same line.
    pub fn number(&self, after: &str, index: usize) -> Option<f64> {
        let start = self.text.find(after)? + after.len();
        let line = self.text[start..].lines().next()?;
        numbers(line).get(index).copied()
    }

    /// The words of the last line that contains a text.
    pub fn words(&self, with: &str) -> Vec<&str> {
        let line = self.text.lines().rfind(|line| line.contains(with));
        line.map_or_else(Vec::new, |line| line.split_whitespace().collect())
    }

    /// A word of that line as a number.
    pub fn word(&self, with: &str, index: usize) -> Option<f64> {
        self.words(with)
            .get(index)?
            .trim_end_matches('%')
            .parse()
            .ok()
    }

    fn judge(
        &self,
        shown: Option<f64>,
        truth: RangeInclusive<f64>,
        host: RangeInclusive<f64>,
        limit: Limit,
    ) -> Verdict {
        match (shown, limit) {
            (Some(shown), _) if truth.contains(&shown) => Verdict::Ok,
            (Some(shown), Some(why)) if host.contains(&shown) => Verdict::Limit(why),
            (shown, _) => Verdict::Wrong(format!("{shown:?}, not {truth:?}, in: {}", self.text)),
        }
    }

    fn judge_file(&self, shown: Option<f64>, truth: RangeInclusive<f64>) -> Verdict {
        self.judge(shown, truth.clone(), truth, FILE)
    }

    /// A number of CPUs.
    pub fn cpus(&self, shown: Option<f64>, limit: Limit) -> Verdict {
        let truth = self.stand.cpus().len() as f64;
        let host = self.stand.inside.cgroup.cpuset().len() as f64;
        self.judge(shown, truth..=truth, host..=host, limit)
    }

    /// CPUs that the kernel has room for: the same in every container, as programs size by them what the kernel fills.
    pub fn possible_cpus(&self, shown: Option<f64>) -> Verdict {
        let text = fs::read_to_string("/sys/devices/system/cpu/possible").expect("the host's CPUs");
        let possible = cpu_list(&text).len() as f64;
        self.judge(shown, possible..=possible, possible..=possible, None)
    }

    /// CPUs as counted by a program to which CPU 1 is the second one, whether or not there is a CPU 0.
    pub fn cpus_from_zero(&self, shown: Option<f64>) -> Verdict {
        let ids = self.stand.cpus();
        let truth = ids.len() as f64;
        let highest = ids.last().map_or(0.0, |id| f64::from(*id) + 1.0);
        self.judge(shown, truth..=truth, highest..=highest, Some("ids from 0"))
    }

    /// The total of memory; `unit_kb` is the size of the last digit shown.
    pub fn memory_kb(&self, shown: Option<f64>, unit_kb: f64, limit: Limit) -> Verdict {
        let around = |kb: f64| kb - unit_kb..=kb + unit_kb;
        let truth = around(self.stand.memory_kb());
        self.judge(shown, truth, around(host_memory_kb()), limit)
    }

    /// The container's age; `unit` is the size of the last digit shown.
    pub fn uptime(&self, shown: Option<f64>, unit: f64, limit: Limit) -> Verdict {
        let started = self.stand.started();
        let (from, to) = (self.host_uptime.start(), self.host_uptime.end());
        let truth = from - started - unit..=to - started + unit;
        self.judge(shown, truth, from - unit..=to + unit, limit)
    }

    /// The moment of boot in seconds since 1970.
    pub fn booted(&self, shown: Option<f64>, limit: Limit) -> Verdict {
        let age = shown.map(|shown| now_seconds() - shown);
        self.uptime(age, 1.5, limit)
    }

    /// Per cent of a CPU that were used in a time of this many seconds while the tool ran.
    pub fn busy(&self, shown: Option<f64>, whose: Whose, seconds: f64) -> Verdict {
        let length = Duration::from_secs_f64(seconds);
        let range = self.stand.recorder.busy(whose, length, self.time.clone());
        let tolerance = 4.0 + 3.0 * f64::from(slowness()) / seconds;
        let truth = range.start() - tolerance..=range.end() + tolerance;
        self.judge_file(shown, truth)
    }

    /// CPU seconds since the start of the container.
    pub fn used(&self, shown: Option<f64>, whose: Whose) -> Verdict {
        let range = self.stand.recorder.used(whose, self.time.clone());
        let truth = range.start() * 0.97 - 0.1..=range.end() * 1.03 + 0.1;
        self.judge_file(shown, truth)
    }

    /// Per cent of the container's life for which it was busy.
    pub fn busy_since_start(&self, shown: Option<f64>, whose: Whose) -> Verdict {
        let used = self.stand.recorder.used(whose, self.time.clone());
        let started = self.stand.started();
        let capacity = |now: &f64| self.stand.cpus().len() as f64 * (now - started) / 100.0;
        let least = used.start() / capacity(self.host_uptime.end());
        let most = used.end() / capacity(self.host_uptime.start());
        let truth = least * 0.95 - 4.0..=most * 1.05 + 4.0;
        self.judge_file(shown, truth)
    }

    /// The load average over one minute, to two decimals.
    pub fn load(&self, shown: Option<f64>, limit: Limit) -> Verdict {
        let [before, after] = self.loads;
        // Between the two it may have taken a step away and another one back.
        let truth = before.min(after) - 0.1..=before.max(after) + 0.1;
        let host = self.stand.recorder.host_load(self.time.clone());
        self.judge(shown, truth, host.start() - 0.02..=host.end() + 0.02, limit)
    }

    /// kB written to the disk since the start of the container; more than that is another's.
    pub fn written_kb(&self, shown: Option<f64>) -> Verdict {
        if self.stand.disk.is_none() {
            return Verdict::Limit("no disk");
        }
        self.judge_file(shown, WRITTEN_KB..=self.written_total_kb() + 1.0)
    }

    /// kB written to the disk by now.
    pub fn written_total_kb(&self) -> f64 {
        (self.stand.inside.cgroup.written_bytes() / 1024) as f64
    }

    /// A time that cannot be longer than the container's life.
    pub fn no_longer_than_alive(&self, seconds: Option<f64>) -> Verdict {
        let age = self.host_uptime.end() - self.stand.started();
        self.judge(seconds, 0.0..=age + 0.1, 0.0..=0.0, FILE)
    }

    /// kB written per second while [`Stand::observe_writing`] wrote about 640.
    pub fn writing_kb(&self, shown: Option<f64>) -> Verdict {
        if self.stand.disk.is_none() {
            return Verdict::Limit("no disk");
        }
        self.judge_file(shown, 60.0..=660.0)
    }
}

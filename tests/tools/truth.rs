//! What really happens in a container, recorded from outside while tools run in it.

use std::fs;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::common::{Cgroup, USER_HZ};

/// How often a sample is taken.
const PERIOD: Duration = Duration::from_millis(40);

/// The kernel's own constant: load averages over one minute follow the number of active threads by this time.
const LOAD_SECONDS: f64 = 60.0;

/// One look at a container.
#[derive(Debug, Clone, Copy)]
struct Sample {
    at: Instant,
    /// CPU time of the busy process.
    process_seconds: f64,
    /// CPU time of the whole container.
    total_seconds: f64,
    /// The load average over one minute that results from the threads seen.
    load: f64,
    /// The load average that the host has.
    host_load: f64,
}

/// Whose CPU time.
#[derive(Debug, Clone, Copy)]
pub enum Whose {
    BusyProcess,
    Container,
}

impl Whose {
    fn seconds(self, sample: &Sample) -> f64 {
        match self {
            Self::BusyProcess => sample.process_seconds,
            Self::Container => sample.total_seconds,
        }
    }
}

/// Samples a container until it is dropped.
#[derive(Debug)]
pub struct Recorder {
    samples: Arc<Mutex<Vec<Sample>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Recorder {
    /// Watches a cgroup and one process in it, by its pid on the host.
    pub fn start(cgroup: Cgroup, busy: i32) -> Self {
        let (samples, stop) = (Arc::default(), Arc::new(AtomicBool::new(false)));
        let (to, stopped) = (Arc::clone(&samples), Arc::clone(&stop));
        let thread = std::thread::spawn(move || record(&cgroup, busy, &to, &stopped));
        Self {
            samples,
            stop,
            thread: Some(thread),
        }
    }

    /// Per cent of a CPU used over any time of this length in between, lowest to highest.
    pub fn busy(
        &self,
        whose: Whose,
        length: Duration,
        between: RangeInclusive<Instant>,
    ) -> RangeInclusive<f64> {
        let samples = self.samples.lock();
        let margin = 2 * PERIOD;
        let inside: Vec<&Sample> = samples
            .iter()
            .filter(|sample| {
                sample.at + margin >= *between.start() && sample.at <= *between.end() + margin
            })
            .collect();
        let (mut least, mut most) = (f64::INFINITY, f64::NEG_INFINITY);
        for (index, first) in inside.iter().enumerate() {
            let last = inside[index..]
                .iter()
                .find(|sample| sample.at - first.at >= length);
            let Some(last) = last else { break };
            let used = whose.seconds(last) - whose.seconds(first);
            let share = 100.0 * used / (last.at - first.at).as_secs_f64();
            (least, most) = (least.min(share), most.max(share));
        }
        least..=most
    }

    /// CPU seconds used so far, around these moments.
    pub fn used(&self, whose: Whose, between: RangeInclusive<Instant>) -> RangeInclusive<f64> {
        let samples = self.samples.lock();
        let before = samples
            .iter()
            .rfind(|sample| sample.at <= *between.start())
            .map_or(0.0, |sample| whose.seconds(sample));
        let after = samples
            .iter()
            .find(|sample| sample.at >= *between.end())
            .or(samples.last())
            .map_or(0.0, |sample| whose.seconds(sample));
        before..=after + 0.1
    }

    /// The lowest and the highest load average of the host in a time.
    pub fn host_load(&self, between: RangeInclusive<Instant>) -> RangeInclusive<f64> {
        let samples = self.samples.lock();
        let inside = samples
            .iter()
            .filter(|sample| between.contains(&sample.at))
            .map(|sample| sample.host_load);
        let now = host_load();
        inside.fold(now..=now, |range, load| {
            range.start().min(load)..=range.end().max(load)
        })
    }

    /// The load average over one minute as it is now.
    pub fn load(&self) -> f64 {
        self.samples.lock().last().map_or(0.0, |sample| sample.load)
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn record(cgroup: &Cgroup, busy: i32, samples: &Mutex<Vec<Sample>>, stop: &AtomicBool) {
    let mut load = 0.0;
    let mut before = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        let at = Instant::now();
        let Some(process_seconds) = cpu_seconds(busy) else {
            break;
        };
        let weight = (-(at - before).as_secs_f64() / LOAD_SECONDS).exp();
        load = load * weight + active_threads(cgroup) as f64 * (1.0 - weight);
        before = at;
        samples.lock().push(Sample {
            at,
            process_seconds,
            total_seconds: cgroup.cpu_time().as_secs_f64(),
            load,
            host_load: host_load(),
        });
        std::thread::sleep(PERIOD);
    }
}

/// User and system time of a process.
fn cpu_seconds(pid: i32) -> Option<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    let ticks = fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?;
    Some(ticks / USER_HZ)
}

/// Threads that count for a load average.
fn active_threads(cgroup: &Cgroup) -> usize {
    let is_active = |pid: &i32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let state = stat.rsplit_once(") ").map_or("", |parts| parts.1);
        state.starts_with(['R', 'D'])
    };
    cgroup
        .processes()
        .iter()
        .filter(|pid| is_active(pid))
        .count()
}

/// Seconds between the boot of the host and the start of a process (kernel: proc_pid_stat(5), field 22).
pub fn start_seconds(pid: i32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("the state of a process");
    let fields = stat.rsplit_once(") ").expect("a name").1;
    let ticks = fields.split(' ').nth(19).expect("a start time");
    ticks.parse::<f64>().expect("ticks") / USER_HZ
}

/// Seconds since the boot of the host.
pub fn host_uptime() -> f64 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME).expect("a clock");
    Duration::from(now).as_secs_f64()
}

/// Seconds since 1970.
pub fn now_seconds() -> f64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.expect("a time after 1970").as_secs_f64()
}

/// The host's load average over one minute.
fn host_load() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").expect("the host's load");
    text.split(' ')
        .next()
        .and_then(|word| word.parse().ok())
        .expect("a load")
}

/// The host's memory in kB.
pub fn host_memory_kb() -> f64 {
    let text = fs::read_to_string("/proc/meminfo").expect("the host's memory");
    crate::common::figures::keyed(&text)["MemTotal"] as f64
}

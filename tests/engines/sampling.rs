//! Sampling two containers, whose limits change all the time.

use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::common::docker::{Container, Docker, Image, SIX_FILES, options, proc_volumes};
use crate::common::figures::{Stat, uptime};
use crate::common::{Daemon, Inside, beside_others, report, skip, slowness};

/// The limits of the busy one, one after the other.
const LIMITS: [&[&str]; 8] = [
    &["--cpus", "1"],
    &["--cpus", "0.5"],
    &["--cpus", "2"],
    &["--cpuset-cpus", "1"],
    &["--cpus", "1.5"],
    &["--cpuset-cpus", "0"],
    &["--cpus", "0.3"],
    &["--cpuset-cpus", "0-1"],
];
/// How often the limits change.
const CHANGES: usize = 150;
/// How long each of them stays the first time, so that the rate shows, and later.
const LONG: Duration = Duration::from_secs(4);
const SHORT: Duration = Duration::from_millis(400);

/// Two loops, so that any quota up to two CPUs is used up.
const BUSY: &str = "while :; do :; done & while :; do :; done";

/// One container, and what was read there last.
struct Sampled<'a> {
    inside: Inside,
    daemon: &'a Daemon,
    stat: Stat,
    uptime: (f64, f64),
    samples: u32,
}

impl<'a> Sampled<'a> {
    fn new(container: &Container, daemon: &'a Daemon) -> Self {
        let inside = container.inside();
        Self {
            stat: Stat::parse(&inside.read(daemon, "proc/stat")),
            uptime: uptime(&inside.read(daemon, "proc/uptime")),
            inside,
            daemon,
            samples: 0,
        }
    }

    /// Reads once more; nothing may have decreased.
    #[track_caller]
    fn sample(&mut self, limits: &[&str]) {
        let stat = Stat::parse(&self.inside.read(self.daemon, "proc/stat"));
        let times = uptime(&self.inside.read(self.daemon, "proc/uptime"));
        let decreases = stat.decreases_since(&self.stat);
        assert_eq!(decreases, Vec::<String>::new(), "with {limits:?}");
        assert!(
            times.0 >= self.uptime.0 && times.1 >= self.uptime.1,
            "{times:?} after {:?} with {limits:?}",
            self.uptime
        );
        (self.stat, self.uptime) = (stat, times);
        self.samples += 1;
    }

    fn busy_sec(&self) -> f64 {
        Stat::busy(&self.stat.total) as f64 / 100.0
    }

    fn used_sec(&self) -> f64 {
        self.inside.cgroup.cpu_time().as_secs_f64()
    }
}

#[test]
fn nothing_decreases_while_limits_change_all_the_time() {
    let docker = match Docker::get() {
        Ok(docker) => docker,
        Err(why) => skip!("{why}"),
    };
    let _turn = beside_others();
    let daemon = Daemon::start(&[]);
    let line = [
        options("--cpus 1 --cpuset-cpus 0-1"),
        proc_volumes(&daemon, &SIX_FILES),
    ]
    .concat();
    let busy = docker.container_running(Image::Busybox, &line, &["sh", "-c", BUSY]);
    let idle = docker.container(Image::Busybox, &line);
    let (mut busy_one, mut idle_one) = (Sampled::new(&busy, &daemon), Sampled::new(&idle, &daemon));
    let idle_before = idle_one.stat.clone();

    let start = Instant::now();
    // Under emulation each of the limits comes once.
    let changes = if slowness() == 1 {
        CHANGES
    } else {
        LIMITS.len()
    };
    for (change, limits) in LIMITS.iter().cycle().take(changes).enumerate() {
        let stay = if change < LIMITS.len() { LONG } else { SHORT };
        busy.update(limits);
        let (used_before, busy_before) = (busy_one.used_sec(), busy_one.busy_sec());
        busy_one.sample(limits);
        let (used_first, busy_first) = (busy_one.used_sec(), busy_one.busy_sec());
        assert!(busy_first >= busy_before && used_first >= used_before);
        let since = Instant::now();
        while since.elapsed() < stay {
            busy_one.sample(limits);
            sleep(Duration::from_millis(100));
        }
        // Seldom, since starting a reader is work of the container.
        idle_one.sample(limits);
        let least = busy_one.used_sec() - used_first;
        busy_one.sample(limits);
        let most = busy_one.used_sec() - used_before;
        let shown = busy_one.busy_sec() - busy_first;
        // What was used on CPUs that were taken away is made up for, a second at the most.
        assert!(
            shown > least * 0.98 - 0.3 && shown < most * 1.02 + 1.3,
            "{shown:.2} s shown, {least:.2} to {most:.2} s used with {limits:?}"
        );
    }

    let part = |of: fn(&[u64]) -> u64| of(&idle_one.stat.total) - of(&idle_before.total);
    let (idle_busy, capacity) = (part(Stat::busy), part(Stat::capacity));
    // The readers are all that runs there.
    assert!(
        idle_busy * 100 < capacity * u64::from(slowness()),
        "the idle container shows {idle_busy} of {capacity} ticks busy"
    );
    report(&format!(
        "{changes} changes of limits in {} s: {} samples of a busy container, {} of an idle one, \
         nothing decreased; the idle one was busy for {idle_busy} of {capacity} ticks",
        start.elapsed().as_secs(),
        busy_one.samples,
        idle_one.samples
    ));
}

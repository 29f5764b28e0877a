//! Many containers, containers that come and go, and one that reads without end.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::load::read_once;
use crate::common::{Cgroup, patience, wait_for};
use crate::contender::{Contender, Who, container};
use crate::latency::hammer_in;
use crate::median;
use crate::targets::Targets;

/// The first argument that makes this program the reader of one container, at a pace.
pub const PACED: &str = "--paced";

/// What is measured.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// How many containers
    #[arg(long, value_delimiter = ',', default_value = "1,100,1000,2000")]
    counts: Vec<usize>,
    /// Who is read
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "floor,lxcfs,ours"
    )]
    who: Vec<Who>,
    /// How long each is watched
    #[arg(long, default_value_t = 20)]
    seconds: u64,
}

/// What is measured of containers that come and go.
#[derive(Debug, clap::Args)]
pub struct ChurnOptions {
    /// How many containers
    #[arg(long, default_value_t = 100_000)]
    count: usize,
}

/// What is measured beside readers that never pause.
#[derive(Debug, clap::Args)]
pub struct SpinningOptions {
    /// Who is read
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "native,floor,lxcfs,ours"
    )]
    who: Vec<Who>,
    /// How long the others read in a round
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Rounds, whose median counts
    #[arg(long, default_value_t = 5)]
    rounds: usize,
}

const PERIOD: Duration = Duration::from_millis(100);
/// What containers read, in turn.
const FILES: [&str; 3] = ["meminfo", "stat", "uptime"];
const SPINNING_READERS: usize = 64;

/// Reads one of the files every 100 ms while standard input is open, and prints the times in microseconds at its
/// end. What was read before the first line of input and after the second one does not count.
pub fn read_at_a_pace(paths: &[&str]) {
    let (sender, orders) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for _line in std::io::stdin().lines().map_while(Result::ok) {
            let _ = sender.send(());
        }
    });
    let mut buffer = vec![0; 64 << 10];
    let mut times = Vec::new();
    let phase = PERIOD * (std::process::id() % 97) / 97;
    let mut next = Instant::now() + phase;
    let mut counts = false;
    for path in paths.iter().cycle() {
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
        match orders.try_recv() {
            Ok(()) => counts = !counts,
            Err(std::sync::mpsc::TryRecvError::Empty) => {}
            Err(std::sync::mpsc::TryRecvError::Disconnected) => break,
        }
        let before = Instant::now();
        read_once(Path::new(path), &mut buffer).expect("a read");
        if counts {
            times.push(before.elapsed().as_micros().to_string());
        }
        next += PERIOD;
    }
    println!("{}", times.join(" "));
}

/// A container with one reader as its init.
struct Paced {
    child: Child,
    cgroup: Cgroup,
}

impl Paced {
    fn start(paths: &[String]) -> Self {
        let cgroup = Cgroup::create();
        let script = format!(
            "{}exec unshare --fork --pid --cgroup --kill-child=KILL -- \"$@\"",
            cgroup.enter_script()
        );
        let child = Command::new("sh")
            .args(["-ec", &script, "start"])
            .arg(std::env::current_exe().expect("this program"))
            .arg(PACED)
            .args(paths)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("starting a container");
        Self { child, cgroup }
    }

    /// From now on its reads count, or no longer.
    fn count(&mut self) {
        let input = self.child.stdin.as_mut().expect("its input");
        input.write_all(b"\n").expect("telling a reader");
    }

    /// Has it stop reading.
    fn stop(&mut self) {
        drop(self.child.stdin.take());
    }

    /// Times of its reads, in microseconds.
    fn end(mut self) -> Vec<f64> {
        self.stop();
        let output = self.child.stdout.take().expect("its output");
        let line = BufReader::new(output).lines().next();
        let line = line.expect("a line").expect("a readable line");
        let _ = self.child.wait();
        self.cgroup.remove();
        line.split(' ')
            .filter_map(|time| time.parse().ok())
            .collect()
    }
}

/// Prints what a read costs by the number of containers that each read ten times a second.
pub fn table(options: &Options, targets: &mut Targets) {
    println!(
        "each container reads ten times a second: {}; {} s",
        FILES.join(", "),
        options.seconds
    );
    println!("who       containers   p50 us   p99 us  cpu %   rss kB     fds");
    let mut of_one = None;
    for count in &options.counts {
        for who in &options.who {
            let Some(contender) = who.start(&FILES) else {
                continue;
            };
            let load = many(&contender, *count, Duration::from_secs(options.seconds));
            println!(
                "{:8} {count:>11} {:>8.0} {:>8.0} {:>6.1} {:>8} {:>7}",
                who.name(),
                load.p50_usec,
                load.p99_usec,
                load.cpu_share * 100.0,
                load.rss_kb,
                load.fds,
            );
            match (who, count, &of_one) {
                (Who::Ours, 1, _) => of_one = Some(load),
                (Who::Ours, 1000, Some(of_one)) => judge(targets, &load, of_one),
                _ => {}
            }
        }
    }
}

/// What many containers see and cost.
#[derive(Debug)]
struct Load {
    p50_usec: f64,
    p99_usec: f64,
    cpu_share: f64,
    rss_kb: u64,
    fds: usize,
}

fn judge(targets: &mut Targets, of_thousand: &Load, of_one: &Load) {
    let what = |figure| format!("1000 containers; {figure}");
    let p50 = of_thousand.p50_usec / of_one.p50_usec;
    let p99 = of_thousand.p99_usec / of_one.p99_usec;
    targets.at_most(1.3, p50, what("median / that of one"));
    targets.at_most(1.3, p99, what("p99 / that of one"));
    targets.at_most(0.6, of_thousand.cpu_share, what("share of one CPU"));
    let rss_mib = of_thousand.rss_kb as f64 / 1024.0;
    targets.at_most(10.0 + 6000.0 / 1024.0, rss_mib, what("resident MiB"));
}

fn many(contender: &Contender, count: usize, time: Duration) -> Load {
    let paths = FILES.map(|file| contender.path(file));
    let mut all: Vec<_> = (0..count).map(|_| Paced::start(&paths)).collect();
    // By then all have read each file, and made up for what they could not while others started.
    std::thread::sleep(PERIOD * 50);
    let before = contender.cpu_time();
    let start = Instant::now();
    all.iter_mut().for_each(Paced::count);
    std::thread::sleep(time);
    let cpu = contender.cpu_time().saturating_sub(before);
    let cpu_share = cpu.as_secs_f64() / start.elapsed().as_secs_f64();
    // Looking at the memory and the files of a process holds it up.
    all.iter_mut().for_each(Paced::count);
    let (rss_kb, fds) = (contender.rss_kb(), contender.open_fds());
    // At once, or the last ones would be measured while the first ones are gone.
    all.iter_mut().for_each(Paced::stop);
    let mut times: Vec<f64> = all.into_iter().flat_map(Paced::end).collect();
    times.sort_by(f64::total_cmp);
    Load {
        p50_usec: at(&times, 0.5),
        p99_usec: at(&times, 0.99),
        cpu_share,
        rss_kb,
        fds,
    }
}

/// The value that has this share of sorted ones below it.
fn at(sorted: &[f64], share: f64) -> f64 {
    let place = (sorted.len() as f64 * share) as usize;
    sorted.get(place).copied().unwrap_or(f64::NAN)
}

/// Containers that come, read once and go: memory and file descriptors must not grow.
pub fn churn(options: &ChurnOptions, targets: &mut Targets) {
    // The clean-up comes every few seconds: what there is at most is seen by looking often.
    let step = (options.count / 100).max(1);
    let contender = Who::Ours.start(&[]).expect("the daemon");
    let path = contender.path("meminfo");
    println!("containers    rss kB     fds");
    let mut samples = Vec::new();
    for number in 0..=options.count {
        if number % step == 0 {
            let (rss_kb, fds) = (contender.rss_kb(), contender.open_fds());
            if number % (step * 10) == 0 {
                println!("{number:>10} {rss_kb:>9} {fds:>7}");
            }
            samples.push((rss_kb as f64, fds as f64));
        }
        come_and_go(number, Path::new(&path));
    }
    // In the beginning it grows to what it needs.
    let later = samples.split_off(samples.len() / 2);
    let most = |samples: &[(f64, f64)], figure: fn(&(f64, f64)) -> f64| {
        samples.iter().map(figure).fold(f64::NAN, f64::max)
    };
    let growth = |figure| most(&later, figure) / most(&samples, figure);
    let what = |figure| format!("{} containers in turn; {figure}", options.count);
    targets.at_most(1.1, growth(|sample| sample.0), what("growth of memory"));
    targets.at_most(1.1, growth(|sample| sample.1), what("growth of fds"));
}

/// A container that reads once.
fn come_and_go(number: usize, path: &Path) {
    let own = Cgroup::of(i32::try_from(std::process::id()).expect("a pid"));
    let controllers = ["memory", "cpu"];
    let name = format!("lxcfs-bench-{number}");
    let dirs = controllers.map(|controller| own.dir(controller).join(&name));
    for dir in &dirs {
        let _ = fs::create_dir(dir);
        fs::write(dir.join("cgroup.procs"), "0").expect("entering a cgroup");
    }
    read_once(path, &mut [0; 8 << 10]).expect("a read");
    for (dir, controller) in dirs.iter().zip(controllers) {
        fs::write(own.dir(controller).join("cgroup.procs"), "0").expect("leaving a cgroup");
        let gone = wait_for(patience(5), || {
            (fs::remove_dir(dir).is_ok() || !dir.exists()).then_some(())
        });
        gone.expect("removing a cgroup");
    }
}

/// What a container with 64 readers that never pause costs the others.
pub fn spinning(options: &SpinningOptions, targets: &mut Targets) {
    let contenders = options.who.iter().filter_map(|who| who.start(&FILES));
    let contenders: Vec<_> = contenders.collect();
    let mut rounds: Vec<Vec<BesideNoise>> = contenders.iter().map(|_| Vec::new()).collect();
    for _ in 0..options.rounds {
        for (of, contender) in rounds.iter_mut().zip(&contenders) {
            of.push(beside_noise(
                contender,
                Duration::from_secs(options.seconds),
            ));
        }
    }
    println!(
        "p99 of ten other containers, without and with one that has {SPINNING_READERS} readers without a pause;"
    );
    println!(
        "medians of {} rounds of {} s, the rise with its least and most",
        options.rounds, options.seconds
    );
    println!("who       calm us  busy us   rise            the {SPINNING_READERS}: reads/s");
    for (contender, rounds) in contenders.iter().zip(rounds) {
        let all = |figure: fn(&BesideNoise) -> f64| rounds.iter().map(figure).collect::<Vec<_>>();
        let rises = all(BesideNoise::rise);
        let least = rises.iter().copied().fold(f64::NAN, f64::min);
        let most = rises.iter().copied().fold(f64::NAN, f64::max);
        let rise = median(rises);
        println!(
            "{:8} {:>8.0} {:>8.0} {rise:>6.2} {:>15} {:>15.0}",
            contender.who.name(),
            median(all(|round| round.calm_usec)),
            median(all(|round| round.busy_usec)),
            format!("{least:.2} to {most:.2}"),
            median(all(|round| round.noise_per_second)),
        );
        if contender.who == Who::Ours {
            let what = format!("beside {SPINNING_READERS} readers without a pause; rise of p99");
            targets.at_most(2.0, rise, what);
        }
    }
}

/// What containers see without and with one that has many readers.
#[derive(Debug)]
struct BesideNoise {
    calm_usec: f64,
    busy_usec: f64,
    noise_per_second: f64,
}

impl BesideNoise {
    fn rise(&self) -> f64 {
        self.busy_usec / self.calm_usec
    }
}

fn beside_noise(contender: &Contender, time: Duration) -> BesideNoise {
    let calm_usec = others_p99(contender, time);
    let cell = container();
    // The others take a second to start.
    let longer = time + Duration::from_secs(2);
    let hammer = || hammer_in(&cell, contender, "meminfo", SPINNING_READERS, longer);
    std::thread::scope(|scope| {
        let noise = scope.spawn(hammer);
        let busy_usec = others_p99(contender, time);
        let noise = noise.join().expect("the many readers");
        BesideNoise {
            calm_usec,
            busy_usec,
            noise_per_second: noise.per_second(),
        }
    })
}

/// What 99 of 100 reads of ten containers stay below, in microseconds.
fn others_p99(contender: &Contender, time: Duration) -> f64 {
    let paths = FILES.map(|file| contender.path(file));
    let mut others: Vec<_> = (0..10).map(|_| Paced::start(&paths)).collect();
    std::thread::sleep(PERIOD * 10);
    others.iter_mut().for_each(Paced::count);
    std::thread::sleep(time);
    others.iter_mut().for_each(Paced::stop);
    let mut times: Vec<f64> = others.into_iter().flat_map(Paced::end).collect();
    times.sort_by(f64::total_cmp);
    at(&times, 0.99)
}

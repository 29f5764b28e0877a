//! One container works, the other idles, and each sees only itself.

use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::common::docker::{Docker, Image, SIX_FILES, proc_volumes};
use crate::common::figures::{Stat, diskstats};
use crate::common::{Daemon, Inside, alone, patience, skip, wait_for};

const BUSY: &str = "while :; do :; done & while :; do :; done & \
    while :; do dd if=/dev/zero of=/data/file bs=1M count=4 oflag=direct conv=notrunc 2>/dev/null; sleep 0.2; done";

fn stat(inside: &Inside, daemon: &Daemon) -> Stat {
    Stat::parse(&inside.read(daemon, "proc/stat"))
}

/// Reads a view between two readings of the kernel's own figure, until these two agree.
fn bracketed(own: impl Fn() -> f64, view: impl Fn() -> f64, slack: f64) -> (f64, f64, f64) {
    let mut last = (0.0, 0.0, 0.0);
    for _ in 0..10 {
        let before = own();
        let shown = view();
        last = (before, shown, own());
        if last.2 - last.0 <= slack {
            break;
        }
    }
    last
}

/// Within 2 percent of what the cgroup says.
#[track_caller]
fn assert_agrees(what: &str, (before, shown, after): (f64, f64, f64), grain: f64) {
    let range = before * 0.98 - grain..=after * 1.02 + grain;
    assert!(
        range.contains(&shown),
        "{what}: {shown} shown, {before} to {after} in the cgroup"
    );
}

fn load_now(inside: &Inside, daemon: &Daemon) -> f64 {
    let text = inside.read(daemon, "proc/loadavg");
    text.split(' ')
        .next()
        .and_then(|word| word.parse().ok())
        .unwrap_or_else(|| panic!("no load: {text:?}"))
}

fn sectors_written(inside: &Inside, daemon: &Daemon) -> u64 {
    // Whole disks only: a partition repeats what its disk has.
    let lines = diskstats(&inside.read(daemon, "proc/diskstats"));
    lines.values().map(|columns| columns[6]).max().unwrap_or(0)
}

#[test]
fn a_busy_neighbour_shows_in_its_own_files_only() {
    let docker = match Docker::get() {
        Ok(docker) => docker,
        Err(why) => skip!("{why}"),
    };
    let _turn = alone();
    let daemon = Daemon::start(&[]);
    let data = tempfile::tempdir_in("/var/tmp").expect("a directory on a disk");
    let mut files = proc_volumes(&daemon, &SIX_FILES);
    files.extend(proc_volumes(&daemon, &["loadavg"]));
    let volume = ["-v".to_owned(), format!("{}:/data", data.path().display())];
    let idle = docker.container(Image::Debian, &files);
    let busy = docker.container_running(
        Image::Debian,
        &[&files[..], &volume].concat(),
        &["sh", "-c", BUSY],
    );
    let (a, b) = (busy.inside(), idle.inside());
    a.cgroup.count_writes_to(data.path());
    // Load averages are kept from the first read on.
    let start = Instant::now();
    let _ = (load_now(&a, &daemon), load_now(&b, &daemon));
    let idle_before = stat(&b, &daemon);
    let busy_before = stat(&a, &daemon);
    const PAUSE: Duration = Duration::from_secs(12);
    sleep(PAUSE);
    let works = || (a.cgroup.cpu_time() > Duration::from_secs(3)).then_some(());
    assert!(wait_for(patience(30), works).is_some(), "A does not work");

    let idle_after = stat(&b, &daemon);
    let capacity = Stat::capacity(&idle_after.total) - Stat::capacity(&idle_before.total);
    let used = Stat::busy(&idle_after.total) - Stat::busy(&idle_before.total);
    assert!(
        used as f64 <= capacity as f64 * 0.02 + 3.0,
        "B used {used} of {capacity} ticks: {idle_after:?}"
    );
    assert!(
        idle_after.total[7] - idle_before.total[7] <= capacity / 50,
        "B shows stolen time: {idle_after:?}"
    );
    assert!(idle_after.lines["procs_running"][0] <= 2, "{idle_after:?}");
    // The readers are a load too, and slow on a busy machine.
    let (load, reading) = (load_now(&b, &daemon), start.elapsed() - PAUSE);
    assert!(
        load < 0.15 + reading.as_secs_f64() / 60.0,
        "the load of B is {load} after {reading:?} of reading"
    );
    assert!(
        sectors_written(&b, &daemon) < 1000,
        "B shows {} sectors written",
        sectors_written(&b, &daemon)
    );
    assert_eq!(
        idle_after.decreases_since(&idle_before),
        Vec::<String>::new()
    );
    assert_eq!(
        stat(&a, &daemon).decreases_since(&busy_before),
        Vec::<String>::new()
    );

    let own = || a.cgroup.cpu_time().as_secs_f64();
    let shown = || Stat::busy(&stat(&a, &daemon).total) as f64 / 100.0;
    let (before, view, after) = bracketed(own, shown, 0.1);
    assert_agrees("CPU seconds of A", (before, view, after), 0.03);

    let rising = || (load_now(&a, &daemon) > 0.2).then_some(());
    assert!(
        wait_for(patience(10), rising).is_some(),
        "the load of A is {}",
        load_now(&a, &daemon)
    );
    let own = || a.cgroup.written_bytes() as f64;
    let shown = || sectors_written(&a, &daemon) as f64 * 512.0;
    let (before, view, after) = bracketed(own, shown, 0.0);
    if before == 0.0 {
        skip!(
            "the kernel counts no writes for a container on this disk: only CPU and load were compared"
        );
    }
    assert_agrees("bytes written by A", (before, view, after), 8192.0);
}

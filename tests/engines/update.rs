//! Limits that change while the container runs.

use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use crate::common::cgroup::cgroup_version;
use crate::common::docker::{Docker, Image, SIX_FILES, options, proc_volumes};
use crate::common::figures::{Stat, cpu_list, cpuinfo_ids, keyed};
use crate::common::{Cell, Daemon, Limits, beside_others, skip};

#[test]
fn docker_update_shows_at_the_next_read_and_no_counter_goes_back() {
    let docker = match Docker::get() {
        Ok(docker) => docker,
        Err(why) => skip!("{why}"),
    };
    let _turn = beside_others();
    let daemon = Daemon::start(&[]);
    let mut line = options("-m 100m --memory-swap 200m --cpus 1");
    line.extend(proc_volumes(&daemon, &SIX_FILES));
    let container =
        docker.container_running(Image::Busybox, &line, &["sh", "-c", "while :; do :; done"]);
    let inside = container.inside();
    let total_kb = || keyed(&inside.read(&daemon, "proc/meminfo"))["MemTotal"];
    let stat = || Stat::parse(&inside.read(&daemon, "proc/stat"));

    assert_eq!(total_kb(), 100 << 10);
    container.update(&["-m", "60m"]);
    assert_eq!(total_kb(), 60 << 10);
    container.update(&["-m", "160m"]);
    assert_eq!(total_kb(), 160 << 10);

    let online =
        std::fs::read_to_string("/sys/devices/system/cpu/online").expect("the host's CPUs");
    let count = cpu_list(&online).len();
    let mut before = stat();
    for cpus in ["2", "0.5", "1.5", "1", "2", "0.3"] {
        if cpus.parse::<f64>().expect("a number") > count as f64 {
            continue;
        }
        container.update(&["--cpus", cpus]);
        let expected = inside.cgroup.cpus_to_show();
        assert_eq!(
            cpuinfo_ids(&inside.read(&daemon, "proc/cpuinfo")),
            expected,
            "--cpus {cpus}"
        );
        for _ in 0..4 {
            sleep(Duration::from_millis(150));
            let now = stat();
            assert_eq!(now.ids(), expected, "--cpus {cpus}");
            assert_eq!(
                now.decreases_since(&before),
                Vec::<String>::new(),
                "--cpus {cpus}"
            );
            before = now;
        }
    }
    if count > 1 {
        for list in ["1", "0", "0-1"] {
            container.update(&["--cpuset-cpus", list]);
            let now = stat();
            assert_eq!(
                now.ids(),
                inside.cgroup.cpus_to_show(),
                "--cpuset-cpus {list}"
            );
            assert_eq!(
                now.total[0].max(before.total[0]),
                now.total[0],
                "user time went back with {list}"
            );
            before = now;
        }
    }
}

/// Reads, changes its own quota and reads at once again. Says which files do not tell of the
/// new quota. Arguments: mountpoint, file of the quota, what to write for one CPU and for two,
/// rounds.
const CHANGE_AND_READ: &str = r#"
    cd "$1/proc"
    set -e
    round=0
    while [ $round -lt $5 ]; do
        cpus=$((1 + round % 2))
        if [ $cpus = 1 ]; then quota=$3; else quota=$4; fi
        cat cpuinfo stat >/dev/null
        echo "$quota" >"$2"
        shown=$(grep -c -e '^processor' -e '^cpu[0-9]' cpuinfo stat | tr '\n' ' ')
        [ "$shown" = "cpuinfo:$cpus stat:$cpus " ] || echo "round $round: $shown, not $cpus"
        round=$((round + 1))
    done
"#;

#[test]
fn no_file_tells_of_a_quota_from_before_its_change() {
    let _turn = beside_others();
    let daemon = Daemon::start(&[]);
    let limits = Limits {
        cpuset: Some("0-1"),
        cpus: Some(1.0),
        ..Limits::default()
    };
    // From within a cgroup namespace the limits of its root cannot be changed.
    let init = ["sleep", "100000"].map(Path::new);
    let cell = Cell::with_init(&limits, &init, false);
    let (file, one, two) = match cgroup_version() {
        1 => ("cpu.cfs_quota_us", "100000", "200000"),
        _ => ("cpu.max", "100000 100000", "200000 100000"),
    };
    let file = cell.cgroup.dir("cpu").join(file);
    let point = daemon.point().to_str().expect("a path in UTF-8");
    let arguments = [
        point,
        file.to_str().expect("a path in UTF-8"),
        one,
        two,
        "300",
    ];
    let mut line = vec!["sh", "-c", CHANGE_AND_READ, "sh"];
    line.extend(arguments);
    assert_eq!(cell.run(&line).ok(), "");
}

#[test]
fn a_loop_under_half_a_cpu_shows_half_busy_and_half_stolen() {
    let docker = match Docker::get() {
        Ok(docker) => docker,
        Err(why) => skip!("{why}"),
    };
    let _turn = crate::common::alone();
    let daemon = Daemon::start(&[]);
    let mut line = options("--cpus 0.5");
    line.extend(proc_volumes(&daemon, &SIX_FILES));
    let container =
        docker.container_running(Image::Busybox, &line, &["sh", "-c", "while :; do :; done"]);
    let inside = container.inside();
    // Taken before and after, since the read itself takes its time on a busy machine.
    let read = || {
        let own = || {
            [
                inside.cgroup.cpu_time().as_secs_f64(),
                inside.cgroup.throttled_time().as_secs_f64(),
            ]
        };
        let before = own();
        let shown = Stat::parse(&inside.read(&daemon, "proc/stat"));
        (before, shown, own())
    };
    sleep(Duration::from_secs(1));
    let (first_before, first, first_after) = read();
    sleep(Duration::from_secs(4));
    let (last_before, last, last_after) = read();
    let part = |of: fn(&[u64]) -> u64| (of(&last.total) - of(&first.total)) as f64 / 100.0;
    let (capacity, busy, steal) = (part(Stat::capacity), part(Stat::busy), part(|line| line[7]));
    let least = |at: usize| (last_before[at] - first_after[at]).max(0.0);
    let most = |at: usize| last_after[at] - first_before[at];
    let figures = format!(
        "{busy} s busy, {steal} s stolen of {capacity} s; {:.2} to {:.2} s used, \
         {:.2} to {:.2} s throttled",
        least(0),
        most(0),
        least(1),
        most(1)
    );
    assert!(busy > least(0) - 0.15 && busy < most(0) + 0.15, "{figures}");
    // Other load on the machine takes from both, and a thread can be throttled on two CPUs at once.
    let left = capacity - busy;
    assert!(
        steal > least(1).min(left) * 0.9 - 0.15 && steal < most(1).min(left) + 0.15,
        "{figures}"
    );
    // A machine that is too busy does not give it half a CPU.
    let had_its_share = least(0) > 0.45 * capacity;
    assert!(
        most(1) > 0.2 || !had_its_share,
        "the quota did not hold: {figures}"
    );
}

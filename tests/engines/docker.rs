//! Docker containers with the `-v` lines that PouchContainer uses.

use std::collections::BTreeSet;
use std::time::Instant;

use crate::common::docker::{
    Container, Docker, Image, SIX_FILES, busybox_volume, cpu_volume, options, proc_volumes,
};
use crate::common::figures::{Stat, cpu_list, cpuinfo_ids, diskstats, keyed, numbers, uptime};
use crate::common::{Daemon, beside_others, skip};

const MIB_KB: u64 = 1024;

/// `-m 50m --cpus 1 --cpuset-cpus 1`, or CPU 0 on a machine with a single one.
fn limits() -> (Vec<String>, u32) {
    let online =
        std::fs::read_to_string("/sys/devices/system/cpu/online").expect("the host's CPUs");
    let cpu = cpu_list(&online).into_iter().nth(1).unwrap_or(0);
    (
        options(&format!("-m 50m --cpus 1 --cpuset-cpus {cpu}")),
        cpu,
    )
}

fn debian(daemon: &Daemon, docker: &'static Docker) -> (Container, u32) {
    let (mut line, cpu) = limits();
    line.extend(proc_volumes(daemon, &SIX_FILES));
    line.extend(proc_volumes(daemon, &["loadavg"]));
    line.extend(cpu_volume(daemon));
    line.extend(busybox_volume());
    (docker.container(Image::Debian, &line), cpu)
}

#[test]
fn six_files_in_busybox_show_50_mb_one_cpu_and_the_containers_age() {
    let docker = match Docker::get() {
        Ok(docker) => docker,
        Err(why) => skip!("{why}"),
    };
    let _turn = beside_others();
    let daemon = Daemon::start(&[]);
    let (mut line, cpu) = limits();
    line.extend(proc_volumes(&daemon, &SIX_FILES));
    let before = Instant::now();
    let container = docker.container(Image::Busybox, &line);
    let cat = |file: &str| container.exec(&["cat", &format!("/proc/{file}")]).ok();

    let age = uptime(&cat("uptime"));
    let most = before.elapsed().as_secs_f64() + 2.0;
    assert!(
        age.0 > 0.0 && age.0 < most && age.1 <= age.0 + 0.1,
        "uptime {age:?}, started {most} s ago"
    );

    let meminfo = keyed(&cat("meminfo"));
    let used_kb = container.inside().cgroup.memory_usage_bytes() / 1024;
    assert_eq!(meminfo["MemTotal"], 50 * MIB_KB);
    let shown_kb = meminfo["MemTotal"] - meminfo["MemFree"];
    assert!(
        shown_kb.abs_diff(used_kb) < 3 * MIB_KB,
        "{shown_kb} kB shown, {used_kb} kB used"
    );
    assert!(
        meminfo["MemAvailable"] <= 50 * MIB_KB && meminfo["MemAvailable"] >= meminfo["MemFree"],
        "{meminfo:?}"
    );

    let only = BTreeSet::from([cpu]);
    assert_eq!(cpuinfo_ids(&cat("cpuinfo")), only);
    let text = cat("stat");
    let most = before.elapsed().as_secs_f64();
    assert_eq!(
        text.lines().filter(|line| line.starts_with("cpu")).count(),
        2,
        "{text}"
    );
    let stat = Stat::parse(&text);
    assert_eq!(stat.ids(), only);
    assert_eq!(stat.total, stat.cpus[&cpu]);
    assert!(
        Stat::capacity(&stat.total) as f64 <= (most + 1.0) * 100.0,
        "more time than the container's age: {text}"
    );

    let swaps = cat("swaps");
    let sizes: u64 = swaps
        .lines()
        .skip(1)
        .filter_map(|line| line.split_whitespace().nth(2)?.parse::<u64>().ok())
        .sum();
    assert!(swaps.starts_with("Filename"), "{swaps:?}");
    assert_eq!(sizes, meminfo["SwapTotal"]);
    for (device, columns) in diskstats(&cat("diskstats")) {
        assert!(
            [11, 15, 17].contains(&columns.len()),
            "{device} {columns:?}"
        );
        assert!(
            columns[0] < 100_000,
            "the host's reads on {device}: {columns:?}"
        );
    }
}

#[test]
fn the_tools_of_procps_sysstat_and_busybox_show_the_container() {
    let docker = match Docker::get() {
        Ok(docker) => docker,
        Err(why) => skip!("{why}"),
    };
    let _turn = beside_others();
    let daemon = Daemon::start(&[]);
    let started = Instant::now();
    let (container, cpu) = debian(&daemon, docker);
    let tool = |script: &str| container.exec_sh(script).ok();

    let free = tool("free -k");
    let row = numbers(
        free.lines()
            .find(|line| line.starts_with("Mem:"))
            .expect("a Mem row"),
    );
    assert_eq!(row[0], 51_200.0, "{free}");
    assert!(row[1] + row[2] <= row[0], "used + free > total: {free}");

    let top = tool("top -b -n1");
    let memory = top
        .lines()
        .find(|line| line.contains("Mem :"))
        .expect("a Mem line");
    assert_eq!(numbers(memory)[0], 50.0, "{top}");
    assert!(top.contains("sleep"), "{top}");
    let cpus = numbers(
        top.lines()
            .find(|line| line.starts_with("%Cpu"))
            .expect("a %Cpu line"),
    );
    assert!((99.0..101.0).contains(&cpus.iter().sum::<f64>()), "{top}");

    let vmstat = tool("vmstat");
    let row = numbers(vmstat.lines().nth(2).expect("a row of numbers"));
    // procps 4.0.4 has a column more, for guests.
    assert!([17, 18].contains(&row.len()), "{vmstat}");
    assert!(
        row[3] <= 51_200.0 && row[12..].iter().sum::<f64>() <= 101.0,
        "{vmstat}"
    );

    let since = tool("uptime --since; date '+%F %T'");
    let pretty = tool("uptime");
    let minutes = (0..=started.elapsed().as_secs() / 60).map(|count| format!(" up {count} min"));
    assert!(
        minutes.into_iter().any(|up| pretty.contains(&up)),
        "{pretty} {since}"
    );

    let mpstat = tool("mpstat -P ALL");
    let rows: Vec<&str> = mpstat
        .lines()
        .filter_map(|line| line.split_whitespace().nth(1))
        .collect();
    assert!(mpstat.contains("(1 CPU)"), "{mpstat}");
    assert!(
        rows.contains(&"all") && rows.contains(&cpu.to_string().as_str()),
        "{mpstat}"
    );
    assert!(
        cpu == 0 || !rows.contains(&"0"),
        "CPU 0 is not this container's: {mpstat}"
    );
    let idle = numbers(
        mpstat
            .lines()
            .find(|line| line.contains(" all "))
            .expect("the all row"),
    );
    assert!(
        idle.iter().rev().take(10).sum::<f64>() > 90.0,
        "no time passed since boot: {mpstat}"
    );

    let iostat = tool("iostat -c");
    assert!(iostat.contains("(1 CPU)"), "{iostat}");

    let load = tool("cat /proc/loadavg");
    let words: Vec<&str> = load.split_whitespace().collect();
    let (running, total) = words[3].split_once('/').expect("running/total");
    assert_eq!(words.len(), 5, "{load}");
    assert!(
        words[0].parse::<f64>().expect("a load") < 2.0,
        "the host's load: {load}"
    );
    assert!(
        running.parse::<u32>().is_ok() && total.parse::<u32>().expect("a count") < 10,
        "{load}"
    );
    assert!(
        words[4].parse::<u32>().expect("a pid") < 1000,
        "not a pid of the container: {load}"
    );

    for list in ["online", "present"] {
        assert_eq!(
            tool(&format!("cat /sys/devices/system/cpu/{list}")).trim(),
            cpu.to_string(),
            "{list}"
        );
    }
    assert_eq!(
        tool("ls -d /sys/devices/system/cpu/cpu[0-9]* | wc -l").trim(),
        "1"
    );
    assert_eq!(tool("getconf _NPROCESSORS_ONLN").trim(), "1");
    assert_eq!(tool("ls /sys/devices/system/cpu | sort | uniq -d"), "");

    tool("/busybox free");
    tool("/busybox uptime");
    let top = tool("/busybox top -b -n1");
    let memory = numbers(
        top.lines()
            .find(|line| line.starts_with("Mem:"))
            .expect("a Mem line"),
    );
    assert_eq!(memory[0] + memory[1], 51_200.0, "{top}");

    // Everything above took this long at most, and the container is no older.
    let age = uptime(&tool("cat /proc/uptime")).0;
    assert!(age <= started.elapsed().as_secs_f64() + 2.0, "{age}");
}

#[test]
fn ps_shows_true_ages_or_at_least_no_billions() {
    let docker = match Docker::get() {
        Ok(docker) => docker,
        Err(why) => skip!("{why}"),
    };
    let _turn = beside_others();
    // Processes start in the host's time, so that this option is what makes procps before 4.0.4 right.
    let daemon = Daemon::start(&["--uptime=host"]);
    let (container, _) = debian(&daemon, docker);
    let ages = container.exec_sh("sleep 2; ps -eo etimes=").ok();
    let ages = numbers(&ages);
    assert!(
        !ages.is_empty() && ages.iter().all(|age| *age < 600.0),
        "{ages:?}"
    );
}

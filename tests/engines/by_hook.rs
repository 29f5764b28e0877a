//! Files that runc lets nobody bind but a hook, and slabinfo, as real tools show them.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use crate::common::docker::{Container, Docker, Image, SIX_FILES, options, proc_volumes};
use crate::common::figures::{Stat, keyed, numbers};
use crate::common::{Daemon, beside_others, run, skip};

/// A container with all files bound: those that runc refuses as an option from outside, as
/// a hook does it.
fn debian(daemon: &Daemon, docker: &'static Docker) -> Container {
    let mut line = options("-m 64m --cpus 1");
    line.extend(proc_volumes(daemon, &SIX_FILES));
    line.extend(proc_volumes(daemon, &["slabinfo"]));
    line.extend([
        "-v".to_owned(),
        format!("{}:/lxcfs", daemon.point().display()),
    ]);
    let container = docker.container(Image::Debian, &line);
    let init = container.inside().init.to_string();
    for file in ["vmstat", "interrupts", "softirqs"] {
        let (from, to) = (format!("/lxcfs/proc/{file}"), format!("/proc/{file}"));
        let bind = ["-t", &init, "-m", "mount", "--bind", &from, &to];
        run(Command::new("nsenter").args(bind)).ok();
    }
    container
}

/// The figure before these words in the output of `vmstat -s`.
fn figure(text: &str, words: &str) -> f64 {
    let line = text.lines().find(|line| line.ends_with(words));
    numbers(line.unwrap_or_else(|| panic!("no {words} in {text}")))[0]
}

#[test]
fn vmstat_slabtop_and_sar_show_the_containers_memory() {
    let docker = match Docker::get() {
        Ok(docker) => docker,
        Err(why) => skip!("{why}"),
    };
    let _turn = beside_others();
    let daemon = Daemon::start(&[]);
    let container = debian(&daemon, docker);
    let tool = |script: &str| container.exec_sh(script).ok();

    let both = keyed(&tool("cat /proc/meminfo /proc/vmstat"));
    assert_eq!(both["MemTotal"], 64 << 10);
    assert!(both["nr_free_pages"] * 4 <= 64 << 10, "{both:?}");
    let distance = both["MemFree"].abs_diff(both["nr_free_pages"] * 4);
    assert!(distance < 2048, "{distance} kB apart: {both:?}");
    assert!(
        both["pgfault"] > 0 && both["pgfault"] < 10_000_000,
        "{both:?}"
    );

    // The first line is the average since the container's start.
    let line = numbers(tool("vmstat").lines().nth(2).expect("a row of numbers"));
    assert!(line[3] <= 65_536.0, "{line:?}");
    for (what, column) in [
        ("si", 6),
        ("so", 7),
        ("bi", 8),
        ("bo", 9),
        ("in", 10),
        ("cs", 11),
    ] {
        assert!(line[column] < 1e6, "{what}: {line:?}");
    }
    let sums = tool("vmstat -s");
    assert_eq!(figure(&sums, "K total memory"), 65_536.0, "{sums}");
    assert!(figure(&sums, "K paged in") < 1e6, "{sums}");

    let slab_kb = || keyed(&tool("cat /proc/meminfo"))["Slab"] as f64;
    let before_kb = slab_kb();
    let caches = tool("vmstat -m");
    assert!(caches.contains("slab_reclaimable"), "{caches}");
    let top = tool("slabtop -o");
    let sizes = top.lines().find(|line| line.contains("Total Size"));
    // Active and total size, in K.
    let shown_kb = numbers(sizes.unwrap_or_else(|| panic!("{top}")))[1];
    let after_kb = slab_kb();
    let around = before_kb.min(after_kb) - 1024.0..before_kb.max(after_kb) + 1024.0;
    assert!(around.contains(&shown_kb), "{around:?} kB: {top}");

    let sar = tool("sar -B 1 2");
    let rates = numbers(
        sar.lines()
            .find(|line| line.starts_with("Average"))
            .expect("an average"),
    );
    assert!(rates[..4].iter().all(|rate| *rate < 1e6), "{sar}");
}

#[test]
fn faults_of_a_container_show_in_its_vmstat_and_in_no_other() {
    let docker = match Docker::get() {
        Ok(docker) => docker,
        Err(why) => skip!("{why}"),
    };
    let _turn = beside_others();
    let daemon = Daemon::start(&[]);
    let (busy, idle) = (debian(&daemon, docker), debian(&daemon, docker));
    let faults =
        |container: &Container| keyed(&container.exec(&["cat", "/proc/vmstat"]).ok())["pgfault"];
    let before = (faults(&busy), faults(&idle));
    busy.exec_sh("i=0; while [ $i -lt 300 ]; do /bin/true; i=$((i + 1)); done; sleep 3")
        .ok();
    let grown = (faults(&busy) - before.0, faults(&idle) - before.1);
    assert!(grown.0 > 10_000, "{grown:?}");
    // Each exec is some hundred faults of the engine's own.
    assert!(grown.1 < grown.0 / 3, "{grown:?}");
}

#[test]
fn slabinfo_is_for_root_and_one_snapshot_whatever_the_size_of_reads() {
    let docker = match Docker::get() {
        Ok(docker) => docker,
        Err(why) => skip!("{why}"),
    };
    let _turn = beside_others();
    let daemon = Daemon::start(&[]);
    let mode = std::fs::metadata(daemon.path("proc/slabinfo"))
        .expect("slabinfo")
        .permissions();
    assert_eq!(mode.mode() & 0o777, 0o400);
    let container = debian(&daemon, docker);
    let as_user = [
        "exec",
        "--user",
        "65534:65534",
        &container.name,
        "cat",
        "/proc/slabinfo",
    ];
    let ran = docker.run(&as_user);
    assert!(
        ran.err.contains("Permission denied") && ran.out.is_empty(),
        "{ran:?}"
    );

    let text = container
        .exec_sh("dd if=/proc/slabinfo bs=32 2>/dev/null")
        .ok();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 4, "{text}");
    for line in &lines[2..] {
        assert_eq!(line.split_whitespace().count(), 16, "{text}");
    }
}

#[test]
fn interrupts_have_the_columns_of_the_cpus_shown_and_the_sums_of_stat() {
    let docker = match Docker::get() {
        Ok(docker) => docker,
        Err(why) => skip!("{why}"),
    };
    let _turn = beside_others();
    let daemon = Daemon::start(&[]);
    let container = debian(&daemon, docker);
    let cat = |file: &str| container.exec(&["cat", &format!("/proc/{file}")]).ok();
    let sum = |text: &str, row: &str| -> u64 {
        let line = text.lines().find(|line| line.trim_start().starts_with(row));
        let words = line.unwrap_or_else(|| panic!("no {row} in {text}"));
        words
            .split_whitespace()
            .filter_map(|word| word.parse::<u64>().ok())
            .sum()
    };
    for file in ["interrupts", "softirqs"] {
        let text = cat(file);
        let heading: Vec<&str> = text
            .lines()
            .next()
            .expect("a heading")
            .split_whitespace()
            .collect();
        let ids: Vec<String> = Stat::parse(&cat("stat"))
            .ids()
            .iter()
            .map(|id| format!("CPU{id}"))
            .collect();
        assert_eq!(heading, ids, "{text}");
    }
    let (softirqs, stat) = (cat("softirqs"), Stat::parse(&cat("stat")));
    let shown: u64 = softirqs.lines().skip(1).map(|line| sum(line, "")).sum();
    assert!(
        shown > 0 && shown <= stat.lines["softirq"][0],
        "{softirqs} {stat:?}"
    );
    if cat("interrupts").contains("LOC:") {
        let (timer, stat) = (sum(&cat("interrupts"), "LOC:"), Stat::parse(&cat("stat")));
        assert!(
            timer > 0 && timer <= stat.lines["intr"][0],
            "{timer} {stat:?}"
        );
    }
    // What all interrupts and what those of each CPU were, a second.
    for kind in ["SUM", "CPU", "SCPU"] {
        let table = container
            .exec_sh(&format!("mpstat -I {kind} -P ALL 1 1"))
            .ok();
        // The first line is about the kernel.
        let rates: Vec<f64> = table.lines().skip(1).flat_map(numbers).collect();
        assert!(rates.iter().all(|rate| *rate < 1e6), "{kind}: {table}");
        assert!(table.contains("Average"), "{kind}: {table}");
    }
}

//! Programs that fill a terminal: htop, btop, nmon, atop.

use crate::common::docker::{Docker, Image, proc_volumes};
use crate::common::figures::numbers;
use crate::common::{Daemon, beside_others, skip};
use crate::stand::{BTIME, FILE, Observed, SYSINFO, Stand};
use crate::table::Fact::{Busy, Cpus, Disk, Load, Memory, Uptime};
use crate::table::{Table, Verdict};
use crate::truth::Whose;

pub fn check(stand: &Stand, table: &mut Table) {
    if stand.has(table, "atop") {
        atop(stand, table);
    }
    if !stand.observe("python3 -c 'import pyte'").text.is_empty() {
        return table.absent("python3-pyte, and so screens");
    }
    if stand.has(table, "htop") {
        htop(stand, table);
    }
    if stand.has(table, "btop") {
        btop(stand, table);
    }
    if stand.has(table, "nmon") {
        nmon(stand, table);
    }
}

/// Seconds from `H:MM:SS`.
fn clock(text: &str) -> Option<f64> {
    let word = text.split_whitespace().next()?;
    let parts: Option<Vec<f64>> = word.split(':').map(|part| part.parse().ok()).collect();
    Some(parts?.iter().fold(0.0, |sum, part| sum * 60.0 + part))
}

fn after<'a>(seen: &'a Observed, text: &str) -> &'a str {
    seen.text.split(text).nth(1).unwrap_or_default()
}

/// The meters of CPUs in a line of htop, name and content: `CPU[|||  93.1%]` where there is one, else `0[|||  93.1%]`.
fn meters(line: &str) -> Vec<(&str, &str)> {
    let parts: Vec<&str> = line.split('[').collect();
    let pairs = parts.windows(2).filter_map(|pair| {
        let name = pair[0].rsplit(']').next()?.split_whitespace().last()?;
        Some((name, pair[1].split(']').next()?))
    });
    let is_cpu = |name: &str| name == "CPU" || name.parse::<u32>().is_ok();
    pairs.filter(|(name, _)| is_cpu(name)).collect()
}

fn htop(stand: &Stand, table: &mut Table) {
    let seen = stand.observe("python3 /tools/screen.py 40 160 5 htop -d 20");
    let meters: Vec<(&str, &str)> = seen.text.lines().take(8).flat_map(meters).collect();
    let online = meters.iter().filter(|(_, bar)| !bar.contains("offline"));
    table.put("htop", Cpus, seen.cpus(Some(online.count() as f64), FILE));
    let verdict = seen.cpus_from_zero(Some(meters.len() as f64));
    table.symptom("htop: no meter of a CPU that is not there", verdict);
    let total = after(&seen, "Mem[").split('/').nth(1).map(numbers);
    let kb = total.and_then(|numbers| Some(numbers.first()? * 1024.0));
    table.put("htop", Memory, seen.memory_kb(kb, 1024.0, FILE));
    table.put(
        "htop",
        Uptime,
        seen.uptime(clock(after(&seen, "Uptime:")), 3.0, FILE),
    );
    table.put(
        "htop",
        Load,
        seen.load(seen.number("Load average:", 0), FILE),
    );
    let row = seen
        .text
        .lines()
        .find(|line| line.contains("/tools/busy") && !line.contains("sh -c"));
    let busy = row.and_then(|row| row.split_whitespace().nth(8)?.parse().ok());
    table.put("htop", Busy, seen.busy(busy, Whose::BusyProcess, 2.0));
}

fn btop(stand: &Stand, table: &mut Table) {
    let seen = stand.observe("python3 /tools/screen.py 50 200 5 btop");
    let kb = seen.number("Total:", 0).map(|mib| mib * 1024.0);
    table.put("btop", Memory, seen.memory_kb(kb, 1024.0, FILE));
    table.put(
        "btop",
        Uptime,
        seen.uptime(clock(after(&seen, " up ")), 3.0, FILE),
    );
    table.put("btop", Load, seen.load(seen.number("LAV:", 0), SYSINFO));
    let row = seen.text.lines().find(|line| line.contains(" busy "));
    let busy = row.and_then(|row| numbers(row).last().copied());
    table.put("btop", Busy, seen.busy(busy, Whose::BusyProcess, 2.0));
    // A row for each core, `C0`, with its share.
    let cores = seen.text.lines().filter(|line| {
        let name = line
            .split('\u{2502}')
            .find_map(|part| part.strip_prefix('C'));
        name.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    });
    table.put(
        "btop",
        Cpus,
        seen.cpus_from_zero(Some(cores.count() as f64)),
    );
}

fn nmon(stand: &Stand, table: &mut Table) {
    let seen = stand.observe_writing("NMON=lcmdtk python3 /tools/screen.py 90 120 6 nmon -s 2");
    let kb = seen.number("Total (MB)", 0).map(|mib| mib * 1024.0);
    table.put("nmon", Memory, seen.memory_kb(kb, 100.0, FILE));
    let rows: Vec<Vec<f64>> = after(&seen, "CPU User%")
        .lines()
        .skip(1)
        .take_while(|line| !line.contains("---"))
        .map(numbers)
        .collect();
    let single = rows.iter().filter(|row| row.len() >= 5);
    table.put("nmon", Cpus, seen.cpus(Some(single.count() as f64), FILE));
    let row = seen.text.lines().find(|line| line.contains(" busy"));
    let busy = row.and_then(|row| {
        row.trim_start_matches('x')
            .split_whitespace()
            .nth(1)?
            .parse()
            .ok()
    });
    table.put("nmon", Busy, seen.busy(busy, Whose::BusyProcess, 2.0));
    table.put("nmon", Load, seen.load(seen.number("1 mins", 0), FILE));
    // The line that also has the average of five minutes: days, hours, minutes.
    let up = |index| seen.number("5 mins", index);
    let minutes = up(2)
        .zip(up(3))
        .map(|(hours, minutes)| hours * 60.0 + minutes);
    let seconds = up(1)
        .zip(minutes)
        .map(|(days, minutes)| days * 86_400.0 + minutes * 60.0);
    table.put(
        "nmon",
        Uptime,
        seen.uptime(seconds.map(|up| up + 30.0), 32.0, FILE),
    );
    match &stand.disk {
        Some(disk) => {
            let row = seen
                .text
                .lines()
                .find(|line| line.trim_start_matches('x').starts_with(disk.as_str()));
            // Busy, read, write, after the name.
            let columns = row.and_then(|row| Some(numbers(row.split_once(disk)?.1)));
            let rate = columns.and_then(|columns| columns.get(2).copied());
            table.put("nmon", Disk, seen.writing_kb(rate));
        }
        None => table.put("nmon", Disk, Verdict::Limit("no disk")),
    }
}

fn atop(stand: &Stand, table: &mut Table) {
    // Its first report covers the time since boot, the second one two seconds.
    let seen = stand.observe("atop -P CPU,cpu,CPL,MEM,DSK,PRC 2 2");
    let reports: Vec<&str> = seen.text.split("SEP").collect();
    let busy_ticks = |label: &str| -> f64 {
        let lines = reports.get(1).map_or("", |report| report).lines();
        let rows = lines
            .filter(|line| line.starts_with(label))
            .map(|row| row.split(' '));
        // System and user.
        rows.flat_map(|row| row.skip(8).take(2))
            .filter_map(|word| word.parse::<f64>().ok())
            .sum()
    };
    let (all, each) = (busy_ticks("CPU "), busy_ticks("cpu "));
    // Which is row by row from 0, whether or not there is a CPU 0.
    let verdict = if each == 0.0 && stand.cpus().last() >= Some(&(stand.cpus().len() as u32)) {
        Verdict::Limit("ids from 0")
    } else {
        Verdict::holds(
            all > 0.0 && (all - each).abs() <= 3.0,
            format!("{all} {each}"),
        )
    };
    table.symptom("atop: its lines for each CPU add up", verdict);
    let field = |report: usize, label: &str, index: usize| -> Option<f64> {
        let mut lines = reports.get(report)?.lines();
        lines
            .find(|line| line.starts_with(label))?
            .split(' ')
            .nth(index)?
            .parse()
            .ok()
    };
    table.put("atop", Cpus, seen.cpus(field(1, "CPU", 7), FILE));
    let kb = field(1, "MEM", 6)
        .zip(field(1, "MEM", 7))
        .map(|(page, count)| page * count / 1024.0);
    table.put("atop", Memory, seen.memory_kb(kb, 4.0, FILE));
    table.put("atop", Uptime, seen.uptime(field(0, "CPU", 5), 3.0, BTIME));
    table.put("atop", Load, seen.load(field(1, "CPL", 7), FILE));
    let row = reports
        .get(1)
        .and_then(|report| report.lines().find(|line| line.contains("(busy)")));
    let ticks = |index| row.and_then(|row| row.split(' ').nth(index)?.parse::<f64>().ok());
    let busy = ticks(10)
        .zip(ticks(11))
        .map(|(user, system)| (user + system) / 2.0);
    table.put("atop", Busy, seen.busy(busy, Whose::BusyProcess, 2.0));
    if stand.disk.is_some() {
        let kb = field(0, "DSK", 11).map(|sectors| sectors / 2.0);
        table.put("atop", Disk, seen.written_kb(kb));
    }
}

/// A container's first process need not wait for others. Atop gives up when it finds more processes than threads.
#[test]
fn atop_goes_on_where_processes_have_ended_and_nobody_waits_for_them() {
    let _turn = beside_others();
    let docker = match Docker::get() {
        Ok(docker) => docker,
        Err(why) => skip!("{why}"),
    };
    if let Err(why) = docker.prepare(Image::Tools) {
        skip!("{why}");
    }
    let daemon = Daemon::start(&[]);
    let volumes = proc_volumes(&daemon, &["loadavg", "stat", "uptime"]);
    let container = docker.container(Image::Tools, &volumes);
    if !container.exec_sh("command -v atop").succeeded() {
        skip!("atop is not in the image");
    }
    container
        .exec_sh("for i in 1 2 3 4 5 6; do sh -c 'true & true & exit' & done; sleep 0.5")
        .ok();
    let zombies = container.exec_sh("ps -eo stat= | grep -c Z").ok();
    let seen = container.exec_sh("atop -P CPL 1 1");
    assert!(
        zombies.trim() != "0" && seen.out.contains("CPL "),
        "{zombies} {seen:?}"
    );
    let total = container
        .exec_sh("cat /proc/loadavg; ls -d /proc/[0-9]* | wc -l")
        .ok();
    let (shown, visible) = (
        numbers(&total)[4],
        *numbers(&total).last().expect("a count"),
    );
    // Between the two commands the processes are not quite the same.
    assert!((shown - visible).abs() <= 2.0, "{total}");
}

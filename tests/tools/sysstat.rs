//! sysstat: mpstat, iostat, sar, pidstat.

use crate::stand::{FILE, Observed, Stand};
use crate::table::Fact::{Busy, Cpus, Disk, Load, Memory};
use crate::table::{Table, Verdict};
use crate::truth::Whose;

pub fn check(stand: &Stand, table: &mut Table) {
    if !stand.has(table, "mpstat") {
        return;
    }
    mpstat(stand, table);
    iostat(stand, table);
    sar(stand, table);

    let pidstat = stand.observe("pidstat -u 2 1");
    table.put("pidstat", Cpus, header(&pidstat));
    let busy = busy_by_pidstat(&pidstat);
    table.put("pidstat", Busy, pidstat.busy(busy, Whose::BusyProcess, 2.0));
    let known: Vec<String> = stand
        .inside
        .cgroup
        .cpuset()
        .iter()
        .map(ToString::to_string)
        .collect();
    let row = pidstat
        .text
        .lines()
        .find(|line| line.trim_end().ends_with(" busy"));
    let cpu = row.and_then(|row| row.split_whitespace().rev().nth(1));
    table.symptom(
        "pidstat: CPU of the task is one it may use",
        Verdict::holds(
            cpu.is_some_and(|cpu| known.iter().any(|id| id == cpu)),
            &pidstat.text,
        ),
    );
}

/// `(1 CPU)`
fn header(seen: &Observed) -> Verdict {
    let count = seen
        .text
        .split(" CPU)")
        .next()
        .and_then(|text| text.rsplit_once('('));
    seen.cpus(count.and_then(|(_, count)| count.parse().ok()), FILE)
}

fn busy_by_pidstat(seen: &Observed) -> Option<f64> {
    let row = seen
        .text
        .lines()
        .rfind(|line| line.starts_with("Average:") && line.ends_with(" busy"))?;
    row.split_whitespace().rev().nth(2)?.parse().ok()
}

/// Per cent of one CPU, from the last column of a row, which is the idle time of all.
fn from_idle(stand: &Stand, row: &str) -> Option<f64> {
    let idle: f64 = row.split_whitespace().last()?.parse().ok()?;
    Some((100.0 - idle) * stand.cpus().len() as f64)
}

/// The same where stolen time is a column before it.
fn used(stand: &Stand, row: &str, steal: usize) -> Option<f64> {
    let stolen: f64 = row.split_whitespace().rev().nth(steal)?.parse().ok()?;
    Some(from_idle(stand, row)? - stolen * stand.cpus().len() as f64)
}

fn mpstat(stand: &Stand, table: &mut Table) {
    let first = stand.observe("mpstat");
    table.put("mpstat", Cpus, header(&first));
    let row = first.text.lines().last().unwrap_or_default();
    let busy = used(stand, row, 3).map(|busy| busy / stand.cpus().len() as f64);
    table.symptom(
        "mpstat: the first report is the container's life",
        first.busy_since_start(busy, Whose::Container),
    );
    let two = stand.observe("mpstat -P ALL 2 1");
    let row = two
        .text
        .lines()
        .find(|line| line.starts_with("Average:") && line.contains(" all "));
    let busy = row.and_then(|row| used(stand, row, 3));
    table.put("mpstat", Busy, two.busy(busy, Whose::Container, 2.0));
    let ids: Vec<u32> = two
        .text
        .lines()
        .filter(|line| line.starts_with("Average:"))
        .filter_map(|line| line.split_whitespace().nth(1)?.parse().ok())
        .collect();
    table.symptom(
        "mpstat -P ALL: exactly the CPUs that are the container's",
        Verdict::holds(ids == Vec::from_iter(stand.cpus()), &two.text),
    );
}

fn iostat(stand: &Stand, table: &mut Table) {
    let first = stand.observe("iostat -x");
    table.put("iostat", Cpus, header(&first));
    let mut rows = first
        .text
        .lines()
        .skip_while(|line| !line.starts_with("avg-cpu"));
    let row = rows.nth(1).unwrap_or_default();
    let busy = used(stand, row, 1).map(|busy| busy / stand.cpus().len() as f64);
    table.put(
        "iostat",
        Busy,
        first.busy_since_start(busy, Whose::Container),
    );
    let Some(disk) = &stand.disk else {
        return table.put("iostat", Disk, Verdict::Limit("no disk"));
    };
    let util = first
        .words(disk)
        .last()
        .and_then(|word| word.parse::<f64>().ok());
    table.symptom(
        "iostat -x: %util of the first report at most 100",
        Verdict::holds(util.is_some_and(|util| util <= 100.0), &first.text),
    );
    let total = stand.observe("iostat -d -k");
    table.put("iostat", Disk, total.written_kb(total.word(disk, 6)));
    let rate = stand.observe_writing("iostat -d -k -y 3 1");
    table.put("iostat", Disk, rate.writing_kb(rate.word(disk, 3)));
}

fn sar(stand: &Stand, table: &mut Table) {
    let cpu = stand.observe("sar -u 2 1");
    table.put("sar", Cpus, header(&cpu));
    let busy = used(stand, cpu.text.lines().last().unwrap_or_default(), 1);
    table.put("sar", Busy, cpu.busy(busy, Whose::Container, 2.0));

    let memory = stand.observe("sar -r ALL 1 1");
    let row = memory.words("Average:");
    let figure = |index: usize| row.get(index).and_then(|word| word.parse::<f64>().ok());
    // Total is not a column of its own: free, and used with its share of the total.
    let total = figure(3)
        .zip(figure(4))
        .map(|(used, share)| 100.0 * used / share);
    let total = total
        .zip(figure(4))
        .map(|(total, share)| (total, total * 0.006 / share));
    let verdict = memory.memory_kb(
        total.map(|(kb, _)| kb),
        total.map_or(0.0, |(_, unit)| unit),
        FILE,
    );
    table.put("sar", Memory, verdict);
    table.symptom(
        "sar -r: %commit is of this machine",
        Verdict::holds(figure(8).is_some_and(|share| share <= 100.0), &memory.text),
    );

    let load = stand.observe("sar -q LOAD 1 1");
    table.put("sar", Load, load.load(load.word("Average:", 3), FILE));
    if let Some(disk) = &stand.disk {
        let rate = stand.observe_writing("sar -d 3 1");
        let row = rate.words(disk);
        table.put(
            "sar",
            Disk,
            rate.writing_kb(row.get(4).and_then(|word| word.parse().ok())),
        );
    } else {
        table.put("sar", Disk, Verdict::Limit("no disk"));
    }
    let paging = stand.observe("sar -B 1 1");
    let faults = paging.word("Average:", 3);
    table.symptom(
        "sar -B: no faults of others",
        Verdict::holds(faults.is_some_and(|rate| rate < 20_000.0), &paging.text),
    );
}

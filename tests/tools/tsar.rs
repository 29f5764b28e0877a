//! The way of tsar, which is no Debian package: reads of 4096 bytes of six files, twice, and sums of lines and columns.

use crate::common::figures::{Stat, cpuinfo_ids, diskstats, keyed, numbers};
use crate::stand::{FILE, Stand};
use crate::table::Fact::{Busy, Cpus, Disk, Load, Memory};
use crate::table::{Table, Verdict};
use crate::truth::Whose;

const SECONDS: f64 = 3.0;

const READ_TWICE: &str = "
    for time in 1 2; do
        for file in cpuinfo diskstats loadavg meminfo stat vmstat; do
            echo == $time $file
            dd if=/proc/$file bs=4096 status=none
        done
        [ $time = 2 ] || sleep 3
    done
    echo ==";

pub fn check(stand: &Stand, table: &mut Table) {
    let seen = stand.observe_writing(READ_TWICE);
    let part = |time: usize, file: &str| -> String {
        let parts = seen.text.split(&format!("== {time} {file}\n")).nth(1);
        let part = parts.and_then(|part| part.split("\n==").next());
        part.unwrap_or_default().to_owned()
    };
    let both = |file: &str| [part(1, file), part(2, file)];

    let cpus = cpuinfo_ids(&part(2, "cpuinfo")).len() as f64;
    table.put("tsar", Cpus, seen.cpus(Some(cpus), FILE));

    let [before, after] = both("stat").map(|text| Stat::parse(&text));
    table.put("tsar", Cpus, seen.cpus(Some(after.cpus.len() as f64), FILE));
    let share = |from: &[u64], to: &[u64]| {
        let passed = (Stat::capacity(to) - Stat::capacity(from)) as f64;
        100.0 * (Stat::busy(to) - Stat::busy(from)) as f64 / passed
    };
    let all = share(&before.total, &after.total) * after.cpus.len() as f64;
    table.put(
        "tsar --cpu",
        Busy,
        seen.busy(Some(all), Whose::Container, SECONDS),
    );
    let each: f64 = after
        .cpus
        .iter()
        .filter_map(|(id, line)| Some(share(before.cpus.get(id)?, line)))
        .sum();
    table.put(
        "tsar --percpu",
        Busy,
        seen.busy(Some(each), Whose::Container, SECONDS),
    );
    let rate = |name: &str| (after.lines[name][0] - before.lines[name][0]) as f64 / SECONDS;
    table.symptom(
        "tsar --pcsw: context switches and forks of this container",
        Verdict::holds(
            rate("ctxt") < 20_000.0 && rate("processes") < 500.0,
            format!("{} {}", rate("ctxt"), rate("processes")),
        ),
    );

    let memory = keyed(&part(2, "meminfo"));
    let kb = memory.get("MemTotal").map(|kb| *kb as f64);
    table.put("tsar", Memory, seen.memory_kb(kb, 0.0, FILE));
    let counted = ["MemFree", "Buffers", "Cached"].map(|key| memory.get(key).copied().unwrap_or(0));
    let free: u64 = counted.iter().sum();
    table.symptom(
        "tsar --mem: util between 0 and 100",
        Verdict::holds(
            kb.is_some_and(|kb| free as f64 <= kb),
            format!("{free} of {kb:?}"),
        ),
    );

    let load = numbers(&part(2, "loadavg"));
    table.put("tsar", Load, seen.load(load.first().copied(), FILE));
    let (running, total) = (load.get(3).copied(), load.get(4).copied());
    table.symptom(
        "tsar --load: runq and plit are threads of this container",
        Verdict::holds(
            running >= Some(1.0) && running <= total && total < Some(20.0),
            format!("{load:?}"),
        ),
    );

    if let Some(disk) = &stand.disk {
        let [before, after] = both("diskstats").map(|text| diskstats(&text));
        let sectors = before
            .get(disk)
            .zip(after.get(disk))
            .map(|(from, to)| (to[6] - from[6]) as f64);
        table.put(
            "tsar",
            Disk,
            seen.writing_kb(sectors.map(|count| count / 2.0 / SECONDS)),
        );
        let ticks = before
            .get(disk)
            .zip(after.get(disk))
            .map(|(from, to)| (to[9] - from[9]) as f64);
        table.symptom(
            "tsar --io: util at most 100",
            Verdict::holds(
                ticks.is_some_and(|ms| ms <= SECONDS * 1100.0),
                format!("{ticks:?} ms"),
            ),
        );
    }
    let [before, after] = both("vmstat").map(|text| keyed(&text));
    let swapped =
        ["pswpin", "pswpout"].map(|key| (before.get(key).copied(), after.get(key).copied()));
    table.symptom(
        "tsar --swap: counters are there and do not go back",
        Verdict::holds(
            swapped
                .iter()
                .all(|(from, to)| from.is_some() && from <= to),
            format!("{swapped:?}"),
        ),
    );
}

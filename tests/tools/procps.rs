//! procps, and the applets of busybox that do the same.

use crate::stand::{AFFINITY, FILE, Observed, SYSINFO, Stand};
use crate::table::Fact::{Busy, Cpus, Disk, Load, Memory, Uptime};
use crate::table::{Table, Verdict};
use crate::truth::Whose;

pub fn check(stand: &Stand, table: &mut Table) {
    if stand.has(table, "free") {
        procps(stand, table);
    }
    if stand.has(table, "busybox") {
        busybox(stand, table);
    }
}

/// Seconds from a text such as `up 1:02`, `up 5 min` or `up 6 days, 12:01`.
fn up_seconds(text: &str) -> Option<f64> {
    let after = text.split(" up ").nth(1)?;
    let mut seconds = 0.0;
    for part in after.split(',').map(str::trim) {
        let mut words = part.split_whitespace();
        let (number, unit) = (words.next()?, words.next());
        seconds += match (number.split_once(':'), unit) {
            (Some((hours, minutes)), _) => {
                hours.parse::<f64>().ok()? * 3600.0 + minutes.parse::<f64>().ok()? * 60.0
            }
            (None, Some("min")) => number.parse::<f64>().ok()? * 60.0,
            (None, Some("day" | "days")) => number.parse::<f64>().ok()? * 86_400.0,
            _ => break,
        };
    }
    Some(seconds)
}

/// The minute in which the container is is not over yet.
pub fn up_to_the_minute(seen: &Observed, limit: crate::stand::Limit) -> Verdict {
    seen.uptime(up_seconds(&seen.text).map(|up| up + 30.0), 31.0, limit)
}

fn procps(stand: &Stand, table: &mut Table) {
    let free = stand.observe("free -k");
    table.put(
        "free",
        Memory,
        free.memory_kb(free.number("Mem:", 0), 0.0, FILE),
    );
    let (total, used) = (free.number("Mem:", 0), free.number("Mem:", 1));
    table.symptom(
        "free: used and free fit into total",
        Verdict::holds(used <= total && total.is_some(), &free.text),
    );

    let top = stand.observe("top -b -n2 -d2 -w200");
    let mib = top.number("MiB Mem :", 0).map(|mib| mib * 1024.0);
    table.put("top", Memory, top.memory_kb(mib, 100.0, FILE));
    table.put("top", Uptime, up_to_the_minute(&top, FILE));
    table.put("top", Load, top.load(top.number("load average:", 0), FILE));
    let busy = top.word(" busy", 8);
    table.put("top", Busy, top.busy(busy, Whose::BusyProcess, 2.0));
    let cpus = top.words("%Cpu(s)").join(" ");
    let idle = crate::common::figures::numbers(&cpus).get(3).copied();
    table.put(
        "top",
        Busy,
        top.busy(
            idle.map(|idle| (100.0 - idle) * stand.cpus().len() as f64),
            Whose::Container,
            2.0,
        ),
    );

    let uptime = stand.observe("uptime");
    table.put("uptime", Uptime, up_to_the_minute(&uptime, FILE));
    table.put(
        "uptime",
        Load,
        uptime.load(uptime.number("load average:", 0), FILE),
    );
    let since = stand.observe("date -d \"$(uptime -s)\" +%s");
    table.put("uptime -s", Uptime, since.booted(since.number("", 0), FILE));
    let w = stand.observe("w");
    table.put("w", Uptime, up_to_the_minute(&w, FILE));
    table.put("w", Load, w.load(w.number("load average:", 0), FILE));

    let ps = stand.observe("ps -eo comm=,etimes=,pcpu=");
    // The init comes first; the busy process may have been started seconds later.
    let (age, share) = (ps.number("sh", 0), ps.number("busy", 1));
    if age > Some(1e9) {
        // Before 4.0.4 it takes the age from the uptime; see the module old_procps.
        table.put("ps", Uptime, Verdict::Limit("no time ns"));
    } else {
        table.put("ps", Uptime, ps.uptime(age, 2.0, FILE));
        table.put("ps", Busy, ps.busy_since_start(share, Whose::BusyProcess));
    }

    let shown = stand.observe("cat /proc/loadavg").number("", 0);
    let recorded = stand.load_recorded();
    table.symptom(
        "loadavg: follows the threads of the container",
        Verdict::holds(
            shown.is_some_and(|shown| (shown - recorded).abs() < 0.5),
            format!("{shown:?}, recorded {recorded}"),
        ),
    );

    vmstat(stand, table);

    let closed = stand.observe("setpriv --reuid 1000 --clear-groups cat /proc/slabinfo 2>&1");
    table.symptom(
        "slabinfo: closed to users",
        Verdict::holds(closed.text.contains("Permission denied"), &closed.text),
    );
    let slabtop = stand.observe("slabtop -o | head -8; grep Slab: /proc/meminfo");
    let size_kb = slabtop.number("Active / Total Size (% used)", 1);
    let slab_kb = slabtop.number("Slab:", 0);
    table.symptom(
        "slabtop: no more than Slab of meminfo",
        Verdict::holds(
            size_kb
                .zip(slab_kb)
                .is_some_and(|(size, slab)| size <= slab + 1024.0),
            &slabtop.text,
        ),
    );
}

fn vmstat(stand: &Stand, table: &mut Table) {
    let vmstat = stand.observe("vmstat -w 2 2");
    let rows: Vec<Vec<f64>> = vmstat
        .text
        .lines()
        .skip(2)
        .map(crate::common::figures::numbers)
        .collect();
    let idle = rows.get(1).and_then(|row| row.get(14)).copied();
    table.put(
        "vmstat",
        Busy,
        vmstat.busy(
            idle.map(|idle| (100.0 - idle) * stand.cpus().len() as f64),
            Whose::Container,
            2.0,
        ),
    );
    // bi, bo, in, cs: since boot in the first row.
    let first: Vec<f64> = rows
        .first()
        .and_then(|row| row.get(8..12))
        .unwrap_or_default()
        .to_vec();
    table.symptom(
        "vmstat: first line without the host's millions",
        Verdict::holds(
            first.len() == 4 && first.iter().all(|rate| *rate < 1e5),
            &vmstat.text,
        ),
    );
    table.symptom(
        "vmstat: r and b are the container's",
        Verdict::holds(
            rows.iter()
                .all(|row| (1.0..6.0).contains(&(row[0] + row[1]))),
            &vmstat.text,
        ),
    );
    let disks = stand.observe("vmstat -d");
    if let Some(disk) = &stand.disk {
        let sectors = disks.word(disk, 7);
        table.put(
            "vmstat -d",
            Disk,
            disks.written_kb(sectors.map(|count| count / 2.0)),
        );
    }
    let all = stand.observe("vmstat -s");
    let before = |name: &str| {
        all.words(name)
            .first()
            .and_then(|word| word.parse::<f64>().ok())
    };
    table.put(
        "vmstat -s",
        Memory,
        all.memory_kb(before("K total memory"), 0.0, FILE),
    );
    table.put(
        "vmstat -s",
        Uptime,
        all.booted(before("boot time"), crate::stand::BTIME),
    );
    let used = [before("non-nice user"), before("system cpu ticks")];
    let used = used[0]
        .zip(used[1])
        .map(|(user, system)| (user + system) / 100.0);
    table.put("vmstat -s", Busy, all.used(used, Whose::Container));
    table.symptom(
        "vmstat -s: pages written are the container's",
        match stand.disk {
            Some(_) => all.written_kb(before("K paged out")),
            None => Verdict::Limit("no disk"),
        },
    );
}

fn busybox(stand: &Stand, table: &mut Table) {
    let free = stand.observe("busybox free");
    table.put(
        "busybox free",
        Memory,
        free.memory_kb(free.number("Mem:", 0), 1.0, SYSINFO),
    );
    let uptime = stand.observe("busybox uptime");
    table.put("busybox uptime", Uptime, up_to_the_minute(&uptime, SYSINFO));
    table.put(
        "busybox uptime",
        Load,
        uptime.load(uptime.number("load average:", 0), SYSINFO),
    );
    let nproc = stand.observe("busybox nproc");
    table.put(
        "busybox nproc",
        Cpus,
        nproc.cpus(nproc.number("", 0), AFFINITY),
    );

    let top = stand.observe("busybox top -b -n2 -d2 | grep -v grep");
    let kb = top
        .number("Mem:", 0)
        .zip(top.number("Mem:", 1))
        .map(|(used, free)| used + free);
    table.put("busybox top", Memory, top.memory_kb(kb, 4.0, FILE));
    table.put(
        "busybox top",
        Load,
        top.load(top.number("Load average:", 0), FILE),
    );
    let idle = top
        .words("CPU:")
        .get(7)
        .and_then(|word| word.trim_end_matches('%').parse().ok());
    table.put(
        "busybox top",
        Busy,
        top.busy(
            idle.map(|idle: f64| (100.0 - idle) * stand.cpus().len() as f64),
            Whose::Container,
            2.0,
        ),
    );
}

//! Agents: node_exporter, collectd, monit.

use std::collections::BTreeSet;

use crate::stand::{BTIME, FILE, Observed, SYSINFO, Stand, two_decimals};
use crate::table::Fact::{Busy, Cpus, Disk, Load, Memory, Uptime};
use crate::table::{Table, Verdict};
use crate::truth::Whose;

pub fn check(stand: &Stand, table: &mut Table) {
    if stand.has(table, "prometheus-node-exporter") {
        node_exporter(stand, table);
    }
    if stand.has(table, "collectd") {
        collectd(stand, table);
    }
    if stand.has(table, "monit") {
        monit(stand, table);
    }
}

fn node_exporter(stand: &Stand, table: &mut Table) {
    let seen = stand.observe(
        "prometheus-node-exporter --web.listen-address=127.0.0.1:9100 2>/dev/null & \
         python3 -c 'import time, urllib.request\n\
         for _ in range(100):\n\
         \x20   try:\n\
         \x20       print(urllib.request.urlopen(\"http://127.0.0.1:9100/metrics\").read().decode()); break\n\
         \x20   except OSError: time.sleep(0.1)'; kill $!",
    );
    let get = |name: &str| -> Option<f64> {
        let line = seen.text.lines().find(|line| line.starts_with(name))?;
        line.split_whitespace().last()?.parse().ok()
    };
    let modes = |mode: &str| {
        let lines = seen
            .text
            .lines()
            .filter(|line| line.starts_with("node_cpu_seconds_total{"));
        lines
            .filter(|line| line.contains(&format!("mode=\"{mode}\"")))
            .collect::<Vec<_>>()
    };
    let sum = |mode: &str| -> f64 {
        let values = modes(mode);
        values
            .iter()
            .filter_map(|line| line.split(' ').nth(1)?.parse::<f64>().ok())
            .sum()
    };
    let name = "node_exporter";
    table.put(
        name,
        Cpus,
        seen.cpus(Some(modes("idle").len() as f64), FILE),
    );
    let kb = get("node_memory_MemTotal_bytes").map(|bytes| bytes / 1024.0);
    table.put(name, Memory, seen.memory_kb(kb, 0.0, FILE));
    table.put(
        name,
        Uptime,
        seen.booted(get("node_boot_time_seconds"), BTIME),
    );
    table.put(
        name,
        Busy,
        seen.used(
            Some(sum("user") + sum("system") + sum("nice")),
            Whose::Container,
        ),
    );
    table.put(name, Load, seen.load(get("node_load1"), FILE));
    if let Some(disk) = &stand.disk {
        let bytes = get(&format!(
            "node_disk_written_bytes_total{{device=\"{disk}\"}}"
        ));
        table.put(
            name,
            Disk,
            seen.written_kb(bytes.map(|bytes| bytes / 1024.0)),
        );
    }
    let outside = get("node_vmstat_pgpgout").map(|kb| kb - seen.written_total_kb());
    table.symptom(
        "node_exporter: pages written are the container's",
        Verdict::holds(
            outside.is_some_and(|kb| kb <= 1024.0),
            format!("{outside:?} kB more"),
        ),
    );
    let stalled = get("node_pressure_cpu_waiting_seconds_total");
    table.symptom(
        "node_exporter: no pressure before the container's start",
        seen.no_longer_than_alive(stalled),
    );
}

/// A figure of the first line such as `PUTVAL here/load/load interval=1.000 TIME:0.31:0.20:0.15`.
fn first_value(seen: &Observed, list: &str, index: usize) -> Option<f64> {
    let line = seen.text.lines().find(|line| line.contains(list))?;
    line.rsplit(' ').next()?.split(':').nth(index)?.parse().ok()
}

fn collectd(stand: &Stand, table: &mut Table) {
    let seen = stand.observe("timeout 5 collectd -f -C /tools/collectd.conf");
    let cpus: BTreeSet<&str> = seen
        .text
        .lines()
        .filter_map(|line| {
            line.split_once("here/cpu-")?
                .1
                .split_once("/percent-idle ")?
                .0
                .into()
        })
        .collect();
    table.put("collectd", Cpus, seen.cpus(Some(cpus.len() as f64), FILE));
    let percent = |kind: &str| -> f64 {
        let of = |id: &&str| first_value(&seen, &format!("here/cpu-{id}/percent-{kind} "), 1);
        cpus.iter().filter_map(of).sum()
    };
    let busy = percent("user") + percent("nice") + percent("system");
    table.put(
        "collectd",
        Busy,
        seen.busy(Some(busy), Whose::Container, 0.9),
    );
    table.put(
        "collectd",
        Load,
        seen.load(first_value(&seen, "/load ", 1).map(two_decimals), SYSINFO),
    );
    table.put(
        "collectd",
        Uptime,
        seen.uptime(first_value(&seen, "/uptime ", 1), 5.0, SYSINFO),
    );
    let kinds = [
        "used",
        "buffered",
        "cached",
        "free",
        "slab_recl",
        "slab_unrecl",
    ];
    let bytes: f64 = kinds
        .iter()
        .filter_map(|kind| first_value(&seen, &format!("/memory-{kind} "), 1))
        .sum();
    table.put(
        "collectd",
        Memory,
        seen.memory_kb(Some(bytes / 1024.0), 4.0, FILE),
    );
    if let Some(disk) = &stand.disk {
        let bytes = first_value(&seen, &format!("/disk-{disk}/disk_octets "), 2);
        table.put(
            "collectd",
            Disk,
            seen.written_kb(bytes.map(|bytes| bytes / 1024.0)),
        );
    }
}

fn monit(stand: &Stand, table: &mut Table) {
    let seen = stand.observe(
        "cp /tools/monitrc /tmp/monitrc; chmod 600 /tmp/monitrc; monit -c /tmp/monitrc -I > /dev/null & \
         sleep 5; monit -c /tmp/monitrc status; monit -c /tmp/monitrc quit > /dev/null",
    );
    // `4.7 MB [1.8%]`
    let used = seen
        .number("memory usage", 0)
        .zip(seen.number("memory usage", 1));
    let kb = used.map(|(mb, share)| mb * 1024.0 * 100.0 / share);
    let unit = used.map_or(0.0, |(mb, share)| {
        mb * 1024.0 * 100.0 * (0.06 / mb + 0.06 / share) / share
    });
    table.put("monit", Memory, seen.memory_kb(kb, unit, FILE));
    table.put(
        "monit",
        Load,
        seen.load(seen.number("load average", 0), SYSINFO),
    );
    let user = seen.number("cpu", 0);
    table.put("monit", Busy, seen.busy(user, Whose::Container, 1.0));
    let boot = seen
        .text
        .lines()
        .find_map(|line| line.trim().strip_prefix("boot time"));
    let seconds = stand.observe(&format!(
        "date -d '{}' +%s",
        boot.unwrap_or_default().trim()
    ));
    table.put("monit", Uptime, seen.booted(seconds.number("", 0), FILE));
}

//! Language runtimes that size themselves by the machine: Python with psutil, Node, Java.

use crate::stand::{AFFINITY, BTIME, FILE, SYSINFO, Stand, two_decimals};
use crate::table::Fact::{Busy, Cpus, Disk, Load, Memory, Uptime};
use crate::table::{Table, Verdict};
use crate::truth::Whose;

pub fn check(stand: &Stand, table: &mut Table) {
    if stand.observe("python3 -c 'import psutil'").text.is_empty() {
        psutil(stand, table);
    } else {
        table.absent("psutil");
    }
    if stand.has(table, "node") {
        node(stand, table);
    }
    if stand.has(table, "java") {
        java(stand, table);
    }
}

fn psutil(stand: &Stand, table: &mut Table) {
    let disk = stand.disk.as_deref().unwrap_or("none");
    let seen = stand.observe(&format!(
        "python3 /tools/facts.py {} {disk}",
        stand.busy_pid()
    ));
    let get = |name: &str| seen.number(&format!("{name} "), 0);
    table.put("psutil", Cpus, seen.cpus(get("logical"), FILE));
    table.put("psutil", Cpus, seen.cpus(get("times"), FILE));
    table.put("os.cpu_count", Cpus, seen.cpus(get("os.cpu_count"), FILE));
    table.put(
        "psutil",
        Memory,
        seen.memory_kb(get("memory").map(|bytes| bytes / 1024.0), 0.0, FILE),
    );
    table.put("psutil", Uptime, seen.booted(get("boot"), BTIME));
    table.put(
        "psutil",
        Busy,
        seen.busy(get("busy"), Whose::BusyProcess, 2.0),
    );
    let all = get("busy-all").map(|share| share * stand.cpus().len() as f64);
    table.put("psutil", Busy, seen.busy(all, Whose::Container, 2.0));
    let load = get("load").map(two_decimals);
    table.put("psutil", Load, seen.load(load, SYSINFO));
    table.put(
        "psutil",
        Disk,
        seen.written_kb(get("written").map(|bytes| bytes / 1024.0)),
    );
    table.symptom(
        "psutil: no more physical than logical CPUs",
        Verdict::holds(
            get("physical").is_some() && get("physical") <= get("logical"),
            &seen.text,
        ),
    );
    table.symptom(
        "psutil: age of a process",
        seen.uptime(get("created"), 2.0, FILE),
    );
}

fn node(stand: &Stand, table: &mut Table) {
    let seen = stand.observe("node /tools/facts.js");
    let get = |name: &str| seen.number(&format!("{name} "), 0);
    table.put("node", Cpus, seen.cpus(get("cpus"), FILE));
    table.put("node", Cpus, seen.cpus(get("parallelism"), AFFINITY));
    table.put(
        "node",
        Memory,
        seen.memory_kb(get("memory").map(|bytes| bytes / 1024.0), 0.0, FILE),
    );
    table.put("node", Uptime, seen.uptime(get("uptime"), 1.0, FILE));
    table.put("node", Load, seen.load(get("load"), FILE));
    table.put("node", Busy, seen.busy(get("busy"), Whose::Container, 2.0));
    table.symptom(
        "node: the model of every CPU is known",
        Verdict::holds(get("unknown") == Some(0.0), &seen.text),
    );
}

fn java(stand: &Stand, table: &mut Table) {
    let options = [
        ("java", "", FILE),
        (
            "java -UseContainerSupport",
            "-XX:-UseContainerSupport",
            SYSINFO,
        ),
    ];
    for (name, option, limit) in options {
        let seen = stand.observe(&format!(
            "java -XX:TieredStopAtLevel=1 {option} /tools/Facts.java"
        ));
        let get = |name: &str| seen.number(&format!("{name} "), 0);
        let processors = limit.and(AFFINITY);
        table.put(name, Cpus, seen.cpus(get("cpus"), processors));
        let kb = get("memory").map(|bytes| bytes / 1024.0);
        table.put(name, Memory, seen.memory_kb(kb, 4.0, limit));
        let load = get("load").map(two_decimals);
        table.put(name, Load, seen.load(load, SYSINFO));
        let busy = get("busy").map(|share| share * stand.cpus().len() as f64);
        table.put(name, Busy, seen.busy(busy, Whose::Container, 2.0));
    }
}

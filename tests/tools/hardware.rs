//! Programs that read the trees below `/sys`: hwloc, numactl, DPDK, nginx, stress-ng.

use crate::stand::{FILE, SYSINFO, Stand};
use crate::table::Fact::{Cpus, Memory};
use crate::table::{Table, Verdict};

pub fn check(stand: &Stand, table: &mut Table) {
    if stand.has(table, "hwloc-ls") {
        hwloc(stand, table);
    }
    if stand.has(table, "numactl") {
        numactl(stand, table);
    }
    if stand.has(table, "dpdk-testpmd") {
        dpdk(stand, table);
    }
    if stand.has(table, "nginx") {
        let seen = stand.observe(
            "nginx -c /tools/nginx.conf
             for i in $(seq 50); do ps -eo args= | grep -q '^nginx: worker' && break; sleep 0.1; done
             sleep 0.5; ps -eo args= | grep -c '^nginx: worker'
             nginx -c /tools/nginx.conf -s quit 2>/dev/null",
        );
        table.put("nginx", Cpus, seen.cpus(seen.number("", 0), FILE));
    }
    if stand.has(table, "stress-ng") {
        stress_ng(stand, table);
    }
}

fn hwloc(stand: &Stand, table: &mut Table) {
    let seen = stand.observe(
        "hwloc-ls --no-io --of console; hwloc-info --restrict binding machine:0 | grep memory",
    );
    let units = seen.text.matches("PU L#").count() as f64;
    table.put("hwloc", Cpus, seen.cpus(Some(units), FILE));
    // `Machine (256MB total)`
    let total = seen.number("Machine (", 0);
    let unit_kb = if seen.text.contains("GB total") {
        1_048_576.0
    } else {
        1024.0
    };
    table.put(
        "hwloc",
        Memory,
        seen.memory_kb(total.map(|total| total * unit_kb), 1024.0, FILE),
    );
    let ids: Vec<String> = stand.cpus().iter().map(|id| format!("(P#{id})")).collect();
    table.symptom(
        "hwloc: physical ids of the CPUs",
        Verdict::holds(
            ids.iter().all(|id| {
                seen.text
                    .lines()
                    .any(|line| line.contains("PU L#") && line.contains(id))
            }),
            &seen.text,
        ),
    );
}

fn numactl(stand: &Stand, table: &mut Table) {
    let seen = stand.observe("numactl --hardware; numastat -m 2>&1");
    if seen.text.contains("No NUMA available") {
        // Docker's seccomp profile refuses get_mempolicy(2), by which it asks.
        table.put("numactl", Cpus, Verdict::Limit("seccomp"));
    } else {
        let cpus = crate::common::figures::numbers(
            seen.words("node 0 cpus:")
                .join(" ")
                .split(':')
                .next_back()
                .unwrap_or_default(),
        );
        table.put("numactl", Cpus, seen.cpus(Some(cpus.len() as f64), FILE));
    }
    let mib = seen.number("MemTotal", 0);
    table.put(
        "numastat -m",
        Memory,
        seen.memory_kb(mib.map(|mib| mib * 1024.0), 11.0, FILE),
    );
}

fn dpdk(stand: &Stand, table: &mut Table) {
    let start = |lcores: &str| {
        stand.observe(&format!(
            "timeout 20 dpdk-testpmd {lcores} --no-huge --no-pci -m 16 --no-telemetry --log-level=lib.eal:8 \
             -- --version 2>&1 | grep -v 'log level\\|shared lib'"
        ))
    };
    let seen = start("");
    table.put(
        "dpdk-testpmd",
        Cpus,
        seen.cpus(seen.number("Detected CPU lcores:", 0), FILE),
    );
    let main = seen.number("Main lcore", 0).map(|id| id as u32);
    table.symptom(
        "dpdk: the main lcore is the first CPU of the container",
        Verdict::holds(
            main.is_some() && main == stand.cpus().first().copied(),
            &seen.text,
        ),
    );
    if let Some(id) = stand.cpus().last() {
        let pinned = start(&format!("-l {id}"));
        table.symptom(
            "dpdk -l: a CPU that is shown can be pinned to",
            Verdict::holds(
                pinned.text.contains(&format!("Main lcore {id} is ready")),
                &pinned.text,
            ),
        );
    }
}

fn stress_ng(stand: &Stand, table: &mut Table) {
    // It allocates as much as the machine's largest cache has, which may be beyond the limit.
    let seen = stand.observe("stress-ng --cpu 0 -t 1 -v --temp-path /tmp --cache-size 4m 2>&1");
    // With 0 it starts one for each CPU that could be plugged in.
    let stressors = seen.number("dispatching hogs:", 0);
    table.put("stress-ng", Cpus, seen.possible_cpus(stressors));
    let total = seen.number("RAM total:", 0);
    let unit_kb = if seen.text.contains("G, RAM free") {
        1_048_576.0
    } else {
        1024.0
    };
    let verdict = seen.memory_kb(total.map(|total| total * unit_kb), unit_kb / 10.0, SYSINFO);
    table.put("stress-ng", Memory, verdict);
}

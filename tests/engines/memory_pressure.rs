//! Memory figures while a container uses memory.

use crate::common::docker::{Docker, Image, options, proc_volumes};
use crate::common::figures::keyed;
use crate::common::{Daemon, beside_others, patience, skip, wait_for};

/// A file of this many MiB in the container's own shared memory, and one that is only cached.
const FILL: &str = "dd if=/dev/zero of=/dev/shm/held bs=1M count=40; dd if=/dev/zero of=/cached bs=1M count=30; echo full > /done; sleep 100000";

#[test]
fn shared_memory_counts_as_used_and_page_cache_as_available() {
    let docker = match Docker::get() {
        Ok(docker) => docker,
        Err(why) => skip!("{why}"),
    };
    let _turn = beside_others();
    let daemon = Daemon::start(&[]);
    let mut line = options("-m 150m --shm-size 60m");
    line.extend(proc_volumes(&daemon, &["meminfo"]));
    let container = docker.container_running(Image::Busybox, &line, &["sh", "-c", FILL]);
    let inside = container.inside();
    let done = || {
        container
            .exec(&["test", "-e", "/done"])
            .succeeded()
            .then_some(())
    };
    assert!(
        wait_for(patience(10), done).is_some(),
        "the container does not fill its memory"
    );
    let meminfo = keyed(&inside.read(&daemon, "proc/meminfo"));
    let mib = |key: &str| meminfo[key] / 1024;
    let accounted = [
        (
            "Shmem",
            inside.cgroup.memory_stat("total_shmem", "shmem") >> 20,
        ),
        (
            "Cached",
            inside.cgroup.memory_stat("total_cache", "file") >> 20,
        ),
        ("MemFree", 150 - (inside.cgroup.memory_usage_bytes() >> 20)),
    ];
    for (key, expected) in accounted {
        assert!(
            mib(key).abs_diff(expected) <= 4,
            "{key} should be about {expected} MiB: {meminfo:#?}"
        );
    }
    assert!(mib("Shmem") >= 38, "{meminfo:#?}");
    assert!(mib("Cached") >= mib("Shmem") + 25, "{meminfo:#?}");
    // What is in shared memory cannot be given back; the cached file can.
    assert!(
        meminfo["MemAvailable"] <= meminfo["MemTotal"] - meminfo["Shmem"],
        "{meminfo:#?}"
    );
    assert!(
        meminfo["MemAvailable"] >= meminfo["MemFree"] + (24 << 10),
        "{meminfo:#?}"
    );
}

#[test]
fn a_limit_lowered_below_the_usage_leaves_nothing_free_and_no_exabytes() {
    let docker = match Docker::get() {
        Ok(docker) => docker,
        Err(why) => skip!("{why}"),
    };
    let _turn = beside_others();
    let daemon = Daemon::start(&[]);
    let mut line = options("-m 150m --shm-size 60m");
    line.extend(proc_volumes(&daemon, &["meminfo"]));
    let container = docker.container_running(Image::Busybox, &line, &["sh", "-c", FILL]);
    let inside = container.inside();
    let done = || {
        container
            .exec(&["test", "-e", "/done"])
            .succeeded()
            .then_some(())
    };
    assert!(
        wait_for(patience(10), done).is_some(),
        "the container does not fill its memory"
    );
    // The kernel takes a limit below what it cannot reclaim on v2 only; elsewhere it refuses, and nothing changes.
    let limit = inside.cgroup.dir("memory").join("memory.max");
    if !limit.exists() {
        skip!("cgroup v1 refuses a limit below the usage");
    }
    std::fs::write(inside.cgroup.dir("memory").join("memory.oom.group"), "0")
        .expect("no group kill");
    // A systemd that manages the cgroup may write its own limit back at any moment.
    let lowered = (48_u64 << 20).to_string();
    let read_below_the_usage = || {
        let _ = std::fs::write(&limit, &lowered);
        let meminfo = keyed(&inside.read(&daemon, "proc/meminfo"));
        let still = std::fs::read_to_string(&limit).is_ok_and(|text| text.trim() == lowered);
        still.then_some(meminfo)
    };
    let meminfo = wait_for(patience(5), read_below_the_usage).expect("the limit stays lowered");
    assert_eq!(meminfo["MemTotal"], 48 << 10);
    for (key, value) in meminfo
        .iter()
        .filter(|(key, _)| !key.starts_with("Vmalloc"))
    {
        assert!(*value < 1 << 40, "{key} is {value}");
    }
    assert!(
        meminfo["MemFree"] <= meminfo["MemTotal"] && meminfo["MemAvailable"] <= meminfo["MemTotal"]
    );
}

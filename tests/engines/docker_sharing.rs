//! Docker containers that share namespaces with the host, with each other, or hold a container themselves.

use crate::common::cgroup::cgroup_version;
use crate::common::docker::{Docker, Image, SIX_FILES, options, proc_volumes};
use crate::common::figures::{cpuinfo_ids, keyed, uptime};
use crate::common::{Daemon, beside_others, skip};

fn total_kb(meminfo: &str) -> u64 {
    keyed(meminfo)["MemTotal"]
}

#[test]
fn a_container_in_the_hosts_pid_namespace_sees_its_own_limits() {
    let docker = match Docker::get() {
        Ok(docker) => docker,
        Err(why) => skip!("{why}"),
    };
    let _turn = beside_others();
    let daemon = Daemon::start(&[]);
    let mut line = options("--pid=host -m 60m --cpuset-cpus 0");
    line.extend(proc_volumes(&daemon, &SIX_FILES));
    let container = docker.container(Image::Debian, &line);
    let cat = |file: &str| container.exec(&["cat", &format!("/proc/{file}")]).ok();
    assert_eq!(total_kb(&cat("meminfo")), 60 << 10);
    assert_eq!(
        cpuinfo_ids(&cat("cpuinfo")),
        container.inside().cgroup.cpus_to_show()
    );
    let (up, idle) = uptime(&cat("uptime"));
    assert!(up > 0.0 && idle >= 0.0, "{up} {idle}");
    // A process that moved into a cgroup below still belongs to the container.
    let below = container.inside().cgroup.child("below");
    if cgroup_version() == 1 {
        let script = format!("{}cat {}", below.enter_script(), daemon.arg("proc/meminfo"));
        let total = total_kb(&crate::common::sh(&script).ok());
        below.remove();
        assert_eq!(total, 60 << 10);
    }
}

#[test]
fn two_containers_sharing_a_pid_namespace_each_see_their_own_limit() {
    let docker = match Docker::get() {
        Ok(docker) => docker,
        Err(why) => skip!("{why}"),
    };
    let _turn = beside_others();
    let daemon = Daemon::start(&[]);
    let volumes = proc_volumes(&daemon, &["meminfo", "cpuinfo"]);
    let with = |line: &str| [options(line), volumes.clone()].concat();
    let first = docker.container(Image::Debian, &with("-m 40m --cpuset-cpus 0"));
    let shared = format!("-m 80m --pid=container:{}", first.name);
    let second = docker.container(Image::Debian, &with(&shared));
    for _ in 0..3 {
        for (container, limit_mib) in [(&first, 40), (&second, 80)] {
            let total = total_kb(&container.exec(&["cat", "/proc/meminfo"]).ok());
            assert_eq!(total, limit_mib << 10);
            let cpus = cpuinfo_ids(&container.exec(&["cat", "/proc/cpuinfo"]).ok());
            assert_eq!(cpus, container.inside().cgroup.cpus_to_show());
        }
    }
}

/// Makes a container by hand inside another: a cgroup of its own, a pid namespace, the files bound again. The engine
/// shows the whole tree of cgroups.
const NESTED: &str = r#"
set -e
if [ -d /sys/fs/cgroup/memory ]; then
    outer=/sys/fs/cgroup/memory$(sed -n 's/.*:memory://p' /proc/self/cgroup); limit=memory.limit_in_bytes
else
    outer=/sys/fs/cgroup$(sed -n 's/^0:://p' /proc/self/cgroup); limit=memory.max
    mkdir "$outer/init"
    for pid in $(cat "$outer/cgroup.procs"); do echo "$pid" > "$outer/init/cgroup.procs" || true; done
    echo +memory > "$outer/cgroup.subtree_control"
fi
mkdir "$outer/inner"
if [ "$1" != none ]; then echo "$1" > "$outer/inner/$limit"; fi
echo $$ > "$outer/inner/cgroup.procs"
unshare --fork --pid --mount --cgroup --mount-proc sh -c '
    mount --bind /lxcfs/proc/meminfo /proc/meminfo
    mount --bind /lxcfs/proc/uptime /proc/uptime
    cat /proc/meminfo /proc/uptime'
"#;

/// A container that may make others; `--privileged` needs more than a test machine may give.
const OUTER: &str = "-m 200m --cap-add SYS_ADMIN --security-opt apparmor=unconfined \
    --security-opt seccomp=unconfined --cgroupns host -v /sys/fs/cgroup:/sys/fs/cgroup:rw";

#[test]
fn a_container_inside_a_container_sees_the_smaller_limit() {
    let docker = match Docker::get() {
        Ok(docker) => docker,
        Err(why) => skip!("{why}"),
    };
    let _turn = beside_others();
    let daemon = Daemon::start(&[]);
    for (inner, expected_kb) in [
        ("67108864", 64 << 10),
        ("none", 200 << 10),
        ("838860800", 200 << 10),
    ] {
        let mut line = options(OUTER);
        line.extend([
            "-v".to_owned(),
            format!("{}:/lxcfs", daemon.arg("").trim_end_matches('/')),
        ]);
        line.extend(proc_volumes(&daemon, &["meminfo"]));
        let outer = docker.container(Image::Debian, &line);
        let text = outer.exec(&["sh", "-c", NESTED, "nested", inner]).ok();
        assert_eq!(total_kb(&text), expected_kb, "inner limit {inner}");
        let up = uptime(text.lines().last().expect("the uptime")).0;
        assert!(up < 300.0, "{up}");
        assert_eq!(
            total_kb(&outer.exec(&["cat", "/proc/meminfo"]).ok()),
            200 << 10
        );
    }
}

//! Containers with systemd: its services start with the views as without them, whatever protects them, and are shown
//! the container.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::common::docker::{Image, options};
use crate::common::figures::{cpuinfo_ids, keyed};
use crate::common::{Daemon, beside_others, patience, skip, wait_for};
use crate::docker::Stand;
use crate::formats::{printed, stopped};
use crate::habits::PROGRAMS;
use crate::lxc::{self, Setup, USERNS};
use crate::nspawn;
use crate::podman;
use crate::running::attach;
use crate::shown::LIMIT_KB;
use crate::views::Views;

/// Where systemd is on every distribution.
const SYSTEMD: &str = "/usr/lib/systemd/systemd";

/// What protects services, and leaves them the `/proc` of the container.
const KEEPING: [&str; 15] = [
    "DynamicUser=yes",
    "PrivateDevices=yes",
    "PrivateIPC=yes",
    "PrivateMounts=yes",
    "PrivateTmp=yes",
    "PrivateUsers=yes",
    "ProtectClock=yes",
    "ProtectHome=yes",
    "ProtectHostname=yes",
    "ProtectKernelLogs=yes",
    "ProtectKernelModules=yes",
    "ProtectSystem=strict",
    "ReadOnlyPaths=/proc",
    "TemporaryFileSystem=/var",
    "",
];

/// What has systemd mount a `/proc` or a `/sys` for the service alone, at least in some versions.
const RENEWING: [&str; 8] = [
    "MountAPIVFS=yes",
    "PrivateNetwork=yes",
    "PrivatePIDs=yes",
    "ProcSubset=pid",
    "ProtectControlGroups=yes",
    "ProtectKernelTunables=yes",
    "ProtectProc=invisible",
    "RootDirectory=/var\nMountAPIVFS=yes\nBindReadOnlyPaths=/bin /usr /lib /lib64",
];

const PRINT: &str = "cat /proc/meminfo; echo == cpuinfo; cat /proc/cpuinfo; \
    echo == online; cat /sys/devices/system/cpu/online; echo == end";

/// A unit that prints what it is shown.
#[derive(Debug)]
struct Unit {
    name: String,
    lines: String,
}

impl Unit {
    fn text(&self) -> String {
        format!(
            "[Unit]\nDefaultDependencies=no\n[Service]\nType=oneshot\n{}\n\
             ExecStart=/bin/sh -c '{PRINT}'\nStandardOutput=file:/results/{}\nStandardError=inherit\n",
            self.lines, self.name
        )
    }
}

fn name(lines: &str) -> String {
    match lines.split_once('=') {
        Some((name, _)) => name.to_owned(),
        None => "nothing".to_owned(),
    }
}

/// All units, those that get a `/proc` of their own once more with the drop-in that brings the views back.
fn units() -> Vec<Unit> {
    let drop_in = printed("systemd", Path::new("/"), &["--only", "mem,cpu"]);
    let drop_in = drop_in.replace("[Service]\n", "");
    let plain = |lines: &&str| Unit {
        name: name(lines),
        lines: (*lines).to_owned(),
    };
    let mended = |lines: &&str| Unit {
        name: format!("{}-with-drop-in", name(lines)),
        lines: format!("{lines}\n{drop_in}"),
    };
    let all = KEEPING.iter().chain(&RENEWING);
    all.map(plain).chain(RENEWING.iter().map(mended)).collect()
}

/// What a container has besides a root file system of busybox and the host's programs.
struct System {
    dir: tempfile::TempDir,
    units: Vec<Unit>,
}

/// What each unit that has started was shown.
type Shown = BTreeMap<String, String>;

impl System {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let system = Self {
            dir,
            units: units(),
        };
        let places = [system.place("units"), system.place("results")];
        for place in &places {
            fs::create_dir(place).expect("a directory");
        }
        // Whatever users a container has.
        fs::set_permissions(&places[1], fs::Permissions::from_mode(0o777)).expect("a mode");
        fs::set_permissions(system.dir.path(), fs::Permissions::from_mode(0o755)).expect("a mode");
        for unit in &system.units {
            system.write(&format!("{}.service", unit.name), &unit.text());
        }
        let names = system
            .units
            .iter()
            .map(|unit| format!("{}.service ", unit.name));
        let names: String = names.collect();
        system.write(
            "default.target",
            &format!("[Unit]\nDefaultDependencies=no\nWants={names} end.service\n"),
        );
        system.write(
            "end.service",
            &format!(
                "[Unit]\nDefaultDependencies=no\nAfter={names}\nSuccessAction=exit-force\n\
                 [Service]\nType=oneshot\nExecStart=/bin/sh -c 'echo == end >/results/all'\n"
            ),
        );
        system
    }

    fn place(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.place("units").join(name), text).expect("a unit");
    }

    /// What of the host is mounted in the container, and where, and whether it can be written.
    fn mounts(&self) -> Vec<(String, &'static str, bool)> {
        let own = |name: &str| self.place(name).to_str().expect("ASCII").to_owned();
        let programs = PROGRAMS.map(|path| (path.to_owned(), path, false));
        let mut mounts = programs.to_vec();
        mounts.push((own("units"), "/etc/systemd/system", false));
        mounts.push((own("results"), "/results", true));
        mounts
    }

    /// The same as options of Docker and podman.
    fn volumes(&self) -> String {
        let volume = |(source, place, is_writable)| {
            let mode = if is_writable { "rw" } else { "ro" };
            format!("-v {source}:{place}:{mode} ")
        };
        self.mounts().into_iter().map(volume).collect()
    }

    /// What the units have written since the last time; `said` is what the container printed.
    #[track_caller]
    fn take(&self, said: &str) -> Shown {
        let mut shown = Shown::new();
        for entry in fs::read_dir(self.place("results"))
            .expect("results")
            .flatten()
        {
            let text = fs::read_to_string(entry.path()).expect("a result");
            fs::remove_file(entry.path()).expect("a file");
            if text.contains("== end") {
                shown.insert(entry.file_name().to_string_lossy().into_owned(), text);
            }
        }
        let is_complete = shown.remove("all").is_some();
        assert!(
            is_complete,
            "systemd has not come to the end: {shown:?} {said}"
        );
        shown
    }
}

/// Memory in kB, processors, and what CPUs are on-line.
fn figures(text: &str) -> (Option<u64>, usize, &str) {
    let part = |name: &str| {
        let rest = text.split_once(&format!("== {name}\n"));
        let part = rest.and_then(|(_, rest)| rest.split("== ").next());
        part.unwrap_or_default()
    };
    let memory = text.split("== ").next().unwrap_or_default();
    let total = keyed(memory).get("MemTotal").copied();
    let cpus = cpuinfo_ids(part("cpuinfo")).len();
    (total, cpus, part("online").trim())
}

/// The same units start, and those that have the container's `/proc` and `/sys` are shown the container.
#[track_caller]
fn assert_right(with: &Shown, without: &Shown, way: &str) {
    let starts = |name: &&String| with.contains_key(*name);
    let lost: Vec<_> = without.keys().filter(|name| !starts(name)).collect();
    assert!(lost.is_empty(), "{way}: {lost:?} do not start");
    assert!(with.len() > KEEPING.len(), "{way}: {with:?}");
    let renewing: Vec<_> = RENEWING.iter().copied().map(name).collect();
    for (name, text) in with {
        let (memory, cpus, online) = figures(text);
        let is_own = [memory == Some(LIMIT_KB), cpus == 1, online == "0"];
        // The kernel's own file, or none.
        let of_host = without.get(name).map(|text| figures(text));
        let is_hosts = of_host.is_some_and(|(host_memory, host_cpus, host_online)| {
            (is_own[0] || memory == host_memory)
                && (is_own[1] || cpus == host_cpus)
                && (is_own[2] || online == host_online)
        });
        let may_be_hosts = renewing.contains(name);
        assert!(
            is_own == [true; 3] || may_be_hosts && is_hosts,
            "{way}, {name}: {text}"
        );
    }
}

/// What a container's init does.
fn script() -> String {
    format!("exec {SYSTEMD} --log-target=console")
}

/// Why there can be no container with systemd.
fn obstacle() -> Option<&'static str> {
    (!Path::new(SYSTEMD).exists()).then_some("systemd is not installed")
}

#[test]
fn protected_units_in_a_docker_container_start_with_the_views() {
    if let Some(why) = obstacle() {
        skip!("{why}");
    }
    let (stand, _docker) = match Stand::get() {
        Ok(stand) => stand,
        Err(why) => skip!("{why}"),
    };
    let _turn = beside_others();
    let daemon = stand.views.start();
    let system = System::new();
    // Its own cgroups, as systemd mounts them.
    let script = format!("umount -R /sys/fs/cgroup; {}", script());
    let usual = format!(
        "--cap-add SYS_ADMIN --cap-add SYS_PTRACE --cap-add NET_ADMIN --cap-add SYS_BOOT --cap-add SYSLOG \
         --security-opt seccomp=unconfined --security-opt apparmor=unconfined --cgroupns private --tmpfs /run --tmpfs /tmp -e container=docker {}",
        system.volumes()
    );
    // systemd mounts for its services where the engine covers something, or nothing.
    for cover in ["", "--security-opt systempaths=unconfined"] {
        let shown = |runtime: &str| {
            let ran = stand.run(&format!("{usual} {cover} --runtime {runtime}"), &script);
            system.take(&format!("{ran:?}"))
        };
        let without = shown("runc");
        assert_right(&shown("lxcfs"), &without, cover);

        let line = format!("{usual} {cover} --runtime runc -m 50m --cpus 1");
        let waits = format!("while ! test -e /results/go; do sleep 0.1; done; {script}");
        let argv = ["sh", "-c", &waits];
        let container = stand
            .docker
            .container_running(Image::Busybox, &options(&line), &argv);
        attach(&daemon, &container.inside().init.to_string()).ok();
        fs::write(system.place("results").join("go"), "").expect("a file");
        let is_done =
            || fs::read(system.place("results").join("all")).is_ok_and(|text| !text.is_empty());
        wait_for(patience(60), || is_done().then_some(()));
        assert_right(&system.take("attach"), &without, cover);
    }
}

#[test]
fn protected_units_in_an_lxc_container_start_with_the_views() {
    if let Some(why) = obstacle().or_else(lxc::obstacle) {
        skip!("{why}");
    }
    let _turn = beside_others();
    let views = Views::prepare();
    let daemon = views.start();
    let stopped = stopped();
    let system = System::new();
    let entries = system
        .mounts()
        .into_iter()
        .map(|(source, place, is_writable)| {
            let mode = if is_writable { "rw" } else { "ro" };
            format!(
                "lxc.mount.entry = {source} {} none rbind,{mode},create=dir 0 0\n",
                &place[1..]
            )
        });
    let entries: String = entries.collect();
    let users = format!(
        "lxc.include = {USERNS}\nlxc.idmap = u 0 100000 65536\nlxc.idmap = g 0 100000 65536"
    );
    let script = script();
    for (config, prepare) in [("", ":"), (users.as_str(), "chown -R 100000:100000 \"$1\"")] {
        let setup = Setup {
            config: format!("{config}\n{entries}"),
            prepare,
            starts_system: true,
        };
        let shown = |views: &Path| {
            let (ran, log) = lxc::try_run(views, &setup, &script);
            system.take(&format!("{ran:?} {log}"))
        };
        assert_right(&shown(daemon.point()), &shown(stopped.path()), config);
    }
}

#[test]
fn protected_units_in_a_podman_container_start_with_the_views() {
    if let Some(why) = obstacle() {
        skip!("{why}");
    }
    let stand = match podman::Stand::new("crun") {
        Ok(stand) => stand,
        Err(why) => skip!("{why}"),
    };
    let _turn = beside_others();
    let _daemon = stand.views.start();
    let system = System::new();
    let usual = format!(
        "--systemd=always --security-opt unmask=ALL --cap-add SYS_ADMIN,NET_ADMIN {}",
        system.volumes()
    );
    let shown = |line: &str| {
        let ran = stand.run("", &format!("{usual} {line}"), &script());
        system.take(&format!("{ran:?}"))
    };
    let with = shown("--device lxcfs.rs/view=all");
    assert_right(&with, &shown(""), "the CDI device");
}

#[test]
fn protected_units_in_an_nspawn_container_start_with_the_views() {
    if let Some(why) = obstacle().or_else(nspawn::obstacle) {
        skip!("{why}");
    }
    let _turn = beside_others();
    let daemon = Daemon::start(&[]);
    let views = printed("nspawn", daemon.point(), &[]);
    let system = System::new();
    let bind = |(source, place, is_writable)| {
        let option = if is_writable { "--bind" } else { "--bind-ro" };
        format!("{option}={source}:{place} ")
    };
    let binds: String = system.mounts().into_iter().map(bind).collect();
    let shown = |views: &str| {
        let ran = nspawn::run_script(&format!("{binds} {views}"), "", &script());
        system.take(&format!("{ran:?}"))
    };
    assert_right(&shown(&views), &shown(""), "the printed arguments");
}

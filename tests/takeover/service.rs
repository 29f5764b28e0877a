//! The service of systemd under load: restarts, kills, upgrades, and its end.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::common::daemon::mounted_at;
use crate::common::docker::{Docker, Image, SIX_FILES, cpu_volume, options, proc_volumes};
use crate::common::figures::uptime;
use crate::common::{
    Cell, Daemon, Limits, alone, beside_others, has, open_fds, patience, skip, wait_for,
};
use crate::planned::other_version;
use crate::unit::{Unit, install, systemd_runs};
use crate::watcher::{Seen, Watcher};

/// The service with readers in two Docker containers and one of LXC.
struct Scene {
    unit: Unit,
    readers: Vec<Watcher>,
    /// Of the holder, before anything happened.
    fds: usize,
    /// Of each container, likewise.
    mounts: Vec<usize>,
}

impl Scene {
    fn new(has_fd_store: bool) -> Result<Self, String> {
        if !systemd_runs() {
            return Err("systemd does not run here".to_owned());
        }
        let docker = Docker::get()?;
        if !has("lxc-execute") {
            return Err("lxc is not installed".to_owned());
        }
        let unit = Unit::install(has_fd_store);
        unit.systemctl("start");
        let (point, pause) = (unit.point(), Duration::from_millis(2));
        let readers = vec![
            Watcher::in_docker(docker, &point, pause),
            Watcher::in_docker(docker, &point, pause),
            Watcher::in_lxc(&point, pause),
        ];
        for reader in &readers {
            reader.reads();
        }
        Ok(Self {
            fds: open_fds(unit.holder()),
            mounts: mounts(&readers),
            unit,
            readers,
        })
    }

    /// Ends the readers, and sees that the machine is as it was: the containers' mounts, two processes, the holder's fds.
    #[track_caller]
    fn end(self, scenario: &str) -> Seen {
        assert_eq!(
            mounts(&self.readers),
            self.mounts,
            "mounts of the containers"
        );
        let mut seen = Seen::default();
        for reader in self.readers {
            seen.add(reader.stop());
        }
        seen.report(scenario);
        let unit = &self.unit;
        let settled = || {
            let is_as_before = unit.processes().len() == 2 && open_fds(unit.holder()) == self.fds;
            is_as_before.then_some(())
        };
        assert!(
            wait_for(patience(20), settled).is_some(),
            "processes {:?}, fds of the holder {} and before {}",
            unit.processes(),
            open_fds(unit.holder()),
            self.fds
        );
        seen
    }
}

fn mounts(readers: &[Watcher]) -> Vec<usize> {
    readers.iter().map(|reader| reader.look().1).collect()
}

fn send(pid: i32, signal: Signal) {
    kill(Pid::from_raw(pid), signal).expect("a process to signal");
}

/// Waits until the service runs again, its holder another one than `before`.
#[track_caller]
fn back(unit: &Unit, before: i32) {
    let back = wait_for(patience(30), || {
        let now = unit.holder();
        (now != 0 && now != before && unit.property("ActiveState") == "active").then_some(())
    });
    assert!(back.is_some(), "not back: {}", unit.log());
}

macro_rules! scene {
    ($has_fd_store:expr) => {
        match Scene::new($has_fd_store) {
            Ok(scene) => scene,
            Err(why) => skip!("{why}"),
        }
    };
}

#[test]
fn fifty_restarts_are_not_noticed() {
    let _turn = alone();
    let scene = scene!(true);
    let unit = &scene.unit;
    for _ in 0..50 {
        unit.systemctl("restart");
    }
    scene.end("50 x systemctl restart").assert_nothing_wrong();
}

#[test]
fn reloads_and_upgrades_are_not_noticed() {
    let Some(next) = other_version() else {
        skip!("LXCFS_NEXT_BIN does not name a second version; scripts/test builds one");
    };
    let _turn = alone();
    let scene = scene!(true);
    let unit = &scene.unit;
    let first = unit.dir().join("first");
    fs::copy(unit.program(), &first).expect("copying the program");
    for round in 0..10 {
        let before = unit.server();
        if round % 2 == 0 {
            unit.systemctl("reload");
        } else {
            install(if round % 4 == 1 { &next } else { &first }, &unit.program());
            send(unit.holder(), Signal::SIGUSR1);
        }
        let other = wait_for(patience(20), || (unit.server() != before).then_some(()));
        assert!(other.is_some(), "no takeover: {}", unit.log());
    }
    scene
        .end("5 x systemctl reload, 5 upgrades by SIGUSR1")
        .assert_nothing_wrong();
}

#[test]
fn kills_of_the_server_of_the_holder_and_of_both_are_not_noticed() {
    let _turn = alone();
    let scene = scene!(true);
    let unit = &scene.unit;
    for _ in 0..10 {
        send(unit.server(), Signal::SIGKILL);
        std::thread::sleep(patience(1) / 10);
    }
    for _ in 0..5 {
        let holder = unit.holder();
        send(holder, Signal::SIGKILL);
        back(unit, holder);
    }
    for _ in 0..5 {
        let (holder, server) = (unit.holder(), unit.server());
        send(holder, Signal::SIGKILL);
        let _ = kill(Pid::from_raw(server), Signal::SIGKILL);
        back(unit, holder);
    }
    scene
        .end("kill -9: 10 x server, 5 x holder, 5 x both")
        .assert_nothing_wrong();
}

/// Takes memory from a cgroup until the kernel kills a process of it: `pid`, as all others are exempt.
#[track_caller]
fn take_memory(cgroup: &Path, pid: i32) {
    let limit = cgroup.join("memory.max");
    let usage = fs::read_to_string(cgroup.join("memory.current")).expect("the memory in use");
    let mut bytes: u64 = usage.trim().parse().expect("a number");
    // By and by, so that enough is left to those who start the next one.
    let killed = wait_for(patience(10), || {
        bytes = bytes.saturating_sub(256 << 10);
        // The write itself may find no memory to free, and says so.
        let _ = fs::write(&limit, bytes.to_string());
        (!Path::new(&format!("/proc/{pid}")).exists()).then_some(())
    });
    fs::write(&limit, "max").expect("lifting the limit");
    assert!(
        killed.is_some(),
        "process {pid} lives on with {bytes} bytes"
    );
}

#[test]
fn a_server_killed_for_lack_of_memory_is_not_noticed() {
    let _turn = alone();
    let scene = scene!(true);
    let unit = &scene.unit;
    let cgroup = unit.cgroup();
    // With swap it would go on, slowly.
    fs::write(cgroup.join("memory.swap.max"), "0").expect("a cgroup without swap");
    for _ in 0..3 {
        let (holder, server) = (unit.holder(), unit.server());
        take_memory(&cgroup, server);
        unit.server();
        assert_eq!(
            unit.holder(),
            holder,
            "the holder was killed: {}",
            unit.log()
        );
    }
    scene.end("3 x out of memory").assert_nothing_wrong();
}

#[test]
fn without_a_store_containers_are_repaired_after_both_are_killed() {
    let _turn = alone();
    let scene = scene!(false);
    let unit = &scene.unit;
    let (holder, server) = (unit.holder(), unit.server());
    let open = fs::File::open(unit.point().join("proc/uptime")).expect("a file that stays open");
    send(holder, Signal::SIGKILL);
    let _ = kill(Pid::from_raw(server), Signal::SIGKILL);
    back(unit, holder);
    let read = open.read_at(&mut [0; 64], 0);
    assert!(read.is_err(), "the connection did not end: {read:?}");
    for reader in &scene.readers {
        let works = wait_for(patience(20), || reader.look().0.then_some(()));
        assert!(
            works.is_some(),
            "a container is not repaired: {}",
            unit.log()
        );
    }
    scene.end("both killed without a store, repaired by remount");
}

#[test]
fn a_restart_brings_other_options_into_force() {
    if !systemd_runs() {
        skip!("systemd does not run here");
    }
    let _turn = beside_others();
    let unit = Unit::install(true);
    unit.systemctl("start");
    let cell = Cell::start(&Limits::default());
    let file = unit.point().join("proc/uptime");
    let shown = || {
        let text = cell.run(&["cat", file.to_str().expect("ASCII")]).ok();
        uptime(&text).0
    };
    let host = || uptime(&fs::read_to_string("/proc/uptime").expect("uptime")).0;
    assert!(shown() < host() / 2.0);
    unit.add_options("--uptime=host");
    unit.systemctl("restart");
    assert!(
        (shown() - host()).abs() < patience(1).as_secs_f64(),
        "{} {}",
        shown(),
        host()
    );
}

#[test]
fn the_unit_is_started_when_the_files_answer_and_unmounts_when_stopped() {
    if !systemd_runs() {
        skip!("systemd does not run here");
    }
    let _turn = beside_others();
    let unit = Unit::install(true);
    unit.systemctl("start");
    let text = unit.meminfo().expect("files after the start");
    assert!(text.starts_with("MemTotal:"));
    assert_eq!(unit.property("ActiveState"), "active");
    unit.systemctl("restart");
    unit.meminfo().expect("files after a restart");

    unit.systemctl("stop");
    assert_eq!(unit.property("ActiveState"), "inactive");
    assert_eq!(unit.property("Result"), "success");
    assert!(mounted_at(&unit.point()).is_none(), "{}", unit.log());
    // For containers that start meanwhile.
    let fallback = fs::read_link(unit.point().join("proc/meminfo"));
    assert_eq!(fallback.expect("a link"), Path::new("/proc/meminfo"));
    assert_eq!(unit.property("NFileDescriptorStore"), "0");
}

#[test]
fn the_service_adopts_the_containers_of_a_dead_lxcfs_of_the_distribution() {
    const PEER: &str = "/usr/bin/lxcfs";
    if !systemd_runs() || !has("lxcfs") {
        skip!("systemd does not run here, or the lxcfs package is not installed");
    }
    let docker = match Docker::get() {
        Ok(docker) => docker,
        Err(why) => skip!("{why}"),
    };
    let _turn = beside_others();
    let unit = Unit::install(true);
    fs::create_dir(unit.point()).expect("the mount point");
    let pid_file = unit.dir().join("peer.pid");
    let mut peer = Daemon::start_at(Path::new(PEER), &unit.point(), &pid_file, &[]);
    let mut line = options("-m 64m");
    line.extend(proc_volumes(&peer, &SIX_FILES));
    line.extend(cpu_volume(&peer));
    let container = docker.container(Image::Busybox, &line);
    let mounts = || {
        container
            .exec(&["cat", "/proc/self/mountinfo"])
            .ok()
            .lines()
            .count()
    };
    let before = mounts();
    peer.kill_all();
    assert!(!container.exec(&["cat", "/proc/meminfo"]).succeeded());
    unit.systemctl("start");
    let shows = || {
        let text = container.exec(&["cat", "/proc/meminfo"]).out;
        text.contains("MemTotal:          65536 kB").then_some(())
    };
    assert!(wait_for(patience(20), shows).is_some(), "{}", unit.log());
    for file in SIX_FILES {
        container.exec(&["cat", &format!("/proc/{file}")]).ok();
    }
    container
        .exec(&["cat", "/sys/devices/system/cpu/online"])
        .ok();
    assert_eq!(mounts(), before, "mounts of the container");
    std::mem::forget(peer);
}

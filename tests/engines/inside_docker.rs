//! The daemon in a container of Docker: what others read is right, or there is one clear sentence.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use tempfile::TempDir;

use crate::common::daemon::{binary, mounted_at};
use crate::common::docker::{Container, Docker, Image, options};
use crate::common::figures::{Stat, cpuinfo_ids, keyed, uptime};
use crate::common::{Ran, beside_others, patience, skip, wait_for};

/// What a daemon needs besides; `--privileged` needs more than a test machine may give.
const RIGHTS: &str = "--cap-add SYS_ADMIN --cap-add SYS_PTRACE --device /dev/fuse \
    --security-opt apparmor=unconfined --security-opt seccomp=unconfined";
const HIERARCHIES: &str = "-v /sys/fs/cgroup:/sys/fs/cgroup";

const FILES: [&str; 4] = ["meminfo", "cpuinfo", "uptime", "stat"];

/// A directory whose mounts a container and the host share.
struct Shared(TempDir);

impl Shared {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let (path, none) = (dir.path(), None::<&Path>);
        mount(Some(path), path, none, MsFlags::MS_BIND, none).expect("a mount");
        mount(none, path, none, MsFlags::MS_SHARED, none).expect("a shared mount");
        fs::create_dir(path.join("mnt")).expect("the mount point");
        Self(dir)
    }

    fn point(&self) -> PathBuf {
        self.0.path().join("mnt")
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        for path in [&self.point(), self.0.path()] {
            while umount2(path, MntFlags::MNT_DETACH).is_ok() {}
        }
    }
}

/// A daemon in a container.
struct Contained {
    docker: &'static Docker,
    container: Container,
    shared: Shared,
}

impl Contained {
    fn start(docker: &'static Docker, line: &str) -> Self {
        let shared = Shared::new();
        let point = shared.point();
        let dir = shared.0.path().display();
        let line = format!(
            "{RIGHTS} {line} -v {dir}:{dir}:rshared -v {}:/lxcfs:ro",
            binary().display()
        );
        let argv = ["/lxcfs", point.to_str().expect("an ASCII path")];
        let container = docker.container_running(Image::Debian, &options(&line), &argv);
        Self {
            docker,
            container,
            shared,
        }
    }

    fn log(&self) -> String {
        self.docker.run(&["logs", &self.container.name]).err
    }

    /// Whether it serves; `false` if it has ended.
    fn serves(&self) -> bool {
        let state = [
            "inspect",
            "--format",
            "{{.State.Running}}",
            &self.container.name,
        ];
        let serves = wait_for(patience(20), || {
            let ended = self.docker.run(&state).out.trim() == "false";
            match self.log().contains("serving ") {
                true => Some(true),
                false => ended.then_some(false),
            }
        });
        serves.unwrap_or_else(|| panic!("it neither serves nor ends: {}", self.log()))
    }

    /// Another container, with the files of this daemon.
    fn reader(&self) -> Container {
        let point = self.shared.point();
        assert!(mounted_at(&point).is_some(), "{}", self.log());
        let mut line = options("-m 50m --cpus 1");
        for file in FILES {
            let volume = format!("{}/proc/{file}:/proc/{file}:ro", point.display());
            line.extend(["-v".to_owned(), volume]);
        }
        self.docker.container(Image::Debian, &line)
    }
}

fn read(reader: &Container, file: &str) -> Ran {
    reader.exec(&["cat", &format!("/proc/{file}")])
}

#[track_caller]
fn assert_right(daemon: &Contained, started: Instant) {
    let reader = daemon.reader();
    let text = |file| read(&reader, file).ok();
    let memory = text("meminfo");
    assert_eq!(keyed(&memory)["MemTotal"], 50 << 10, "{memory}");
    assert_eq!(cpuinfo_ids(&text("cpuinfo")).len(), 1);
    let (up, _) = uptime(&text("uptime"));
    let stat = Stat::parse(&text("stat"));
    let most = started.elapsed().as_secs_f64() + 1.0;
    assert!(up <= most, "{up} s after {most} s");
    let ticks: u64 = stat.total.iter().sum();
    assert!(
        ticks as f64 <= most * 100.0,
        "the time of the host: {stat:?}"
    );
}

#[track_caller]
fn assert_errors(daemon: &Contained) {
    let reader = daemon.reader();
    for file in FILES.into_iter().filter(|file| *file != "cpuinfo") {
        let ran = read(&reader, file);
        assert!(!ran.succeeded() && ran.out.is_empty(), "{ran:?}");
    }
}

/// By default Docker starts a container in a cgroup namespace of its own on cgroup v2, and in a pid
/// namespace of its own everywhere.
#[test]
fn one_in_namespaces_of_its_own_is_right_or_refuses() {
    let docker = match Docker::get() {
        Ok(docker) => docker,
        Err(why) => skip!("{why}"),
    };
    let _turn = beside_others();
    let start = |namespaces: &str| Contained::start(docker, namespaces);

    let daemon = start(&format!("--pid host --cgroupns private {HIERARCHIES}"));
    assert!(daemon.serves(), "{}", daemon.log());
    assert_right(&daemon, Instant::now());
    drop(daemon);

    let daemon = start(&format!("--cgroupns host {HIERARCHIES}"));
    assert!(daemon.serves(), "{}", daemon.log());
    assert_errors(&daemon);
    let log = daemon.log();
    let said = log.matches("outside of the pid namespace that lxcfs runs in");
    assert_eq!(said.count(), 1, "{log}");
    drop(daemon);

    // Its own cgroups are all that it sees.
    let daemon = start("--pid host --cgroupns private");
    assert!(!daemon.serves(), "{}", daemon.log());
    let log = daemon.log();
    assert_eq!(log.lines().count(), 1, "{log}");
    assert!(log.contains("lies outside of what is mounted at "), "{log}");
}

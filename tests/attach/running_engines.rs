//! `lxcfs attach` and `lxcfs detach` on containers of engines, by the names and ids that these give.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::common::cgroup::cgroup_version;
use crate::common::daemon::binary;
use crate::common::docker::{Container, Docker, Image, options};
use crate::common::figures::keyed;
use crate::common::mounts::total_mib;
use crate::common::{
    Cgroup, Daemon, Inside, Ran, beside_others, children, has, images, patience, run_within, skip,
    unique, wait_for,
};
use crate::running::{
    assert_comes_and_goes, assert_has_views, assert_sees_host, attach, lxcfs, own_mounts, result,
};

/// Runs the program under test where it finds the Docker daemon of these tests.
fn beside(docker: &Docker, args: &[&str]) -> Ran {
    let (name, value) = docker.variable();
    run_within(
        Command::new(binary()).args(args).env(name, value),
        patience(60),
    )
}

#[test]
fn containers_of_docker_are_known_by_name_and_by_id() {
    let docker = match Docker::get() {
        Ok(docker) => docker,
        Err(why) => skip!("{why}"),
    };
    let _turn = beside_others();
    let daemon = Daemon::start(&[]);
    let views = daemon.point().to_str().expect("an ASCII path");
    let container = |more: &str, image| {
        docker.container(image, &options(&format!("-m 50m --cpuset-cpus 0 {more}")))
    };
    let plain = container("", Image::Debian);
    let read_only = container("--read-only", Image::Busybox);
    let paused = container("", Image::Busybox);
    let id = |container: &Container| {
        let ran = docker.run(&["inspect", "--format", "{{.Id}}", &container.name]);
        ran.ok().trim().to_owned()
    };
    let [inside, _, _] = [&plain, &read_only, &paused].map(Container::inside);
    let before = own_mounts(inside.init);
    assert_sees_host(&inside, 50);

    // Only the engine knows the name.
    let ran = beside(docker, &["attach", &plain.name, "--views", views]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(result(&ran, "/proc/meminfo"), "attached");
    assert_has_views(&inside, 50);
    let free = plain.exec(&["free", "-m"]).ok();
    assert!(free.contains("Mem:              50"), "{free}");
    let uptime = plain.exec(&["cat", "/proc/uptime"]).ok();
    assert!(
        uptime.split('.').next().is_some_and(|text| text.len() < 4),
        "{uptime}"
    );
    let ran = beside(docker, &["detach", &plain.name]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(own_mounts(inside.init), before);

    // What Docker hides stays hidden.
    let ran = attach(&daemon, &id(&plain)[..12]);
    let said = result(&ran, "/proc/interrupts");
    let is_masked = before
        .iter()
        .any(|line| line.contains(" /proc/interrupts "));
    assert_eq!(
        said == "left alone: something else is mounted there",
        is_masked,
        "{ran:?}"
    );

    assert_comes_and_goes(&daemon, &id(&read_only)[..12], &read_only.inside(), 50);
    attach(&daemon, &id(&read_only)).ok();
    let meminfo = read_only.exec(&["cat", "/proc/meminfo"]).ok();
    assert_eq!(keyed(&meminfo)["MemTotal"], 50 << 10);

    docker.run(&["pause", &paused.name]).ok();
    let ran = attach(&daemon, &id(&paused));
    docker.run(&["unpause", &paused.name]).ok();
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_has_views(&paused.inside(), 50);

    let ran = beside(docker, &["attach", "no-such-container", "--views", views]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    let known = format!(" {}", &id(&plain)[..12]);
    assert!(
        ran.err.contains("there are") && ran.err.contains(&known),
        "{ran:?}"
    );
}

/// A container that something in the foreground keeps.
struct Kept {
    keeper: Child,
    stop: Command,
    _dir: TempDir,
}

impl Drop for Kept {
    fn drop(&mut self) {
        run_within(&mut self.stop, patience(30));
        wait_for(patience(10), || self.keeper.try_wait().ok().flatten());
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
    }
}

/// A directory with a root file system in `root`.
fn root_dir() -> Result<TempDir, String> {
    let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
    let root = dir.path().join("root");
    fs::create_dir(&root).map_err(|error| error.to_string())?;
    images::make_busybox(&root)?;
    Ok(dir)
}

/// The container whose init `find` knows, once that sleeps.
#[track_caller]
fn inside(mut find: impl FnMut() -> Option<i32>) -> Inside {
    let init = wait_for(patience(30), || {
        let init = find()?;
        // LXC has an init of its own, which starts the command.
        let mut processes = [vec![init], children(init)].concat().into_iter();
        let sleeps = |pid: i32| {
            fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "sleep")
        };
        processes.any(sleeps).then_some(init)
    });
    let init = init.expect("the init of a container");
    Inside {
        init,
        cgroup: Cgroup::of(init),
    }
}

#[test]
fn a_container_of_lxc_is_known_by_its_name() {
    if !has("lxc-execute") {
        skip!("lxc is not installed");
    }
    let dir = match root_dir() {
        Ok(dir) => dir,
        Err(why) => skip!("{why}"),
    };
    let _turn = beside_others();
    let daemon = Daemon::start(&[]);
    let (name, config) = (unique("lxc"), dir.path().join("config"));
    let limits = if cgroup_version() == 1 {
        "lxc.cgroup.memory.limit_in_bytes = 50M\nlxc.cgroup.cpuset.cpus = 0"
    } else {
        "lxc.cgroup2.memory.max = 50M\nlxc.cgroup2.cpuset.cpus = 0"
    };
    // Without the hook that gives it the views at its start.
    let text = format!(
        "lxc.include = /usr/share/lxc/config/common.conf\nlxc.hook.mount =\nlxc.rootfs.path = dir:{}/root\n\
         lxc.net.0.type = none\nlxc.apparmor.profile = unconfined\nlxc.uts.name = test\n{limits}\n",
        dir.path().display()
    );
    fs::write(&config, text).expect("a configuration");
    let tool = |program: &str| {
        let mut command = Command::new(program);
        command.arg("-P").arg(dir.path()).args(["-n", &name]);
        command
    };
    let keeper = tool("lxc-execute")
        .arg("-f")
        .arg(&config)
        .args(["--", "/bin/sleep", "100000"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .expect("starting lxc-execute");
    let mut stop = tool("lxc-stop");
    stop.arg("-k");
    let mut info = tool("lxc-info");
    info.args(["-p", "-H"]);
    let _kept = Kept {
        keeper,
        stop,
        _dir: dir,
    };
    let inside = inside(|| run_within(&mut info, patience(10)).out.trim().parse().ok());
    assert_comes_and_goes(&daemon, &name, &inside, 50);
}

#[test]
fn a_container_of_podman_with_a_user_namespace_is_known_by_name_and_by_id() {
    if !has("podman") || cgroup_version() == 1 {
        skip!("podman does not start containers here");
    }
    let dir = match root_dir() {
        Ok(dir) => dir,
        Err(why) => skip!("{why}"),
    };
    let _turn = beside_others();
    let daemon = Daemon::start(&[]);
    let root = dir.path().join("root");
    run_within(
        Command::new("chown")
            .args(["-R", "100000:100000"])
            .arg(&root),
        patience(30),
    )
    .ok();
    let name = unique("podman");
    let mut podman = Command::new("podman");
    podman.args(["run", "--detach", "--network", "none", "--name", &name]);
    podman.args(["-m", "50m", "--cpuset-cpus", "0"]);
    podman.args(["--uidmap", "0:100000:65536", "--gidmap", "0:100000:65536"]);
    podman.arg("--rootfs").arg(&root).args(["sleep", "100000"]);
    let id = run_within(&mut podman, patience(60)).ok();
    let tool = |args: &[&str]| {
        let mut command = Command::new("podman");
        command.args(args).arg(&name);
        command
    };
    let keeper = Command::new("true").spawn().expect("starting true");
    let _kept = Kept {
        keeper,
        stop: tool(&["rm", "--force", "--time", "0"]),
        _dir: dir,
    };
    let mut inspect = tool(&["inspect", "--format", "{{.State.Pid}}"]);
    let inside = inside(|| {
        run_within(&mut inspect, patience(30))
            .out
            .trim()
            .parse()
            .ok()
    });
    assert_comes_and_goes(&daemon, &id[..12], &inside, 50);
    let ran = attach(&daemon, &name);
    assert_eq!(result(&ran, "/proc/meminfo"), "attached");
    let meminfo = run_within(
        Command::new("podman").args(["exec", &name, "cat", "/proc/meminfo"]),
        patience(30),
    );
    assert_eq!(keyed(&meminfo.ok())["MemTotal"], 50 << 10);
}

#[test]
fn a_container_of_systemd_nspawn_is_known_by_its_name() {
    if !has("systemd-nspawn") || !Path::new("/run/systemd/system").exists() {
        skip!("systemd does not run here");
    }
    let dir = match root_dir() {
        Ok(dir) => dir,
        Err(why) => skip!("{why}"),
    };
    let _turn = beside_others();
    let daemon = Daemon::start(&[]);
    let name = unique("machine").replace('_', "-");
    let keeper = Command::new("systemd-nspawn")
        .args([
            "--quiet",
            "--register=no",
            "--console=pipe",
            "--private-users=pick",
            "--private-network",
            "--property=MemoryMax=50M",
        ])
        .args([
            "--property=AllowedCPUs=0",
            "--machine",
            &name,
            "--directory",
        ])
        .arg(dir.path().join("root"))
        .args(["/bin/sleep", "100000"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .expect("starting systemd-nspawn");
    let nspawn = i32::try_from(keeper.id()).expect("a pid");
    let mut stop = Command::new("kill");
    stop.arg(nspawn.to_string());
    let _kept = Kept {
        keeper,
        stop,
        _dir: dir,
    };
    let inside = inside(|| children(nspawn).first().copied());
    assert_comes_and_goes(&daemon, &name, &inside, 50);
    assert!(total_mib(&inside) > 50);
    assert_eq!(lxcfs(&["detach", &name]).ok(), "nothing to detach\n");
}

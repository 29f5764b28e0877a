//! Containers of Docker and LXC that were started on Debian's lxcfs go on with ours.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::common::docker::{
    Container, Docker, Image, SIX_FILES, cpu_volume, options, proc_volumes,
};
use crate::common::figures::{cpu_list, cpuinfo_ids, uptime};
use crate::common::{
    Cgroup, Inside, alone, has, images, patience, run, sh, skip, unique, wait_for,
};
use crate::host::{Host, assert_dead, assert_settled, debians, mounts, read, result, total_mib};

fn volumes(host: &Host, line: &str) -> Vec<String> {
    let mut all = options(line);
    all.extend(proc_volumes(&host.old, &SIX_FILES));
    all.extend(proc_volumes(&host.old, &["loadavg"]));
    all.extend(cpu_volume(&host.old));
    all
}

/// All files are there again with figures of a container that has 50 MB and CPU 0.
#[track_caller]
fn assert_works(inside: &Inside) {
    let text = |path: &str| read(inside, path).ok();
    assert_eq!(total_mib(inside), 50);
    assert_eq!(cpuinfo_ids(&text("/proc/cpuinfo")), [0].into());
    assert_eq!(
        cpu_list(&text("/sys/devices/system/cpu/online")),
        [0].into()
    );
    assert!(uptime(&text("/proc/uptime")).0 < 300.0);
    assert!(text("/proc/stat").contains("cpu0 ") && !text("/proc/stat").contains("cpu1 "));
    assert!(text("/proc/swaps").starts_with("Filename"));
    text("/proc/diskstats");
    text("/proc/loadavg");
}

#[test]
fn docker_containers_of_a_dead_lxcfs_work_again_without_a_restart() {
    let (docker, debians) = match (Docker::get(), debians()) {
        (Ok(docker), Ok(debians)) => (docker, debians),
        (Err(why), _) | (_, Err(why)) => skip!("{why}"),
    };
    let _turn = alone();
    let mut host = Host::served_by(&debians);
    let limits = "-m 50m --cpuset-cpus 0";
    let container =
        |more: &str, image| docker.container(image, &volumes(&host, &format!("{limits} {more}")));
    let plain = container("", Image::Debian);
    let read_only = container("--read-only", Image::Busybox);
    let paused = container("", Image::Busybox);
    let stopped = container("", Image::Busybox);
    let containers = [&plain, &read_only, &paused, &stopped];
    let insides = containers.map(Container::inside);
    let pids: Vec<_> = insides.iter().map(|inside| inside.init).collect();
    let counts: Vec<_> = pids.iter().map(|pid| mounts(*pid).len()).collect();

    docker.run(&["pause", &paused.name]).ok();
    kill(Pid::from_raw(stopped.inside().init), Signal::SIGSTOP).expect("stopping an init");
    host.follow();
    assert_dead(&insides[0], "/proc/meminfo");
    assert_dead(&insides[1], "/proc/stat");

    let ran = host.remount(&[]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    for (pid, container) in pids.iter().zip(&containers) {
        assert_eq!(result(&ran, *pid, "/proc/meminfo"), "replaced");
        assert_eq!(result(&ran, *pid, "/sys/devices/system/cpu"), "replaced");
        let id = docker.run(&["inspect", "--format", "{{.Id}}", &container.name]);
        let line = ran
            .out
            .lines()
            .find(|line| line.contains(&format!(" {pid} ")));
        assert!(line.unwrap().starts_with(&id.ok()[..12]), "{ran:?}");
    }
    docker.run(&["unpause", &paused.name]).ok();
    insides.iter().for_each(assert_works);
    let free = plain.exec(&["free", "-m"]).ok();
    assert!(free.contains("Mem:              50"), "{free}");
    read_only.exec(&["cat", "/proc/meminfo"]).ok();
    let counted: Vec<_> = pids.iter().map(|pid| mounts(*pid).len()).collect();
    assert_eq!(counted, counts);
    assert_settled(&host, &pids);
}

#[test]
fn an_image_without_any_tool_needs_none() {
    let (docker, debians) = match (Docker::get(), debians()) {
        (Ok(docker), Ok(debians)) => (docker, debians),
        (Err(why), _) | (_, Err(why)) => skip!("{why}"),
    };
    let Some(busybox) = images::busybox_binary() else {
        skip!("busybox-static is not installed");
    };
    let _turn = alone();
    let mut host = Host::served_by(&debians);
    let dir = tempfile::tempdir().expect("a directory");
    let tar = dir.path().join("tar");
    fs::copy(busybox, dir.path().join("sleep")).expect("the only file of the image");
    sh(&format!(
        "cd '{0}' && tar -cf '{1}' sleep",
        dir.path().display(),
        tar.display()
    ))
    .ok();
    let (image, name) = (unique("scratch"), unique("c"));
    run(docker.command(&["import"]).arg(&tar).arg(&image)).ok();
    let mut start = docker.command(&["run", "--detach", "--network", "none", "--name", &name]);
    let limits = volumes(&host, "-m 50m --cpuset-cpus 0");
    run(start.args(limits).args([&image, "/sleep", "100000"])).ok();
    let tidy = || {
        docker.run(&["rm", "--force", &name]);
        docker.run(&["rmi", "--force", &image]);
    };
    let init = docker
        .run(&["inspect", "--format", "{{.State.Pid}}", &name])
        .ok();
    let init = init.trim().parse().expect("a pid");
    let cgroup = Cgroup::of(init);
    let inside = Inside { init, cgroup };

    host.follow();
    assert_dead(&inside, "/proc/meminfo");
    let ran = host.remount(&[]);
    assert_eq!(result(&ran, init, "/proc/meminfo"), "replaced");
    assert_works(&inside);
    assert_settled(&host, &[init]);
    tidy();
}

/// A running container of LXC with the hook of Debian's lxcfs.
struct Lxc {
    execute: Child,
    dir: TempDir,
    name: String,
}

impl Lxc {
    fn start(host: &Host) -> Result<Self, String> {
        let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
        let root = dir.path().join("root");
        fs::create_dir(&root).map_err(|error| error.to_string())?;
        images::make_busybox(&root)?;
        let config = dir.path().join("config");
        let text = format!(
            "lxc.include = /usr/share/lxc/config/common.conf\nlxc.rootfs.path = dir:{}\nlxc.net.0.type = none\n\
             lxc.apparmor.profile = unconfined\nlxc.uts.name = test\n",
            root.display()
        );
        fs::write(&config, text).map_err(|error| error.to_string())?;
        fs::create_dir_all("/var/lib/lxcfs").map_err(|error| error.to_string())?;
        let name = unique("lxc");
        // The hook knows one place only.
        let script = format!(
            "mount --bind '{}' /var/lib/lxcfs && exec lxc-execute -P '{}' -n {name} -f '{}' -- /bin/sleep 100000",
            host.point().display(),
            dir.path().display(),
            config.display()
        );
        let execute = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-ec", &script])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .map_err(|error| error.to_string())?;
        Ok(Self { execute, dir, name })
    }

    fn command(&self, tool: &str) -> Command {
        let mut command = Command::new(tool);
        command
            .arg("-P")
            .arg(self.dir.path())
            .args(["-n", &self.name]);
        command
    }

    #[track_caller]
    fn inside(&self) -> Inside {
        let init = wait_for(patience(20), || {
            let ran = run(self.command("lxc-info").args(["-p", "-H"]));
            let init: i32 = ran.out.trim().parse().ok()?;
            let bound = mounts(init)
                .iter()
                .any(|line| line.contains(" /proc/uptime "));
            bound.then_some(init)
        });
        let init = init.expect("the init of the container");
        Inside {
            init,
            cgroup: Cgroup::of(init),
        }
    }
}

impl Drop for Lxc {
    fn drop(&mut self) {
        run(self.command("lxc-stop").arg("-k"));
        let _ = self.execute.kill();
        let _ = self.execute.wait();
    }
}

#[test]
fn an_lxc_container_of_a_dead_lxcfs_works_again_without_a_restart() {
    if !has("lxc-execute") || !Path::new("/usr/share/lxcfs/lxc.mount.hook").exists() {
        skip!("lxc or the mount hook of the lxcfs package is not installed");
    }
    let debians = match debians() {
        Ok(debians) => debians,
        Err(why) => skip!("{why}"),
    };
    let _turn = alone();
    let mut host = Host::served_by(&debians);
    let lxc = match Lxc::start(&host) {
        Ok(lxc) => lxc,
        Err(why) => skip!("{why}"),
    };
    let inside = lxc.inside();
    let before = mounts(inside.init);
    host.follow();
    assert_dead(&inside, "/proc/uptime");

    let ran = host.remount(&[]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(result(&ran, inside.init, "/proc/uptime"), "replaced");
    let dead =
        |line: &&String| line.contains("fuse.lxcfs") && !line.contains("default_permissions");
    assert_eq!(mounts(inside.init).iter().find(dead), None, "{ran:?}");
    assert!(uptime(&read(&inside, "/proc/uptime").ok()).0 < 300.0);
    read(&inside, "/sys/devices/system/cpu/online").ok();
    // The hook gives the whole tree too, for containers inside this one.
    if before.iter().any(|line| line.contains(" /var/lib/lxcfs ")) {
        read(&inside, "/var/lib/lxcfs/proc/meminfo").ok();
    }
    // What the new one lacks is the kernel's own again.
    for gone in ran.out.lines().filter(|line| line.contains("no such file")) {
        let path = gone.split_whitespace().nth(2).expect("a path");
        assert!(
            !before.is_empty() && read(&inside, path).err.is_empty(),
            "{gone}"
        );
    }
    assert_settled(
        &host,
        &[inside.init, i32::try_from(lxc.execute.id()).expect("a pid")],
    );
}

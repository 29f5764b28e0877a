//! Configurations for a machine with cgroup v2, systemd, four CPUs, two memory nodes and swap, such as the test VM.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use crate::common::cgroup::cgroup_version;
use crate::common::docker::{Docker, Image, SIX_FILES, options, proc_volumes};
use crate::common::figures::cpu_list;
use crate::common::{
    Cgroup, Daemon, Inside, alone, has, images, patience, run_within, sh, skip, unique, wait_for,
};
use crate::host::{Lxc, SLEEP, docker, docker_container};
use crate::outside::{Kit, VOLUMES, bind_rest, conclude};

/// Why this machine is not what the tests here need.
fn lacking() -> Option<&'static str> {
    let online = fs::read_to_string("/sys/devices/system/cpu/online").expect("the host's CPUs");
    if cgroup_version() == 1 {
        Some("needs cgroup v2")
    } else if cpu_list(&online).len() < 4 {
        Some("needs four CPUs")
    } else {
        None
    }
}

macro_rules! needs_vm {
    () => {
        if let Some(why) = lacking() {
            skip!("{why}");
        }
    };
}

macro_rules! large_docker_tests {
    ($($name:ident: $limits:literal;)*) => {$(
        #[test]
        fn $name() {
            needs_vm!();
            let _turn = alone();
            match docker(&Daemon::start(&[]), &Kit::for_figures(), Image::Busybox, $limits) {
                Ok(findings) => conclude(concat!("Docker ", $limits), &findings),
                Err(why) => skip!("{why}"),
            }
        }
    )*};
}

large_docker_tests! {
    docker_with_the_second_memory_node: "-m 256m --cpuset-cpus 2-3 --cpuset-mems 1";
    docker_with_one_and_a_half_of_three_cpus: "-m 256m --cpuset-cpus 1-3 --cpus 1.5";
}

/// Takes the machine's swap away until it is dropped.
struct NoSwap;

impl NoSwap {
    fn start() -> Self {
        sh("swapoff -a; tail -n +2 /proc/swaps | cut -d ' ' -f 1 | xargs -r -n 1 swapoff").ok();
        Self
    }
}

impl Drop for NoSwap {
    fn drop(&mut self) {
        sh("swapon /dev/vdc");
    }
}

#[test]
fn docker_on_a_machine_without_swap() {
    needs_vm!();
    let _turn = alone();
    if !Path::new("/dev/vdc").exists() {
        skip!("needs the swap disk of the test VM");
    }
    let _no_swap = NoSwap::start();
    let (daemon, kit) = (Daemon::start(&[]), Kit::for_figures());
    match docker(&daemon, &kit, Image::Debian, "-m 256m --cpus 1") {
        Ok(findings) => conclude("Docker -m 256m --cpus 1, no swap", &findings),
        Err(why) => skip!("{why}"),
    }
}

/// Compressed memory as the machine's swap, until it is dropped.
struct Zram;

impl Zram {
    fn start() -> Option<Self> {
        let script = "modprobe zram num_devices=1 && echo 512M >/sys/block/zram0/disksize && \
                      mkswap /dev/zram0 && swapon --priority 100 /dev/zram0";
        sh(script).succeeded().then_some(Self)
    }
}

impl Drop for Zram {
    fn drop(&mut self) {
        sh("swapoff /dev/zram0; echo 1 >/sys/block/zram0/reset; rmmod zram");
    }
}

#[test]
fn docker_that_swaps_to_zram() {
    needs_vm!();
    let docker = match Docker::get() {
        Ok(docker) => docker,
        Err(why) => skip!("{why}"),
    };
    let _turn = alone();
    let Some(_zram) = Zram::start() else {
        skip!("the kernel has no zram");
    };
    let (daemon, kit) = (Daemon::start(&[]), Kit::for_figures());
    // tail holds all it was given until its input ends. When it has all of it, there is a sleep.
    let hog = "(head -c 100m /dev/zero | tr '\\0' x; exec sleep 100000) | tail -c 100m";
    let container = docker_container(
        docker,
        &daemon,
        &kit,
        Image::Busybox,
        "-m 80m --memory-swap 300m",
        &["sh", "-c", hog],
    );
    let inside = container.inside();
    let swapped = || {
        let text = inside
            .cgroup
            .text("memory", "memory.stat", "memory.swap.current");
        text.trim().parse::<u64>().unwrap_or(0)
    };
    let is_sleep = |pid: &i32| {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        name.trim() == "sleep"
    };
    let holds_all = || inside.cgroup.processes().iter().any(is_sleep).then_some(());
    assert!(
        wait_for(patience(60), holds_all).is_some() && swapped() > 16 << 20,
        "{} bytes in swap",
        swapped()
    );
    let findings = kit.check(&inside, &inside.cgroup, |_| {});
    conclude("Docker -m 80m, 100 MB in use, zram", &findings);
}

#[test]
fn podman_with_crun() {
    needs_vm!();
    if !has("podman") || !has("crun") {
        skip!("podman and crun are not installed");
    }
    let _turn = alone();
    let (daemon, kit) = (Daemon::start(&[]), Kit::for_figures());
    let dir = tempfile::tempdir_in("/var/tmp").expect("a directory");
    let below = |name: &str| dir.path().join(name).to_str().expect("ASCII").to_owned();
    fs::create_dir(below("root")).expect("a directory");
    if let Err(why) = images::make_busybox(below("root").as_ref()) {
        skip!("{why}");
    }
    let podman = |args: &[&str]| {
        let mut command = Command::new("podman");
        command.args(["--root", &below("graph"), "--runroot", &below("run")]);
        command.args(["--storage-driver", "vfs", "--runtime", "crun"]);
        command.args(args);
        command
    };
    let name = unique("podman");
    let mut run = podman(&["run", "--detach", "--network", "none", "--name", &name]);
    run.args(["-m", "256m", "--cpus", "1"])
        .args(proc_volumes(&daemon, &VOLUMES));
    for path in [daemon.arg(""), kit.path().to_owned()] {
        run.arg("-v").arg(format!("{path}:{path}:ro"));
    }
    run.arg("--rootfs").arg(below("root")).args(SLEEP);
    run_within(&mut run, patience(60)).ok();
    let init = run_within(
        &mut podman(&["inspect", "--format", "{{.State.Pid}}", &name]),
        patience(30),
    )
    .ok();
    let init = init.trim().parse().expect("a pid");
    let inside = Inside {
        init,
        cgroup: Cgroup::of(init),
    };
    bind_rest(&daemon, &inside);
    let findings = kit.check(&inside, &inside.cgroup, |_| {});
    run_within(
        &mut podman(&["rm", "--force", "--time", "0", &name]),
        patience(60),
    );
    conclude("podman -m 256m --cpus 1", &findings);
}

/// A root file system of this machine's `/usr` in which systemd starts nothing.
fn make_systemd(root: &Path) -> Result<(), String> {
    if !Path::new("/usr/lib/systemd/systemd").exists() {
        return Err("systemd is not installed".to_owned());
    }
    for dir in [
        "etc/systemd/system",
        "usr",
        "var/tmp",
        "run",
        "tmp",
        "proc",
        "sys",
        "dev",
        "root",
    ] {
        fs::create_dir_all(root.join(dir)).expect("a directory");
    }
    for dir in ["bin", "sbin", "lib", "lib64"] {
        symlink(format!("usr/{dir}"), root.join(dir)).expect("a link");
    }
    for file in ["passwd", "group", "os-release"] {
        let _ = fs::copy(Path::new("/etc").join(file), root.join("etc").join(file));
    }
    fs::write(
        root.join("etc/machine-id"),
        "0123456789abcdef0123456789abcdef\n",
    )
    .expect("an id");
    let nothing = "[Unit]\nDescription=Nothing\nDefaultDependencies=no\n";
    fs::write(root.join("etc/systemd/system/default.target"), nothing).expect("a unit");
    Ok(())
}

#[test]
fn lxc_with_systemd_as_init() {
    needs_vm!();
    let _turn = alone();
    let (daemon, kit) = (Daemon::start(&[]), Kit::for_figures());
    let config = "lxc.mount.entry = /usr usr none bind,ro 0 0\nlxc.console.path = none\nlxc.tty.max = 0\n\
                  lxc.cgroup2.memory.max = 256M\nlxc.cgroup2.cpu.max = 150000 100000\n";
    let lxc = match Lxc::start(&daemon, &kit, make_systemd, config, &["/sbin/init"]) {
        Ok(lxc) => lxc,
        Err(why) => skip!("{why}"),
    };
    let init = lxc.inside.init;
    let in_scope = || {
        let line = fs::read_to_string(format!("/proc/{init}/cgroup")).unwrap_or_default();
        line.trim_end().ends_with("/init.scope").then_some(())
    };
    assert!(
        wait_for(patience(60), in_scope).is_some(),
        "systemd has not made its scope"
    );
    let scope = Cgroup::of(init);
    let inside = Inside {
        init,
        cgroup: scope.clone(),
    };
    // What it starts at its own start is gone by then.
    let has_started = || {
        let mut systemctl = inside.command_in_rootfs(&["systemctl", "is-system-running"]);
        let state = run_within(&mut systemctl, patience(30)).out;
        ["running", "degraded"]
            .contains(&state.trim())
            .then_some(())
    };
    assert!(
        wait_for(patience(60), has_started).is_some(),
        "systemd has not started everything"
    );
    let findings = kit.check(&inside, &scope.parent(), |_| {});
    conclude("LXC, systemd, 256M, 1.5 CPUs", &findings);
}

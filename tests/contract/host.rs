//! Configurations that every machine has.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::common::cgroup::cgroup_version;
use crate::common::daemon::binary;
use crate::common::docker::{Container, Docker, Image, cpu_volume, options, proc_volumes};
use crate::common::{
    Cgroup, Daemon, Inside, alone, children, has, images, patience, skip, slowness, unique,
    wait_for,
};
use crate::findings::Findings;
use crate::outside::{Kit, VOLUMES, bind_rest, conclude};

pub const SLEEP: [&str; 2] = ["sleep", "100000"];

/// Starts a Docker container with everything bound that the daemon serves.
#[track_caller]
pub fn docker_container(
    docker: &'static Docker,
    daemon: &Daemon,
    kit: &Kit,
    image: Image,
    limits: &str,
    argv: &[&str],
) -> Container {
    let mut line = options(limits);
    line.extend(proc_volumes(daemon, &VOLUMES));
    line.extend(cpu_volume(daemon));
    for path in [daemon.arg(""), kit.path().to_owned()] {
        line.extend(["-v".to_owned(), format!("{path}:{path}:ro")]);
    }
    let container = docker.container_running(image, &line, argv);
    let inside = container.inside();
    bind_rest(daemon, &inside);
    inside.cgroup.count_writes_to("/var".as_ref());
    container
}

/// Checks a Docker container with these limits.
#[track_caller]
pub fn docker(daemon: &Daemon, kit: &Kit, image: Image, limits: &str) -> Result<Findings, String> {
    let docker = Docker::get()?;
    let container = docker_container(docker, daemon, kit, image, limits, &SLEEP);
    let inside = container.inside();
    Ok(kit.check(&inside, &inside.cgroup, |_| {}))
}

macro_rules! docker_tests {
    ($($name:ident: $image:ident $limits:literal;)*) => {$(
        #[test]
        fn $name() {
            if slowness() > 1 {
                skip!("takes minutes under emulation, and others test the same");
            }
            let _turn = alone();
            match docker(&Daemon::start(&[]), &Kit::new(), Image::$image, $limits) {
                Ok(findings) => conclude(concat!("Docker ", $limits), &findings),
                Err(why) => skip!("{why}"),
            }
        }
    )*};
}

docker_tests! {
    docker_with_memory_and_one_cpu: Debian "-m 256m --cpus 1";
    docker_with_the_second_cpu: Busybox "-m 256m --cpuset-cpus 1";
    docker_with_half_a_cpu: Busybox "-m 256m --cpus 0.5";
    docker_with_memory_only: Busybox "-m 256m";
    docker_without_limits: Debian "";
}

#[test]
fn docker_with_limits_that_change() {
    let docker = match Docker::get() {
        Ok(docker) => docker,
        Err(why) => skip!("{why}"),
    };
    let _turn = alone();
    let (daemon, kit) = (Daemon::start(&[]), Kit::new());
    let limits = "-m 256m --memory-swap 512m --cpus 1";
    let container = docker_container(docker, &daemon, &kit, Image::Busybox, limits, &SLEEP);
    let inside = container.inside();
    let findings = kit.check(&inside, &inside.cgroup, |sample| match sample {
        2 => container.update(&["--cpus", "0.5"]),
        3 => container.update(&["--cpus", "1.5", "-m", "300m"]),
        4 => container.update(&["--cpuset-cpus", "1"]),
        5 => container.update(&["--cpuset-cpus", "0-1", "--cpus", "2"]),
        6 => container.update(&["-m", "200m"]),
        _ => {}
    });
    conclude("Docker, limits that change", &findings);
}

/// A container that `lxc-execute` runs; stopped when dropped.
pub struct Lxc {
    execute: Child,
    dir: TempDir,
    name: String,
    pub inside: Inside,
}

impl Lxc {
    /// Starts one with the mount hook of the lxcfs package, and binds what that leaves out.
    #[track_caller]
    pub fn start(
        daemon: &Daemon,
        kit: &Kit,
        make_root: impl FnOnce(&Path) -> Result<(), String>,
        config: &str,
        init: &[&str],
    ) -> Result<Self, String> {
        if !has("lxc-execute") {
            return Err("lxc is not installed".to_owned());
        }
        if !Path::new("/usr/share/lxcfs/lxc.mount.hook").exists() {
            return Err("the mount hook of the lxcfs package is not installed".to_owned());
        }
        // On a disk, so that writes can be counted.
        let dir = tempfile::tempdir_in("/var/tmp").expect("a directory");
        let root = dir.path().join("root");
        fs::create_dir(&root).expect("a directory");
        make_root(&root)?;
        let name = unique("lxc");
        let entry = |path: &str| {
            let below = path.trim_matches('/');
            format!("lxc.mount.entry = {path} {below} none bind,ro,create=dir 0 0\n")
        };
        let text = format!(
            "lxc.include = /usr/share/lxc/config/common.conf\nlxc.rootfs.path = dir:{}\n\
             lxc.net.0.type = none\nlxc.apparmor.profile = unconfined\nlxc.uts.name = test\n{}{}{config}\n",
            root.display(),
            entry(&daemon.arg("")),
            entry(kit.path()),
        );
        fs::write(dir.path().join("config"), text).expect("a configuration");
        // The hook knows one place only; a mount namespace puts ours there without touching the machine's own.
        fs::create_dir_all("/var/lib/lxcfs").expect("the place the hook looks at");
        let tool = if init.first() == Some(&"/sbin/init") {
            "lxc-start -F"
        } else {
            "lxc-execute"
        };
        let script = format!(
            "mount --bind '{}' /var/lib/lxcfs && exec {tool} -P '{}' -n {name} -f '{}/config' -- \"$@\"",
            daemon.point().display(),
            dir.path().display(),
            dir.path().display()
        );
        let execute = Command::new("unshare")
            .args([
                "--mount",
                "--propagation",
                "private",
                "sh",
                "-ec",
                &script,
                "sh",
            ])
            .args(init)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("starting lxc");
        let outer = i32::try_from(execute.id()).expect("a pid");
        let own = pid_namespace(outer);
        let command_line: Vec<u8> = init
            .iter()
            .flat_map(|word| [word.as_bytes(), b"\0"].concat())
            .collect();
        let found = wait_for(patience(60), || {
            children(outer).into_iter().find(|pid| {
                let namespace = pid_namespace(*pid);
                // LXC's own init starts the command, systemd is init itself; the hook's programs come before.
                let runs = |pid: &i32| {
                    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                    line == command_line
                };
                let ready = runs(pid) || children(*pid).iter().any(runs);
                namespace.is_some() && namespace != own && ready
            })
        });
        let init = found.expect("an init in the container");
        let inside = Inside {
            init,
            cgroup: Cgroup::of(init),
        };
        bind_rest(daemon, &inside);
        inside.cgroup.count_writes_to(dir.path());
        Ok(Self {
            execute,
            dir,
            name,
            inside,
        })
    }
}

impl Drop for Lxc {
    fn drop(&mut self) {
        let stop = Command::new("lxc-stop")
            .args(["--kill", "-P"])
            .arg(self.dir.path())
            .args(["-n", &self.name])
            .status();
        if !stop.is_ok_and(|status| status.success()) {
            let _ = self.execute.kill();
        }
        let _ = self.execute.wait();
    }
}

fn pid_namespace(pid: i32) -> Option<std::path::PathBuf> {
    fs::read_link(format!("/proc/{pid}/ns/pid")).ok()
}

/// The lines of an LXC configuration for a limit, in both versions of cgroups.
pub fn lxc_limit(v1: &str, v2: &str) -> String {
    if cgroup_version() == 1 {
        format!("lxc.cgroup.{v1}\n")
    } else {
        format!("lxc.cgroup2.{v2}\n")
    }
}

#[test]
fn lxc_through_its_mount_hook() {
    let _turn = alone();
    let (daemon, kit) = (Daemon::start(&[]), Kit::new());
    let limits = lxc_limit("memory.limit_in_bytes = 256M", "memory.max = 256M")
        + &lxc_limit("cpuset.cpus = 0", "cpuset.cpus = 0");
    match Lxc::start(&daemon, &kit, images::make_busybox, &limits, &SLEEP) {
        Ok(lxc) => {
            let findings = kit.check(&lxc.inside, &lxc.inside.cgroup, |_| {});
            conclude("LXC, 256M, CPU 0", &findings);
        }
        Err(why) => skip!("{why}"),
    }
}

#[test]
fn lxcfs_run() {
    let _turn = alone();
    if cgroup_version() == 2 {
        skip!("needs a cgroup that may have children");
    }
    let (daemon, kit) = (Daemon::start(&[]), Kit::new());
    let mut run = Command::new(binary())
        .args([
            "run",
            "--views",
            &daemon.arg(""),
            "-m",
            "256m",
            "--cpus",
            "1",
        ])
        .args(["--"])
        .args(SLEEP)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .expect("starting lxcfs run");
    let front = i32::try_from(run.id()).expect("a pid");
    let own = pid_namespace(front);
    let command = wait_for(patience(20), || {
        let mut all = vec![front];
        let mut next = 0;
        while let Some(pid) = all.get(next) {
            all.extend(children(*pid));
            next += 1;
        }
        let program = |pid: i32| fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
        let sleeps = |pid: &i32| program(*pid).ends_with("sleep") && pid_namespace(*pid) != own;
        all.into_iter().find(sleeps)
    });
    let init = command.expect("the command of lxcfs run");
    let inside = Inside {
        init,
        cgroup: Cgroup::of(init),
    };
    inside.cgroup.count_writes_to("/var/tmp".as_ref());
    let findings = kit.check(&inside, &inside.cgroup, |_| {});
    let _ = nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(front),
        nix::sys::signal::Signal::SIGTERM,
    );
    let _ = run.wait();
    conclude("lxcfs run -m 256m --cpus 1", &findings);
}

/// That the checker can fail: LXCFS leaves files that contradict each other.
#[test]
fn the_checker_finds_what_is_known_of_lxcfs() {
    let program = Path::new("/usr/bin/lxcfs");
    if !program.exists() {
        skip!("lxcfs is not installed");
    }
    if slowness() > 1 {
        skip!("takes minutes under emulation, and others test the same");
    }
    let _turn = alone();
    let daemon = Daemon::start_as(program, &["-l", "--enable-cfs", "--enable-pidfd"]);
    let findings = match docker(&daemon, &Kit::new(), Image::Busybox, "-m 256m --cpus 1") {
        Ok(findings) => findings,
        Err(why) => skip!("{why}"),
    };
    let failed = findings.failed();
    crate::common::report(&format!(
        "contract | LXCFS -m 256m --cpus 1 | failed {}",
        failed.join(" ")
    ));
    // The host's figures among the container's, CPUs of which only some files know, sizes that are not kept to.
    for known in ["C05", "C06", "C15", "S06", "L04", "L05", "F01", "F04"] {
        assert!(
            failed.contains(&known),
            "{known}:\n{}",
            findings.lines().join("\n")
        );
    }
}

//! Docker with CDI devices, and with `lxcfs runtime` for all containers.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use parking_lot::{Mutex, MutexGuard};
use serde_json::{Value, json};

use crate::common::docker::{Docker, Image, options};
use crate::common::{Ran, beside_others, patience, run, run_within, sh, skip};
use crate::shown::{PRINT, Shown};
use crate::views::{Views, program};

/// A Docker daemon that is set up as docs/INTEGRATION.md says, and the place of its views.
pub struct Stand {
    pub docker: Docker,
    image: String,
    pub views: Views,
    /// Directory of CDI specifications.
    specifications: PathBuf,
    pub has_cdi: bool,
}

/// `Major` of Docker's version.
fn version() -> u32 {
    let text = sh("dockerd --version").out;
    let version = text
        .split("version ")
        .nth(1)
        .and_then(|rest| rest.split('.').next());
    version.and_then(|major| major.parse().ok()).unwrap_or(0)
}

impl Stand {
    pub fn get() -> Result<(&'static Self, MutexGuard<'static, ()>), String> {
        static STAND: LazyLock<Result<Stand, String>> = LazyLock::new(Stand::start);
        // The views are started and stopped.
        static TURN: Mutex<()> = Mutex::new(());
        let stand = STAND.as_ref().map_err(Clone::clone)?;
        Ok((stand, TURN.lock()))
    }

    fn start() -> Result<Self, String> {
        let views = Views::prepare();
        let specifications = views.dir().join("cdi");
        std::fs::create_dir(&specifications).expect("a directory");
        let place = views.arg();
        let runtime = |strict: &[&str]| {
            let arguments = [&["runtime", "--views", &place], strict].concat();
            json!({"path": program(), "runtimeArgs": arguments})
        };
        let mut config = json!({
            "runtimes": {"lxcfs": runtime(&[]), "lxcfs-strict": runtime(&["--strict"])},
            "default-runtime": "lxcfs",
        });
        let has_cdi = version() >= 25;
        if has_cdi {
            config["features"] = json!({"cdi": true});
            config["cdi-spec-dirs"] = json!([specifications]);
        }
        let docker = Docker::with_config(&config.to_string())?;
        let image = docker.image(Image::Busybox)?;
        // Nothing that is static is ever dropped.
        docker.at_end(&format!(
            "rm -rf --one-file-system '{}'\n",
            views.dir().display()
        ));
        Ok(Self {
            docker,
            image,
            views,
            specifications,
            has_cdi,
        })
    }

    /// `docker run` with limits and these options.
    #[track_caller]
    pub fn run(&self, line: &str, script: &str) -> Ran {
        let mut command = self.docker.command(&["run", "--rm", "--network", "none"]);
        command
            .args(["-m", "50m", "--cpus", "1"])
            .args(options(line));
        command.arg(&self.image).args(["sh", "-c", script]);
        run_within(&mut command, patience(60))
    }

    #[track_caller]
    fn seen(&self, line: &str) -> Shown {
        Shown::new(&self.run(line, PRINT).ok())
    }

    /// Writes what `lxcfs cdi` prints to where Docker looks for it.
    #[track_caller]
    pub fn specify(&self, options: &[&str]) {
        let mut cdi = Command::new(program());
        let text = run(cdi
            .arg("cdi")
            .args(["--views", &self.views.arg()])
            .args(options))
        .ok();
        std::fs::write(self.specifications.join("lxcfs.json"), text).expect("writing");
    }
}

#[test]
fn the_runtime_gives_all_containers_the_views() {
    let (stand, _docker) = match Stand::get() {
        Ok(stand) => stand,
        Err(why) => skip!("{why}"),
    };
    let _turn = beside_others();
    let daemon = stand.views.start();
    let tools = "-v /usr:/usr:ro -v /lib:/lib:ro -v /lib64:/lib64:ro";
    let text = stand
        .run(
            tools,
            &format!("{PRINT}; echo ==; /usr/bin/free -k; /usr/bin/uptime -s"),
        )
        .ok();
    let seen = Shown::new(&text);
    seen.assert_own();
    seen.assert_rest(true);
    let free = text
        .lines()
        .find(|line| line.starts_with("Mem:"))
        .expect("free's line");
    assert_eq!(free.split_whitespace().nth(1), Some("51200"), "{free}");

    // What is mounted by hand stays.
    let mine = daemon.arg("proc/uptime");
    let seen = stand.seen(&format!("--read-only -u 1000 -v {mine}:/proc/uptime:ro"));
    seen.assert_own();
    seen.assert_rest(false);
    let privileged = stand.run("--privileged", PRINT);
    if privileged.succeeded() || stand.run("--privileged --runtime runc", "true").succeeded() {
        let seen = Shown::new(&privileged.ok());
        seen.assert_own();
        seen.assert_rest(true);
    }
    // Who looks at the host sees it, unless asking by name.
    let monitor = "--pid host";
    stand.seen(monitor).assert_without_views();
    let asking = "--annotation lxcfs.rs/view=true";
    if version() >= 24 {
        let seen = stand.seen(&format!("{monitor} {asking}"));
        assert!(
            seen.has("/proc/meminfo") && seen.has("/proc/vmstat"),
            "{seen:?}"
        );
    }
    // Other runtimes add nothing.
    stand.seen("--runtime runc").assert_without_views();

    drop(daemon);
    stand.seen("").assert_without_views();
    let ran = stand.run("--runtime lxcfs-strict", "true");
    let sentence = format!("no lxcfs is mounted at {}", stand.views.arg());
    assert!(!ran.succeeded() && ran.err.contains(&sentence), "{ran:?}");
}

#[test]
fn docker_takes_the_commands_that_are_passed_on() {
    let (stand, _docker) = match Stand::get() {
        Ok(stand) => stand,
        Err(why) => skip!("{why}"),
    };
    let _turn = beside_others();
    let _daemon = stand.views.start();
    let docker = |args: &[&str]| stand.docker.run(args);
    let name = docker(&[
        "run",
        "-d",
        "-m",
        "50m",
        "--network",
        "none",
        &stand.image,
        "sleep",
        "1000",
    ])
    .ok();
    let name = name.trim();
    docker(&["exec", name, "grep", "MemTotal: *51200 kB", "/proc/meminfo"]).ok();
    docker(&["pause", name]).ok();
    docker(&["unpause", name]).ok();
    docker(&["update", "-m", "60m", "--memory-swap", "-1", name]).ok();
    docker(&["exec", name, "grep", "MemTotal: *61440 kB", "/proc/meminfo"]).ok();
    docker(&["restart", "-t", "0", name]).ok();
    docker(&["exec", name, "grep", "MemTotal: *61440 kB", "/proc/meminfo"]).ok();
    let mounts = docker(&["exec", name, "grep", "-c", " /proc/vmstat ", "/proc/mounts"]).ok();
    assert_eq!(mounts.trim(), "1");
    docker(&["rm", "-f", name]).ok();
    let info = docker(&["info", "--format", "{{.DefaultRuntime}}"]).ok();
    assert_eq!(info.trim(), "lxcfs");
}

#[test]
fn a_cdi_device_gives_a_container_the_views() {
    let (stand, _docker) = match Stand::get() {
        Ok(stand) => stand,
        Err(why) => skip!("{why}"),
    };
    if !stand.has_cdi {
        skip!("Docker knows CDI since version 25");
    }
    let _turn = beside_others();
    let daemon = stand.views.start();
    stand.specify(&[]);
    let all = "--runtime runc --device lxcfs.rs/view=all";
    let seen = stand.seen(&format!("{all} --read-only"));
    seen.assert_own();
    seen.assert_rest(true);
    assert!(
        stand
            .seen(&format!("{all} --pid host"))
            .has("/proc/meminfo")
    );
    let seen = stand.seen("--runtime runc --device lxcfs.rs/view=mem --device lxcfs.rs/view=psi");
    assert!(seen.has("/proc/meminfo") && seen.has("/proc/vmstat") && !seen.has("/proc/stat"));
    assert_eq!(
        seen.has("/proc/pressure"),
        Path::new("/proc/pressure").exists()
    );

    drop(daemon);
    stand.seen(all).assert_without_views();
    stand.specify(&["--strict"]);
    let ran = stand.run(all, "true");
    let sentence = format!("no lxcfs is mounted at {}", stand.views.arg());
    assert!(!ran.succeeded() && ran.err.contains(&sentence), "{ran:?}");
}

/// The file of the package is what the program prints, less what a host can lack.
#[test]
fn the_packaged_specification_is_a_subset_of_the_printed_one() {
    let printed = run(Command::new(program()).arg("cdi")).ok();
    let printed: Value = serde_json::from_str(&printed).expect("JSON");
    let packaged = include_str!("../../share/cdi/lxcfs.json");
    let packaged: Value = serde_json::from_str(packaged).expect("JSON");
    for (printed, packaged) in devices(&printed).iter().zip(devices(&packaged)) {
        assert_eq!(printed["name"], packaged["name"]);
        let edits = (&printed["containerEdits"], &packaged["containerEdits"]);
        assert_eq!(edits.0["hooks"][0]["args"], edits.1["hooks"][0]["args"]);
        assert_eq!(edits.1["hooks"][0]["path"], "/usr/bin/lxcfs");
        let mounts = edits.0["mounts"].as_array().expect("an array");
        for mount in edits.1["mounts"].as_array().expect("an array") {
            assert!(mounts.contains(mount), "{mount}");
        }
    }
}

fn devices(specification: &Value) -> &Vec<Value> {
    specification["devices"].as_array().expect("an array")
}

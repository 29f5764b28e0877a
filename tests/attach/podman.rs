//! podman with CDI devices, the drop-in for all containers, and the hook precreate.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::common::docker::options;
use crate::common::podman::podman_run;
use crate::common::{Ran, beside_others, patience, run, run_within, skip};
use crate::shown::{PRINT, Shown};
use crate::views::{Views, program};

pub const DROP_IN: &str = include_str!("../../share/podman/containers.conf.d/lxcfs.conf");
const HOOK: &str = include_str!("../../share/podman/hooks.d/lxcfs.json");

/// A store, a root file system, and the place of the views.
pub struct Stand {
    pub views: Views,
    runtime: &'static str,
}

impl Stand {
    pub fn new(runtime: &'static str) -> Result<Self, String> {
        let views = Views::prepare();
        podman_run(views.dir(), runtime, &[])?;
        for name in ["cdi", "hooks.d"] {
            fs::create_dir(views.dir().join(name)).expect("a directory");
        }
        let stand = Self { views, runtime };
        stand.configure("");
        stand.specify(&[]);
        Ok(stand)
    }

    /// What `containers.conf` says beyond the machine's own.
    pub fn configure(&self, text: &str) {
        fs::write(self.views.dir().join("containers.conf"), text).expect("writing");
    }

    /// Writes what `lxcfs cdi` prints to where podman looks for it.
    #[track_caller]
    fn specify(&self, options: &[&str]) {
        let mut cdi = Command::new(program());
        let text = run(cdi
            .arg("cdi")
            .args(["--views", &self.views.arg()])
            .args(options))
        .ok();
        fs::write(self.views.dir().join("cdi/lxcfs.json"), text).expect("writing");
    }

    /// The hook of the package, with the program under test and its place, and these options.
    pub fn hook(&self, options: &str) -> String {
        let (path, place) = (program(), self.views.arg());
        let text = HOOK.replace("/usr/bin/lxcfs", &path).replace(
            "\"hook\", \"precreate\"",
            &format!("\"hook\", \"precreate\", \"--views\", \"{place}\"{options}"),
        );
        fs::write(self.views.dir().join("hooks.d/lxcfs.json"), text).expect("writing");
        format!("--hooks-dir {}", self.views.dir().join("hooks.d").display())
    }

    /// `podman run` with limits and these options.
    #[track_caller]
    pub fn run(&self, global: &str, line: &str, script: &str) -> Ran {
        let global: Vec<&str> = global.split_whitespace().collect();
        let mut podman = podman_run(self.views.dir(), self.runtime, &global).expect("podman");
        podman
            .args(["-m", "50m", "--cpus", "1"])
            .args(options(line));
        podman.arg("--rootfs").arg(self.views.dir().join("root"));
        podman.args(["sh", "-c", script]);
        // podman looks for specifications there only; the machine's own stay as they are.
        let with_specifications =
            "mkdir -p /etc/cdi && mount --bind \"$0\" /etc/cdi && exec \"$@\"";
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", with_specifications]);
        command.arg(self.views.dir().join("cdi"));
        command.arg(podman.get_program()).args(podman.get_args());
        let configuration = self.views.dir().join("containers.conf");
        command.env("CONTAINERS_CONF_OVERRIDE", configuration);
        run_within(&mut command, patience(60))
    }

    /// Has the root file system belong to users of a container; the options that give it them.
    fn map_users(&self) -> &'static str {
        let root = self.views.dir().join("root");
        let mut chown = Command::new("chown");
        run(chown.args(["-R", "100000:100000"]).arg(root)).ok();
        run(Command::new("chmod").arg("711").arg(self.views.dir())).ok();
        "--uidmap 0:100000:65536 --gidmap 0:100000:65536"
    }

    #[track_caller]
    fn seen(&self, global: &str, line: &str) -> Shown {
        Shown::new(&self.run(global, line, PRINT).ok())
    }

    #[track_caller]
    fn has_failed(&self, ran: &Ran) {
        // crun and podman name the hook and not what it says, which is in the system log.
        let sentence = format!("no lxcfs is mounted at {}", self.views.arg());
        let is_named = [
            "error executing hook",
            "precreate hook: executing",
            &sentence,
        ]
        .iter()
        .any(|words| ran.err.contains(words));
        assert!(!ran.succeeded() && is_named, "{ran:?}");
    }
}

#[test]
fn a_cdi_device_gives_a_container_the_views() {
    let _turn = beside_others();
    for runtime in ["crun", "runc"] {
        let stand = match Stand::new(runtime) {
            Ok(stand) => stand,
            Err(why) => skip!("{why}"),
        };
        let daemon = stand.views.start();
        let all = "--device lxcfs.rs/view=all";
        let seen = stand.seen("", &format!("{all} --read-only -u 1000"));
        seen.assert_own();
        seen.assert_rest(false);
        let seen = stand.seen("", "--device lxcfs.rs/view=psi");
        assert_eq!(
            seen.has("/proc/pressure"),
            Path::new("/proc/pressure").exists()
        );
        assert!(!seen.has("/proc/meminfo"));

        drop(daemon);
        stand.seen("", all).assert_without_views();
        stand.specify(&["--strict"]);
        stand.has_failed(&stand.run("", all, "true"));
    }
}

#[test]
fn the_drop_in_gives_all_containers_the_views() {
    let stand = match Stand::new("crun") {
        Ok(stand) => stand,
        Err(why) => skip!("{why}"),
    };
    let _turn = beside_others();
    stand.configure(DROP_IN);
    let hooks = stand.hook("");
    let daemon = stand.views.start();
    for line in ["", "--privileged", "--annotation mine=1"] {
        let seen = stand.seen(&hooks, line);
        seen.assert_own();
        seen.assert_rest(true);
    }
    stand.seen(&hooks, "--pid host").assert_without_views();
    let asking = "--pid host --annotation lxcfs.rs/view=true";
    assert!(stand.seen(&hooks, asking).has("/proc/meminfo"));
    drop(daemon);
    stand.seen(&hooks, "").assert_without_views();
}

#[test]
fn the_hook_precreate_gives_the_views_to_those_that_ask_by_annotation() {
    let stand = match Stand::new("crun") {
        Ok(stand) => stand,
        Err(why) => skip!("{why}"),
    };
    let _turn = beside_others();
    let hooks = stand.hook("");
    let daemon = stand.views.start();
    let asks = "--annotation lxcfs.rs/view=true";
    let seen = stand.seen(&hooks, asks);
    seen.assert_own();
    seen.assert_rest(true);
    for line in ["", "--annotation lxcfs.rs/view=false"] {
        stand.seen(&hooks, line).assert_without_views();
    }
    // A container's directory is closed to its root then. A CDI device is no different.
    let users = stand.map_users();
    for (global, line) in [(hooks.as_str(), asks), ("", "--device lxcfs.rs/view=all")] {
        let seen = stand.seen(global, &format!("{line} {users}"));
        seen.assert_own();
        seen.assert_rest(true);
    }

    drop(daemon);
    stand.seen(&hooks, asks).assert_without_views();
    stand.hook(", \"--strict\"");
    stand.has_failed(&stand.run(&hooks, asks, "true"));
}

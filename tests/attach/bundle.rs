//! Containers of a bare OCI runtime, with a configuration made by hand.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::common::{Ran, images, patience, run_within, unique};
use crate::views::program;

/// A bundle with a root file system of busybox.
#[derive(Debug)]
pub struct Bundle {
    dir: tempfile::TempDir,
    pub config: Value,
}

impl Bundle {
    /// 50 MB, one CPU, and a shell that runs `script`; the rest as Docker has it.
    pub fn new(script: &str) -> Result<Self, String> {
        let dir = tempfile::tempdir().expect("a directory");
        let root = dir.path().join("rootfs");
        fs::create_dir(&root).expect("a directory");
        images::make_busybox(&root)?;
        let config = json!({
            "ociVersion": "1.0.2",
            "root": {"path": "rootfs"},
            "process": {
                "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0},
                "args": ["sh", "-c", script],
            },
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=64k"]},
                {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
            ],
            "linux": {
                "cgroupsPath": format!("/{}", unique("oci")),
                "resources": {"devices": [{"allow": true, "access": "rwm"}], "memory": {"limit": 50 << 20}, "cpu": {"quota": 100_000, "period": 100_000}},
                "namespaces": [{"type": "pid"}, {"type": "mount"}, {"type": "cgroup"}, {"type": "ipc"}],
                "maskedPaths": ["/proc/interrupts", "/proc/kcore"],
            },
        });
        Ok(Self { dir, config })
    }

    pub fn root(&self) -> PathBuf {
        self.dir.path().join("rootfs")
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Lets the runtime call `lxcfs hook` with these arguments.
    pub fn add_hook(&mut self, stage: &str, arguments: &[&str]) {
        let command = match stage {
            "createRuntime" => "create-runtime",
            _ => "create-container",
        };
        let own = ["lxcfs", "hook", command];
        let args: Vec<&str> = own.iter().chain(arguments).copied().collect();
        self.config["hooks"] = json!({stage: [{"path": program(), "args": args}]});
    }

    /// Gives the container a user namespace.
    pub fn map_users(&mut self) {
        let linux = &mut self.config["linux"];
        let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
        linux["uidMappings"] = map.clone();
        linux["gidMappings"] = map;
        let namespaces = linux["namespaces"].as_array_mut().expect("an array");
        namespaces.extend([json!({"type": "user"}), json!({"type": "network"})]);
    }

    /// Runs the container with `runtime` and its arguments, to its end.
    #[track_caller]
    pub fn run(&self, runtime: &[&str]) -> Ran {
        fs::write(self.dir.path().join("config.json"), self.config.to_string()).expect("writing");
        let mut command = Command::new(runtime[0]);
        command
            .args(&runtime[1..])
            .arg("run")
            .arg("--bundle")
            .arg(self.dir.path());
        run_within(command.arg(unique("c")), patience(60))
    }
}

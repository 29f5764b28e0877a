//! What containerd finds when it starts: its configuration, a network that is none, an image.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use crate::common::{images, patience, run_within};

/// The image of all containers, those that hold pods together too: busybox, which sleeps.
pub const IMAGE: &str = "docker.io/library/busybox:test";
const MAKE_IMAGE: &str = include_str!("make-image.sh");

/// What pods with a network namespace of their own need: a network that is none.
const NETWORK: &str = r#"{"cniVersion":"0.3.1","name":"none","plugins":[{"type":"none"}]}"#;
const NETWORK_PLUGIN: &str = r#"#!/bin/sh
cat >/dev/null
case $CNI_COMMAND in
ADD) echo '{"cniVersion":"0.3.1","interfaces":[{"name":"eth0","sandbox":"/"}],"ips":[{"version":"4","address":"192.0.2.2/24","interface":0}]}' ;;
VERSION) echo '{"cniVersion":"0.3.1","supportedVersions":["0.3.1"]}' ;;
esac
"#;

fn make_network(dir: &Path) {
    fs::create_dir(dir).expect("a directory");
    fs::write(dir.join("none.conflist"), NETWORK).expect("a configuration");
    for name in ["none", "loopback"] {
        let plugin = dir.join(name);
        fs::write(&plugin, NETWORK_PLUGIN).expect("a program");
        fs::set_permissions(plugin, fs::Permissions::from_mode(0o755)).expect("making it one");
    }
}

/// Everything of containerd's in one directory, and NRI on. Nothing needs overlayfs or room for scores of the OOM
/// killer, which not every machine has.
fn config(dir: &Path) -> String {
    let dir = dir.display();
    format!(
        r#"version = 2
root = "{dir}/root"
state = "{dir}/state"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs",
    "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.blockfile"]
[grpc]
address = "{dir}/containerd.sock"
[plugins."io.containerd.internal.v1.opt"]
path = "{dir}/opt"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{IMAGE}"
disable_apparmor = true
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "native"
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{dir}/cni"
conf_dir = "{dir}/cni"
[plugins."io.containerd.nri.v1.nri"]
disable = false
plugin_path = "{dir}/plugins"
plugin_config_path = "{dir}/conf.d"
socket_path = "{dir}/nri.sock"
plugin_registration_timeout = "{}s"
plugin_request_timeout = "{}s"
"#,
        patience(5).as_secs(),
        patience(2).as_secs(),
    )
}

/// Makes what is there before containerd starts.
pub fn prepare(dir: &Path) {
    fs::write(dir.join("config.toml"), config(dir)).expect("a configuration");
    for name in ["plugins", "conf.d"] {
        fs::create_dir(dir.join(name)).expect("a directory");
    }
    make_network(&dir.join("cni"));
}

/// Gives the containerd that runs in this directory its image.
pub fn import_image(dir: &Path) -> Result<(), String> {
    let root = dir.join("busybox");
    fs::create_dir(&root).expect("a directory");
    images::make_busybox(&root)?;
    let mut shell = Command::new("sh");
    shell
        .args(["-c", MAKE_IMAGE, "make-image"])
        .arg(dir)
        .arg(IMAGE);
    run_within(&mut shell, patience(60)).ok();
    let mut ctr = Command::new("ctr");
    ctr.arg("--address").arg(dir.join("containerd.sock"));
    ctr.args([
        "--namespace",
        "k8s.io",
        "images",
        "import",
        "--snapshotter",
        "native",
    ]);
    run_within(ctr.arg(dir.join("image.tar")), patience(60)).ok();
    Ok(())
}

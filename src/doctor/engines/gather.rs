//! Asking the engines.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;

use serde_json::Value;

use super::{
    DEVICE, Docker, Facts, LXC_CONFIG, LXC_HOOK, Pluggable, Podman, SPECIFICATIONS, Specification,
    major_minor,
};
use crate::attach::cdi;
use crate::daemon;
use crate::doctor::words::Words;
use crate::host::process::Proc;
use crate::places::tool;
use crate::places::trust::Trust;
use crate::sys::file::read_small;

/// Where podman is told to give all containers a device or an annotation.
const OF_PODMAN: [&str; 4] = [
    "/etc/containers/containers.conf",
    "/etc/containers/containers.conf.d",
    "/usr/share/containers/containers.conf",
    "/usr/share/containers/containers.conf.d",
];
/// Where podman looks for hooks, one of which does what the annotation asks for.
const HOOKS_OF_PODMAN: [&str; 2] = [
    "/etc/containers/oci/hooks.d",
    "/usr/share/containers/oci/hooks.d",
];
const OF_CONTAINERD: &str = "/etc/containerd/config.toml";
const NRI: &str = "io.containerd.nri.v1.nri";
const OF_CRIO: [&str; 2] = ["/etc/crio/crio.conf", "/etc/crio/crio.conf.d"];
const NRI_PLUGINS: &str = "/opt/nri/plugins";
/// No configuration of an engine is longer.
const MOST_BYTES: usize = 1 << 20;

/// Asks the engines, all at the same time.
pub fn gather(proc: &Proc, words: &Words) -> Facts {
    thread::scope(|scope| {
        let specification = scope.spawn(|| specification(words));
        let docker = scope.spawn(|| docker(proc));
        let podman = scope.spawn(podman);
        let containerd = scope.spawn(containerd);
        let crio = scope.spawn(crio);
        let lxc = scope.spawn(|| version("lxc-info", 0));
        let incus = scope.spawn(|| tool::installed("incusd").and_then(|_| version("incus", 2)));
        let nspawn = scope.spawn(|| version("systemd-nspawn", 1));
        Facts {
            has_plugin: has_plugin(proc),
            has_hook: [LXC_HOOK, LXC_CONFIG]
                .map(Path::new)
                .iter()
                .all(|path| path.exists()),
            specification: specification.join().unwrap_or_default(),
            docker: docker.join().unwrap_or_default(),
            podman: podman.join().unwrap_or_default(),
            containerd: containerd.join().unwrap_or_default(),
            crio: crio.join().unwrap_or_default(),
            lxc: lxc.join().unwrap_or_default(),
            incus: incus.join().unwrap_or_default(),
            nspawn: nspawn.join().unwrap_or_default(),
        }
    })
}

/// The word with this number of the first line that `program --version` prints.
fn version(program: &str, word: usize) -> Option<String> {
    let text = tool::output(program, &["--version"])?;
    let line = text.lines().next()?;
    line.split_whitespace().nth(word).map(str::to_owned)
}

fn specification(words: &Words) -> Specification {
    let path = SPECIFICATIONS
        .into_iter()
        .map(PathBuf::from)
        .find(|path| path.exists());
    let Some(path) = path else {
        return Specification::Missing;
    };
    let own = env::current_exe().unwrap_or_default();
    let fresh = tool::output(
        &own.to_string_lossy(),
        &["cdi", "--views", &words.plain_views],
    );
    let is_current = |fresh: String| {
        let text = read_small(&path, MOST_BYTES);
        text.is_ok_and(|text| text == fresh || (words.is_usual && text == cdi::PACKAGED))
    };
    if fresh.is_none_or(is_current) {
        Specification::Current(path)
    } else {
        Specification::Stale(path)
    }
}

/// A daemon that does not run is not asked, as systemd would start it.
fn docker(proc: &Proc) -> Option<Docker> {
    tool::installed("docker")?;
    let is_elsewhere = env::var_os("DOCKER_HOST").is_some_and(|host| !host.is_empty());
    let trust = Trust::new(proc);
    let is_daemon = |pid: &i32| trust.is_called(*pid, "dockerd");
    let runs = is_elsewhere || proc.pids().unwrap_or_default().iter().any(is_daemon);
    let info = runs.then(|| tool::output("docker", &["info", "--format", "{{json .}}"]));
    Some(of_docker(&info.flatten().unwrap_or_default()))
}

/// What `docker info` prints, as JSON.
pub(super) fn of_docker(info: &str) -> Docker {
    let info: Value = serde_json::from_str(info).unwrap_or_default();
    let text = |name: &str| info.get(name).and_then(Value::as_str).unwrap_or_default();
    let version = text("ServerVersion");
    let directories = info.get("CDISpecDirs").and_then(Value::as_array);
    let runtime = info
        .get("Runtimes")
        .and_then(|all| all.get(text("DefaultRuntime")));
    Docker {
        version: (!version.is_empty()).then(|| version.to_owned()),
        has_cdi: directories.is_some_and(|all| !all.is_empty()),
        // The runtime is called by its path, whatever its name.
        has_runtime: runtime.is_some_and(|runtime| runtime.to_string().contains("lxcfs")),
    }
}

fn podman() -> Option<Podman> {
    let version = version("podman", 2)?;
    let first = |paths: &[&str]| {
        paths
            .iter()
            .find_map(|path| mentions_lxcfs(Path::new(path)))
    };
    let for_all = first(&OF_PODMAN);
    let text = for_all.as_ref().map(|file| read_small(file, MOST_BYTES));
    Some(Podman {
        version,
        asks_by_annotation: text.is_some_and(|text| asks_by_annotation(&text.unwrap_or_default())),
        for_all,
        hook: first(&HOOKS_OF_PODMAN),
    })
}

/// Whether the configuration has the annotation, and not the device.
pub(super) fn asks_by_annotation(text: &str) -> bool {
    let mut lines = text.lines().map(str::trim_start);
    !lines.any(|line| !line.starts_with('#') && line.contains(DEVICE))
}

/// The file, or the first one of the directory, that speaks of lxcfs.
pub(super) fn mentions_lxcfs(path: &Path) -> Option<PathBuf> {
    if path.is_dir() {
        let entries = fs::read_dir(path).ok()?.flatten();
        return entries
            .filter(|entry| entry.path().is_file())
            .find_map(|entry| mentions_lxcfs(&entry.path()));
    }
    let text = read_small(path, MOST_BYTES).ok()?;
    let mut lines = text.lines().map(str::trim_start);
    let found = lines.any(|line| !line.starts_with('#') && line.contains("lxcfs"));
    found.then(|| path.to_owned())
}

fn containerd() -> Option<Pluggable> {
    let is_for_docker = tool::installed("dockerd").is_some();
    let is_for_pods = ["kubelet", "crictl", "nerdctl"]
        .iter()
        .any(|name| tool::installed(name).is_some());
    if is_for_docker && !is_for_pods {
        return None;
    }
    let version = version("containerd", 2)?;
    let config = read_small(OF_CONTAINERD.as_ref(), MOST_BYTES).unwrap_or_default();
    Some(Pluggable {
        has_nri: containerd_has_nri(&version, &config),
        version,
    })
}

/// It is on by default since 2.0.
pub(super) fn containerd_has_nri(version: &str, config: &str) -> bool {
    let config: toml::Table = config.parse().unwrap_or_default();
    let plugin = config.get("plugins").and_then(|all| all.get(NRI));
    let disabled = plugin
        .and_then(|nri| nri.get("disable"))
        .and_then(toml::Value::as_bool);
    !disabled.unwrap_or(major_minor(version) < (2, 0))
}

fn crio() -> Option<Pluggable> {
    let version = version("crio", 2)?;
    let [file, directory] = OF_CRIO.map(PathBuf::from);
    let mut files = vec![file];
    let mut more: Vec<_> = fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect();
    more.sort();
    files.extend(more);
    let texts: Vec<_> = files
        .iter()
        .filter_map(|file| read_small(file, MOST_BYTES).ok())
        .collect();
    Some(Pluggable {
        has_nri: crio_has_nri(&version, &texts),
        version,
    })
}

/// It is on by default since 1.30; the last file decides.
pub(super) fn crio_has_nri(version: &str, configs: &[String]) -> bool {
    let enabled = configs.iter().rev().find_map(|text| {
        let config: toml::Table = text.parse().ok()?;
        config.get("crio")?.get("nri")?.get("enable_nri")?.as_bool()
    });
    enabled.unwrap_or(major_minor(version) >= (1, 30))
}

/// Whether one runs, or the engines start one.
fn has_plugin(proc: &Proc) -> bool {
    let installed = fs::read_dir(NRI_PLUGINS).into_iter().flatten().flatten();
    let mut names = installed.map(|entry| entry.file_name());
    names.any(|name| name.to_string_lossy().contains("lxcfs")) || daemon::has_plugin(proc)
}

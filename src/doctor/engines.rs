//! Engines of containers, and how each gives its containers the views.

mod gather;

use std::path::PathBuf;

pub use self::gather::gather;
use super::Line;
use super::words::{Words, quoted};

const DEVICE: &str = "lxcfs.rs/view=all";
/// Where the specification of the devices may be; the first is where it is written to.
const SPECIFICATIONS: [&str; 3] = [
    "/etc/cdi/lxcfs.json",
    "/var/run/cdi/lxcfs.json",
    "/usr/share/cdi/lxcfs.json",
];

const LXC_HOOK: &str = "/usr/share/lxcfs/lxc.mount.hook";
const LXC_CONFIG: &str = "/usr/share/lxc/config/common.conf.d/00-lxcfs.conf";

/// Where podman looks for hooks and for drop-ins, and where packages put what belongs there.
const HOOKS: &str = "/usr/share/containers/oci/hooks.d";
const DROP_INS: &str = "/etc/containers/containers.conf.d";
const EXAMPLES: &str = "/usr/share/lxcfs/podman";

/// The specification of devices.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Specification {
    /// There is none.
    #[default]
    Missing,
    /// This file is what lxcfs prints.
    Current(PathBuf),
    /// This file is not.
    Stale(PathBuf),
}

/// What is known of Docker.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Docker {
    /// Of the daemon; `None` if it does not answer.
    pub version: Option<String>,
    /// Whether it takes CDI devices.
    pub has_cdi: bool,
    /// Whether the default runtime is one that adds the views.
    pub has_runtime: bool,
}

/// What is known of podman.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Podman {
    /// Its version.
    pub version: String,
    /// The file by which all containers ask for the views.
    pub for_all: Option<PathBuf>,
    /// Whether they do so by an annotation, which takes a hook.
    pub asks_by_annotation: bool,
    /// The file of the hook.
    pub hook: Option<PathBuf>,
}

/// What is known of an engine that plugins can be added to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pluggable {
    /// Its version.
    pub version: String,
    /// Whether NRI is on.
    pub has_nri: bool,
}

/// The engines that are installed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// Devices for those that take such.
    pub specification: Specification,
    /// Docker.
    pub docker: Option<Docker>,
    /// podman.
    pub podman: Option<Podman>,
    /// containerd, unless it is there for Docker only.
    pub containerd: Option<Pluggable>,
    /// CRI-O.
    pub crio: Option<Pluggable>,
    /// Whether the plugin for these runs or is started by them.
    pub has_plugin: bool,
    /// LXC: its version.
    pub lxc: Option<String>,
    /// Incus: its version.
    pub incus: Option<String>,
    /// Whether these two have the hook.
    pub has_hook: bool,
    /// systemd-nspawn: its version.
    pub nspawn: Option<String>,
}

fn major_minor(version: &str) -> (u32, u32) {
    let mut numbers = version
        .trim_start_matches('v')
        .split(['.', '-', '~', '+'])
        .map(|part| part.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// What there is to say of these facts.
pub fn lines(facts: &Facts, words: &Words) -> Vec<Line> {
    let takes_devices = facts.docker.as_ref().is_some_and(|docker| docker.has_cdi)
        || facts.podman.is_some()
        || facts.containerd.is_some()
        || facts.crio.is_some();
    let knows_device = facts.specification != Specification::Missing;
    let mut lines = Vec::new();
    if takes_devices {
        lines.push(of_specification(&facts.specification, words));
    }
    lines.extend(
        facts
            .docker
            .as_ref()
            .map(|docker| say_docker(docker, knows_device, words)),
    );
    lines.extend(
        facts
            .podman
            .as_ref()
            .map(|podman| say_podman(podman, knows_device)),
    );
    let containerd = "disable = false under [plugins.\"io.containerd.nri.v1.nri\"] in /etc/containerd/config.toml";
    let crio = "enable_nri = true under [crio.nri] in /etc/crio/crio.conf";
    for (name, engine, switch) in [
        ("containerd", &facts.containerd, containerd),
        ("CRI-O", &facts.crio, crio),
    ] {
        lines.extend(
            engine
                .as_ref()
                .map(|engine| say_pluggable(name, engine, switch, facts.has_plugin, words)),
        );
    }
    for (name, version) in [("LXC", &facts.lxc), ("Incus", &facts.incus)] {
        lines.extend(
            version
                .as_ref()
                .map(|version| say_lxc(name, version, facts.has_hook, words)),
        );
    }
    lines.extend(facts.nspawn.as_ref().map(|version| {
        Line::note(format!(
            "systemd-nspawn {version} is given the views by arguments, which this prints"
        ))
        .by(words.with_views("mounts --format nspawn"))
    }));
    if lines.is_empty() {
        lines.push(Line::ok("none is installed"));
    }
    lines
}

fn of_specification(specification: &Specification, words: &Words) -> Line {
    let print = words.with_views("cdi");
    match specification {
        Specification::Missing => {
            Line::note(format!("engines do not know the device {DEVICE} yet")).by(format!(
                "mkdir -p /etc/cdi && {print} > {}",
                SPECIFICATIONS[0]
            ))
        }
        Specification::Current(path) => Line::ok(format!("{} is up to date", path.display())),
        Specification::Stale(path) => Line::mend(format!("{} is out of date", path.display()))
            .by(format!("{print} > {}", quoted(&path.to_string_lossy()))),
    }
}

fn say_docker(docker: &Docker, knows_device: bool, words: &Words) -> Line {
    let Some(version) = &docker.version else {
        return Line::note("Docker is installed, but its daemon does not run, or does not answer");
    };
    if docker.has_runtime {
        return Line::ok(format!("Docker {version} gives all containers the views"));
    }
    if docker.has_cdi {
        return by_device(&format!("Docker {version}"), knows_device);
    }
    let turn_on = if major_minor(version) >= (25, 0) {
        "CDI is off, which \"features\": {\"cdi\": true} in /etc/docker/daemon.json changes"
    } else {
        "it has no CDI"
    };
    Line::note(format!("Docker {version} is given the views by arguments of docker run, which this prints; {turn_on}"))
        .by(words.with_views("mounts --format docker"))
}

/// That an engine gives the views to containers with the device, once it knows that.
fn by_device(engine: &str, knows_device: bool) -> Line {
    if knows_device {
        let with = format!("containers the views that are run with --device {DEVICE}");
        Line::ok(format!("{engine} gives {with}"))
    } else {
        Line::note(format!(
            "{engine} takes the device {DEVICE} once it is known"
        ))
    }
}

fn say_podman(podman: &Podman, knows_device: bool) -> Line {
    let name = format!("podman {}", podman.version);
    match (&podman.for_all, &podman.hook) {
        (Some(file), None) if podman.asks_by_annotation => Line::mend(format!(
            "{name} has {}, and no hook in {HOOKS} that would do what that asks for",
            file.display()
        ))
        .by(format!(
            "install -D -m 644 -t {HOOKS} {EXAMPLES}/hooks.d/lxcfs.json"
        )),
        (Some(file), _) => Line::ok(format!(
            "{name} gives all containers the views by {}",
            file.display()
        )),
        (None, Some(hook)) => Line::note(format!(
            "{name} has {}, by which containers get the views that ask for them by the annotation \
             lxcfs.rs/view=true; this has all of them ask",
            hook.display()
        ))
        .by(format!(
            "install -D -m 644 -t {DROP_INS} {EXAMPLES}/containers.conf.d/lxcfs.conf"
        )),
        (None, None) => by_device(&name, knows_device),
    }
}

fn say_pluggable(
    name: &str,
    engine: &Pluggable,
    switch: &str,
    has_plugin: bool,
    words: &Words,
) -> Line {
    let version = &engine.version;
    match (engine.has_nri, has_plugin) {
        (true, true) => Line::ok(format!("{name} {version} has NRI, and the plugin is there")),
        (true, false) => Line::note(format!(
            "{name} {version} gives pods the views by a plugin, which does not run"
        ))
        .by(Words::in_background(&words.with_views("nri"))),
        (false, _) => Line::note(format!(
            "{name} {version} gives pods the views by NRI, which is off; turn it on with {switch}"
        )),
    }
}

fn say_lxc(name: &str, version: &str, has_hook: bool, words: &Words) -> Line {
    if has_hook {
        return Line::ok(format!(
            "{name} {version} gives all containers the views by its hook"
        ));
    }
    Line::note(format!(
        "{name} {version} has no {LXC_CONFIG} with {LXC_HOOK}; a container's configuration can have these lines instead"
    ))
    .by(words.with_views("mounts --format lxc"))
}

#[cfg(test)]
mod tests;

//! What is added to one container.

use std::path::Path;

use super::messages::{Adjustment, Container, Hook, Mount, Mounted};
use crate::attach::{Binding, Stage, Wanted};

/// Docker refuses a container for any other option, and makes bind mounts of its own accord.
const DOCKERS_OPTIONS: &[&str] = &["ro"];

/// What lxcfs offers, and how it gets into a container.
#[derive(Debug)]
pub struct Offer<'a> {
    /// What the container is to have.
    pub wanted: &'a Wanted,
    /// What of it is served.
    pub served: &'a [Binding],
    /// The program whose `hook create-container` attaches what mounts may not.
    pub hook: Option<&'a Path>,
    /// Whether the runtime is Docker.
    pub is_for_docker: bool,
}

/// What a container gets of an offer: nothing where it has mounts of its own.
#[must_use]
pub fn adjustment(offer: &Offer<'_>, container: &Container) -> Adjustment {
    let is_taken = |binding: &&Binding| {
        let mounts = &container.mounts;
        mounts.iter().any(|mounted| is_in_the_way(mounted, binding))
    };
    let (taken, free): (Vec<_>, Vec<_>) = offer.served.iter().partition(is_taken);
    let (for_mounts, for_hook): (Vec<_>, Vec<_>) =
        free.into_iter().partition(|binding| binding.is_for_mounts);
    // The hook cannot tell what a container has mounted on purpose from what all have.
    let wants_hook = !for_hook.is_empty() && taken.is_empty();
    let may_have_hook = !offer.is_for_docker && !has_hook(container);
    Adjustment {
        mounts: for_mounts
            .into_iter()
            .map(|binding| mount(offer, binding))
            .collect(),
        hook: offer
            .hook
            .filter(|_| wants_hook && may_have_hook)
            .and_then(|program| hook(offer.wanted, program)),
    }
}

/// Whether a mount of the container's own is at the place of a binding, in it or above it;
/// the file systems that are there in any container do not count.
fn is_in_the_way(mounted: &Mounted, binding: &Binding) -> bool {
    let (place, target) = (&mounted.destination, binding.target());
    let is_usual = match mounted.kind.as_str() {
        "proc" => place == Path::new("/proc"),
        "sysfs" => place == Path::new("/sys"),
        _ => false,
    };
    !is_usual && (target.starts_with(place) || place.starts_with(&target))
}

/// Those at which hooks of ours are called.
const STAGES: [Stage; 2] = [Stage::CreateRuntime, Stage::CreateContainer];

/// Whether a CDI device or another plugin has brought our hook already.
fn has_hook(container: &Container) -> bool {
    let is_ours = |arguments: &Vec<String>| {
        let mut pairs = arguments.windows(2);
        pairs.any(|pair| STAGES.iter().any(|stage| pair == ["hook", stage.command()]))
    };
    container.hooks.iter().any(is_ours)
}

fn mount(offer: &Offer<'_>, binding: &Binding) -> Mount {
    let options = if offer.is_for_docker {
        DOCKERS_OPTIONS.to_vec()
    } else {
        binding.mount_options().to_vec()
    };
    Mount {
        destination: binding.target(),
        source: binding.source(&offer.wanted.views),
        options,
    }
}

/// The call of the hook; none for a path that is no text.
fn hook(wanted: &Wanted, program: &Path) -> Option<Hook> {
    let hook = wanted.hook(program, Stage::CreateContainer).ok()?;
    Some(Hook {
        path: hook.path.into(),
        arguments: hook.args,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attach::Part;

    fn binding(path: &str, is_directory: bool, is_for_mounts: bool) -> Binding {
        Binding {
            path: path.into(),
            part: Part::Cpu,
            is_directory,
            is_for_mounts,
        }
    }

    fn served() -> Vec<Binding> {
        vec![
            binding("proc/pressure", true, false),
            binding("proc/stat", false, true),
            binding("sys/devices/system/cpu", true, true),
        ]
    }

    fn mounted(destination: &str, kind: &str) -> Mounted {
        Mounted {
            destination: destination.into(),
            kind: kind.to_owned(),
        }
    }

    fn given(container: &Container, is_for_docker: bool, only: &[Part]) -> Adjustment {
        let served = served();
        let wanted = Wanted {
            views: "/v".into(),
            only: only.to_vec(),
            strict: false,
        };
        let offer = Offer {
            wanted: &wanted,
            served: &served,
            hook: Some(Path::new("/bin/lxcfs")),
            is_for_docker,
        };
        adjustment(&offer, container)
    }

    fn with(mounts: &[(&str, &str)]) -> (Vec<String>, bool) {
        let mounts = mounts.iter().map(|(place, kind)| mounted(place, kind));
        let container = Container {
            mounts: mounts.collect(),
            ..Container::default()
        };
        let given = given(&container, false, &[]);
        let places = given.mounts.iter();
        let places = places.map(|mount| mount.destination.display().to_string());
        (places.collect(), given.hook.is_some())
    }

    #[test]
    fn what_mounts_may_not_is_for_the_hook() {
        let given = given(&Container::default(), false, &[Part::Mem, Part::Cpu]);
        let [stat, cpu] = &given.mounts[..] else {
            panic!("{given:?}")
        };
        assert_eq!(stat.source, Path::new("/v/proc/stat"));
        assert_eq!(stat.options, ["ro", "nosuid", "nodev", "noexec", "bind"]);
        assert_eq!(cpu.options, ["ro", "nosuid", "nodev", "noexec", "rbind"]);
        let hook = given.hook.unwrap();
        assert_eq!(
            hook.arguments.join(" "),
            "lxcfs hook create-container --views /v --only mem,cpu"
        );
        assert_eq!(hook.path, Path::new("/bin/lxcfs"));
    }

    #[test]
    fn docker_takes_no_hook_and_one_option() {
        let given = given(&Container::default(), true, &[]);
        assert_eq!(given.mounts.len(), 2);
        assert!(given.mounts.iter().all(|mount| mount.options == ["ro"]));
        assert_eq!(given.hook, None);
    }

    #[test]
    fn the_containers_own_mounts_stay_as_they_are() {
        let (stat, cpu) = ("/proc/stat", "/sys/devices/system/cpu");
        let usual = [
            ("/proc", "proc"),
            ("/sys", "sysfs"),
            ("/sys/fs/cgroup", "cgroup"),
        ];
        assert_eq!(with(&usual), (vec![stat.into(), cpu.into()], true));
        for (own, kind, left) in [
            ("/proc/stat/", "bind", vec![cpu]),
            ("/sys/devices/system/cpu/online", "bind", vec![stat]),
            ("/proc/pressure/cpu", "bind", vec![stat, cpu]),
            ("/proc", "bind", vec![cpu]),
            ("/sys", "bind", vec![stat]),
            ("/", "bind", vec![]),
        ] {
            let left = left.into_iter().map(str::to_owned).collect();
            assert_eq!(with(&[(own, kind)]), (left, false), "{own}");
        }
    }

    #[test]
    fn a_hook_comes_once() {
        let other = vec![
            "lxcfs".to_owned(),
            "hook".to_owned(),
            "create-container".to_owned(),
        ];
        let mut container = Container {
            hooks: vec![vec!["ldconfig".to_owned()]],
            ..Container::default()
        };
        assert!(given(&container, false, &[]).hook.is_some());
        container.hooks.push(other);
        assert!(given(&container, false, &[]).hook.is_none());
    }
}

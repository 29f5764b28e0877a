//! Which containers get what.

use std::path::PathBuf;

use clap::ValueEnum;
use serde::Deserialize;

use super::messages::{Container, CreateContainer, Map, Pod};
use crate::attach::{Part, USUAL, VIEW, is_among_hosts_processes};

/// Annotation or label of a pod, and with a dot and the name of a container for that one.
const KEY: &str = VIEW;

/// Namespace in which Kubernetes keeps what runs the node, and what measures it.
const SYSTEM: &str = "kube-system";

/// What holds unless a pod says otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Where lxcfs is mounted.
    pub views: PathBuf,
    /// Whether pods get the views.
    pub is_on: bool,
    /// Which ones; all if empty.
    pub only: Vec<Part>,
    /// Namespaces whose pods do not get them.
    pub exclude_namespaces: Vec<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            views: USUAL.into(),
            is_on: true,
            only: Vec::new(),
            exclude_namespaces: vec![SYSTEM.to_owned()],
        }
    }
}

/// The plugin's file in `/etc/nri/conf.d`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct File {
    views: Option<PathBuf>,
    default: Option<Switch>,
    only: Option<Vec<String>>,
    exclude_namespaces: Option<Vec<String>>,
}

/// On or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Switch {
    /// Pods get the views unless they say no
    On,
    /// Pods get the views if they ask for them
    Off,
}

impl Settings {
    /// These, with what a configuration file in TOML says in their place.
    ///
    /// # Errors
    /// One sentence about what is wrong in it.
    pub fn with(&self, config: &str) -> Result<Self, String> {
        let file: File = toml::from_str(config).map_err(|error| error.message().to_owned())?;
        let only = file
            .only
            .map(|names| parts(names.iter().map(String::as_str)));
        Ok(Self {
            views: file.views.unwrap_or_else(|| self.views.clone()),
            is_on: file
                .default
                .map_or(self.is_on, |switch| switch == Switch::On),
            only: only.transpose()?.unwrap_or_else(|| self.only.clone()),
            exclude_namespaces: file
                .exclude_namespaces
                .unwrap_or_else(|| self.exclude_namespaces.clone()),
        })
    }

    /// What a container gets; `None` for nothing. An empty list stands for everything.
    #[must_use]
    pub fn choose(&self, request: &CreateContainer) -> Option<Vec<Part>> {
        for (key, value) in said(&request.pod, &request.container) {
            match self.parse(value) {
                Ok(choice) => return choice,
                Err(why) => log::warn!(
                    "pod {}/{}: {key}: {why}; the default holds",
                    request.pod.namespace,
                    request.pod.name
                ),
            }
        }
        let excluded = self.exclude_namespaces.contains(&request.pod.namespace);
        let is_given = self.is_on && !excluded && !measures_host(&request.container);
        is_given.then(|| self.only.clone())
    }

    /// The meaning of an annotation.
    fn parse(&self, value: &str) -> Result<Option<Vec<Part>>, String> {
        match value.trim() {
            "true" => Ok(Some(self.only.clone())),
            "false" => Ok(None),
            // A label cannot have commas.
            list => parts(list.split([',', '.'])).map(Some),
        }
    }
}

fn parts<'a>(listed: impl Iterator<Item = &'a str>) -> Result<Vec<Part>, String> {
    let known = |name: &str| {
        Part::from_str(name.trim(), false).map_err(|_| {
            let parts = Part::value_variants().iter();
            let names = parts.filter_map(Part::to_possible_value);
            let names: Vec<_> = names.map(|value| value.get_name().to_owned()).collect();
            let all = names.join(",");
            format!("{name:?} is neither true nor false nor a list of {all}")
        })
    };
    listed.map(known).collect()
}

/// What a pod and its container say, with what counts most first.
fn said<'a>(pod: &'a Pod, container: &'a Container) -> Vec<(String, &'a str)> {
    let for_one = format!("{KEY}.{}", container.name);
    let find = |map: &'a Map, key: &str| map.get(key).map(|value| (key.to_owned(), value.as_str()));
    let both = |annotations: &'a Map, labels: &'a Map, key: &str| {
        find(annotations, key).or_else(|| find(labels, key))
    };
    [
        both(&pod.annotations, &pod.labels, &for_one),
        both(&container.annotations, &container.labels, KEY),
        both(&pod.annotations, &pod.labels, KEY),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Whether the container is in the pid namespace of the host. A runtime that lists no
/// namespaces does not tell.
fn measures_host(container: &Container) -> bool {
    let namespaces = container.namespaces.iter();
    let mut namespaces = namespaces
        .map(|namespace| (namespace.kind.as_str(), namespace.path.as_path()))
        .peekable();
    namespaces.peek().is_some() && is_among_hosts_processes(namespaces)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nri::messages::Namespace;

    fn request(in_namespace: &str, annotations: &[(&str, &str)]) -> CreateContainer {
        let mut request = CreateContainer::default();
        request.pod.namespace = in_namespace.to_owned();
        request.pod.annotations = map(annotations);
        request.container.name = "main".to_owned();
        request.container.namespaces = vec![namespace("pid", ""), namespace("mount", "")];
        request
    }

    fn namespace(kind: &str, path: &str) -> Namespace {
        Namespace {
            kind: kind.to_owned(),
            path: path.into(),
        }
    }

    fn map(entries: &[(&str, &str)]) -> Map {
        let entries = entries.iter();
        entries
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    fn chosen(annotations: &[(&str, &str)]) -> Option<Vec<Part>> {
        Settings::default().choose(&request("shop", annotations))
    }

    #[test]
    fn all_pods_get_everything_unless_they_say_otherwise() {
        assert_eq!(chosen(&[]), Some(vec![]));
        assert_eq!(chosen(&[("lxcfs.rs/view", "true")]), Some(vec![]));
        assert_eq!(chosen(&[("lxcfs.rs/view", "false")]), None);
        let two = Some(vec![Part::Mem, Part::Cpu]);
        assert_eq!(chosen(&[("lxcfs.rs/view", "mem, cpu")]), two);
        assert_eq!(chosen(&[("lxcfs.rs/view", "mem.cpu")]), two);
        assert_eq!(chosen(&[("lxcfs.rs/view", "yes")]), Some(vec![]));
        assert_eq!(chosen(&[("lxcfs.rs/view", "")]), Some(vec![]));
    }

    #[test]
    fn what_is_said_of_one_container_counts_most() {
        let pod = ("lxcfs.rs/view", "false");
        assert_eq!(
            chosen(&[pod, ("lxcfs.rs/view.main", "psi")]),
            Some(vec![Part::Psi])
        );
        assert_eq!(chosen(&[pod, ("lxcfs.rs/view.other", "true")]), None);
        // What makes no sense is passed over.
        assert_eq!(chosen(&[pod, ("lxcfs.rs/view.main", "?")]), None);

        let mut request = request("shop", &[pod]);
        request.container.labels = map(&[("lxcfs.rs/view", "disk")]);
        let settings = Settings::default();
        assert_eq!(settings.choose(&request), Some(vec![Part::Disk]));
        request.pod.labels = map(&[("lxcfs.rs/view.main", "cpu"), ("lxcfs.rs/view", "true")]);
        assert_eq!(settings.choose(&request), Some(vec![Part::Cpu]));
    }

    #[test]
    fn what_runs_the_node_is_left_alone_unless_it_asks() {
        let settings = Settings::default();
        let asks = [("lxcfs.rs/view", "true")];
        assert_eq!(settings.choose(&request("kube-system", &[])), None);
        assert_eq!(
            settings.choose(&request("kube-system", &asks)),
            Some(vec![])
        );

        let mut of_host = request("shop", &[]);
        let shared = namespace("pid", "/proc/self/ns/pid");
        for namespaces in [vec![shared], vec![namespace("mount", "")]] {
            of_host.container.namespaces = namespaces;
            assert_eq!(settings.choose(&of_host), None);
        }
        of_host.pod.annotations = map(&asks);
        assert_eq!(settings.choose(&of_host), Some(vec![]));
        // Docker does not tell.
        assert_eq!(settings.choose(&CreateContainer::default()), Some(vec![]));
    }

    #[test]
    fn a_configuration_takes_the_place_of_what_it_mentions() {
        let settings = Settings::default();
        assert_eq!(settings.with("").unwrap(), settings);
        let text = "views = \"/v\"\ndefault = \"off\"\nonly = [\"mem\"]\nexclude-namespaces = []\n";
        let other = settings.with(text).unwrap();
        assert!(!other.is_on && other.exclude_namespaces.is_empty());
        assert_eq!(other.views, PathBuf::from("/v"));
        assert_eq!(other.choose(&request("kube-system", &[])), None);
        let asking = request("kube-system", &[("lxcfs.rs/view", "true")]);
        assert_eq!(other.choose(&asking), Some(vec![Part::Mem]));
        for text in ["default = \"maybe\"", "only = [\"gpu\"]", "colour = 1", "["] {
            assert!(settings.with(text).is_err(), "{text}");
        }
    }
}

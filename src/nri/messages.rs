//! The messages of NRI's service `nri.pkg.api.v1alpha1`, with the fields that are needed
//! here (<https://github.com/containerd/nri/blob/main/pkg/api/api.proto>).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::wire::{Fields, Malformed, Message};

/// Bit of the event CREATE_CONTAINER, the fourth.
const CREATE_CONTAINER: u64 = 1 << 3;

/// What a plugin registers as.
#[must_use]
pub fn register_plugin(name: &str, index: &str) -> Vec<u8> {
    Message::default().text(1, name).text(2, index).into_bytes()
}

/// What the runtime says of itself and to the plugin.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Configure {
    /// The text of the plugin's file in `/etc/nri/conf.d`.
    pub config: String,
    /// Such as `containerd`.
    pub runtime_name: String,
    /// Its version.
    pub runtime_version: String,
    /// How long it waits for an answer.
    pub request_timeout: Option<Duration>,
}

impl Configure {
    /// Reads the request.
    ///
    /// # Errors
    /// [`Malformed`] if it is none.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut request = Self::default();
        for field in Fields::of(bytes) {
            match field? {
                (1, value) => request.config = value.text().into_owned(),
                (2, value) => request.runtime_name = value.text().into_owned(),
                (3, value) => request.runtime_version = value.text().into_owned(),
                (5, value) => {
                    let milliseconds = Some(value.number()).filter(|number| *number > 0);
                    request.request_timeout = milliseconds.map(Duration::from_millis);
                }
                _ => {}
            }
        }
        Ok(request)
    }

    /// The answer: of all events, that a container is created.
    #[must_use]
    pub fn answer() -> Vec<u8> {
        Message::default().number(2, CREATE_CONTAINER).into_bytes()
    }
}

/// The answer to `Synchronize`: no changes to what runs already, and more if there is more.
///
/// # Errors
/// [`Malformed`] if it is no such request.
pub fn synchronized(request: &[u8]) -> Result<Vec<u8>, Malformed> {
    let mut more = 0;
    for field in Fields::of(request) {
        if let (3, value) = field? {
            more = value.number();
        }
    }
    Ok(Message::default().number(2, more).into_bytes())
}

/// Keys and values of labels or annotations.
pub type Map = BTreeMap<String, String>;

/// A container that is about to be created, with its pod.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct CreateContainer {
    /// The pod; Docker has one for each container.
    pub pod: Pod,
    /// The container.
    pub container: Container,
}

/// A pod.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Pod {
    /// Its name.
    pub name: String,
    /// Its namespace in the sense of Kubernetes; Docker has none.
    pub namespace: String,
    /// Its labels.
    pub labels: Map,
    /// Its annotations.
    pub annotations: Map,
}

/// A container.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Container {
    /// Its name in the pod.
    pub name: String,
    /// Its labels.
    pub labels: Map,
    /// Its annotations.
    pub annotations: Map,
    /// What is going to be mounted in it.
    pub mounts: Vec<Mounted>,
    /// The arguments of its hooks createRuntime and createContainer.
    pub hooks: Vec<Vec<String>>,
    /// Those that it is to be in; Docker does not tell.
    pub namespaces: Vec<Namespace>,
}

/// A namespace that a container is to be in.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Namespace {
    /// Such as `pid`.
    pub kind: String,
    /// The file of one that exists; empty for a new one.
    pub path: PathBuf,
}

/// A mount in a container's configuration.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Mounted {
    /// Where.
    pub destination: PathBuf,
    /// The type of file system, such as `proc`, or `bind`.
    pub kind: String,
}

impl CreateContainer {
    /// Reads the request.
    ///
    /// # Errors
    /// [`Malformed`] if it is none.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut request = Self::default();
        for field in Fields::of(bytes) {
            match field? {
                (1, value) => request.pod = Pod::parse(value.bytes())?,
                (2, value) => request.container = Container::parse(value.bytes())?,
                _ => {}
            }
        }
        Ok(request)
    }
}

impl Pod {
    fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut pod = Self::default();
        for field in Fields::of(bytes) {
            match field? {
                (2, value) => pod.name = value.text().into_owned(),
                (4, value) => pod.namespace = value.text().into_owned(),
                (5, value) => insert(&mut pod.labels, value.bytes())?,
                (6, value) => insert(&mut pod.annotations, value.bytes())?,
                _ => {}
            }
        }
        Ok(pod)
    }
}

impl Container {
    fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut container = Self::default();
        for field in Fields::of(bytes) {
            match field? {
                (3, value) => container.name = value.text().into_owned(),
                (5, value) => insert(&mut container.labels, value.bytes())?,
                (6, value) => insert(&mut container.annotations, value.bytes())?,
                (9, value) => container.mounts.push(Mounted::parse(value.bytes())?),
                (10, value) => container.hooks = create_hooks(value.bytes())?,
                (11, value) => container.namespaces = namespaces(value.bytes())?,
                _ => {}
            }
        }
        Ok(container)
    }
}

impl Mounted {
    fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut mounted = Self::default();
        for field in Fields::of(bytes) {
            match field? {
                (1, value) => mounted.destination = PathBuf::from(value.text().into_owned()),
                (2, value) => mounted.kind = value.text().into_owned(),
                _ => {}
            }
        }
        Ok(mounted)
    }
}

/// Adds one entry of a map.
fn insert(map: &mut Map, entry: &[u8]) -> Result<(), Malformed> {
    let (mut key, mut text) = (String::new(), String::new());
    for field in Fields::of(entry) {
        match field? {
            (1, value) => key = value.text().into_owned(),
            (2, value) => text = value.text().into_owned(),
            _ => {}
        }
    }
    map.insert(key, text);
    Ok(())
}

fn create_hooks(hooks: &[u8]) -> Result<Vec<Vec<String>>, Malformed> {
    let mut found = Vec::new();
    for field in Fields::of(hooks) {
        if let (2 | 3, hook) = field? {
            found.push(texts(hook.bytes(), 2)?);
        }
    }
    Ok(found)
}

/// The namespaces in the message `LinuxContainer`.
fn namespaces(linux: &[u8]) -> Result<Vec<Namespace>, Malformed> {
    let mut found = Vec::new();
    for field in Fields::of(linux) {
        if let (1, namespace) = field? {
            found.push(Namespace::parse(namespace.bytes())?);
        }
    }
    Ok(found)
}

impl Namespace {
    fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut namespace = Self::default();
        for field in Fields::of(bytes) {
            match field? {
                (1, value) => namespace.kind = value.text().into_owned(),
                (2, value) => namespace.path = PathBuf::from(value.text().into_owned()),
                _ => {}
            }
        }
        Ok(namespace)
    }
}

/// All texts with this number in a message.
fn texts(bytes: &[u8], number: u64) -> Result<Vec<String>, Malformed> {
    let mut found = Vec::new();
    for field in Fields::of(bytes) {
        let (field, value) = field?;
        if field == number {
            found.push(value.text().into_owned());
        }
    }
    Ok(found)
}

/// What is added to a container.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Adjustment {
    /// Bind mounts.
    pub mounts: Vec<Mount>,
    /// The createContainer hook.
    pub hook: Option<Hook>,
}

/// A bind mount.
#[derive(Debug, PartialEq, Eq)]
pub struct Mount {
    /// Where in the container.
    pub destination: PathBuf,
    /// What of the host's.
    pub source: PathBuf,
    /// Options in the words of mount(8).
    pub options: Vec<&'static str>,
}

/// A program that the runtime calls.
#[derive(Debug, PartialEq, Eq)]
pub struct Hook {
    /// The program.
    pub path: PathBuf,
    /// Its arguments, from its name on.
    pub arguments: Vec<String>,
}

impl Adjustment {
    /// The answer to `CreateContainer`.
    #[must_use]
    pub fn answer(&self) -> Vec<u8> {
        if *self == Self::default() {
            return Vec::new();
        }
        let mut adjustment = Message::default();
        for mount in &self.mounts {
            adjustment = adjustment.message(3, mount.message());
        }
        if let Some(hook) = &self.hook {
            adjustment = adjustment.message(5, Message::default().message(3, hook.message()));
        }
        Message::default().message(1, adjustment).into_bytes()
    }
}

impl Mount {
    fn message(&self) -> Message {
        Message::default()
            .text(1, &text(&self.destination))
            .text(2, "bind")
            .text(3, &text(&self.source))
            .texts(4, self.options.iter().copied())
    }
}

impl Hook {
    fn message(&self) -> Message {
        Message::default()
            .text(1, &text(&self.path))
            .texts(2, self.arguments.iter().map(String::as_str))
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests;

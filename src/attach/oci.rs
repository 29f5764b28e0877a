//! Editing the configuration of an OCI container, its `config.json`
//! (<https://github.com/opencontainers/runtime-spec/blob/main/config.md>).
//!
//! What is not added to stays as it is, byte by byte.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use super::wanted::{Hook, Stage, Wanted};
use super::{Binding, VIEW, is_among_hosts_processes};

/// The runtime may be crun, and the container may have a user namespace.
const STAGE: Stage = Stage::CreateRuntime;

/// What the annotation [`VIEW`] says where somebody asks for the views, and not a default for
/// all containers.
const ASKED: &str = "true";

/// A JSON object whose values are kept as they are written.
type Object = BTreeMap<String, Box<RawValue>>;
type Array = Vec<Box<RawValue>>;

/// An element of `mounts`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Mount {
    /// Over what it is mounted.
    pub destination: PathBuf,
    /// `bind`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// What is mounted.
    pub source: PathBuf,
    /// How.
    pub options: [&'static str; 5],
}

/// What of an element of `mounts` says where ours belong.
#[derive(Debug, Deserialize)]
struct Present {
    destination: PathBuf,
    #[serde(default, rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    source: Option<PathBuf>,
}

/// What of `linux` says among whose processes the container is.
#[derive(Debug, Default, Deserialize)]
struct Linux {
    #[serde(default)]
    namespaces: Option<Vec<Namespace>>,
}

#[derive(Debug, Deserialize)]
struct Namespace {
    #[serde(rename = "type")]
    kind: String,
    /// One that exists already.
    #[serde(default)]
    path: PathBuf,
}

/// What `hook` has too.
#[derive(Debug, Deserialize)]
struct PresentHook {
    path: PathBuf,
    #[serde(default)]
    args: Option<Vec<String>>,
}

/// `binding` as an element of `mounts`.
#[must_use]
pub fn mount(binding: &Binding, views: &Path) -> Mount {
    Mount {
        destination: binding.target(),
        kind: "bind",
        source: binding.source(views),
        options: binding.mount_options(),
    }
}

/// The configuration with the mounts added that it lacks, and with a call of `program` for the
/// rest. What is mounted already stays: doing this again changes nothing. A container that
/// measures the host, and does not ask for the views by name, is left as it is.
///
/// # Errors
/// One sentence if `config` is not understood.
pub fn add(config: &[u8], wanted: &Wanted, program: &Path) -> Result<Vec<u8>> {
    let text = config;
    let mut config = object(text)?;
    let is_left_alone = measures_host(&config)?;
    let bindings = wanted.bindings();
    let for_mounts = bindings.iter().filter(|binding| binding.is_for_mounts);
    let fresh = for_mounts
        .map(|binding| mount(binding, &wanted.views))
        .collect();
    let present: Array = member(&config, "mounts")?;
    config.insert("mounts".to_owned(), to_raw_value(&merged(present, fresh)?)?);
    let hook = wanted.hook(program, STAGE)?;
    let mut hooks: Object = member(&config, "hooks")?;
    let mut calls: Array = member(&hooks, STAGE.name())?;
    if !calls.iter().any(|call| is_call(call, &hook)) {
        calls.push(to_raw_value(&hook)?);
    }
    hooks.insert(STAGE.name().to_owned(), to_raw_value(&calls)?);
    config.insert("hooks".to_owned(), to_raw_value(&hooks)?);
    if is_left_alone {
        return Ok(text.to_vec());
    }
    Ok(serde_json::to_vec(&config)?)
}

fn object(config: &[u8]) -> Result<Object> {
    serde_json::from_slice(config).context("the configuration is no JSON object")
}

/// What `object` has under `name`; nothing if that is absent or null.
fn member<T: DeserializeOwned + Default>(object: &Object, name: &str) -> Result<T> {
    let Some(raw) = object.get(name) else {
        return Ok(T::default());
    };
    let found: Option<T> = serde_json::from_str(raw.get())
        .with_context(|| format!("{name} of the configuration is not understood"))?;
    Ok(found.unwrap_or_default())
}

/// Whether the container is among the processes of the host, and has no annotation that asks
/// for the views all the same.
fn measures_host(config: &Object) -> Result<bool> {
    let annotations: BTreeMap<String, String> = member(config, "annotations")?;
    let linux: Linux = member(config, "linux")?;
    let namespaces = linux.namespaces.unwrap_or_default();
    let namespaces = namespaces.iter();
    let namespaces = namespaces.map(|known| (known.kind.as_str(), known.path.as_path()));
    let is_asked_for = annotations.get(VIEW).is_some_and(|said| said == ASKED);
    Ok(!is_asked_for && is_among_hosts_processes(namespaces))
}

fn is_call(call: &RawValue, hook: &Hook) -> bool {
    let known: Result<PresentHook, _> = serde_json::from_str(call.get());
    known.is_ok_and(|known| {
        known.path == Path::new(&hook.path) && known.args.as_ref() == Some(&hook.args)
    })
}

/// Each of the `fresh` mounts comes right after what it lies on, so that what the container's
/// owner has mounted below it stays in sight.
fn merged(mut present: Array, fresh: Vec<Mount>) -> Result<Array> {
    let mut known = present
        .iter()
        .map(|mount| {
            let mut mount: Present = serde_json::from_str(mount.get())
                .context("mounts of the configuration is not understood")?;
            mount.destination = plain(&mount.destination);
            Ok(mount)
        })
        .collect::<Result<Vec<_>>>()?;
    for mount in fresh.into_iter().rev() {
        let target = &mount.destination;
        let is_below = |other: &Present| {
            target.starts_with(&other.destination) && *target != other.destination
        };
        if known.iter().any(|other| other.destination == *target) {
            continue;
        }
        let Some(below) = known.iter().rposition(is_below) else {
            continue;
        };
        if !known.get(below).is_some_and(is_kernels) {
            continue;
        }
        present.insert(below + 1, to_raw_value(&mount)?);
        let inserted = Present {
            destination: mount.destination,
            kind: None,
            source: None,
        };
        known.insert(below + 1, inserted);
    }
    Ok(present)
}

/// Whether this is `/proc` or `/sys` of the kernel. Elsewhere there may be nothing to mount
/// over, and a runtime would make a file of the name in the image.
fn is_kernels(mount: &Present) -> bool {
    let is = |place: &str, kind: &str| {
        mount.destination == Path::new(place)
            && (mount.kind.as_deref() == Some(kind)
                || mount.source.as_deref() == Some(Path::new(place)))
    };
    is("/proc", "proc") || is("/sys", "sysfs")
}

/// The path as runtimes take it: from the root, without `.`, doubled and closing slashes.
fn plain(path: &Path) -> PathBuf {
    let below = path.components().filter(|part| *part != Component::CurDir);
    Path::new("/").join(below.collect::<PathBuf>())
}

#[cfg(test)]
mod tests;

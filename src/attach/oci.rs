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

use super::Binding;
use super::wanted::{Hook, Stage, Wanted};

/// The runtime may be crun, and the container may have a user namespace.
const STAGE: Stage = Stage::CreateRuntime;

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
/// rest. What is mounted already stays: doing this again changes nothing.
///
/// # Errors
/// One sentence if `config` is not understood.
pub fn add(config: &[u8], wanted: &Wanted, program: &Path) -> Result<Vec<u8>> {
    let mut config = object(config)?;
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

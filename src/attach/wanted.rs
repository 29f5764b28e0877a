//! What somebody wants to be attached, and the hook that does so.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use clap::ValueEnum;
use nix::errno::Errno;
use nix::sys::statfs::{FUSE_SUPER_MAGIC, statfs};
use serde::Serialize;

use super::within::within;
use super::{Binding, Part, USUAL, bindings};

/// Where packages put the program.
pub const INSTALLED: &str = "/usr/bin/lxcfs";

/// What is attached, from where, and whether a container may start without it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The mountpoint of lxcfs.
    pub views: PathBuf,
    /// These parts, or all if there are none.
    pub only: Vec<Part>,
    /// Whether a container must not start without them.
    pub strict: bool,
}

/// When a runtime calls a hook: both times the mounts of the container's configuration are
/// there, and its root has not been changed yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// `createRuntime`: in the runtime's namespaces, with its rights.
    CreateRuntime,
    /// `createContainer`: in the container's mount namespace, with the rights of its root. In
    /// a user namespace these can be too few to enter the directory of the configuration,
    /// which crun does before it calls a hook.
    CreateContainer,
}

impl Stage {
    /// What OCI and CDI call it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::CreateRuntime => "createRuntime",
            Self::CreateContainer => "createContainer",
        }
    }

    /// What `lxcfs hook` calls it.
    #[must_use]
    pub const fn command(self) -> &'static str {
        match self {
            Self::CreateRuntime => "create-runtime",
            Self::CreateContainer => "create-container",
        }
    }
}

/// A hook of a container's configuration, as OCI and CDI write it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Hook {
    /// The program.
    pub path: String,
    /// Its arguments, the name of the program first.
    pub args: Vec<String>,
}

impl Wanted {
    /// What this host has of it.
    #[must_use]
    pub fn bindings(&self) -> Vec<Binding> {
        bindings(&self.only)
    }

    /// The hook that attaches it, as a call of `program`.
    ///
    /// # Errors
    /// One sentence if a path is no text.
    pub fn hook(&self, program: &Path, stage: Stage) -> anyhow::Result<Hook> {
        let mut args = ["lxcfs", "hook", stage.command()]
            .map(str::to_owned)
            .to_vec();
        if self.views != Path::new(USUAL) {
            args.extend(["--views".to_owned(), text(&self.views)?]);
        }
        if !self.only.is_empty() {
            let names = self.only.iter().filter_map(ValueEnum::to_possible_value);
            let names: Vec<_> = names.map(|name| name.get_name().to_owned()).collect();
            args.extend(["--only".to_owned(), names.join(",")]);
        }
        if self.strict {
            args.push("--strict".to_owned());
        }
        Ok(Hook {
            path: text(program)?,
            args,
        })
    }

    /// Makes sure that an lxcfs answers at the mountpoint, soon.
    ///
    /// # Errors
    /// One sentence if none does.
    pub fn ensure_answers(&self) -> anyhow::Result<()> {
        within(&self.views, || answers(&self.views))
    }
}

fn text(path: &Path) -> anyhow::Result<String> {
    let text = path.to_str().map(str::to_owned);
    text.with_context(|| format!("{} cannot be written as JSON", path.display()))
}

/// Makes sure that an lxcfs is mounted at `views`. Can take for ever if it is stopped.
///
/// # Errors
/// One sentence if none is, or one that is dead.
pub fn answers(views: &Path) -> anyhow::Result<()> {
    let shown = views.display();
    match statfs(views) {
        Ok(found) => ensure!(
            found.filesystem_type() == FUSE_SUPER_MAGIC,
            "no lxcfs is mounted at {shown}"
        ),
        Err(Errno::ENOTCONN | Errno::ECONNABORTED) => anyhow::bail!("the lxcfs at {shown} is dead"),
        Err(errno) => return Err(errno).with_context(|| format!("cannot use {shown}")),
    }
    Ok(())
}

/// The path by which engines start this program: where packages put it, if that is this one.
///
/// # Errors
/// What looking for it fails with.
pub fn program() -> io::Result<PathBuf> {
    let own = std::env::current_exe()?;
    let is_own = |path: &Path| is_same_file(path, &own);
    Ok(if is_own(Path::new(INSTALLED)) {
        INSTALLED.into()
    } else {
        own
    })
}

/// Whether two paths lead to one file.
pub fn is_same_file(one: &Path, other: &Path) -> bool {
    let identity = |path| fs::metadata(path).map(|found| (found.dev(), found.ino()));
    matches!((identity(one), identity(other)), (Ok(one), Ok(other)) if one == other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hook_is_called_with_what_is_not_usual() {
        let mut wanted = Wanted {
            views: USUAL.into(),
            only: Vec::new(),
            strict: false,
        };
        let args = |wanted: &Wanted| {
            let hook = wanted.hook(Path::new(INSTALLED), Stage::CreateRuntime);
            hook.unwrap().args.join(" ")
        };
        assert_eq!(args(&wanted), "lxcfs hook create-runtime");
        wanted.views = "/a b".into();
        wanted.only = vec![Part::Mem, Part::Psi];
        wanted.strict = true;
        assert_eq!(
            args(&wanted),
            "lxcfs hook create-runtime --views /a b --only mem,psi --strict"
        );
    }

    #[test]
    fn what_is_no_lxcfs_does_not_answer() {
        let sentence = |views: &str| answers(Path::new(views)).unwrap_err().to_string();
        assert_eq!(sentence("/proc"), "no lxcfs is mounted at /proc");
        assert_eq!(sentence("/nowhere"), "cannot use /nowhere");
    }

    #[test]
    fn another_program_is_called_where_it_lies() {
        assert_eq!(program().unwrap(), std::env::current_exe().unwrap());
    }
}

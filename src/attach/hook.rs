//! The OCI hooks createRuntime and createContainer
//! (<https://github.com/opencontainers/runtime-spec/blob/main/config.md#posix-platform-hooks>).
//!
//! They run when the mounts of the container's configuration are there and the host's files
//! still are: the first one in the runtime's namespaces, the second one in the container's,
//! where in a user namespace it has no more rights than that gives.

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2};
use nix::sched::{CloneFlags, setns};
use nix::sys::stat::{SFlag, fstat};
use nix::sys::statfs::{PROC_SUPER_MAGIC, SYSFS_MAGIC, fstatfs};
use nix::sys::statvfs::{FsFlags, fstatvfs};
use nix::unistd::getpid;
use serde::Deserialize;

use super::Binding;
use super::nesting::Nest;
use super::wanted::{Wanted, answers};
use super::within::within;
use crate::host::process::{Namespace, Proc};
use crate::parse::mountinfo::Mount;
use crate::places::spot::{mount_id, peer_groups, table};
use crate::sys::mounts::{Attributes, Layer, attach, detached_copy, restrict};

/// How often a path is followed again that was in motion: any mount or renaming on the host
/// that comes in between counts as that.
const TRIES: usize = 100;

/// What a hook is told of a container, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct State {
    /// Name of the container.
    #[serde(default)]
    pub id: String,
    /// Directory of the configuration.
    bundle: PathBuf,
    /// The container's process, by the number that it has for the hook.
    #[serde(default)]
    pid: Option<i32>,
}

/// What of the configuration matters here.
#[derive(Debug, Deserialize)]
struct Config {
    root: Root,
    #[serde(default)]
    linux: Option<Linux>,
}

#[derive(Debug, Deserialize)]
struct Root {
    path: PathBuf,
}

/// What the runtime covers after its hooks.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Linux {
    #[serde(default)]
    masked_paths: Option<Vec<PathBuf>>,
    #[serde(default)]
    readonly_paths: Option<Vec<PathBuf>>,
}

/// The container as it is to become.
#[derive(Debug)]
struct Planned {
    /// Its root directory, as the host names it.
    rootfs: PathBuf,
    /// What of its files it is not to see or to change.
    masked: Vec<PathBuf>,
}

impl State {
    /// Reads what the runtime writes to standard input.
    ///
    /// # Errors
    /// One sentence if it is of another form.
    pub fn parse(text: &[u8]) -> Result<Self> {
        serde_json::from_slice(text).context("standard input has no state of an OCI container")
    }

    /// What the configuration says.
    ///
    /// # Errors
    /// One sentence if it cannot be read.
    fn planned(&self) -> Result<Planned> {
        let path = self.bundle.join("config.json");
        let shown = path.display();
        let text = fs::read(&path).with_context(|| format!("cannot read {shown}"))?;
        let config: Config = serde_json::from_slice(&text)
            .with_context(|| format!("{shown} is no configuration of an OCI container"))?;
        let linux = config.linux.unwrap_or_default();
        let masked = [linux.masked_paths, linux.readonly_paths];
        Ok(Planned {
            rootfs: self.bundle.join(config.root.path),
            masked: masked.into_iter().flatten().flatten().collect(),
        })
    }
}

/// Attaches what is wanted to the container, but for what it has already, what it lacks and
/// what its owner has covered. Enters its mount namespace for that.
///
/// # Errors
/// As [`create_container`].
pub fn create_runtime(state: &State, wanted: &Wanted) -> Result<()> {
    let planned = state.planned()?;
    let pid = state.pid.context("standard input names no process")?;
    within(&wanted.views, || {
        enter(pid)?;
        attach_all(&planned, wanted)
    })
}

fn enter(pid: i32) -> Result<()> {
    let proc = Proc::open(Path::new("/proc")).context("cannot open /proc")?;
    let mounts = |pid| proc.namespace(pid, Namespace::Mount);
    ensure!(
        mounts(pid) != mounts(getpid().as_raw()),
        "process {pid} has no mount namespace of its own"
    );
    let namespace = proc.hold_namespace(pid, Namespace::Mount);
    namespace
        .and_then(|namespace| setns(namespace, CloneFlags::CLONE_NEWNS))
        .with_context(|| format!("cannot enter the mount namespace of process {pid}"))
}

/// The same for a hook that is there already.
///
/// # Errors
/// One sentence about the first thing that cannot be attached; the rest is attached all the
/// same.
pub fn create_container(state: &State, wanted: &Wanted) -> Result<()> {
    let planned = state.planned()?;
    within(&wanted.views, || attach_all(&planned, wanted))
}

/// For LXC, whose hook has attached the views to the container with this root directory: keeps
/// containers in it possible.
///
/// # Errors
/// One sentence if that fails.
pub fn lxc_mount(rootfs: &Path) -> Result<()> {
    let root = open_directory(rootfs)?;
    Mounts::read()?.keep_nesting_possible(&root, &[])
}

fn attach_all(planned: &Planned, wanted: &Wanted) -> Result<()> {
    answers(&wanted.views)?;
    let views = open_directory(&wanted.views)?;
    let root = open_directory(&planned.rootfs)?;
    let mounts = Mounts::read()?;
    let done = wanted.bindings().into_iter().map(|binding| {
        attach_one(&binding, &views, &root, &mounts)
            .with_context(|| format!("cannot attach {}", binding.target().display()))
    });
    // All of them have their turn, whatever becomes of one.
    let done = done.fold(Ok(()), Result::and);
    done.and(mounts.keep_nesting_possible(&root, &planned.masked))
}

fn attach_one(binding: &Binding, views: &OwnedFd, root: &OwnedFd, mounts: &Mounts) -> Result<()> {
    let beneath = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS;
    let Some(source) = find(views, &binding.path, beneath)? else {
        return Ok(());
    };
    let inside = ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    let Some(target) = find(root, &binding.path, inside)? else {
        return Ok(());
    };
    if !mounts.is_free(binding, &target)? {
        return Ok(());
    }
    let copy = detached_copy(source)?;
    let attributes = Attributes {
        read_only: binding.is_read_only() || is_read_only(&target),
        no_suid: true,
        no_devices: true,
        no_programs: false,
    };
    restrict(&copy, attributes).map_err(|errno| match errno {
        Errno::ENOSYS => anyhow::anyhow!("this needs Linux 5.12 or newer"),
        errno => errno.into(),
    })?;
    Ok(attach(copy, target, Layer::Above)?)
}

/// What `path` leads to from `directory`; `None` if nothing is there, or what is in the way
/// is none of ours.
fn find(directory: &OwnedFd, path: &Path, resolve: ResolveFlag) -> Result<Option<OwnedFd>> {
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
        .resolve(resolve);
    for _ in 0..TRIES {
        match openat2(directory, path, how) {
            Ok(found) => return Ok(Some(found)),
            Err(Errno::EAGAIN) => {}
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => return Ok(None),
            Err(Errno::ENOSYS) => bail!("this needs Linux 5.12 or newer"),
            Err(errno) => return Err(errno.into()),
        }
    }
    Err(Errno::EAGAIN.into())
}

/// What is mounted where the hook runs, before it adds to that.
struct Mounts {
    proc: Proc,
    table: Vec<Mount>,
    /// Groups of mounts that the host is in: what is mounted on one of them here is mounted on
    /// the host too. None if that cannot be found out.
    hosts: Option<BTreeSet<u32>>,
}

impl Mounts {
    fn read() -> Result<Self> {
        let proc = Proc::open(Path::new("/proc")).context("cannot open /proc")?;
        let table = table(&proc, |_| true).context("cannot list the mounts")?;
        Ok(Self {
            hosts: peer_groups(&proc, "1/mountinfo").ok(),
            proc,
            table,
        })
    }

    /// Whether the container shows the kernel's own file there, by a mount of its own `/proc`
    /// or `/sys`. All else is there on purpose: our own, what hides one, what its owner has
    /// mounted there or below, or the host's.
    fn is_free(&self, binding: &Binding, target: &OwnedFd) -> Result<bool> {
        let kind = fstatfs(target)?.filesystem_type();
        let is_directory = fstat(target)?.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFDIR.bits();
        if ![PROC_SUPER_MAGIC, SYSFS_MAGIC].contains(&kind) || is_directory != binding.is_directory
        {
            return Ok(false);
        }
        let id = mount_id(&self.proc, target)?;
        let path = self
            .proc
            .read_link(&format!("thread-self/fd/{}", target.as_raw_fd()))?;
        let lies_below = |mount: &Mount| mount.parent == id && mount.mount_point.starts_with(&path);
        Ok(!self.table.iter().any(lies_below)
            && self.table.iter().any(|mount| {
                mount.id == id && mount.root == Path::new("/") && !self.is_hosts(mount)
            }))
    }

    fn keep_nesting_possible(&self, root: &OwnedFd, masked: &[PathBuf]) -> Result<()> {
        let proc = &self.proc;
        let nest = Nest { root, proc, masked };
        let done = nest.keep_possible(|mount| self.is_hosts(mount));
        done.context("cannot keep containers in the container possible")
    }

    fn is_hosts(&self, mount: &Mount) -> bool {
        mount.peer_group.is_some_and(|group| {
            self.hosts
                .as_ref()
                .is_none_or(|hosts| hosts.contains(&group))
        })
    }
}

/// Whether nothing there can be opened for writing anyhow.
fn is_read_only(target: impl AsFd) -> bool {
    fstatvfs(target).is_ok_and(|found| found.flags().contains(FsFlags::ST_RDONLY))
}

fn open_directory(path: &Path) -> Result<OwnedFd> {
    let how = OpenHow::new().flags(OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC);
    openat2(AT_FDCWD, path, how).with_context(|| format!("cannot use {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_is_where_the_configuration_says() {
        let bundle = tempfile::tempdir().unwrap();
        let state = format!(
            r#"{{"ociVersion":"1.0.2","id":"c","status":"creating","bundle":{:?}}}"#,
            bundle.path()
        );
        let state = State::parse(state.as_bytes()).unwrap();
        let with = |config: &str| {
            fs::write(bundle.path().join("config.json"), config).unwrap();
            state.planned().map(|planned| planned.rootfs)
        };
        let relative = with(r#"{"root":{"path":"rootfs","readonly":true}}"#).unwrap();
        assert_eq!(relative, bundle.path().join("rootfs"));
        assert_eq!(with(r#"{"root":{"path":"/r"}}"#).unwrap(), Path::new("/r"));
        for garbage in ["", "{}", r#"{"root":{}}"#, r#"{"root":{"path":7}}"#] {
            let error = with(garbage).unwrap_err().to_string();
            assert!(
                error.ends_with("is no configuration of an OCI container"),
                "{error}"
            );
        }
    }

    #[test]
    fn what_is_no_state_is_one_sentence() {
        for garbage in ["", "7", "{}", r#"{"bundle":null}"#, "\u{0}"] {
            let error = State::parse(garbage.as_bytes()).unwrap_err();
            assert_eq!(
                error.to_string(),
                "standard input has no state of an OCI container"
            );
        }
    }

    #[test]
    fn a_way_out_of_the_root_leads_nowhere() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        fs::create_dir_all(root.join("sys")).unwrap();
        fs::write(dir.path().join("outside"), "").unwrap();
        std::os::unix::fs::symlink("../../outside", root.join("sys/block")).unwrap();
        std::os::unix::fs::symlink("/proc/self/root", root.join("proc")).unwrap();
        std::os::unix::fs::symlink("loop", root.join("loop")).unwrap();
        let root = open_directory(&root).unwrap();
        let inside = ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS;
        for path in ["sys/block", "proc/proc/meminfo", "loop", "nothing"] {
            assert!(
                find(&root, Path::new(path), inside).unwrap().is_none(),
                "{path}"
            );
        }
        assert!(find(&root, Path::new("sys"), inside).unwrap().is_some());
    }
}

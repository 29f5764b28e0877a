//! What the container sees of the file system. Runs in its own mount namespace.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::fcntl::{OFlag, open};
use nix::mount::{MntFlags, MsFlags, umount2};
use nix::sys::stat::Mode;
use nix::unistd::{chdir, fchdir, pivot_root};

use super::cgroup::Cgroup;
use super::views::{self, Source};
use crate::attach::nesting::Nest;
use crate::host::process::Proc;

/// How file systems are mounted that hold no programs and no devices.
const KERNEL_FILES: MsFlags = MsFlags::MS_NOSUID
    .union(MsFlags::MS_NODEV)
    .union(MsFlags::MS_NOEXEC);

const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

/// Links in `/dev` that programs expect, and what they point to.
const DEVICE_LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// Mounts a new file system of type `kind`.
pub fn mount(kind: &str, target: &Path, flags: MsFlags, options: &str) -> Result<()> {
    nix::mount::mount(Some(kind), target, Some(kind), flags, Some(options))
        .with_context(|| format!("cannot mount {kind} on {}", target.display()))
}

/// Shows `source` at `target`, with what is mounted below it.
pub fn bind(source: &Path, target: &Path) -> Result<()> {
    let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
    nix::mount::mount(Some(source), target, None::<&str>, flags, None::<&str>)
        .with_context(|| format!("cannot mount over {}", target.display()))
}

/// Gives the container its root, a fresh `/proc`, its cgroups and the views.
pub fn set_up(rootfs: Option<&Path>, cgroup: &Cgroup<'_>, source: &Source) -> Result<()> {
    let old_root = open_directory(Path::new("/"))?;
    let views = open_directory(source.directory())?;
    if let Some(rootfs) = rootfs {
        change_root(rootfs)?;
    }
    make_directory("/proc")?;
    mount("proc", Path::new("/proc"), KERNEL_FILES, "")?;
    // By this path the host's files are found as long as the old root is there.
    let host = PathBuf::from(format!("/proc/self/fd/{}", old_root.as_raw_fd()));
    if rootfs.is_some() {
        mount_sys(&host)?;
        mount_dev(&host)?;
    }
    mount_cgroups(cgroup, &host, rootfs.is_some())?;
    views::lay_over(&views)?;
    keep_nesting_possible();
    if rootfs.is_some() {
        fchdir(&old_root).context("cannot find the old root")?;
        umount2(".", MntFlags::MNT_DETACH).context("cannot let go of the old root")?;
        chdir("/").context("cannot enter the new root")
    } else if let Some(hidden) = source.hidden() {
        umount2(hidden, MntFlags::MNT_DETACH)
            .with_context(|| format!("cannot show {} again", hidden.display()))
    } else {
        Ok(())
    }
}

/// The container works in any case, so a failure is only noted.
fn keep_nesting_possible() {
    let done = open_directory(Path::new("/")).and_then(|root| {
        let nest = Nest {
            root: &root,
            proc: &Proc::open(Path::new("/proc"))?,
            masked: &[],
        };
        // All mounts are private.
        Ok(nest.keep_possible(|_| false)?)
    });
    if let Err(error) = done {
        log::debug!("containers in this container may not start: {error:#}");
    }
}

fn open_directory(path: &Path) -> Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    open(path, flags, Mode::empty()).with_context(|| format!("cannot open {}", path.display()))
}

/// Makes `rootfs` the root; the old root stays reachable by fds that are open.
fn change_root(rootfs: &Path) -> Result<()> {
    bind(rootfs, rootfs)?;
    chdir(rootfs)
        .and_then(|()| pivot_root(".", "."))
        .with_context(|| format!("cannot use {} as the root", rootfs.display()))
}

fn mount_sys(host: &Path) -> Result<()> {
    let sys = Path::new("/sys");
    make_directory("/sys")?;
    // Inside some containers a new one is not allowed.
    mount("sysfs", sys, KERNEL_FILES | MsFlags::MS_RDONLY, "").or_else(|error| {
        log::debug!("{error:#}");
        bind(&host.join("sys"), sys)
    })
}

fn mount_dev(host: &Path) -> Result<()> {
    let dev = Path::new("/dev");
    make_directory("/dev")?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    mount("tmpfs", dev, flags, "mode=0755,size=64k")?;
    for name in DEVICES {
        let target = dev.join(name);
        File::create(&target).with_context(|| format!("cannot create {}", target.display()))?;
        bind(&host.join("dev").join(name), &target)?;
    }
    for (name, points_to) in DEVICE_LINKS {
        symlink(points_to, dev.join(name)).with_context(|| format!("cannot create /dev/{name}"))?;
    }
    make_directory("/dev/pts")?;
    make_directory("/dev/shm")?;
    let options = "newinstance,ptmxmode=0666,mode=0620";
    mount("devpts", Path::new("/dev/pts"), flags, options)?;
    mount(
        "tmpfs",
        Path::new("/dev/shm"),
        flags | MsFlags::MS_NODEV,
        "mode=1777",
    )
}

/// Shows every hierarchy from the container's own cgroup down, as its cgroup namespace
/// numbers it, so that programs which look for their limits there find them.
fn mount_cgroups(cgroup: &Cgroup<'_>, host: &Path, new_sys: bool) -> Result<()> {
    let top = Path::new("/sys/fs/cgroup");
    let is_top = |(mount_point, _): (&Path, &Path)| mount_point == top;
    if new_sys && !cgroup.places().any(is_top) {
        mount("tmpfs", top, KERNEL_FILES, "mode=0755,size=64k")?;
    }
    for (mount_point, own) in cgroup.places() {
        if new_sys {
            // What is mounted elsewhere has no place in a root of unknown layout.
            if !mount_point.starts_with(top) {
                continue;
            }
            fs::create_dir_all(mount_point)
                .with_context(|| format!("cannot create {}", mount_point.display()))?;
        }
        bind(&below(host, own), mount_point)?;
    }
    Ok(())
}

/// `path` as seen from `root`.
fn below(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

fn make_directory(path: &str) -> Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(error).with_context(|| format!("the root file system needs a directory {path}"))
        }
        _ => Ok(()),
    }
}

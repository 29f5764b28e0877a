//! Mounting and unmounting.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::handshake;
use super::terms::Timeouts;
use crate::host::process::Proc;
use crate::parse::mountinfo::{self, Line};
use crate::sys::fuse_device;

/// File-system type in mountinfo. Container engines and monitors look for it.
pub const FS_TYPE: &str = "fuse.lxcfs";
/// Source in mountinfo.
const SOURCE: &str = "lxcfs";

/// A file system that does not answer in this time is taken for stuck.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

/// Mount options of LXCFS command lines that say what is done anyway, or that have no
/// meaning here.
const IGNORED_OPTIONS: [&str; 15] = [
    "allow_other",
    "auto_unmount",
    "default_permissions",
    "dev",
    "direct_io",
    "exec",
    "nodev",
    "noexec",
    "nonempty",
    "nosuid",
    "relatime",
    "ro",
    "rw",
    "suid",
    "use_ino",
];
/// The same, with a value.
const IGNORED_SETTINGS: [&str; 7] = [
    "attr_timeout",
    "entry_timeout",
    "fsname",
    "max_read",
    "negative_timeout",
    "subtype",
    "user_id",
];
/// SELinux labels; handed to the kernel.
const CONTEXT_SETTINGS: [&str; 4] = ["context", "defcontext", "fscontext", "rootcontext"];

/// The connection of a file system that has just been mounted.
#[derive(Debug)]
pub struct Connection {
    /// The FUSE device.
    pub fd: OwnedFd,
    /// Minor device number of the file system.
    pub minor: u32,
    /// How long the kernel waits for an answer before it aborts the connection.
    pub request_timeout: Option<Duration>,
}

/// A mounted file system; unmounted when dropped.
#[derive(Debug)]
pub struct Mount {
    mountpoint: PathBuf,
    minor: u32,
}

impl Mount {
    /// Mounts at `mountpoint` and sets up the connection. What a dead LXCFS left mounted
    /// there is removed first.
    ///
    /// # Errors
    /// One sentence about what stands in the way.
    pub fn new(mountpoint: &Path, options: &[String]) -> anyhow::Result<(Self, Connection)> {
        let mountpoint = prepare(mountpoint)?;
        let connection = open_device()?;
        mount_fuse(&mountpoint, options, &connection)?;
        // From here on a failure unmounts again.
        let mut mounted = Self {
            mountpoint,
            minor: 0,
        };
        let timeouts = Timeouts::now();
        handshake::answer(&connection, timeouts.asked())
            .context("cannot set up the FUSE connection")?;
        mounted.minor = minor_at(&mounted.mountpoint)
            .with_context(|| format!("{} is not mounted", mounted.mountpoint.display()))?;
        let connection = Connection {
            fd: connection,
            minor: mounted.minor,
            request_timeout: timeouts.effective(),
        };
        Ok((mounted, connection))
    }

    /// Mounts a file system once more that is served already, and not mounted at `mountpoint`
    /// any more. Needs Linux 5.14.
    ///
    /// # Errors
    /// One sentence about what stands in the way.
    pub fn again(
        mountpoint: &Path,
        options: &[String],
        connection: &OwnedFd,
        minor: u32,
    ) -> anyhow::Result<Self> {
        let mountpoint = prepare(mountpoint)?;
        mount_fuse(&mountpoint, options, connection)?;
        let mounted = Self { mountpoint, minor };
        ensure!(mounted.is_there(), "another file system was mounted");
        Ok(mounted)
    }

    /// The mount that an earlier process made at `mountpoint`, of a file system with this
    /// minor device number. `None` if it is not there any more.
    #[must_use]
    pub fn adopt(mountpoint: &Path, minor: u32) -> Option<Self> {
        let mountpoint = resolve(mountpoint).ok()?;
        Self::is_at(&mountpoint, minor).then_some(Self { mountpoint, minor })
    }

    /// Whether the file system with this minor device number is what is mounted there.
    #[must_use]
    pub fn is_at(mountpoint: &Path, minor: u32) -> bool {
        resolve(mountpoint).is_ok_and(|mountpoint| minor_at(&mountpoint) == Some(minor))
    }

    /// Whether it is still what is mounted there.
    #[must_use]
    pub fn is_there(&self) -> bool {
        minor_at(&self.mountpoint) == Some(self.minor)
    }

    /// Leaves it mounted.
    pub fn leave(self) {
        std::mem::forget(self);
    }

    /// Ends the connection: whoever waits for an answer gets an error.
    pub fn abort(self) {
        if let Err(errno) = umount2(&self.mountpoint, MntFlags::MNT_FORCE) {
            log::debug!("unmounting {}: {errno}", self.mountpoint.display());
        }
    }

    /// Where it is mounted.
    #[must_use]
    pub fn mountpoint(&self) -> &Path {
        &self.mountpoint
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if let Err(errno) = umount2(&self.mountpoint, MntFlags::MNT_DETACH) {
            if errno != Errno::EINVAL {
                log::warn!("cannot unmount {}: {errno}", self.mountpoint.display());
            }
        }
    }
}

/// A connection that is not mounted yet.
///
/// # Errors
/// One sentence about the device.
pub fn open_device() -> anyhow::Result<OwnedFd> {
    fuse_device::open().context(
        "cannot open /dev/fuse; load the kernel module fuse or give this machine the device",
    )
}

/// Unmounts every LXCFS, dead or alive, from a directory.
///
/// # Errors
/// What umount(2) says.
pub fn take_away(mountpoint: &Path) -> io::Result<()> {
    let mountpoint = resolve(mountpoint)?;
    while minor_at(&mountpoint).is_some() {
        umount2(&mountpoint, MntFlags::MNT_DETACH)?;
    }
    Ok(())
}

fn mount_fuse(mountpoint: &Path, options: &[String], connection: &OwnedFd) -> anyhow::Result<()> {
    let context = context_options(options)?;
    let data = format!(
        "fd={},rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions{context}",
        connection.as_raw_fd()
    );
    // A superblock that is not read-only costs a GETATTR at the first fstat(2) after a
    // read, since an access time could have changed. But triggers are written to
    // pressure files, which the kernel refuses on a read-only one by itself.
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(
        Some(SOURCE),
        mountpoint,
        Some(FS_TYPE),
        flags,
        Some(data.as_str()),
    )
    .with_context(|| format!("cannot mount on {}", mountpoint.display()))
}

/// Checks the directory, with what dead daemons left there taken away.
fn prepare(mountpoint: &Path) -> anyhow::Result<PathBuf> {
    let shown = mountpoint.display();
    let mut path = resolve(mountpoint).with_context(|| format!("cannot use {shown}"))?;
    while let Some(mount) = mount_at(&path) {
        match probe(&path) {
            Health::Dead => {
                log::info!("unmounting what a dead daemon left on {shown}");
                umount2(&path, MntFlags::MNT_DETACH)
                    .with_context(|| format!("cannot unmount the dead mount on {shown}"))?;
            }
            Health::Alive if mount.fs_type == FS_TYPE => {
                bail!(
                    "{shown} is served by another lxcfs already; stop that one first, or choose another directory"
                )
            }
            Health::Alive => break,
            Health::Silent => bail!("what is mounted on {shown} does not answer; unmount it first"),
        }
    }
    match std::fs::metadata(&path) {
        Ok(metadata) if metadata.is_dir() => {}
        Ok(_) => bail!("{shown} is not a directory"),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            bail!("{shown} does not exist; create the directory first")
        }
        Err(error) => return Err(error).context(format!("cannot use {shown}")),
    }
    if path.is_symlink() {
        path = path
            .canonicalize()
            .with_context(|| format!("cannot use {shown}"))?;
        return prepare(&path);
    }
    Ok(path)
}

/// The path without symbolic links but for a last one. Of a dead mount even the name may be
/// out of reach, so the directory above is resolved.
fn resolve(mountpoint: &Path) -> io::Result<PathBuf> {
    match (mountpoint.parent(), mountpoint.file_name()) {
        (Some(parent), Some(name)) if !parent.as_os_str().is_empty() => {
            parent.canonicalize().map(|path| path.join(name))
        }
        _ => mountpoint.canonicalize(),
    }
}

/// How a mounted file system is.
enum Health {
    Alive,
    Dead,
    Silent,
}

/// Asks the file system for its root directory, from a thread of its own: a server that
/// is stopped would never answer.
fn probe(path: &Path) -> Health {
    let (sender, answer) = mpsc::channel();
    let path = path.to_owned();
    let asker = thread::Builder::new()
        .name("probe".to_owned())
        .spawn(move || {
            let error = std::fs::read_dir(path).err();
            // Nobody listens any more if it took too long.
            let _ = sender.send(error.and_then(|error| error.raw_os_error()));
        });
    match asker.map(|_| answer.recv_timeout(PROBE_TIMEOUT)) {
        Ok(Ok(Some(libc::ENOTCONN | libc::ECONNABORTED))) => Health::Dead,
        Ok(Ok(_)) => Health::Alive,
        Ok(Err(_)) | Err(_) => Health::Silent,
    }
}

/// The topmost mount at this directory.
fn mount_at(directory: &Path) -> Option<mountinfo::Mount> {
    if directory == Path::new("/") {
        return None;
    }
    let is_there = |line: &Line<'_>| line.mount_point() == directory;
    let proc = Proc::open(Path::new("/proc")).ok()?;
    let mounts = proc.mounts("self/mountinfo", is_there).ok()?;
    mounts.into_iter().next_back()
}

/// Minor device number of the LXCFS that is mounted topmost at this directory.
fn minor_at(directory: &Path) -> Option<u32> {
    let mount = mount_at(directory).filter(|mount| mount.fs_type == FS_TYPE)?;
    Some(mount.device.1)
}

/// The part of the `-o` options that the kernel is given, with a comma in front.
fn context_options(options: &[String]) -> anyhow::Result<String> {
    let mut passed = String::new();
    for option in options.iter().filter(|option| !option.is_empty()) {
        match option.split_once('=') {
            None if IGNORED_OPTIONS.contains(&option.as_str()) => {
                log::info!("option {option} has no effect");
            }
            Some((key, _)) if IGNORED_SETTINGS.contains(&key) => {
                log::info!("option {option} has no effect");
            }
            Some((key, _)) if CONTEXT_SETTINGS.contains(&key) => {
                passed.push(',');
                passed.push_str(option);
            }
            _ => bail!("unknown mount option {option}"),
        }
    }
    Ok(passed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn only_security_labels_reach_the_kernel() {
        let given = options("allow_other nonempty entry_timeout=0.5 context=\"u:r:t:s0\"");
        assert_eq!(context_options(&given).unwrap(), ",context=\"u:r:t:s0\"");
        assert_eq!(context_options(&options("")).unwrap(), "");
    }

    #[test]
    fn an_unknown_option_is_named() {
        let error = context_options(&options("ro bogus=1")).unwrap_err();
        assert_eq!(error.to_string(), "unknown mount option bogus=1");
    }
}

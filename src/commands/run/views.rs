//! Where the views come from, and how they get over the container's own files.

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::mount::{MntFlags, MsFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::mounts::{bind, mount};
use crate::attach::{USUAL, bindings, fallback};
use crate::commands::Said;
use crate::host::process::Proc;
use crate::parse::mountinfo::Line;
use crate::places::spot::is_of_lxcfs;
use crate::session::mount::open_device;
use crate::sys::process;

/// How long our own server may take until it serves; long for a busy machine too, as
/// its failing is seen at once.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// How long it may take to end when asked to.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(2);

/// Directories of which one gets a file system for our own server's files laid over
/// it. Nobody else sees that one, and it is gone with the last of our processes.
const PRIVATE: [&str; 2] = ["/run", "/tmp"];

/// A mounted lxcfs.
#[derive(Debug)]
pub enum Source {
    /// The mountpoint of a daemon that runs anyway.
    Daemon(PathBuf),
    /// The one that was started for this run.
    Own(OwnServer),
}

/// A server that is ended with the run.
#[derive(Debug)]
pub struct OwnServer {
    child: Child,
    private: PathBuf,
    mountpoint: PathBuf,
}

impl Source {
    /// Takes the daemon mounted at `wanted`, or any that is mounted, else starts a
    /// server. The caller's mount namespace must be its own. `rootfs` is not covered
    /// by anything.
    pub fn find_or_start(wanted: Option<&Path>, rootfs: Option<&Path>) -> Result<Self> {
        if let Some(mountpoint) = wanted {
            ensure!(
                serves(mountpoint),
                "no lxcfs answers at --views {}",
                mountpoint.display()
            );
            return Ok(Self::Daemon(mountpoint.to_owned()));
        }
        if let Some(mountpoint) = mounted() {
            log::debug!("views come from the daemon at {}", mountpoint.display());
            return Ok(Self::Daemon(mountpoint));
        }
        let private = PRIVATE
            .into_iter()
            .map(Path::new)
            .find(|directory| {
                directory.is_dir() && !rootfs.is_some_and(|rootfs| rootfs.starts_with(directory))
            })
            .context("there is no place to serve the views at; create /run")?;
        // The usual reason why a server cannot start.
        open_device()?;
        OwnServer::start(private).map(Self::Own)
    }

    /// Directory with `proc` and `sys`.
    pub fn directory(&self) -> &Path {
        match self {
            Self::Daemon(mountpoint) => mountpoint,
            Self::Own(server) => &server.mountpoint,
        }
    }

    /// The directory that a file system of our own hides.
    pub fn hidden(&self) -> Option<&Path> {
        match self {
            Self::Daemon(_) => None,
            Self::Own(server) => Some(&server.private),
        }
    }
}

/// The mountpoint of a daemon that answers. One of LXCFS, which leaves the checking of
/// permissions to itself, is not taken: its figures are others. Nor is one that another user
/// has mounted, whose figures can be anything.
fn mounted() -> Option<PathBuf> {
    let is_roots = |line: &Line<'_>| {
        is_of_lxcfs(line)
            && line.has_super_option("default_permissions")
            && line.has_super_option("user_id=0")
    };
    let mounts = Proc::open(Path::new("/proc"))
        .ok()?
        .mounts("self/mountinfo", is_roots);
    let mut mountpoints: Vec<PathBuf> = mounts
        .ok()?
        .into_iter()
        .filter(|mount| mount.root == Path::new("/"))
        .map(|mount| mount.mount_point)
        .collect();
    // Others may belong to one container only and end with it.
    mountpoints.sort_by_key(|mountpoint| mountpoint != Path::new(USUAL));
    mountpoints
        .into_iter()
        .find(|mountpoint| serves(mountpoint))
}

fn serves(mountpoint: &Path) -> bool {
    let meminfo = mountpoint.join("proc/meminfo");
    meminfo.exists() && !fallback::is_hosts_own(&meminfo)
}

impl OwnServer {
    fn start(private: &Path) -> Result<Self> {
        mount("tmpfs", private, MsFlags::empty(), "mode=0755,size=1m")?;
        let mountpoint = private.join("views");
        fs::create_dir(&mountpoint)
            .with_context(|| format!("cannot create {}", mountpoint.display()))?;
        let mut command = Command::new("/proc/self/exe");
        command
            .arg0("lxcfs")
            .args(["-f", "--runtime-dir"])
            .args([private, &mountpoint])
            .env_remove("NOTIFY_SOCKET")
            .env("RUST_LOG", "warn")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            // Ctrl-C is for the command.
            .process_group(0);
        process::die_with_parent(&mut command, Signal::SIGTERM);
        let child = command
            .spawn()
            .context("cannot start a server for the views")?;
        let mut server = Self {
            child,
            private: private.to_owned(),
            mountpoint,
        };
        server.wait_until_it_serves()?;
        Ok(server)
    }

    fn wait_until_it_serves(&mut self) -> Result<()> {
        let deadline = Instant::now() + START_TIMEOUT;
        while !serves(&self.mountpoint) {
            if let Some(status) = self.child.try_wait()? {
                ensure!(status.code().is_none_or(|code| code == 0), Said);
                bail!("the server for the views ended with {status}");
            }
            if Instant::now() >= deadline {
                bail!("the server for the views does not answer");
            }
            thread::sleep(POLL);
        }
        Ok(())
    }
}

impl Drop for OwnServer {
    fn drop(&mut self) {
        let deadline = Instant::now() + STOP_TIMEOUT;
        if let Ok(pid) = i32::try_from(self.child.id()) {
            // Fails if it is over already, which the loop finds out.
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() >= deadline {
                // Requests that are not answered any more could keep it from dying:
                // this ends them.
                let _ = umount2(&self.mountpoint, MntFlags::MNT_FORCE);
                let _ = self.child.kill();
                let _ = self.child.wait();
                return;
            }
            thread::sleep(POLL);
        }
    }
}

/// Lays the views over the files that `/proc` and `/sys` have under the same names.
pub fn lay_over(views: &OwnedFd) -> Result<()> {
    // By its fd the directory is found whatever the root is by now.
    let views = PathBuf::from(format!("/proc/self/fd/{}", views.as_raw_fd()));
    for binding in bindings(&[]) {
        let (source, target) = (binding.source(&views), binding.target());
        if source.exists() && target.exists() {
            bind(&source, &target)?;
        }
    }
    Ok(())
}

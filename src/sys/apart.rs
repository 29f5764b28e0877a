//! A mount namespace of this process's own.

use std::env::{current_dir, set_current_dir};
use std::fs::File;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::stat::Mode;
use nix::unistd::{chdir, chroot, fchdir};

const ROOT: &str = "/";

/// Enters a mount namespace of its own. What is mounted there reaches no other one. Its root is a
/// mount point, as pivot_root(2) wants it, also in a chroot(2) of some directory.
///
/// # Errors
/// What the system calls say.
pub fn unshare_mounts() -> Result<(), Errno> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    match make_private() {
        // No mount point.
        Err(Errno::EINVAL) => unshare_mounts_of_chroot(),
        done => done,
    }
}

/// The mount in which the root lies can only be changed where it begins, which is outside of what this
/// process sees; entering the namespace leads there.
fn unshare_mounts_of_chroot() -> Result<(), Errno> {
    let working = current_dir();
    let directory = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let root = open(ROOT, directory, Mode::empty())?;
    let namespace = File::open("/proc/self/ns/mnt").map_err(|_| Errno::ENOENT)?;
    setns(namespace, CloneFlags::CLONE_NEWNS)?;
    make_private()?;
    fchdir(&root)?;
    chroot(".")?;
    bind_over_itself()?;
    // The root is what lay there before; only by ".." does a path lead to what lies over it.
    chdir("/..")?;
    chroot(".")?;
    // Where the working directory is not to be found, it is the root.
    let _ = working.map(set_current_dir);
    Ok(())
}

fn make_private() -> Result<(), Errno> {
    let flags = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&Path>, ROOT, None::<&Path>, flags, None::<&Path>)
}

fn bind_over_itself() -> Result<(), Errno> {
    let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
    mount(Some(ROOT), ROOT, None::<&Path>, flags, None::<&Path>)
}

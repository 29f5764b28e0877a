//! Namespaces of this process's own.

use std::env::{current_dir, set_current_dir};
use std::fs::File;
use std::io;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns};
use nix::sys::stat::Mode;
use nix::unistd::{chdir, chroot, fchdir};

const ROOT: &str = "/";

/// Kinds of namespaces as `/proc/sys/user` names them.
const KINDS: [(CloneFlags, &str); 6] = [
    (CloneFlags::CLONE_NEWNS, "mnt"),
    (CloneFlags::CLONE_NEWPID, "pid"),
    (CloneFlags::CLONE_NEWCGROUP, "cgroup"),
    (CloneFlags::CLONE_NEWUTS, "uts"),
    (CloneFlags::CLONE_NEWIPC, "ipc"),
    (CloneFlags::from_bits_retain(libc::CLONE_NEWTIME), "time"),
];

/// Enters new namespaces, as unshare(2) does.
///
/// # Errors
/// What unshare(2) says; where a setting forbids more of them its name instead.
pub fn unshare(namespaces: CloneFlags) -> io::Result<()> {
    nix::sched::unshare(namespaces).map_err(|errno| match errno {
        Errno::ENOSPC => {
            let wanted = KINDS.iter().filter(|(kind, _)| namespaces.contains(*kind));
            let settings = wanted.map(|(_, name)| format!("user.max_{name}_namespaces"));
            let settings = settings.collect::<Vec<_>>().join(", ");
            io::Error::other(format!("no more are allowed; raise {settings}"))
        }
        errno => errno.into(),
    })
}

/// Enters a mount namespace of its own. What is mounted there reaches no other one. Its root is a
/// mount point, as pivot_root(2) wants it, also in a chroot(2) of some directory.
///
/// # Errors
/// What the system calls say.
pub fn unshare_mounts() -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    match make_private() {
        // No mount point.
        Err(Errno::EINVAL) => Ok(unshare_mounts_of_chroot()?),
        done => Ok(done?),
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

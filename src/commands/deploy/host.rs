//! Out of the pod, onto the host.

use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use nix::sched::{CloneFlags, setns};
use nix::unistd::getpid;

use crate::cgroup::{FdBudget, Layout};
use crate::host::mounts::own_lines;
use crate::host::process::Proc;

/// Namespaces that a pod may have of its own. The last one takes the way to the others away.
const NAMESPACES: [(&str, CloneFlags); 5] = [
    ("cgroup", CloneFlags::CLONE_NEWCGROUP),
    ("ipc", CloneFlags::CLONE_NEWIPC),
    ("uts", CloneFlags::CLONE_NEWUTS),
    ("net", CloneFlags::CLONE_NEWNET),
    ("mnt", CloneFlags::CLONE_NEWNS),
];

/// A cgroup to be in where the topmost one takes no processes.
const CGROUP: &str = "lxcfs";

/// Enters all namespaces of process `pid`, which is one of the host's.
///
/// # Errors
/// One sentence about what the pod lacks.
pub fn enter(pid: i32) -> anyhow::Result<()> {
    if pid == getpid().as_raw() {
        bail!("the processes of the host cannot be seen; the pod needs hostPID: true");
    }
    let open = |(name, flag)| {
        let path = format!("/proc/{pid}/ns/{name}");
        let file = File::open(&path).with_context(|| format!("cannot open {path}"))?;
        Ok((name, flag, file))
    };
    let namespaces: anyhow::Result<Vec<_>> = NAMESPACES.map(open).into_iter().collect();
    for (name, flag, file) in namespaces? {
        setns(file, flag).with_context(|| {
            format!("cannot enter the host's {name} namespace; the pod needs to be privileged")
        })?;
    }
    Ok(())
}

/// Leaves the cgroups of the pod, with which all that is in them is killed.
///
/// # Errors
/// One sentence about the cgroup that does not let this process in.
pub fn leave_cgroups() -> anyhow::Result<()> {
    let proc = Proc::open(Path::new("/proc")).context("cannot read /proc")?;
    let mounts = own_lines(&proc, "cgroup").context("cannot list the mounts")?;
    let layout = Layout::detect(&mounts, Path::new("/"), &Arc::new(FdBudget::new(0)))?;
    for (_, _, top) in layout.mounts() {
        join(top)
            .or_else(|_| {
                let directory = top.join(CGROUP);
                fs::create_dir_all(&directory)?;
                join(&directory)
            })
            .with_context(|| format!("cannot leave the pod's cgroup below {}", top.display()))?;
    }
    Ok(())
}

fn join(cgroup: &Path) -> std::io::Result<()> {
    fs::write(cgroup.join("cgroup.procs"), "0")
}

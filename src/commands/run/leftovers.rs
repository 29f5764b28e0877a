//! Finding and removing what a run leaves outside of its namespaces: its cgroups.
//!
//! A run holds a lock on its directory in the first hierarchy, which it makes first
//! and removes last. So the cgroups of a run that was killed (the lock is free) can
//! be told from those of a living one, in any pid namespace.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getpid};

use super::cgroup::Hierarchy;
use crate::sys::lock;

const PREFIX: &str = "lxcfs-run-";
/// How long processes may take to die of SIGKILL; one in an uninterruptible sleep
/// needs the end of that sleep.
const PATIENCE: Duration = Duration::from_secs(10);
/// The same for those of a run that is long over.
const PATIENCE_WITH_STALE: Duration = Duration::from_secs(1);

/// The name of a run's cgroups, with the lock that says that the run is alive.
#[derive(Debug)]
pub struct Claim {
    /// The name in every hierarchy.
    pub name: String,
    _lock: File,
}

impl Claim {
    /// Takes a name that nobody else has.
    pub fn take(hierarchies: &[Hierarchy]) -> Result<Self> {
        let first = hierarchies.first().context("no cgroup hierarchy")?;
        let mut attempt = 0_u32;
        loop {
            let name = format!("{PREFIX}{}-{attempt}", getpid());
            let directory = first.mount_point.join(&name);
            match fs::create_dir(&directory) {
                Ok(()) => {
                    if let Some(lock) = lock_new(&directory) {
                        return Ok(Self { name, _lock: lock });
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => attempt += 1,
                Err(error) => {
                    return Err(error).with_context(|| {
                        format!("cannot create the cgroup {}", directory.display())
                    });
                }
            }
        }
    }
}

/// Locks a directory just made, unless somebody took it for a leftover before.
fn lock_new(directory: &Path) -> Option<File> {
    let file = File::open(directory).ok()?;
    lock::lock(&file).ok()?;
    is_at(&file, directory).then_some(file)
}

/// Locks the directory of a run that is over.
fn lock_stale(directory: &Path) -> Option<File> {
    let file = File::open(directory).ok()?;
    lock::try_lock(&file).ok()?;
    is_at(&file, directory).then_some(file)
}

/// Whether a directory was not removed, and perhaps made anew, after it was opened.
fn is_at(file: &File, directory: &Path) -> bool {
    match (file.metadata(), fs::metadata(directory)) {
        (Ok(open), Ok(current)) => open.ino() == current.ino(),
        _ => false,
    }
}

/// Kills all processes in the cgroups `name` and removes the cgroups.
pub fn remove(hierarchies: &[Hierarchy], name: &str) -> io::Result<()> {
    remove_within(PATIENCE, hierarchies, name)
}

/// Removes what runs left behind whose processes were all killed.
pub fn sweep(hierarchies: &[Hierarchy]) {
    let Some(first) = hierarchies.first() else {
        return;
    };
    let directories = subdirectories(&first.mount_point).unwrap_or_default();
    for directory in directories {
        let Some(name) = directory
            .file_name()
            .and_then(OsStr::to_str)
            .filter(|name| name.starts_with(PREFIX))
        else {
            continue;
        };
        // Held until the end, else another run could take the name meanwhile.
        let Some(_lock) = lock_stale(&directory) else {
            continue;
        };
        match remove_within(PATIENCE_WITH_STALE, hierarchies, name) {
            Ok(()) => log::debug!("removed {name}, left behind by a run that was killed"),
            Err(error) => log::warn!("cannot remove {name}, left behind by a run: {error}"),
        }
    }
}

fn remove_within(patience: Duration, hierarchies: &[Hierarchy], name: &str) -> io::Result<()> {
    let deadline = Instant::now() + patience;
    let mut pause = Duration::from_millis(1);
    loop {
        match try_remove(hierarchies, name) {
            Err(error) if Instant::now() >= deadline => return Err(error),
            Err(_) => thread::sleep(pause),
            Ok(()) => return Ok(()),
        }
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

fn try_remove(hierarchies: &[Hierarchy], name: &str) -> io::Result<()> {
    // The first hierarchy is the last, and only if all others are done.
    let mut outcome = Ok(());
    for hierarchy in hierarchies.iter().skip(1) {
        outcome = outcome.and(remove_cgroup(&hierarchy.mount_point.join(name)));
    }
    outcome?;
    hierarchies
        .first()
        .map_or(Ok(()), |first| remove_cgroup(&first.mount_point.join(name)))
}

/// Kills what is in a cgroup and below it, and removes it from the leaves up.
fn remove_cgroup(directory: &Path) -> io::Result<()> {
    let children = match subdirectories(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        children => children?,
    };
    // Frozen processes do not even die. Which of the files exists depends on the
    // version and controller of the hierarchy.
    let _ = write_existing(&directory.join("freezer.state"), "THAWED");
    let _ = write_existing(&directory.join("cgroup.freeze"), "0");
    if write_existing(&directory.join("cgroup.kill"), "1").is_err() {
        kill_members(directory);
    }
    for child in children {
        remove_cgroup(&child)?;
    }
    fs::remove_dir(directory)
}

fn kill_members(directory: &Path) {
    let members = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
    members
        .lines()
        .filter_map(|line| line.parse().ok())
        // Processes that this pid namespace does not have are listed as 0.
        .filter(|pid| *pid > 0 && *pid != getpid().as_raw())
        .for_each(|pid| {
            // It may be gone by now, which is as good.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        });
}

fn write_existing(file: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(file)?;
    file.write_all(text.as_bytes())
}

fn subdirectories(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.push(entry.path());
        }
    }
    Ok(found)
}

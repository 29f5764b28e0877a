//! What can be attached to a container on this host.

use std::fs::{self, DirEntry};
use std::path::{Path, PathBuf};

use clap::ValueEnum;

/// A part of the views that can be attached by itself. Files whose figures are read
/// together are in the same one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Part {
    /// Memory and swap
    Mem,
    /// CPUs, their time, load and uptime
    Cpu,
    /// Pressure stall information
    Psi,
    /// Disks
    Disk,
}

/// One file or directory of the views, and where it belongs in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// The path below the mountpoint of lxcfs, and below the root of a container.
    pub path: PathBuf,
    /// What it belongs to.
    pub part: Part,
    /// Whether it is a directory.
    pub is_directory: bool,
    /// Whether a container may get it by a mount in its configuration. runc and youki refuse
    /// to mount anything but the files of LXCFS below `/proc`, and what a host may have at
    /// one time and not at another would keep containers from starting. The rest is attached
    /// by a hook.
    pub is_for_mounts: bool,
}

impl Binding {
    /// What is bound, where lxcfs is mounted at `views`.
    #[must_use]
    pub fn source(&self, views: &Path) -> PathBuf {
        views.join(&self.path)
    }

    /// Over what it is bound, as the container sees it.
    #[must_use]
    pub fn target(&self) -> PathBuf {
        Path::new("/").join(&self.path)
    }

    /// Options of a mount in a container's configuration. A container with a user namespace
    /// may take away none that lxcfs itself is mounted with, and runc 1.1 would try if one
    /// of them were missing.
    #[must_use]
    pub fn mount_options(&self) -> [&'static str; 5] {
        let access = if self.is_read_only() { "ro" } else { "rw" };
        let bind = if self.is_directory { "rbind" } else { "bind" };
        [access, "nosuid", "nodev", "noexec", bind]
    }

    /// Whether nobody writes to it. Programs write triggers to pressure files.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.part != Part::Psi
    }
}

/// Files and directories: path, part, whether they are for mounts.
const FIXED: [(&str, Part, bool); 15] = [
    ("proc/cpuinfo", Part::Cpu, true),
    ("proc/diskstats", Part::Disk, true),
    ("proc/interrupts", Part::Cpu, false),
    ("proc/loadavg", Part::Cpu, true),
    ("proc/meminfo", Part::Mem, true),
    ("proc/pressure", Part::Psi, false),
    ("proc/slabinfo", Part::Mem, true),
    ("proc/softirqs", Part::Cpu, false),
    ("proc/spl/kstat/zfs/arcstats", Part::Mem, false),
    ("proc/stat", Part::Cpu, true),
    ("proc/swaps", Part::Mem, true),
    ("proc/uptime", Part::Cpu, true),
    ("proc/vmstat", Part::Mem, false),
    ("sys/devices/system/cpu", Part::Cpu, true),
    ("sys/devices/system/node", Part::Mem, false),
];

/// The directory whose entries are disks.
const DISKS: &str = "sys/block";

/// What this host has of the parts in `only`, or of all if that is empty, by path.
#[must_use]
pub fn bindings(only: &[Part]) -> Vec<Binding> {
    below(Path::new("/"), only)
}

/// The same for the host whose root is `root`.
fn below(root: &Path, only: &[Part]) -> Vec<Binding> {
    let is_wanted = |part: Part| only.is_empty() || only.contains(&part);
    let fixed = FIXED
        .into_iter()
        .map(|(path, part, is_for_mounts)| (PathBuf::from(path), part, is_for_mounts));
    let mut found: Vec<_> = fixed
        .chain(disks(root))
        .filter(|(_, part, _)| is_wanted(*part))
        .filter_map(|(path, part, is_for_mounts)| {
            // A link, as each disk is, counts as what it leads to.
            let metadata = fs::metadata(root.join(&path)).ok()?;
            Some(Binding {
                path,
                part,
                is_directory: metadata.is_dir(),
                is_for_mounts,
            })
        })
        .collect();
    found.sort_by(|one, other| one.path.cmp(&other.path));
    found
}

fn disks(root: &Path) -> impl Iterator<Item = (PathBuf, Part, bool)> {
    let entries = fs::read_dir(root.join(DISKS)).into_iter().flatten();
    let disks = entries.flatten().filter(|entry| !is_idle_loop(entry));
    disks.map(|entry| (Path::new(DISKS).join(entry.file_name()), Part::Disk, false))
}

/// Hosts keep loop devices at hand that have no file.
fn is_idle_loop(disk: &DirEntry) -> bool {
    let name = disk.file_name();
    let is_loop = name.as_encoded_bytes().starts_with(b"loop");
    is_loop && !disk.path().join("loop/backing_file").exists()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::tree::ProcFile;

    #[test]
    fn every_file_of_the_tree_is_bound_by_itself_or_with_its_directory() {
        for file in ProcFile::ALL {
            let path = Path::new("proc").join(file.path());
            let covers = |(fixed, ..): &&(&str, Part, bool)| path.starts_with(fixed);
            assert_eq!(FIXED.iter().filter(covers).count(), 1, "{}", path.display());
        }
    }

    #[test]
    fn what_the_host_lacks_is_left_out() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(below(root.path(), &[]), []);
        fs::create_dir_all(root.path().join("proc/pressure")).unwrap();
        for disk in ["sda", "loop0", "loop1/loop"] {
            fs::create_dir_all(root.path().join("sys/block").join(disk)).unwrap();
        }
        fs::write(
            root.path().join("sys/block/loop1/loop/backing_file"),
            "/f\n",
        )
        .unwrap();
        fs::write(root.path().join("proc/meminfo"), "").unwrap();
        let found = below(root.path(), &[]);
        let summary: Vec<_> = found
            .iter()
            .map(|binding| {
                (
                    binding.target(),
                    binding.is_directory,
                    binding.is_for_mounts,
                )
            })
            .collect();
        assert_eq!(
            summary,
            [
                ("/proc/meminfo".into(), false, true),
                ("/proc/pressure".into(), true, false),
                ("/sys/block/loop1".into(), true, false),
                ("/sys/block/sda".into(), true, false),
            ]
        );
        let memory = below(root.path(), &[Part::Mem]);
        assert_eq!(memory.len(), 1);
        assert_eq!(
            memory[0].source(Path::new("/var/lib/lxcfs")),
            Path::new("/var/lib/lxcfs/proc/meminfo")
        );
    }
}

//! Directories: what they list, and that inode numbers last.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::dir::{Dir, Type};
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;

use crate::common::{Daemon, beside_others};

/// Every entry of a directory: its name, type and inode number.
fn entries(path: &Path) -> Vec<(String, Type, u64)> {
    let mut dir = Dir::open(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY, Mode::empty())
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    dir.iter()
        .map(|entry| {
            let entry = entry.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let name = entry
                .file_name()
                .to_str()
                .expect("an ASCII name")
                .to_owned();
            let kind = entry
                .file_type()
                .unwrap_or_else(|| panic!("{}/{name} has no d_type", path.display()));
            (name, kind, entry.ino())
        })
        .collect()
}

/// Inode numbers by path; symbolic links are not followed. The tree below one CPU stands for all others.
fn inodes(daemon: &Daemon) -> BTreeMap<PathBuf, u64> {
    let mut found = BTreeMap::new();
    let mut todo = vec![PathBuf::new()];
    while let Some(below) = todo.pop() {
        let stat =
            fs::symlink_metadata(daemon.point().join(&below)).expect("the state of an entry");
        found.insert(below.clone(), stat.ino());
        if stat.is_dir() && below.components().count() < 7 {
            let names = entries(&daemon.point().join(&below));
            todo.extend(
                names
                    .into_iter()
                    .filter(|(name, ..)| name != "." && name != "..")
                    .map(|(n, ..)| below.join(n)),
            );
        }
    }
    found
}

#[test]
fn directories_list_each_entry_once_with_its_type_and_inode_number() {
    let _turn = beside_others();
    let daemon = Daemon::start(&[]);
    for below in [
        "",
        "proc",
        "sys",
        "sys/devices",
        "sys/devices/system",
        "sys/devices/system/cpu",
        "sys/devices/system/cpu/cpu0",
        "sys/block",
    ] {
        let path = daemon.path(below);
        let list = entries(&path);
        let mut names: Vec<&String> = list.iter().map(|(name, ..)| name).collect();
        names.sort();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count, "{below} lists an entry twice");
        for (name, kind, inode) in list.iter().filter(|(name, ..)| name != "." && name != "..") {
            let stat = fs::symlink_metadata(path.join(name))
                .unwrap_or_else(|error| panic!("{below}/{name}: {error}"));
            let real = match stat.file_type() {
                kind if kind.is_dir() => Type::Directory,
                kind if kind.is_symlink() => Type::Symlink,
                _ => Type::File,
            };
            assert_eq!((*kind, *inode), (real, stat.ino()), "{below}/{name}");
        }
    }
}

#[test]
fn inode_numbers_survive_a_restart() {
    let _turn = beside_others();
    let before = inodes(&Daemon::start(&[]));
    let after = inodes(&Daemon::start(&[]));
    assert!(before.len() > 12, "{before:?}");
    assert_eq!(before, after);
}

#[test]
fn the_cache_of_zfs_is_there_if_the_host_has_one_but_not_listed() {
    let _turn = beside_others();
    let daemon = Daemon::start(&[]);
    let proc = entries(&daemon.path("proc"));
    assert!(proc.iter().all(|(name, ..)| name != "spl"), "{proc:?}");
    let file = "proc/spl/kstat/zfs/arcstats";
    let has_zfs = Path::new("/").join(file).exists();
    assert_eq!(daemon.path(file).exists(), has_zfs);
    assert_eq!(daemon.path("proc/spl").exists(), has_zfs);
}

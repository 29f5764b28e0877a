//! Which containers are found by a name.

use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};

use crate::common::figures::keyed;
use crate::common::mounts::options_at;
use crate::common::{Daemon, beside_others, patience, unique, wait_for};
use crate::running::{attach, cell, lxcfs};

/// A cgroup called as LXC would, in one that may be another user's.
struct Named {
    outer: PathBuf,
    name: String,
}

impl Named {
    #[track_caller]
    fn new() -> Self {
        let tops = ["/sys/fs/cgroup/pids", "/sys/fs/cgroup"].map(Path::new);
        let top = tops.iter().find(|top| top.join("cgroup.procs").exists());
        let named = Self {
            outer: top.expect("cgroups").join(unique("delegated")),
            name: unique("web"),
        };
        fs::create_dir_all(named.inner()).expect("a cgroup");
        named
    }

    fn inner(&self) -> PathBuf {
        self.outer.join(format!("lxc.payload.{}", self.name))
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        for directory in [self.inner(), self.outer.clone()] {
            wait_for(patience(10), || fs::remove_dir(&directory).ok());
        }
    }
}

#[test]
fn a_name_that_another_user_could_give_is_not_believed() {
    let _turn = beside_others();
    let daemon = Daemon::start(&[]);
    let named = Named::new();
    let cell = cell("");
    fs::write(named.inner().join("cgroup.procs"), cell.init.to_string()).expect("joining");
    chown(&named.outer, Some(65534), None).expect("delegating");
    let ran = attach(&daemon, &named.name);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    let number = format!("process {}", cell.init);
    assert!(ran.err.contains(&number), "{ran:?}");
    assert!(options_at(cell.init, "/proc/meminfo").is_empty());
    chown(&named.outer, Some(0), None).expect("taking it back");
    attach(&daemon, &named.name).ok();
    assert!(!options_at(cell.init, "/proc/meminfo").is_empty());
}

#[test]
fn show_takes_the_name_of_a_container() {
    let _turn = beside_others();
    let dir = tempfile::tempdir().expect("a directory");
    let runtime_dir = dir.path().to_str().expect("ASCII");
    let daemon = Daemon::start(&["--runtime-dir", runtime_dir]);
    let named = Named::new();
    let cell = cell("");
    fs::write(named.inner().join("cgroup.procs"), cell.init.to_string()).expect("joining");
    attach(&daemon, &named.name).ok();
    let show = |name: &str| lxcfs(&["show", name, "meminfo", "--runtime-dir", runtime_dir]);
    let shown = show(&named.name);
    assert_eq!(shown.err, "");
    assert_eq!(keyed(&shown.ok())["MemTotal"], 64 << 10);
    let unknown = show(&format!("no-{}", named.name));
    assert_eq!(unknown.code, Some(1), "{unknown:?}");
    assert_eq!(unknown.err.lines().count(), 1, "{unknown:?}");
    assert!(unknown.err.contains(&named.name), "{unknown:?}");
}

//! More containers than files may be open.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use crate::common::daemon::binary;
use crate::common::figures::keyed;
use crate::common::{Cgroup, Daemon, beside_others, open_fds, patience, run_within};

const CONTAINERS: u64 = 100;
const MOST_FILES: usize = 256;

/// Removed when dropped.
struct Containers(Vec<Cgroup>);

impl Drop for Containers {
    fn drop(&mut self) {
        self.0.iter().for_each(Cgroup::remove);
    }
}

#[test]
fn with_more_containers_than_files_may_be_open_each_sees_its_own_limit() {
    let _turn = beside_others();
    let dir = tempfile::tempdir().expect("a directory");
    let program = dir.path().join("lxcfs");
    let script = format!(
        "#!/bin/sh\nulimit -n {MOST_FILES}\nexec {} \"$@\"\n",
        binary().display()
    );
    fs::write(&program, script).expect("writing a script");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("its mode");
    let daemon = Daemon::start_as(&program, &[]);
    let mut containers = Containers(Vec::new());
    for number in 1..=CONTAINERS {
        let cgroup = Cgroup::create();
        cgroup.set_memory_limit_bytes(number << 20);
        containers.0.push(cgroup);
    }
    for round in 0..2 {
        for (cgroup, number) in containers.0.iter().zip(1..) {
            let path = daemon.arg("proc/meminfo");
            let script = format!("{}exec cat '{path}'", cgroup.enter_script());
            let text = run_within(Command::new("sh").args(["-ec", &script]), patience(20)).ok();
            assert_eq!(keyed(&text)["MemTotal"], number << 10, "in round {round}");
        }
    }
    let most = daemon.processes().into_iter().map(open_fds).max();
    assert!(most.is_some_and(|most| most < MOST_FILES), "{most:?}");
}

//! A container that is just big, or wants to be in the way: another one hardly notices.

use std::time::Duration;

use lxcfs::host::kernel_is_since;

use crate::common::{Cgroup, Daemon, Limits, alone, skip, slowness};
use crate::reader::{Hammer, Reader};
use crate::stand::Stand;

/// Readers of the big one where there are thousands.
fn many() -> usize {
    6000 / slowness() as usize
}

#[test]
fn nobody_waits_for_the_threads_of_another_container_to_be_counted() {
    let _turn = alone();
    let mut stand = Stand::new();
    // Of two processes, as one may not have so many stacks.
    let idle = || Reader::idle(&stand.big, 10_000 / slowness() as usize);
    let _idle = [idle(), idle()];
    let _readers = [
        stand.hammer("proc/loadavg", 4),
        stand.hammer("proc/stat", 4),
    ];
    stand.assert_unharmed();
}

#[test]
fn nobody_queues_behind_6000_readers_and_the_server_lives() {
    if !kernel_is_since(6, 9) {
        skip!("a kernel before 6.9 cannot send requests again");
    }
    let _turn = alone();
    let mut stand = Stand::new();
    let _readers = stand.hammer("proc/stat", many());
    stand.assert_unharmed();
}

#[test]
fn nobody_queues_behind_threads_that_ask_for_something_else_than_to_read() {
    if !kernel_is_since(6, 9) {
        skip!("a kernel before 6.9 cannot send requests again");
    }
    let _turn = alone();
    for request in ["ioctl", "lookup"] {
        let mut stand = Stand::new();
        let (readers, time) = (
            3000 / slowness() as usize,
            Duration::from_secs(6) * slowness(),
        );
        let path = stand.path("proc/uptime");
        let _asking = Reader::ask(&stand.big, request, &path, Hammer { readers, time });
        stand.await_threads(readers);
        stand.assert_unharmed();
    }
}

#[test]
fn nobody_waits_for_files_of_another_container_that_take_long_to_make() {
    if std::env::var_os("LXCFS_BIN").is_some() {
        skip!("a release build has no files that take long");
    }
    if !kernel_is_since(6, 9) {
        skip!("a kernel before 6.9 cannot send requests again");
    }
    let _turn = alone();
    let fault = ("LXCFS_TEST_FAULT", "loadavg:delay=300");
    let mut stand = Stand::with(Daemon::start_with(&[], &[fault]), &Limits::default());
    let _readers = stand.hammer("proc/loadavg", 8);
    stand.assert_unharmed();
}

/// Cgroups below the big one's.
struct Nested(Vec<Cgroup>);

impl Nested {
    fn create(parent: &Cgroup, count: usize) -> Self {
        let child = |number| parent.child(&format!("nested-{number}"));
        Self((0..count).map(child).collect())
    }
}

impl Drop for Nested {
    fn drop(&mut self) {
        self.0.iter().for_each(Cgroup::remove);
    }
}

#[test]
fn nobody_waits_for_the_cgroups_of_another_container_to_be_counted() {
    let _turn = alone();
    let mut stand = Stand::new();
    let _nested = Nested::create(&stand.big.cgroup, 3000 / slowness() as usize);
    let _readers = [
        stand.hammer("proc/loadavg", 4),
        stand.hammer("proc/stat", 4),
    ];
    stand.assert_unharmed();
}

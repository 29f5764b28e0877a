//! What a container has mounted, and what it reads there.

use std::fs;
use std::path::PathBuf;

use super::figures::keyed;
use super::{Inside, Ran, patience, run_within, wait_for};

#[track_caller]
pub fn wait_until_it_sleeps(pid: i32) {
    let exe = PathBuf::from(format!("/proc/{pid}/exe"));
    let sleeps = wait_for(patience(10), || {
        fs::read_link(&exe)
            .is_ok_and(|exe| exe.ends_with("sleep"))
            .then_some(())
    });
    assert!(sleeps.is_some(), "the container did not start");
}

/// Reads a file as a process of the container, without any program of its image.
#[track_caller]
pub fn read(inside: &Inside, path: &str) -> Ran {
    let path = format!("/proc/{}/root{path}", inside.init);
    run_within(&mut inside.command(&["cat", &path]), patience(10))
}

/// `MemTotal` in MiB as the container reads it.
#[track_caller]
pub fn total_mib(inside: &Inside) -> u64 {
    keyed(&read(inside, "/proc/meminfo").ok())["MemTotal"] >> 10
}

/// The lines of mountinfo, with the numbers that show whether a mount is still the same.
pub fn mounts(pid: i32) -> Vec<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/mountinfo")).expect("mountinfo");
    text.lines().map(str::to_owned).collect()
}

/// Options of the mounts at a path, the topmost last.
pub fn options_at(pid: i32, path: &str) -> Vec<String> {
    let fields = |line: String| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let lines = mounts(pid).into_iter().map(fields);
    lines
        .filter(|line| line[4] == path)
        .map(|line| line[5].clone())
        .collect()
}

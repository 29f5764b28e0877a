//! What goes wrong is said once.

use std::fs;
use std::io;
use std::process::Command;

use nix::errno::Errno;

use crate::common::daemon::binary;
use crate::common::{Ran, patience, run_within};

/// Nobody can write to a cgroup.
const READ_ONLY_CGROUPS: &str = "grep -E ' cgroup2? ' /proc/mounts | cut -d ' ' -f 2 | \
    while read -r point; do mount -o remount,bind,ro $point; done; ";

/// What errors are called: by the standard library and by nix.
fn names_of(number: i32) -> [String; 2] {
    let text = io::Error::from_raw_os_error(number).to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    [text, Errno::from_raw(number).desc()].map(str::to_lowercase)
}

/// Panics if a line names an error twice, in whatever words.
#[track_caller]
fn assert_said_once(line: &str) {
    let lower = line.to_lowercase();
    assert!(lower.matches("os error").count() <= 1, "{line}");
    for number in 1..=133 {
        let [text, desc] = names_of(number);
        let further = if text == desc {
            0
        } else {
            lower.matches(&desc).count()
        };
        assert!(lower.matches(&text).count() + further <= 1, "{line}");
    }
}

#[test]
#[should_panic(expected = "a: ENOENT")]
fn an_error_in_the_words_of_two_libraries_counts_as_twice() {
    assert_said_once(
        "a: ENOENT: No such file or directory: No such file or directory (os error 2)",
    );
}

/// Runs the program in a mount namespace in which `prepare` has run.
fn lxcfs(prepare: &str, line: &str, dir: &str) -> Ran {
    let script = format!("{prepare}exec {} {line}", binary().display()).replace("DIR", dir);
    run_within(
        Command::new("unshare").args(["--mount", "sh", "-c", &script]),
        patience(20),
    )
}

#[test]
fn no_sentence_has_the_same_errno_twice() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().to_str().expect("ASCII");
    fs::create_dir(dir.path().join("mnt")).expect("a mountpoint");
    fs::write(dir.path().join("file"), "").expect("a file");
    for line in [
        "-p DIR/pid --config DIR/none DIR/mnt",
        "-p DIR/pid --config DIR DIR/mnt",
        "-p DIR/file/pid DIR/mnt",
        "-p DIR/mnt DIR/mnt",
        "-p DIR/pid DIR/none",
        "-p DIR/pid DIR/file",
        "-p DIR/pid --runtime-dir DIR/file DIR/none/mnt",
        "show no-such-process",
        "show 1 no-such-file",
        "show 999999999 meminfo",
        "show 1 meminfo --config DIR/none --runtime-dir DIR",
        "show 1 meminfo --config DIR --runtime-dir DIR",
        "show 1 meminfo --runtime-dir DIR/file",
        "run --rootfs DIR/none true",
        "run --rootfs DIR/file true",
        "run --views DIR/none true",
        "remount DIR/none",
        "prepare DIR/file/mnt",
        "prepare DIR/file",
        "attach no-such-container",
        "attach 1 --views DIR/none",
        "detach no-such-container",
        "generate man DIR/file",
        "hook create-runtime --views DIR/none",
        "hook precreate --views DIR/none",
        "runtime --runtime DIR/none --views DIR/none run",
    ] {
        let ran = lxcfs("", line, path);
        assert!(!ran.err.is_empty(), "{line}: {ran:?}");
        ran.err.lines().for_each(assert_said_once);
    }
    let ran = lxcfs(READ_ONLY_CGROUPS, "run -m 50m true", path);
    assert!(!ran.succeeded(), "{ran:?}");
    ran.err.lines().for_each(assert_said_once);
}

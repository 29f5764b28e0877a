//! What the scripts of a checkout say on a machine that lacks something.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::common::{Ran, patience, run_within, skip};

const SCRIPTS: [(&str, &str); 5] = [
    ("common.sh", include_str!("../../scripts/common.sh")),
    ("bench", include_str!("../../scripts/bench")),
    ("demo", include_str!("../../scripts/demo")),
    ("package", include_str!("../../scripts/package")),
    ("test", include_str!("../../scripts/test")),
];

/// A checkout and a home, with or without a Rust in it that says it has this version.
fn checkout(rust: Option<&str>) -> TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    let write = |path: &str, text: &str| {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().expect("a directory")).expect("a directory");
        fs::write(&path, text).expect("a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("permissions");
    };
    write("Cargo.toml", include_str!("../../Cargo.toml"));
    for (name, text) in SCRIPTS {
        write(&format!("scripts/{name}"), text);
    }
    if let Some(version) = rust {
        for tool in ["rustc", "cargo"] {
            let text = format!("#!/bin/sh\necho {tool} {version} '(of old)'\n");
            write(&format!(".cargo/bin/{tool}"), &text);
        }
    }
    dir
}

fn run_script(checkout: &TempDir, name: &str) -> Ran {
    let mut command = Command::new(checkout.path().join("scripts").join(name));
    command.env_clear().env("HOME", checkout.path());
    command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    run_within(&mut command, patience(20))
}

#[test]
fn without_a_rust_that_is_new_enough_scripts_say_the_one_command_that_gets_it() {
    if ["rustc", "cargo"]
        .iter()
        .any(|tool| Path::new("/usr/bin").join(tool).exists())
    {
        skip!("this machine has a Rust for all users");
    }
    for (rust, sentence) in [
        (None, "Rust 1.85 or newer is missing; this installs it:"),
        (
            Some("1.63.0"),
            "Rust 1.63.0 is too old, it takes 1.85; this installs a newer one:",
        ),
    ] {
        let checkout = checkout(rust);
        for (name, _) in SCRIPTS.iter().filter(|(name, _)| *name != "common.sh") {
            let ran = run_script(&checkout, name);
            assert_eq!(
                (ran.code, ran.out.as_str()),
                (Some(1), ""),
                "{name}: {ran:?}"
            );
            let [said, command] = ran.err.lines().collect::<Vec<_>>()[..] else {
                panic!("{name}: {ran:?}");
            };
            assert_eq!(said, format!("scripts/{name}: {sentence}"));
            assert!(
                command.ends_with(" apt-get install -y cargo")
                    || command.contains("https://sh.rustup.rs"),
                "{name}: {command}"
            );
        }
    }
}

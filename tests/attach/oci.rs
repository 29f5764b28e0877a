//! The hook and the runtime of lxcfs with bare runc.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::bundle::Bundle;
use crate::common::{Daemon, beside_others, has, patience, run, run_within, sh, skip, wait_for};
use crate::shown::{PRINT, Shown};
use crate::views::{Views, program};

/// When runtimes call the hook.
const STAGES: [&str; 2] = [CREATE_RUNTIME, "createContainer"];
const CREATE_RUNTIME: &str = "createRuntime";

/// A container that prints what it sees.
fn printing() -> Result<Bundle, String> {
    if !has("runc") {
        return Err("runc is not installed".to_owned());
    }
    Bundle::new(PRINT)
}

/// `lxcfs runtime` with the files at `views`.
fn wrapper<'a>(program: &'a str, views: &'a str) -> [&'a str; 6] {
    [program, "runtime", "--runtime", "runc", "--views", views]
}

#[test]
fn the_hook_attaches_all_and_leaves_hidden_what_is_masked() {
    let mut bundle = match printing() {
        Ok(bundle) => bundle,
        Err(why) => skip!("{why}"),
    };
    let _turn = beside_others();
    let views = Views::prepare();
    let _daemon = views.start();
    for stage in STAGES {
        bundle.add_hook(stage, &["--views", &views.arg()]);
        let seen = Shown::new(&bundle.run(&["runc"]).ok());
        seen.assert_own();
        seen.assert_rest(true);
        assert!(!seen.has("/proc/interrupts"), "{seen:?}");
    }

    bundle.add_hook(
        CREATE_RUNTIME,
        &["--views", &views.arg(), "--only", "mem,psi"],
    );
    let seen = Shown::new(&bundle.run(&["runc"]).ok());
    assert!(
        seen.has("/proc/meminfo") && !seen.has("/proc/stat"),
        "{seen:?}"
    );
}

#[test]
fn the_hook_leaves_alone_what_the_owner_has_mounted() {
    let mut bundle = match printing() {
        Ok(bundle) => bundle,
        Err(why) => skip!("{why}"),
    };
    let _turn = beside_others();
    let views = Views::prepare();
    let _daemon = views.start();
    let mounts = bundle.config["mounts"].as_array_mut().expect("an array");
    mounts.extend([
        json!({"destination": "/proc/uptime", "type": "bind", "source": "/proc/uptime", "options": ["bind", "ro"]}),
        json!({"destination": "/sys/devices/system/cpu/online", "type": "bind", "source": "/dev/null", "options": ["bind"]}),
    ]);
    for stage in STAGES {
        bundle.add_hook(stage, &["--views", &views.arg()]);
        let seen = Shown::new(&bundle.run(&["runc"]).ok());
        assert!(seen.has("/proc/meminfo"), "{seen:?}");
        assert!(!seen.has("/proc/uptime"), "{seen:?}");
        assert!(!seen.has("/sys/devices/system/cpu"), "{seen:?}");
    }
}

#[test]
fn the_hook_works_with_a_user_namespace_and_with_a_read_only_root_and_proc() {
    let mut bundle = match printing() {
        Ok(bundle) => bundle,
        Err(why) => skip!("{why}"),
    };
    let _turn = beside_others();
    let views = Views::prepare();
    let _daemon = views.start();
    bundle.config["root"]["readonly"] = json!(true);
    bundle.config["mounts"][0]["options"] = json!(["ro", "nosuid"]);
    for stage in STAGES {
        bundle.add_hook(stage, &["--views", &views.arg()]);
        let seen = Shown::new(&bundle.run(&["runc"]).ok());
        seen.assert_own();
        assert!(
            seen.has("/proc/pressure") || !Path::new("/proc/pressure").exists(),
            "{seen:?}"
        );
    }

    let mut bundle = printing().expect("a second one");
    bundle.map_users();
    run(Command::new("chown")
        .args(["-R", "100000:100000"])
        .arg(bundle.root()))
    .ok();
    run(Command::new("chmod").arg("711").arg(bundle.path())).ok();
    for stage in STAGES {
        bundle.add_hook(stage, &["--views", &views.arg(), "--strict"]);
        let seen = Shown::new(&bundle.run(&["runc"]).ok());
        seen.assert_own();
        seen.assert_rest(true);
    }
}

#[test]
fn the_runtime_adds_mounts_and_hook_and_keeps_what_is_there() {
    let mut bundle = match printing() {
        Ok(bundle) => bundle,
        Err(why) => skip!("{why}"),
    };
    let _turn = beside_others();
    let views = Views::prepare();
    let _daemon = views.start();
    let (own, place) = (program(), views.arg());
    let mine = bundle.path().join("mine");
    fs::write(&mine, "mine\n").expect("a file");
    let mounts = bundle.config["mounts"].as_array_mut().expect("an array");
    mounts.push(
        json!({"destination": "/proc/swaps", "type": "bind", "source": mine, "options": ["bind"]}),
    );
    bundle.config["process"]["args"][2] = json!(format!("{PRINT}; echo ==; cat /proc/swaps"));
    let text = bundle.run(&wrapper(&own, &place)).ok();
    let seen = Shown::new(&text);
    seen.assert_own();
    seen.assert_rest(true);
    assert!(text.ends_with("==\nmine\n"), "{text}");

    // What it does not understand is the runtime's to complain about. Without a system log our
    // own word stands beside that.
    bundle.config["mounts"] = json!({"no": "array"});
    let ran = bundle.run(&wrapper(&own, &place));
    let (ours, runtimes): (Vec<_>, Vec<_>) = ran
        .err
        .lines()
        .partition(|line| line.starts_with("lxcfs: "));
    assert!(!ran.succeeded() && !runtimes.is_empty(), "{ran:?}");
    assert_eq!(ours.is_empty(), Path::new("/dev/log").exists(), "{ran:?}");
    let left = fs::read_to_string(bundle.path().join("config.json")).expect("a configuration");
    assert_eq!(left, bundle.config.to_string());
}

/// What starts while there is no lxcfs, and what does not if it must not.
#[track_caller]
fn starts_unless_strict(bundle: &mut Bundle, views: &Views, sentence: &str) {
    let (own, place) = (program(), views.arg());
    let runtime = wrapper(&own, &place);
    let mut strict = runtime.to_vec();
    strict.push("--strict");
    bundle
        .config
        .as_object_mut()
        .expect("an object")
        .remove("hooks");
    let starts = |bundle: &Bundle, way: &[&str]| {
        let start = Instant::now();
        let ran = bundle.run(way);
        assert!(start.elapsed() < patience(50), "{:?}", start.elapsed());
        Shown::new(&ran.ok()).assert_without_views();
    };
    let starts_not = |bundle: &Bundle, way: &[&str]| {
        let ran = bundle.run(way);
        assert!(!ran.succeeded() && ran.err.contains(sentence), "{ran:?}");
    };
    starts(bundle, &runtime);
    starts_not(bundle, &strict);
    for stage in STAGES {
        bundle.add_hook(stage, &["--views", &place]);
        starts(bundle, &["runc"]);
        bundle.add_hook(stage, &["--views", &place, "--strict"]);
        starts_not(bundle, &["runc"]);
    }
}

#[test]
fn containers_start_while_lxcfs_is_stopped_dead_or_hanging_unless_they_must_not() {
    let mut bundle = match printing() {
        Ok(bundle) => bundle,
        Err(why) => skip!("{why}"),
    };
    let _turn = beside_others();
    let views = Views::prepare();
    let nothing = format!("no lxcfs is mounted at {}", views.arg());
    starts_unless_strict(&mut bundle, &views, &nothing);
    if Path::new("/run/systemd/journal/dev-log").exists() {
        let told = format!("starts without views: {nothing}");
        let journal = || sh("journalctl -o cat -t lxcfs").out;
        let found = wait_for(patience(10), || {
            (journal().matches(&told).count() == 3).then_some(())
        });
        assert!(found.is_some(), "the journal has: {}", journal());
    }

    let daemon = views.start();
    let signal_all = |daemon: &Daemon, signal| {
        for pid in daemon.processes() {
            kill(Pid::from_raw(pid), signal).expect("signalling");
        }
    };
    signal_all(&daemon, Signal::SIGSTOP);
    let hangs = format!("the lxcfs at {} does not answer", views.arg());
    starts_unless_strict(&mut bundle, &views, &hangs);
    signal_all(&daemon, Signal::SIGCONT);
    drop(daemon);

    let mut daemon = views.start();
    daemon.kill_all();
    let dead = format!("the lxcfs at {} is dead", views.arg());
    starts_unless_strict(&mut bundle, &views, &dead);
}

#[test]
fn an_image_with_links_in_proc_and_sys_gets_nothing_mounted_elsewhere() {
    let mut bundle = match printing() {
        Ok(bundle) => bundle,
        Err(why) => skip!("{why}"),
    };
    let _turn = beside_others();
    let views = Views::prepare();
    let _daemon = views.start();
    // The host's own files are what would be mounted over.
    let up = "../".repeat(bundle.root().components().count());
    let root = bundle.root();
    for name in ["proc", "sys"] {
        fs::remove_dir(root.join(name)).expect("an empty directory");
    }
    symlink(format!("{up}proc"), root.join("proc")).expect("a link");
    fs::create_dir(root.join("sys")).expect("a directory");
    symlink("/sys/block", root.join("sys/block")).expect("a link");
    symlink(format!("{up}../sys/devices"), root.join("sys/devices")).expect("a link");
    bundle.config["mounts"] = json!([]);
    fs::write(bundle.path().join("config.json"), bundle.config.to_string()).expect("a file");
    let state =
        json!({"ociVersion": "1.0.2", "id": "c", "status": "creating", "bundle": bundle.path()});
    fs::write(bundle.path().join("state"), state.to_string()).expect("a file");
    // In a mount namespace like that of a container before its root is changed.
    let script = format!(
        "'{}' hook create-container --views '{}' --strict < '{}' && cat /proc/self/mountinfo",
        program(),
        views.arg(),
        bundle.path().join("state").display()
    );
    let mounts_after = |script: &str| {
        let mut unshare = Command::new("unshare");
        unshare.args(["--mount", "--propagation", "private", "sh", "-c", script]);
        let text = run_within(&mut unshare, patience(30)).ok();
        let is_attached = |line: &&str| {
            let over = line.split(' ').nth(4).unwrap_or_default();
            over.starts_with("/proc/")
                || over.starts_with("/sys/")
                || over.starts_with(bundle.path().to_str().expect("ASCII"))
        };
        text.lines()
            .filter(|line| line.contains(" - fuse.lxcfs "))
            .filter(is_attached)
            .count()
    };
    assert_eq!(mounts_after(&script), 0);
    // The same without links is mounted over, so that nothing but the links was in the way.
    fs::remove_file(root.join("proc")).expect("removing");
    fs::create_dir(root.join("proc")).expect("a directory");
    let with_proc = format!(
        "mount -t proc proc '{}' && {script}",
        root.join("proc").display()
    );
    assert!(mounts_after(&with_proc) > 8);
}

#[test]
fn input_that_is_not_understood_stops_no_container() {
    let _turn = beside_others();
    let views = Views::prepare();
    let _daemon = views.start();
    let hook = |input: &str, rest: &str| {
        let (own, place) = (program(), views.arg());
        sh(&format!(
            "printf '%s' '{input}' | '{own}' hook {rest} --views '{place}'"
        ))
    };
    for input in ["", "{", "[]", r#"{"mounts":7,"x":1}"#] {
        let ran = hook(input, "precreate");
        assert_eq!((ran.code, ran.out.as_str()), (Some(0), input));
        let told = "lxcfs: a container starts without views: ";
        assert!(
            ran.err.starts_with(told) && ran.err.lines().count() == 1,
            "{ran:?}"
        );
        assert_eq!(hook(input, "precreate --strict").code, Some(1));

        let sentence = format!("{told}standard input has no state of an OCI container");
        for command in ["create-runtime", "create-container"] {
            let ran = hook(input, command);
            assert!(ran.succeeded() && ran.err.starts_with(&sentence), "{ran:?}");
            assert_eq!(hook(input, &format!("{command} --strict")).code, Some(1));
        }
    }
    let dir = tempfile::tempdir().expect("a directory");
    fs::write(dir.path().join("config.json"), r#"{"root":{"path":"/"}}"#).expect("a file");
    for (pid, part) in [
        ("null".to_owned(), "names no process"),
        (i32::MAX.to_string(), "cannot enter the mount namespace"),
        ("-1".to_owned(), "cannot enter the mount namespace"),
        // As of a container without a mount namespace.
        (
            std::process::id().to_string(),
            "has no mount namespace of its own",
        ),
    ] {
        let bundle = dir.path().display();
        let state = format!(r#"{{"id":"web","bundle":"{bundle}","pid":{pid}}}"#);
        let ran = hook(&state, "create-runtime");
        assert!(ran.succeeded() && ran.err.contains(part), "{ran:?}");
    }
    let state = r#"{"id":"web","bundle":"/nowhere"}"#;
    let ran = hook(state, "create-container");
    let sentence = "lxcfs: container web starts without views: cannot read /nowhere/config.json: ";
    assert!(ran.succeeded() && ran.err.starts_with(sentence), "{ran:?}");
}

#[test]
fn the_wrapper_passes_everything_else_on_and_never_starts_itself() {
    if !has("runc") {
        skip!("runc is not installed");
    }
    let own = program();
    let ran = run(Command::new(&own).args(["runtime", "--version"])).ok();
    assert!(ran.starts_with("runc version"), "{ran}");
    let ran = run(Command::new(&own).args(["runtime", "--", "state", "no-such-container"]));
    assert!(
        ran.code == Some(1) && ran.err.contains("does not exist"),
        "{ran:?}"
    );

    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().to_str().expect("ASCII").to_owned();
    symlink(&own, dir.path().join("runc")).expect("a link");
    let with_path = |path: &str| {
        let mut command = Command::new(&own);
        run(command.env("PATH", path).args(["runtime", "--version"]))
    };
    let ran = with_path(&format!("{path}:/usr/sbin:/usr/bin"));
    assert!(ran.out.starts_with("runc version"), "{ran:?}");
    let ran = with_path(&path);
    assert_eq!(
        ran.err,
        "lxcfs: neither runc nor crun is there; install one or name a --runtime\n"
    );

    fs::remove_file(dir.path().join("runc")).expect("removing");
    fs::write(
        dir.path().join("runc"),
        format!("#!/bin/sh\nexec '{own}' runtime \"$@\"\n"),
    )
    .expect("a script");
    run(Command::new("chmod")
        .arg("755")
        .arg(dir.path().join("runc")))
    .ok();
    let ran = with_path(&format!("{path}:/usr/bin:/bin"));
    assert!(
        ran.code == Some(1) && ran.err.contains("starts lxcfs again"),
        "{ran:?}"
    );
}

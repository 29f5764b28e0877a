//! What works in a container without the views works with them, whoever brings them there.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::bundle::Bundle;
use crate::common::daemon::binary;
use crate::common::docker::{Image, options};
use crate::common::{beside_others, patience, run_within, skip};
use crate::docker::Stand;
use crate::formats::{printed, stopped};
use crate::lxc::{self, Setup, USERNS};
use crate::running::{attach, lxcfs, own_mounts};
use crate::views::Views;

/// What programs do in a container that run containers, sandboxes and builds. Without single quotes.
const HABITS: &[(&str, &str)] = &[
    ("proc", "unshare -Urmpf --mount-proc true"),
    (
        "proc, two levels",
        "unshare -Urmpf --mount-proc unshare -Urmpf --mount-proc true",
    ),
    (SYSFS, "unshare -Urmnpf mount -t sysfs -o ro s /tmp"),
    // Engines without root, buildkit.
    (
        "a root with proc",
        "unshare -Urmpf sh -ec \"$NEW_ROOT; mount -t proc p proc; $CHANGE; cat /proc/self/stat\"",
    ),
    (
        "proc below a root with the outer proc",
        "unshare -Urmpf sh -ec \"$NEW_ROOT; $CHANGE; unshare -Urmpf --mount-proc true\"",
    ),
    // systemd, for what protects services.
    (
        "proc bound read-only",
        "unshare -Urm sh -ec \"mount -o rbind /proc /tmp; mount -o remount,bind,ro /tmp\"",
    ),
    (
        "bubblewrap",
        "bwrap --unshare-all --ro-bind / / --proc /proc --dev /dev true",
    ),
    (
        "bubblewrap, two levels",
        "bwrap --unshare-all --ro-bind / / --proc /proc --dev /dev unshare -Urmpf --mount-proc true",
    ),
];

/// The one that needs a whole `/sys` in the container.
pub const SYSFS: &str = "sysfs";

/// What works, by habit.
pub type Works = BTreeMap<String, bool>;

pub fn script() -> String {
    let each = HABITS.iter().map(|(name, script)| {
        format!("if ({script}) >/dev/null 2>&1; then echo \"{name}: yes\"; else echo \"{name}: no\"; fi; ")
    });
    let steps = "export PATH=/bin:/usr/bin:/usr/sbin:$PATH; export NEW_ROOT=\"mount -t tmpfs t /tmp; mkdir /tmp/r; mount -o rbind / /tmp/r; cd /tmp/r\"; \
        export CHANGE=\"pivot_root . .; umount -l .\"; ";
    format!("{steps}{}echo == end", each.collect::<String>())
}

#[track_caller]
pub fn works(text: &str) -> Works {
    let lines = text.lines().filter_map(|line| line.trim().split_once(": "));
    let works: Works = lines
        .map(|(name, said)| (name.to_owned(), said == "yes"))
        .collect();
    assert_eq!(works.len(), HABITS.len(), "{text}");
    works
}

/// What worked before works.
#[track_caller]
pub fn assert_no_worse(with: &Works, without: &Works, way: &str) {
    assert_no_worse_but(&[], with, without, way);
}

/// The same, but for these habits.
#[track_caller]
pub fn assert_no_worse_but(excepted: &[&str], with: &Works, without: &Works, way: &str) {
    let is_lost = |habit: &&String| without[*habit] && !with[*habit];
    let mut lost = without.keys().filter(is_lost);
    assert!(
        lost.all(|habit| excepted.contains(&habit.as_str())),
        "{way}\n   with: {with:?}\nwithout: {without:?}"
    );
}

/// The host's programs, for containers with a small root file system.
pub const PROGRAMS: [&str; 3] = ["/usr", "/lib", "/lib64"];

/// How much the engine covers of /proc and /sys, and how that is said.
const COVERED: [(&str, bool); 2] = [("", true), ("--security-opt systempaths=unconfined", false)];

#[test]
fn containers_in_a_docker_container_are_as_possible_as_without_the_views() {
    let (stand, _docker) = match Stand::get() {
        Ok(stand) => stand,
        Err(why) => skip!("{why}"),
    };
    let _turn = beside_others();
    let daemon = stand.views.start();
    stand.specify(&[]);
    let volumes = PROGRAMS
        .map(|path| format!("-v {path}:{path}:ro "))
        .concat();
    let usual = format!("--security-opt seccomp=unconfined {volumes}");
    let mounts = printed("docker", daemon.point(), &[]);
    for (cover, is_covered) in COVERED {
        let by = |line: &str| {
            works(
                &stand
                    .run(&format!("{usual} {cover} {line}"), &script())
                    .ok(),
            )
        };
        let without = by("--runtime runc");
        assert_eq!(without["proc"], !is_covered, "{without:?}");
        let is_right = |with: &Works, way: &str| {
            assert_no_worse(with, &without, way);
            // What the engine covers stays covered.
            assert!(!is_covered || *with == without, "{way}: {with:?}");
        };
        is_right(&by("--runtime lxcfs"), "the runtime");
        if stand.has_cdi {
            is_right(
                &by("--runtime runc --device lxcfs.rs/view=all"),
                "the CDI device",
            );
        }
        // Nobody is there who could add a mount.
        assert!(!by(&format!("--runtime runc {mounts}"))["proc"]);

        let line = format!("{usual} {cover} --runtime runc -m 50m");
        let container = stand.docker.container(Image::Busybox, &options(&line));
        let inside = container.inside();
        let before = own_mounts(inside.init);
        attach(&daemon, &inside.init.to_string()).ok();
        let attached = own_mounts(inside.init);
        attach(&daemon, &inside.init.to_string()).ok();
        assert_eq!(own_mounts(inside.init), attached, "mounts pile up");
        is_right(&works(&container.exec_sh(&script()).ok()), "attach");
        lxcfs(&["detach", &inside.init.to_string()]).ok();
        assert_eq!(own_mounts(inside.init), before);
    }
}

#[test]
fn containers_in_a_bare_container_are_as_possible_as_without_the_hook() {
    let _turn = beside_others();
    let views = Views::prepare();
    let _daemon = views.start();
    for has_own_users in [false, true] {
        let mut bundle = match Bundle::new(&script()) {
            Ok(bundle) => bundle,
            Err(why) => skip!("{why}"),
        };
        let mounts = bundle.config["mounts"].as_array_mut().expect("an array");
        mounts.extend(PROGRAMS.map(|path| json!({"destination": path, "source": path, "type": "bind", "options": ["rbind", "ro"]})));
        // The kernel wants it of root for mapping root.
        let capability = json!(["CAP_SETFCAP"]);
        bundle.config["process"]["capabilities"] =
            json!({"bounding": capability, "effective": capability, "permitted": capability});
        for path in PROGRAMS {
            fs::create_dir_all(bundle.root().join(&path[1..])).expect("a directory");
        }
        if has_own_users {
            bundle.map_users();
        }
        for masked in [
            json!(["/proc/interrupts"]),
            json!([]),
            json!(["/proc/none", "/proc/sys/fs/binfmt_misc"]),
        ] {
            bundle.config["linux"]["maskedPaths"] = masked.clone();
            bundle.config["hooks"] = json!({});
            let without = works(&bundle.run(&["runc"]).ok());
            assert_eq!(
                without["proc"],
                masked[0] != "/proc/interrupts",
                "{without:?}"
            );
            for stage in ["createRuntime", "createContainer"] {
                bundle.add_hook(stage, &["--views", &views.arg()]);
                let with = works(&bundle.run(&["runc"]).ok());
                assert_no_worse(&with, &without, stage);
                assert_eq!(with["proc"], without["proc"], "{stage}, {masked}");
            }
        }
    }
}

#[test]
fn containers_in_an_lxc_container_are_as_possible_as_without_the_hook() {
    if let Some(why) = lxc::obstacle() {
        skip!("{why}");
    }
    let _turn = beside_others();
    let views = Views::prepare();
    let daemon = views.start();
    let stopped = stopped();
    let users = format!(
        "lxc.include = {USERNS}\nlxc.idmap = u 0 100000 65536\nlxc.idmap = g 0 100000 65536"
    );
    let entries = PROGRAMS.map(|path| {
        format!(
            "lxc.mount.entry = {path} {} none rbind,ro,create=dir 0 0\n",
            &path[1..]
        )
    });
    let own = "lxc.mount.auto =\nlxc.mount.auto = proc:rw sys:rw\n";
    for (config, prepare) in [
        ("", ":"),
        (own, ":"),
        (users.as_str(), "chown -R 100000:100000 \"$1\""),
    ] {
        let setup = Setup {
            config: format!("{config}\n{}", entries.concat()),
            prepare,
            starts_system: false,
        };
        let with = |views: &Path| {
            let script = format!("grep -c lxcfs /proc/mounts >&2; {}", script());
            works(&lxc::run(views, &setup, &script))
        };
        let without = with(stopped.path());
        assert_eq!(without["proc"], config == own, "{without:?}");
        assert_no_worse(&with(daemon.point()), &without, config);
    }
}

#[test]
fn containers_in_a_container_of_lxcfs_run_are_as_possible_as_anywhere() {
    let _turn = beside_others();
    let views = Views::prepare();
    let _daemon = views.start();
    let script = script();
    let mut plain = Command::new("unshare");
    plain.args([
        "--mount",
        "--pid",
        "--fork",
        "--mount-proc",
        "sh",
        "-c",
        &script,
    ]);
    let without = works(&run_within(&mut plain, patience(30)).ok());
    assert!(without["proc"] && without["sysfs"], "{without:?}");
    let mut command = Command::new(binary());
    command.args(["run", "--views", &views.arg(), "--", "sh", "-c", &script]);
    let with = works(&run_within(&mut command, patience(30)).ok());
    assert_no_worse(&with, &without, "lxcfs run");
}

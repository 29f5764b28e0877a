//! What works in a container without the views works with them: podman, pods of containerd, systemd-nspawn.

use crate::common::{Daemon, beside_others, skip};
use crate::cri::{ContainerSpec, Containerd, PodSpec};
use crate::formats::printed;
use crate::habits::{PROGRAMS, SYSFS, assert_no_worse, assert_no_worse_but, script, works};
use crate::nri::SMALL;
use crate::nspawn;
use crate::podman::{DROP_IN, Stand};

#[test]
fn containers_in_a_podman_container_are_as_possible_as_without_the_views() {
    let stand = match Stand::new("crun") {
        Ok(stand) => stand,
        Err(why) => skip!("{why}"),
    };
    let _turn = beside_others();
    let _daemon = stand.views.start();
    let volumes = PROGRAMS.map(|path| format!("-v {path}:{path}:ro "));
    let usual = format!(
        "{} --security-opt seccomp=unconfined --security-opt unmask=ALL",
        volumes.concat()
    );
    let by = |global: &str, line: &str| {
        works(
            &stand
                .run(global, &format!("{usual} {line}"), &script())
                .ok(),
        )
    };
    let without = by("", "");
    assert!(without["proc"], "{without:?}");
    assert_no_worse(
        &by("", "--device lxcfs.rs/view=all"),
        &without,
        "the CDI device",
    );
    stand.configure(DROP_IN);
    assert_no_worse(&by(&stand.hook(""), ""), &without, "the drop-in");
}

/// Kubernetes masks nothing where `procMount` is `Unmasked`, which is what the CRI makes of no list at all.
pub fn containers_in_a_pod_are_as_possible_as_without_the_plugin(containerd: &Containerd) {
    let pod = containerd.pod(&PodSpec {
        namespace: "shop",
        annotations: &[("lxcfs.rs/view.without", "false")],
        ..PodSpec::default()
    });
    let mounts = PROGRAMS.map(|path| (path, path, false));
    let by = |name: &str| {
        let container = pod.container(&ContainerSpec {
            name,
            mounts: &mounts,
            ..SMALL
        });
        works(&container.sh(&script()))
    };
    let without = by("without");
    assert!(without["proc"], "{without:?}");
    assert_no_worse(&by("main"), &without, "the NRI plugin");
}

#[test]
fn containers_in_an_nspawn_container_are_as_possible_as_without_the_views_but_for_sysfs() {
    if let Some(why) = nspawn::obstacle() {
        skip!("{why}");
    }
    let _turn = beside_others();
    let daemon = Daemon::start(&[]);
    let views = printed("nspawn", daemon.point(), &[]);
    let programs = PROGRAMS.map(|path| format!("--bind-ro={path} "));
    for users in ["", "--private-users=pick"] {
        let by = |views: &str| {
            let arguments = format!("{users} {} {views}", programs.concat());
            works(&nspawn::run_script(&arguments, "", &script()).ok())
        };
        // With printed mounts nobody adds a `/sys` that is whole (docs/INTEGRATION.md, "Containers in a container").
        assert_no_worse_but(&[SYSFS], &by(&views), &by(""), users);
    }
}

//! Real engines in containers, with root and without: what they run and build with the views is what they do without.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::common::{Ran, beside_others, has, skip};
use crate::docker::Stand;
use crate::habits::PROGRAMS;
use crate::podman;

const SCRIPTS: [(&str, &str); 6] = [
    ("build.py", include_str!("build.py")),
    ("cgroups.sh", include_str!("cgroups.sh")),
    ("docker.sh", include_str!("docker.sh")),
    ("podman.sh", include_str!("podman.sh")),
    ("rootless.sh", include_str!("rootless.sh")),
    ("said.sh", include_str!("said.sh")),
];

/// The options by which a container of Docker or podman has the host's programs and the scripts.
pub fn volumes(dir: &Path) -> String {
    for (name, text) in SCRIPTS {
        let path = dir.join(name);
        fs::write(&path, text).expect("a script");
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("a mode");
    }
    let programs = PROGRAMS.map(|path| format!("-v {path}:{path}:ro "));
    format!("{}-v {}:/inside:ro", programs.concat(), dir.display())
}

/// What `engine` does in a container, with root in it and without, as the last of these.
pub fn script(engine: &str) -> String {
    format!(
        "export PATH=/bin:/usr/bin:/usr/sbin; sh /inside/cgroups.sh; sh /inside/rootless.sh sh /inside/{engine}.sh rootless; \
         sh /inside/{engine}.sh root"
    )
}

/// What worked, by name.
#[track_caller]
fn works(ran: &Ran) -> BTreeMap<String, bool> {
    let lines = ran.out.lines().filter_map(|line| line.split_once(": "));
    lines
        .map(|(name, said)| (name.to_owned(), said.trim() == "yes"))
        .collect()
}

/// All works without the views, and with them.
#[track_caller]
pub fn assert_same(with: &Ran, without: &Ran, way: &str) {
    let works = (works(with), works(without));
    assert!(!works.1.is_empty(), "{way}: {without:?}");
    assert!(works.1.values().all(|works| *works), "{way}: {without:?}");
    assert_eq!(works.0, works.1, "{way}: {with:?}");
}

#[test]
fn docker_and_buildkit_in_a_docker_container_work_with_the_views() {
    let (stand, _docker) = match Stand::get() {
        Ok(stand) => stand,
        Err(why) => skip!("{why}"),
    };
    if !has("python3") {
        skip!("python3 is not installed");
    }
    let _turn = beside_others();
    let _daemon = stand.views.start();
    let scripts = tempfile::tempdir().expect("a directory");
    let usual = format!(
        "{} -m 512m --cap-add SYS_ADMIN --cap-add NET_ADMIN --cap-add SYS_PTRACE --cgroupns private \
         --security-opt seccomp=unconfined --security-opt apparmor=unconfined --security-opt systempaths=unconfined --tmpfs /tmp:exec --tmpfs /run",
        volumes(scripts.path())
    );
    let by = |runtime: &str| stand.run(&format!("{usual} --runtime {runtime}"), &script("docker"));
    assert_same(&by("lxcfs"), &by("runc"), "the runtime");
}

#[test]
fn podman_in_containers_works_with_the_views() {
    let stand = match podman::Stand::new("crun") {
        Ok(stand) => stand,
        Err(why) => skip!("{why}"),
    };
    let _turn = beside_others();
    let _daemon = stand.views.start();
    let scripts = tempfile::tempdir().expect("a directory");
    let usual = format!(
        "{} -m 512m --privileged --security-opt unmask=ALL --tmpfs /tmp:exec --tmpfs /run",
        volumes(scripts.path())
    );
    let by = |line: &str| stand.run("", &format!("{usual} {line}"), &script("podman"));
    assert_same(&by("--device lxcfs.rs/view=all"), &by(""), "in podman");

    let (stand, _docker) = match Stand::get() {
        Ok(stand) => stand,
        Err(why) => skip!("{why}"),
    };
    let _daemon = stand.views.start();
    let usual = format!(
        "{} -m 512m --privileged --tmpfs /tmp:exec --tmpfs /run",
        volumes(scripts.path())
    );
    let by = |runtime: &str| stand.run(&format!("{usual} --runtime {runtime}"), &script("podman"));
    assert_same(&by("lxcfs"), &by("runc"), "in Docker");
}

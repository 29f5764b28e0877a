//! What `lxcfs mounts` prints, given to the programs that it is printed for.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::common::cgroup::cgroup_version;
use crate::common::daemon::binary;
use crate::common::docker::{Docker, Image, options};
use crate::common::{
    Daemon, Ran, beside_others, has, images, patience, run, run_within, skip, unique,
};
use crate::lxc;
use crate::shown::{PRINT, Shown, add_free};

/// `lxcfs mounts` for the views at a directory.
#[track_caller]
fn mounts(format: &str, views: &Path, further: &[&str]) -> Ran {
    let mut command = Command::new(binary());
    command.args(["mounts", "--format", format, "--views"]);
    run(command.arg(views).args(further))
}

/// What it prints.
#[track_caller]
pub fn printed(format: &str, views: &Path, further: &[&str]) -> String {
    mounts(format, views, further).ok()
}

/// A directory as the service leaves it when it is stopped.
#[track_caller]
pub fn stopped() -> tempfile::TempDir {
    let views = tempfile::tempdir().expect("a directory");
    run(Command::new(binary()).arg("prepare").arg(views.path())).ok();
    views
}

#[test]
fn docker_starts_containers_with_the_printed_arguments() {
    let docker =
        match Docker::get().and_then(|docker| docker.prepare(Image::Busybox).map(|()| docker)) {
            Ok(docker) => docker,
            Err(why) => skip!("{why}"),
        };
    let _turn = beside_others();
    let daemon = Daemon::start(&[]);
    let start = |views: &Path| {
        // With the host's own free.
        let limits = "-m 50m --cpuset-cpus 0 -v /usr:/usr:ro -v /lib:/lib:ro -v /lib64:/lib64:ro ";
        let printed = printed("docker", views, &[]);
        let container = docker.container(Image::Busybox, &options(&(limits.to_owned() + &printed)));
        Shown::new(&container.exec_sh(PRINT).out)
    };
    let shown = start(daemon.point());
    shown.assert_limited();
    assert!(
        shown.options("/proc/meminfo").starts_with("ro,"),
        "{shown:?}"
    );
    start(stopped().path()).assert_without_views();
}

/// crun has no list of what may be mounted.
#[test]
fn podman_with_crun_takes_all_that_can_be_printed() {
    if !has("podman") || !has("crun") {
        skip!("podman and crun are not installed");
    }
    if cgroup_version() == 1 {
        skip!("crun does not start containers on this layout of cgroups");
    }
    let _turn = beside_others();
    let dir = tempfile::tempdir().expect("a directory");
    let root = dir.path().join("root");
    fs::create_dir(&root).expect("a directory");
    if let Err(why) = images::make_busybox(&root) {
        skip!("{why}");
    }
    add_free(&root);
    let daemon = Daemon::start(&[]);
    let start = |views: &Path, script: &str| {
        let mut podman = Command::new("podman");
        for (option, place) in [("--root", "graph"), ("--runroot", "run")] {
            podman.arg(option).arg(dir.path().join(place));
        }
        podman.args(options(
            "--storage-driver vfs --runtime crun run --rm --network none -m 50m --cpuset-cpus 0",
        ));
        podman.args(options(&printed("podman", views, &["--all"])));
        podman
            .args(["--name", &unique("podman"), "--rootfs"])
            .arg(&root);
        Shown::new(&run_within(podman.args(["sh", "-c", script]), patience(60)).ok())
    };
    // A trigger of pressure is set up by writing.
    let trigger =
        format!("echo \"some 500000 2000000\" >/proc/pressure/cpu && echo == triggered; {PRINT}");
    let shown = start(daemon.point(), &trigger);
    shown.assert_limited();
    shown.assert_own_pressure();
    shown.part("triggered");
    start(stopped().path(), PRINT).assert_without_views();
}

#[test]
fn lxc_takes_the_printed_lines() {
    if let Some(why) = lxc::obstacle() {
        skip!("{why}");
    }
    let _turn = beside_others();
    let daemon = Daemon::start(&[]);
    let start = |views: &Path| {
        let setup = lxc::Setup {
            config: printed("lxc", views, &[]),
            ..lxc::Setup::default()
        };
        // Nothing is where the hook looks.
        let nothing = tempfile::tempdir().expect("a directory");
        Shown::new(&lxc::run(nothing.path(), &setup, PRINT))
    };
    let shown = start(daemon.point());
    shown.assert_limited();
    shown.assert_own_pressure();
    // LXC mounts nothing over links, as those in /sys/block are.
    for place in ["/sys/devices/system/node", "/sys/block/vda"] {
        if let Ok(place) = Path::new(place).canonicalize() {
            let place = place.to_str().expect("ASCII");
            assert!(shown.attached().contains(place), "{place}: {shown:?}");
        }
    }
    start(stopped().path()).assert_without_views();
    // Not even the links are there.
    start(Path::new("/nowhere")).assert_without_views();
}

/// A bundle in `dir` whose config.json has the printed mounts.
fn make_bundle(dir: &Path, mounts: &str) {
    let config = format!(
        r#"{{"ociVersion":"1.0.2","root":{{"path":"root"}},
        "process":{{"cwd":"/","env":["PATH=/bin"],"user":{{"uid":0,"gid":0}},"args":["sh","/print"]}},
        "mounts":[{{"destination":"/proc","type":"proc","source":"proc"}},
            {{"destination":"/dev","type":"tmpfs","source":"tmpfs"}},
            {{"destination":"/sys","type":"sysfs","source":"sysfs","options":["nosuid","noexec","nodev","ro"]}},
            {}],
        "linux":{{"cgroupsPath":"/{}","resources":{{"memory":{{"limit":{}}},"cpu":{{"cpus":"0"}}}},
            "namespaces":[{{"type":"pid"}},{{"type":"mount"}},{{"type":"network"}}]}}}}"#,
        mounts.trim().trim_start_matches('[').trim_end_matches(']'),
        unique("oci"),
        50 << 20
    );
    fs::write(dir.join("config.json"), config).expect("a configuration");
}

#[test]
fn runc_takes_the_printed_mounts() {
    if !has("runc") {
        skip!("runc is not installed");
    }
    let _turn = beside_others();
    let bundle = tempfile::tempdir().expect("a directory");
    let root = bundle.path().join("root");
    fs::create_dir(&root).expect("a directory");
    if let Err(why) = images::make_busybox(&root) {
        skip!("{why}");
    }
    add_free(&root);
    fs::write(root.join("print"), PRINT).expect("a script");
    let daemon = Daemon::start(&[]);
    let start = |views: &Path, further: &[&str]| {
        make_bundle(bundle.path(), &printed("oci", views, further));
        let mut runc = Command::new("runc");
        runc.args(["run", "--bundle"]).arg(bundle.path());
        run_within(runc.arg(unique("runc")), patience(60))
    };
    Shown::new(&start(daemon.point(), &[]).ok()).assert_limited();
    Shown::new(&start(stopped().path(), &[]).ok()).assert_without_views();
    let refused = start(daemon.point(), &["--all"]);
    assert!(
        !refused.succeeded(),
        "--all would not be needed: {refused:?}"
    );
}

#[test]
fn what_cannot_be_printed_is_said_in_a_sentence() {
    let _turn = beside_others();
    let usual = Path::new("/var/lib/lxcfs");
    let mut refusals = vec![
        mounts("docker", Path::new("/two words"), &[]),
        mounts("lxc", Path::new("/new\nline"), &[]),
        mounts("oci", Path::new("/*"), &[]),
    ];
    if Path::new("/proc/pressure").exists() {
        refusals.push(mounts("docker", usual, &["--only", "psi"]));
    }
    for refused in refusals {
        assert_eq!(refused.code, Some(1), "{refused:?}");
        assert_eq!(refused.out, "", "{refused:?}");
        assert_eq!(refused.err.lines().count(), 1, "{refused:?}");
    }
    assert_eq!(mounts("rkt", usual, &[]).code, Some(2));
    let memory = printed("docker", usual, &["--only", "mem"]);
    assert!(memory.contains("target=/proc/meminfo,"), "{memory}");
    assert!(!memory.contains("/proc/stat"), "{memory}");
}

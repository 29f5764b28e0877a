//! What is said of made-up engines.

use super::gather::{
    asks_by_annotation, containerd_has_nri, crio_has_nri, mentions_lxcfs, of_docker,
};
use super::*;
use crate::doctor::Verdict;
use crate::doctor::words::tests::words;
use std::fs;

fn said(facts: &Facts) -> Vec<(Verdict, String)> {
    let lines = lines(facts, &words(true)).into_iter();
    lines
        .map(|line| (line.verdict, line.command.unwrap_or(line.text)))
        .collect()
}

#[track_caller]
fn assert_says(facts: &Facts, verdict: Verdict, part: &str) {
    let said = said(facts);
    let is_such = |(known, text): &(Verdict, String)| *known == verdict && text.contains(part);
    assert!(said.iter().any(is_such), "{part}: {said:?}");
}

#[test]
fn without_engines_there_is_nothing_to_say() {
    assert_eq!(
        said(&Facts::default()),
        [(Verdict::Ok, "none is installed".to_owned())]
    );
}

#[test]
fn docker_takes_devices_or_arguments_or_a_runtime() {
    let facts = |info: &str| Facts {
        docker: Some(of_docker(info)),
        ..Facts::default()
    };
    let mut cdi = facts(
        r#"{"ServerVersion":"28.3.0","CDISpecDirs":["/etc/cdi"],"DefaultRuntime":"runc","Runtimes":{"runc":{"path":"runc"}}}"#,
    );
    assert_says(
        &cdi,
        Verdict::Note,
        "mkdir -p /etc/cdi && lxcfs cdi > /etc/cdi/lxcfs.json",
    );
    assert_says(&cdi, Verdict::Note, "once it is known");
    cdi.specification = Specification::Current("/etc/cdi/lxcfs.json".into());
    assert_says(&cdi, Verdict::Ok, "--device lxcfs.rs/view=all");
    let off = facts(r#"{"ServerVersion":"26.1.5","CDISpecDirs":[]}"#);
    assert_says(&off, Verdict::Note, "lxcfs mounts --format docker");
    assert_eq!(said(&off).len(), 1);
    let wrapped = facts(
        r#"{"ServerVersion":"20.10.24","DefaultRuntime":"x","Runtimes":{"x":{"path":"/usr/bin/lxcfs"}}}"#,
    );
    assert_says(&wrapped, Verdict::Ok, "all containers");
    assert_says(&facts(""), Verdict::Note, "does not answer");
    assert_says(
        &facts(r#"{"ServerVersion":"","ServerErrors":["x"]}"#),
        Verdict::Note,
        "does not answer",
    );
}

#[test]
fn a_specification_that_is_out_of_date_is_written_again() {
    let facts = |specification| Facts {
        specification,
        podman: Some(podman(None, None)),
        ..Facts::default()
    };
    let missing = facts(Specification::Missing);
    let is_ok = |(verdict, _): &(Verdict, String)| *verdict == Verdict::Ok;
    assert!(!said(&missing).iter().any(is_ok), "{:?}", said(&missing));
    let stale = facts(Specification::Stale("/etc/cdi/lxcfs.json".into()));
    assert_says(&stale, Verdict::Mend, "lxcfs cdi > /etc/cdi/lxcfs.json");
    let current = facts(Specification::Current("/etc/cdi/lxcfs.json".into()));
    assert!(said(&current).iter().all(is_ok));
}

fn podman(for_all: Option<&str>, hook: Option<&str>) -> Podman {
    Podman {
        version: "5.4.2".to_owned(),
        for_all: for_all.map(PathBuf::from),
        asks_by_annotation: true,
        hook: hook.map(PathBuf::from),
    }
}

#[test]
fn a_hook_of_podman_alone_gives_no_container_the_views() {
    let facts = |for_all, hook| Facts {
        podman: Some(podman(for_all, hook)),
        specification: Specification::Current("/etc/cdi/lxcfs.json".into()),
        ..Facts::default()
    };
    let (drop_in, hook) = (Some("/etc/x.conf"), Some("/etc/hook.json"));
    assert_says(
        &facts(None, hook),
        Verdict::Note,
        "containers.conf.d/lxcfs.conf",
    );
    assert_says(&facts(drop_in, None), Verdict::Mend, "hooks.d/lxcfs.json");
    assert_says(&facts(drop_in, hook), Verdict::Ok, "by /etc/x.conf");
    let mut by_device = facts(drop_in, None);
    by_device.podman.as_mut().unwrap().asks_by_annotation = false;
    assert_says(&by_device, Verdict::Ok, "by /etc/x.conf");
}

#[test]
fn podman_is_asked_by_device_or_by_annotation() {
    let drop_in = include_str!("../../../share/podman/containers.conf.d/lxcfs.conf");
    assert!(asks_by_annotation(drop_in));
    assert!(!asks_by_annotation(
        "[containers]\ndevices = [\"lxcfs.rs/view=all\"]\n"
    ));
}

#[test]
fn nri_has_defaults_and_switches() {
    let switch =
        |value: &str| format!("[plugins.\"io.containerd.nri.v1.nri\"]\ndisable = {value}\n");
    assert!(!containerd_has_nri("1.7.24~ds1", ""));
    assert!(containerd_has_nri("1.7.24~ds1", &switch("false")));
    assert!(containerd_has_nri("v2.1.0", ""));
    assert!(!containerd_has_nri("2.1.0", &switch("true")));
    assert!(crio_has_nri("1.30.1", &[]) && !crio_has_nri("1.29.0", &[]));
    let of_crio = |value: &str| format!("[crio.nri]\nenable_nri = {value}\n");
    assert!(!crio_has_nri(
        "1.30.1",
        &[of_crio("true"), of_crio("false")]
    ));
    assert!(crio_has_nri(
        "1.29.0",
        &[of_crio("true"), "not toml [".to_owned()]
    ));
}

#[test]
fn a_plugin_needs_nri_and_to_run() {
    let facts = |has_nri, has_plugin| Facts {
        containerd: Some(Pluggable {
            version: "2.1.0".to_owned(),
            has_nri,
        }),
        has_plugin,
        ..Facts::default()
    };
    assert_says(&facts(true, true), Verdict::Ok, "has NRI");
    assert_says(&facts(true, false), Verdict::Note, "setsid -f lxcfs nri");
    assert_says(&facts(false, true), Verdict::Note, "disable = false");
}

#[test]
fn lxc_has_its_hook_or_lines() {
    let facts = |has_hook| Facts {
        lxc: Some("6.0.4".to_owned()),
        has_hook,
        ..Facts::default()
    };
    assert_says(&facts(true), Verdict::Ok, "by its hook");
    assert_says(&facts(false), Verdict::Note, "lxcfs mounts --format lxc");
}

#[test]
fn a_line_that_is_a_comment_speaks_of_nothing() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a.conf"), "# lxcfs\n").unwrap();
    assert_eq!(mentions_lxcfs(dir.path()), None);
    let file = dir.path().join("b.conf");
    fs::write(&file, "devices = [\"lxcfs.rs/view=all\"]\n").unwrap();
    assert_eq!(mentions_lxcfs(dir.path()), Some(file));
    assert_eq!(mentions_lxcfs(&dir.path().join("none")), None);
}

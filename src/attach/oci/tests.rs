use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::attach::{Part, USUAL};

const PROGRAM: &str = "/usr/bin/lxcfs";

fn wanted(only: &[Part]) -> Wanted {
    Wanted {
        views: USUAL.into(),
        only: only.to_vec(),
        strict: false,
    }
}

/// A container with processes of its own.
const OWN_PROCESSES: &str = r#""linux":{"namespaces":[{"type":"pid"}]}"#;

fn added(config: &str) -> String {
    let edited = add(config.as_bytes(), &wanted(&[]), Path::new(PROGRAM)).unwrap();
    String::from_utf8(edited).unwrap()
}

/// Destinations in their order.
fn destinations(config: &str) -> Vec<String> {
    let config: Value = serde_json::from_str(config).unwrap();
    let mounts = config["mounts"].as_array().unwrap();
    let destination = |mount: &Value| mount["destination"].as_str().unwrap().to_owned();
    mounts.iter().map(destination).collect()
}

const ENGINES: &str = r#"{"ociVersion":"1.0.2","linux":{"namespaces":[{"type":"pid"}]},"mounts":[
    {"destination":"/proc","type":"proc","source":"proc"},
    {"destination":"/dev","type":"tmpfs"},
    {"destination":"/sys/","type":"sysfs","source":"sysfs"},
    {"destination":"/sys/devices/system/cpu/cpu0","source":"/x"},
    {"destination":"//proc/./meminfo","type":"bind","source":"/mine"}]}"#;

#[test]
fn mounts_follow_what_they_lie_on_and_leave_what_is_there() {
    let found = destinations(&added(ENGINES));
    let place = |wanted: &str| found.iter().position(|found| found == wanted);
    assert_eq!(place("/proc"), Some(0));
    assert_eq!(place("/proc/cpuinfo"), Some(1));
    assert!(place("/proc/uptime") < place("/dev"), "{found:?}");
    let cpu = place("/sys/devices/system/cpu");
    assert_eq!(cpu, place("/sys/").map(|sys| sys + 1), "{found:?}");
    assert!(cpu < place("/sys/devices/system/cpu/cpu0"));
    assert_eq!(place("/proc/meminfo"), None);
    assert!(place("//proc/./meminfo").is_some());
    assert_eq!(place("/proc/pressure"), None);
}

#[test]
fn a_container_without_the_kernels_files_gets_the_hook_alone() {
    for mounts in [
        "null",
        "[]",
        r#"[{"destination":"/","type":"bind","source":"/"}]"#,
        r#"[{"destination":"/proc","type":"tmpfs"},{"destination":"/sys","type":"bind","source":"/x"}]"#,
        r#"[{"destination":"/proc","type":"proc"},{"destination":"/proc","type":"tmpfs"}]"#,
    ] {
        let config = format!(r#"{{"mounts":{mounts},{OWN_PROCESSES}}}"#);
        let edited = added(&config);
        let before: Option<Vec<Value>> = serde_json::from_str(mounts).unwrap();
        assert_eq!(
            destinations(&edited).len(),
            before.unwrap_or_default().len(),
            "{edited}"
        );
        assert!(edited.contains("createRuntime"), "{edited}");
    }
}

#[test]
fn a_bind_of_the_hosts_proc_and_sys_counts_as_them() {
    let found = destinations(&added(
        r#"{"linux":{"namespaces":[{"type":"pid"}]},
            "mounts":[{"destination":"proc","type":"bind","source":"/proc"},
            {"destination":"/sys","type":"none","source":"/sys"}]}"#,
    ));
    assert!(found.contains(&"/proc/meminfo".to_owned()));
    assert!(found.contains(&"/sys/devices/system/cpu".to_owned()));
}

#[test]
fn hooks_of_others_stay_and_ours_is_there_once() {
    let hooks =
        r#""hooks":{"poststop":[{"path":"/p"}],"createRuntime":[{"path":"/q","args":null}]}"#;
    let config = format!("{{{hooks},{OWN_PROCESSES}}}");
    let config: Value = serde_json::from_str(&added(&added(&config))).unwrap();
    let own = json!({"path": PROGRAM, "args": ["lxcfs", "hook", "create-runtime"]});
    assert_eq!(
        config["hooks"],
        json!({"poststop": [{"path": "/p"}], "createRuntime": [{"path": "/q", "args": null}, own]})
    );
}

#[test]
fn parts_that_are_not_wanted_are_left_out() {
    let edited = add(
        ENGINES.as_bytes(),
        &wanted(&[Part::Cpu]),
        Path::new(PROGRAM),
    )
    .unwrap();
    let found = destinations(&String::from_utf8(edited).unwrap());
    assert!(found.contains(&"/proc/stat".to_owned()) && !found.contains(&"/proc/swaps".to_owned()));
}

#[test]
fn what_is_not_touched_keeps_its_bytes() {
    let odd = r#"{"b" : 1.10, "a":18446744073709551616,"c":"\u00e9\/" }"#;
    let config = ENGINES.replacen('{', &format!(r#"{{"odd":{odd},"#), 1);
    let edited = added(&config);
    assert!(edited.contains(odd), "{edited}");
    assert!(
        edited.contains(r#"{"destination":"/dev","type":"tmpfs"}"#),
        "{edited}"
    );
}

#[test]
fn what_is_not_understood_is_one_sentence() {
    for (config, sentence) in [
        ("", "the configuration is no JSON object"),
        ("[]", "the configuration is no JSON object"),
        (
            r#"{"mounts":{}}"#,
            "mounts of the configuration is not understood",
        ),
        (
            r#"{"mounts":[7]}"#,
            "mounts of the configuration is not understood",
        ),
        (
            r#"{"hooks":[]}"#,
            "hooks of the configuration is not understood",
        ),
        (
            r#"{"hooks":{"createRuntime":"x"}}"#,
            "createRuntime of the configuration is not understood",
        ),
    ] {
        let error = add(config.as_bytes(), &wanted(&[]), Path::new(PROGRAM)).unwrap_err();
        assert_eq!(error.to_string(), sentence, "{config}");
    }
}

fn any_mount() -> impl Strategy<Value = Value> {
    let destination = "(/|proc|sys|meminfo|devices|system|cpu|a|\\.|\\.\\.){0,8}";
    let kind = prop_oneof![Just("proc"), Just("sysfs"), Just("bind"), Just("tmpfs")];
    (destination, kind)
        .prop_map(|(destination, kind)| json!({"destination": destination, "type": kind}))
}

proptest! {
    #[test]
    fn adding_twice_is_adding_once(mounts in proptest::collection::vec(any_mount(), 0..8)) {
        let config = json!({"mounts": mounts, "x": 1, "linux": {"namespaces": [{"type": "pid"}]}}).to_string();
        let once = added(&config);
        prop_assert_eq!(&added(&once), &once);
        // What was there is there, in its order.
        let edited: Value = serde_json::from_str(&once).unwrap();
        let is_old = |mount: &&Value| mounts.contains(mount);
        let old: Vec<_> = edited["mounts"].as_array().unwrap().iter().filter(is_old).cloned().collect();
        prop_assert_eq!(old, mounts);
        prop_assert_eq!(&edited["x"], 1);
    }

    #[test]
    fn garbage_is_an_answer(config in proptest::collection::vec(any::<u8>(), 0..60)) {
        let _ = add(&config, &wanted(&[]), Path::new(PROGRAM));
    }
}

#[test]
fn who_measures_the_host_is_left_alone_unless_asking_by_name() {
    let config = |pid: &str, said: &str| {
        format!(
            r#"{{"annotations":{{"lxcfs.rs/view":"{said}"}},"linux":{{"namespaces":[{{"type":"mount"}}{pid}]}},
            "mounts":[{{"destination":"/proc","type":"proc"}}]}}"#
        )
    };
    let own = r#",{"type":"pid"}"#;
    let hosts = r#",{"type":"pid","path":"/proc/self/ns/pid"}"#;
    let another = r#",{"type":"pid","path":"/proc/self/ns/net"}"#;
    for (pid, said, is_given) in [
        ("", "auto", false),
        (hosts, "auto", false),
        ("", "true", true),
        (hosts, "true", true),
        (own, "auto", true),
        (another, "auto", true),
    ] {
        let config = config(pid, said);
        assert_eq!(added(&config) != config, is_given, "{config}");
    }
}

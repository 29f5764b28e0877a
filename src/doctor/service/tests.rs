//! What is said of made-up daemons.

use std::path::Path;

use super::look::of_systemctl;
use super::*;
use crate::cli::VERSION;
use crate::doctor::Verdict;
use crate::doctor::words::tests::words;

fn daemon() -> Daemon {
    Daemon {
        pid: 7,
        version: Some(VERSION.to_owned()),
        options: "-f".to_owned(),
        ..Daemon::default()
    }
}

fn healthy() -> Facts {
    Facts {
        views: "/var/lib/lxcfs".into(),
        mounted: Mounted::Alive,
        daemon: Some(daemon()),
        can_mount: true,
        has_systemd: true,
        unit: Some(Unit {
            is_enabled: true,
            has_fd_store: true,
            has_watchdog: true,
            may_start: true,
        }),
        ..Facts::default()
    }
}

/// As it is without systemd.
fn by_hand(mounted: Mounted, daemon: Option<Daemon>) -> Facts {
    Facts {
        mounted,
        daemon,
        has_systemd: false,
        unit: None,
        ..healthy()
    }
}

fn not_ok(facts: &Facts) -> Vec<Line> {
    let words = words(facts.unit.is_some());
    let mut lines = lines(facts, &words);
    lines.retain(|line| line.verdict != Verdict::Ok);
    lines
}

#[track_caller]
fn only(facts: &Facts) -> Line {
    let lines = not_ok(facts);
    assert_eq!(lines.len(), 1, "{lines:?}");
    lines.into_iter().next().unwrap()
}

#[test]
fn a_service_that_serves_is_all_right() {
    assert_eq!(not_ok(&healthy()), []);
    let text = &lines(&healthy(), &words(true))[0].text;
    assert!(
        text.contains(VERSION) && text.contains("process 7"),
        "{text}"
    );
}

fn command(facts: &Facts) -> String {
    only(facts).command.unwrap()
}

const NOT_ALIVE: [Mounted; 5] = [
    Mounted::Nothing,
    Mounted::Links,
    Mounted::Dead,
    Mounted::Silent,
    Mounted::Lxcfs,
];

#[test]
fn what_does_not_serve_is_started() {
    for mounted in NOT_ALIVE {
        let facts = Facts {
            mounted,
            daemon: None,
            ..healthy()
        };
        let line = only(&facts);
        assert_eq!(line.verdict, Verdict::Mend);
        assert_eq!(line.command.as_deref(), Some("systemctl restart lxcfs"));
        let command = command(&by_hand(mounted, None));
        assert!(command.contains("setsid -f lxcfs /var/lib/lxcfs"));
        // In a dead mount nothing can be made.
        let prepares = command.contains("lxcfs prepare /var/lib/lxcfs && ");
        assert_eq!(prepares, mounted != Mounted::Dead, "{command}");
    }
}

#[test]
fn what_serves_is_not_ended() {
    // What was unmounted lazily, or is dead beside one that lives.
    for mounted in NOT_ALIVE {
        let facts = Facts {
            unmounted: Some(daemon()),
            ..by_hand(mounted, None)
        };
        assert_eq!(command(&facts), "kill -USR1 7");
    }
    let beside = Facts {
        unmounted: Some(daemon()),
        ..healthy()
    };
    let line = only(&beside);
    assert_eq!((line.verdict, line.command), (Verdict::Note, None));
    assert_eq!(
        command(&by_hand(Mounted::Dead, Some(daemon()))),
        "kill -USR1 7"
    );
    let stopped = Daemon {
        stopped: vec![7, 8],
        ..daemon()
    };
    for has_unit in [true, false] {
        let mut facts = by_hand(Mounted::Silent, Some(stopped.clone()));
        facts.unit = healthy().unit.filter(|_| has_unit);
        assert_eq!(command(&facts), "kill -CONT 7 8");
    }
    assert!(command(&by_hand(Mounted::Silent, Some(daemon()))).starts_with("kill -9 7; "));
}

#[test]
fn what_answers_the_doctor_with_an_error_is_left_alone() {
    for daemon in [Some(daemon()), None] {
        let line = only(&by_hand(Mounted::Failing(Errno::EIO), daemon));
        assert_eq!((line.verdict, line.command), (Verdict::Note, None));
        assert!(line.text.contains("EIO"), "{}", line.text);
    }
}

#[test]
fn lxcfs_is_ended_after_its_containers_have_new_files() {
    let lxcfs = Daemon {
        version: None,
        ..daemon()
    };
    let command = command(&by_hand(Mounted::Lxcfs, Some(lxcfs)));
    let steps: Vec<_> = command.split(" && ").collect();
    let at = |start: &str| {
        steps
            .iter()
            .position(|step| step.starts_with(start))
            .unwrap()
    };
    let order = [
        at("mount --bind /var/lib/lxcfs "),
        at("umount --lazy /var/lib/lxcfs"),
        at("lxcfs prepare "),
        at("setsid -f lxcfs "),
        at("lxcfs remount --from "),
        at("kill -KILL 7"),
    ];
    assert!(order.is_sorted(), "{command}");
    assert!(
        !command.contains(';'),
        "a step that fails is the last one: {command}"
    );
}

#[test]
fn another_version_can_take_over() {
    let mut facts = healthy();
    facts.daemon.as_mut().unwrap().is_outdated = true;
    let line = only(&facts);
    assert_eq!(line.verdict, Verdict::Note);
    assert_eq!(line.command.as_deref(), Some("systemctl reload lxcfs"));
    facts.unit = None;
    facts.has_systemd = false;
    assert_eq!(command(&facts), "kill -USR1 7");
}

#[test]
fn views_that_are_off_are_not_all_right() {
    let mut facts = healthy();
    facts.daemon.as_mut().unwrap().views_off = true;
    let line = only(&facts);
    assert_eq!(line.verdict, Verdict::Mend);
    assert_eq!(line.command.as_deref(), Some("kill -USR2 7"));
}

#[test]
fn a_container_is_not_told_to_start_what_its_host_starts() {
    let mut excluded = healthy();
    let unit = excluded.unit.as_mut().unwrap();
    (unit.may_start, unit.is_enabled) = (false, false);
    assert_eq!(not_ok(&excluded).len(), 1, "this is no container");
    (excluded.daemon, excluded.in_container) = (None, true);
    assert_eq!(not_ok(&excluded), []);
    for mounted in [Mounted::Nothing, Mounted::Links] {
        excluded.mounted = mounted;
        let bare = Facts {
            in_container: true,
            can_mount: false,
            ..by_hand(mounted, None)
        };
        for facts in [&excluded, &bare] {
            let line = only(facts);
            assert_eq!((line.verdict, line.command), (Verdict::Note, None));
        }
    }
}

#[test]
fn what_the_unit_lacks_is_named() {
    let properties = "LoadState=loaded\nConditionResult=yes\nUnitFileState=disabled\nFileDescriptorStoreMax=0\nWatchdogUSec=0\n\
        ExecStart={ path=/usr/bin/lxcfs ; argv[]=/usr/bin/lxcfs -f /var/lib/lxcfs ; status=0/0 }\n";
    let views = Path::new("/var/lib/lxcfs");
    let facts = Facts {
        unit: of_systemctl(properties, views),
        ..healthy()
    };
    let lines = not_ok(&facts);
    assert_eq!(lines[0].command.as_deref(), Some("systemctl enable lxcfs"));
    assert!(lines[1].text.contains("FileDescriptorStoreMax="));
    assert!(lines[2].text.contains("WatchdogSec="));
    assert_eq!(of_systemctl(properties, Path::new("/srv")), None);
    assert_eq!(of_systemctl("LoadState=not-found\n", views), None);
}

#[test]
fn a_configuration_is_in_force_or_is_told_why_not() {
    let facts = |config, daemon| Facts {
        config: Some(config),
        daemon,
        ..healthy()
    };
    let path = Path::new("/etc/x");
    let good = || Config::InForce(path.to_owned());
    let says = |facts: &Facts| lines(facts, &words(true)).pop().unwrap();
    assert!(
        says(&facts(good(), Some(daemon())))
            .text
            .ends_with("in order and in force")
    );
    assert!(says(&facts(good(), None)).text.ends_with("in order"));
    let changed = only(&facts(Config::Changed(path.to_owned()), Some(daemon())));
    assert_eq!(changed.verdict, Verdict::Mend);
    assert_eq!(changed.command.as_deref(), Some("kill -HUP 7"));
    let bad = || Config::Bad("/etc/x, line 3: what".to_owned());
    for (daemon, rest) in [
        (Some(daemon()), "the last good configuration is in force"),
        (None, "no lxcfs can start with it"),
    ] {
        let line = only(&facts(bad(), daemon));
        assert_eq!(line.verdict, Verdict::Mend);
        assert_eq!(line.text, format!("/etc/x, line 3: what; {rest}"));
    }
}

#[test]
fn others_are_mentioned() {
    let others = vec![
        ("/srv/a b".into(), Mounted::Dead),
        ("/srv/c".into(), Mounted::Lxcfs),
        ("/srv/d".into(), Mounted::Alive),
        ("/srv/e".into(), Mounted::Alive),
    ];
    let lines = not_ok(&Facts {
        others,
        ..healthy()
    });
    assert_eq!(
        lines[0].command.as_deref(),
        Some("umount --lazy '/srv/a b'")
    );
    assert_eq!(
        (lines[1].verdict, &lines[1].command),
        (Verdict::Note, &None)
    );
    assert!(
        lines[2]
            .text
            .starts_with("2 others are mounted, one of them at /srv/")
    );
    assert_eq!(lines.len(), 3);
}

#[test]
fn a_daemon_that_may_not_look_at_all_processes_is_named() {
    let facts = |is_blind| Facts {
        daemon: Some(Daemon {
            is_blind,
            ..daemon()
        }),
        ..healthy()
    };
    assert_eq!(not_ok(&facts(false)), []);
    assert!(only(&facts(true)).text.contains("CAP_SYS_PTRACE"));
}

#[test]
fn a_kernel_that_interrupts_requests_and_can_crash_by_that_is_named() {
    let mut facts = healthy();
    facts.daemon.as_mut().unwrap().may_crash_kernel = true;
    let line = only(&facts);
    assert!(line.text.contains("CVE-2026-64265"), "{line:?}");
    assert_eq!(line.verdict, Verdict::Mend);
    assert_eq!(line.command.as_deref(), Some("systemctl reload lxcfs"));
    (facts.unit, facts.has_systemd) = (None, false);
    assert_eq!(command(&facts), "kill -USR1 7");
}

#[test]
fn rules_that_match_no_container_are_named() {
    let mut facts = healthy();
    facts.daemon.as_mut().unwrap().unmatched = vec![
        UnmatchedRule {
            number: 1,
            cgroup: "/docker/*".to_owned(),
        },
        UnmatchedRule {
            number: 3,
            cgroup: "/a\u{1b}".to_owned(),
        },
    ];
    let line = only(&facts);
    assert_eq!((line.verdict, line.command), (Verdict::Note, None));
    let expected = r#"number 1 (cgroup = "/docker/*"), number 3 (cgroup = "/a\u{1b}")"#;
    assert!(line.text.contains(expected), "{}", line.text);
}

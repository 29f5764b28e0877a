//! The lxcfs that should be mounted.

mod look;

use std::path::PathBuf;

pub use self::look::gather;
use super::words::{Words, quoted};
use super::{Line, Verdict};
use crate::cli::VERSION;

/// What is mounted where the views should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mounted {
    /// Nothing, and there are no links either.
    #[default]
    Nothing,
    /// Nothing, but links to the host's own files.
    Links,
    /// A file system whose server is gone.
    Dead,
    /// One that does not answer.
    Silent,
    /// LXCFS.
    Lxcfs,
    /// This lxcfs, and it answers.
    Alive,
}

/// The process that serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Daemon {
    /// Its number.
    pub pid: i32,
    /// What its program says; `None` if it does not say.
    pub version: Option<String>,
    /// Its options, without the mountpoint.
    pub options: String,
    /// The configuration that it was told to use.
    pub config: Option<PathBuf>,
}

/// The unit of systemd that mounts the views.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// Whether it is started with the host.
    pub is_enabled: bool,
    /// Whether systemd keeps the connection while the service is restarted.
    pub has_fd_store: bool,
    /// Whether a daemon that hangs is replaced.
    pub has_watchdog: bool,
}

/// All that is looked at.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// Where the views should be.
    pub views: PathBuf,
    /// What is there.
    pub mounted: Mounted,
    /// Who serves it.
    pub daemon: Option<Daemon>,
    /// Whether systemd runs.
    pub has_systemd: bool,
    /// What is known of the unit; `None` if there is none for these views.
    pub unit: Option<Unit>,
    /// The configuration file, if there is one; a sentence if it is bad.
    pub config: Option<Result<PathBuf, String>>,
    /// Mountpoints of others, and how these are.
    pub others: Vec<(PathBuf, Mounted)>,
}

impl Facts {
    /// Whether systemd starts and stops what is mounted.
    pub fn is_the_units(&self) -> bool {
        self.unit.is_some()
    }
}

/// What there is to say of these facts.
pub fn lines(facts: &Facts, words: &Words) -> Vec<Line> {
    let mut lines = vec![mount(facts, words)];
    lines.extend(program(facts, words));
    lines.extend(facts.unit.as_ref().map(of_unit).unwrap_or_default());
    lines.extend(facts.config.as_ref().map(of_config));
    lines.extend(of_others(&facts.others));
    lines
}

/// Those that serve are for single containers, of which there may be many.
fn of_others(others: &[(PathBuf, Mounted)]) -> Vec<Line> {
    let (mut lines, mut serving) = (Vec::new(), Vec::new());
    for (path, mounted) in others {
        let path = path.display().to_string();
        match mounted {
            Mounted::Dead => lines.push(
                Line::note(format!("a dead lxcfs is mounted at {path}"))
                    .by(format!("umount --lazy {}", quoted(&path))),
            ),
            Mounted::Lxcfs => {
                lines.push(Line::note(format!("an older LXCFS is mounted at {path}")));
            }
            _ => serving.push(path),
        }
    }
    match serving.as_slice() {
        [] => {}
        [path] => lines.push(Line::note(format!("another lxcfs is mounted at {path}"))),
        [path, rest @ ..] => lines.push(Line::note(format!(
            "others are mounted at {path} and {} other places",
            rest.len()
        ))),
    }
    lines
}

fn mount(facts: &Facts, words: &Words) -> Line {
    let views = facts.views.display();
    let by = facts.daemon.as_ref().map_or(String::new(), |daemon| {
        let version = daemon.version.as_deref().unwrap_or("of unknown version");
        format!(" by lxcfs {version}, process {}", daemon.pid)
    });
    let (verdict, text) = match facts.mounted {
        Mounted::Alive => return Line::ok(format!("{views} is served{by}")),
        Mounted::Nothing => (Verdict::Mend, format!("lxcfs is not mounted at {views}")),
        Mounted::Links => (
            Verdict::Mend,
            format!("lxcfs is not mounted at {views}; containers that start now see the host"),
        ),
        Mounted::Dead => (
            Verdict::Mend,
            format!("the lxcfs at {views} is dead; files of containers cannot be read"),
        ),
        Mounted::Silent => (
            Verdict::Mend,
            format!("the lxcfs at {views} does not answer"),
        ),
        Mounted::Lxcfs => (
            Verdict::Mend,
            format!("an older LXCFS serves {views}, with figures of its own"),
        ),
    };
    Line::new(verdict, text).by(start(facts, words))
}

/// One that serves still must be ended first, where no service manager does it.
fn start(facts: &Facts, words: &Words) -> String {
    match &facts.daemon {
        Some(daemon) if !words.has_unit => {
            format!("kill -9 {}; sleep 1; {}", daemon.pid, words.start())
        }
        _ => words.start(),
    }
}

fn program(facts: &Facts, words: &Words) -> Vec<Line> {
    let Some(daemon) = facts
        .daemon
        .as_ref()
        .filter(|_| facts.mounted == Mounted::Alive)
    else {
        return Vec::new();
    };
    let mut lines = Vec::new();
    if daemon
        .version
        .as_deref()
        .is_some_and(|version| version != VERSION)
    {
        let command = if words.has_unit {
            "systemctl reload lxcfs".to_owned()
        } else {
            format!("kill -USR1 {}", daemon.pid)
        };
        lines.push(
            Line::note(format!("lxcfs {VERSION} is installed and can take over")).by(command),
        );
    }
    if !daemon.options.is_empty() {
        lines.push(Line::ok(format!("its options are {}", daemon.options)));
    }
    if facts.has_systemd && facts.unit.is_none() {
        lines.push(Line::note(
            "no unit lxcfs.service mounts it, so it does not start with the host",
        ));
    }
    lines
}

fn of_unit(unit: &Unit) -> Vec<Line> {
    let mut lines = Vec::new();
    if unit.is_enabled {
        lines.push(Line::ok("lxcfs.service starts with the host"));
    } else {
        lines.push(
            Line::mend("lxcfs.service does not start with the host").by("systemctl enable lxcfs"),
        );
    }
    if !unit.has_fd_store {
        lines.push(Line::note(
            "lxcfs.service has no FileDescriptorStoreMax=, so a crash of the daemon reaches containers",
        ));
    }
    if !unit.has_watchdog {
        lines.push(Line::note(
            "lxcfs.service has no WatchdogSec=, so nobody replaces a daemon that hangs",
        ));
    }
    lines
}

fn of_config(config: &Result<PathBuf, String>) -> Line {
    match config {
        Ok(path) => Line::ok(format!("{} is in order", path.display())),
        Err(why) => Line::mend(format!("{why}; the last good configuration is in force")),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::look::of_systemctl;
    use super::*;
    use crate::doctor::words::tests::words;

    fn healthy() -> Facts {
        Facts {
            views: "/var/lib/lxcfs".into(),
            mounted: Mounted::Alive,
            daemon: Some(Daemon {
                pid: 7,
                version: Some(VERSION.to_owned()),
                options: "-f".to_owned(),
                config: None,
            }),
            has_systemd: true,
            unit: Some(Unit {
                is_enabled: true,
                has_fd_store: true,
                has_watchdog: true,
            }),
            ..Facts::default()
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

    #[test]
    fn what_does_not_serve_is_started() {
        for mounted in [
            Mounted::Nothing,
            Mounted::Links,
            Mounted::Dead,
            Mounted::Silent,
            Mounted::Lxcfs,
        ] {
            let facts = Facts {
                mounted,
                ..healthy()
            };
            let line = only(&facts);
            assert_eq!(line.verdict, Verdict::Mend);
            assert_eq!(line.command.as_deref(), Some("systemctl restart lxcfs"));
            let by_hand = Facts {
                has_systemd: false,
                unit: None,
                daemon: None,
                ..facts
            };
            let command = only(&by_hand).command.unwrap();
            assert!(
                command.starts_with("setsid -f lxcfs /var/lib/lxcfs"),
                "{command}"
            );
            let hangs = Facts {
                daemon: healthy().daemon,
                ..by_hand
            };
            assert!(only(&hangs).command.unwrap().starts_with("kill -9 7; "));
        }
    }

    #[test]
    fn another_version_can_take_over() {
        let mut facts = healthy();
        facts.daemon.as_mut().unwrap().version = Some("0.0.1".to_owned());
        let line = only(&facts);
        assert_eq!(line.verdict, Verdict::Note);
        assert_eq!(line.command.as_deref(), Some("systemctl reload lxcfs"));
        facts.unit = None;
        facts.has_systemd = false;
        assert_eq!(only(&facts).command.as_deref(), Some("kill -USR1 7"));
    }

    #[test]
    fn what_the_unit_lacks_is_named() {
        let properties = "LoadState=loaded\nUnitFileState=disabled\nFileDescriptorStoreMax=0\nWatchdogUSec=0\n\
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
    fn a_bad_configuration_is_told_with_its_line() {
        let facts = |config| Facts {
            config: Some(config),
            ..healthy()
        };
        assert_eq!(not_ok(&facts(Ok("/etc/x".into()))), []);
        let line = only(&facts(Err("/etc/x, line 3: what".to_owned())));
        assert_eq!(line.verdict, Verdict::Mend);
        assert!(line.text.starts_with("/etc/x, line 3: what; "));
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
        assert!(lines[2].text.ends_with("/srv/d and 1 other places"));
        assert_eq!(lines.len(), 3);
    }
}

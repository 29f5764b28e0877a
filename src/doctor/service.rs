//! The lxcfs that should be mounted.

mod look;

use std::path::PathBuf;

pub use self::look::gather;
use nix::errno::Errno;

use super::Line;
use super::words::{Words, quoted};
use crate::ops::protocol::UnmatchedRule;

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
    /// One that answers this process with an error.
    Failing(Errno),
    /// LXCFS.
    Lxcfs,
    /// This lxcfs, and it answers.
    Alive,
}

/// The process that serves.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Daemon {
    /// Its number.
    pub pid: i32,
    /// What it says of itself; `None` if it is LXCFS or does not say.
    pub version: Option<String>,
    /// Its options, without the mountpoint.
    pub options: String,
    /// Whether a newer program lies where its own was.
    pub is_outdated: bool,
    /// Whether it shows readers the host's own files.
    pub views_off: bool,
    /// Whether it lacks the right to look at all processes.
    pub is_blind: bool,
    /// Whether its end by force can crash the kernel.
    pub may_crash_kernel: bool,
    /// Rules of its configuration that no process follows.
    pub unmatched: Vec<UnmatchedRule>,
    /// Those of its processes that have been stopped.
    pub stopped: Vec<i32>,
}

/// What is to be said of a configuration file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Config {
    /// It says what is in force, or would be.
    InForce(PathBuf),
    /// It was changed since it was read.
    Changed(PathBuf),
    /// It cannot be used; a sentence says why.
    Bad(String),
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
    /// Whether its conditions let it start here.
    pub may_start: bool,
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
    /// Who should be mounted there, is not, and serves containers all the same.
    pub unmounted: Option<Daemon>,
    /// Whether this is a container.
    pub in_container: bool,
    /// Whether FUSE can be used.
    pub can_mount: bool,
    /// Whether systemd runs.
    pub has_systemd: bool,
    /// What is known of the unit; `None` if there is none for these views.
    pub unit: Option<Unit>,
    /// The configuration file, if there is one.
    pub config: Option<Config>,
    /// Mountpoints of others, and how these are.
    pub others: Vec<(PathBuf, Mounted)>,
}

impl Facts {
    /// Whether systemd starts and stops what is mounted.
    pub fn is_the_units(&self) -> bool {
        self.unit.is_some()
    }

    /// Whether nobody expects a daemon here: the host's, outside of this container, serves.
    fn is_served_from_outside(&self) -> bool {
        let is_excluded = self.unit.as_ref().is_some_and(|unit| !unit.may_start);
        self.in_container && (is_excluded || !self.can_mount)
    }
}

/// What there is to say of these facts.
pub fn lines(facts: &Facts, words: &Words) -> Vec<Line> {
    let mut lines = vec![mount(facts, words)];
    lines.extend(program(facts, words));
    let unit = facts.unit.as_ref();
    let unit = unit.filter(|_| !facts.is_served_from_outside());
    lines.extend(unit.map(of_unit).unwrap_or_default());
    lines.extend(facts.config.as_ref().map(|config| of_config(config, facts)));
    lines.extend(facts.daemon.as_ref().and_then(of_rules));
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
            "{} others are mounted, one of them at {path}",
            rest.len() + 1
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
    if facts.mounted == Mounted::Alive {
        return Line::ok(format!("{views} is served{by}"));
    }
    if let Mounted::Failing(errno) = facts.mounted {
        // What ails this process need not ail a container.
        return Line::note(format!(
            "{views} is served{by}, but cannot be read from here: {errno}; the daemon's log may say why"
        ));
    }
    let is_bare = [Mounted::Nothing, Mounted::Links].contains(&facts.mounted);
    if is_bare
        && facts.daemon.is_none()
        && facts.unmounted.is_none()
        && facts.is_served_from_outside()
    {
        return Line::note(format!(
            "nothing is mounted at {views} of this container, so containers in it see what it sees"
        ));
    }
    let text = match facts.mounted {
        Mounted::Alive | Mounted::Failing(_) | Mounted::Nothing => {
            format!("lxcfs is not mounted at {views}")
        }
        Mounted::Links => {
            format!("lxcfs is not mounted at {views}; containers that start now see the host")
        }
        Mounted::Dead => {
            format!("the lxcfs at {views} is dead; files of containers cannot be read")
        }
        Mounted::Silent => format!("the lxcfs at {views} does not answer"),
        Mounted::Lxcfs => format!("an older LXCFS serves {views}, with figures of its own"),
    };
    if let Some(daemon) = &facts.unmounted {
        let serves = format!("; process {} serves containers all the same", daemon.pid);
        return Line::mend(text + &serves).by(take_over(daemon));
    }
    Line::mend(text).by(start(facts, words))
}

/// The daemon becomes the program that is installed, and is mounted where it should be. It
/// goes on with what it serves.
fn take_over(daemon: &Daemon) -> String {
    format!("kill -USR1 {}", daemon.pid)
}

/// Never ends what serves; a daemon that has not answered for long is killed.
fn start(facts: &Facts, words: &Words) -> String {
    let Some(daemon) = &facts.daemon else {
        return match facts.mounted {
            Mounted::Dead => words.start(false),
            // Whoever serves that goes on, out of sight.
            Mounted::Silent | Mounted::Lxcfs => words.start_instead(),
            _ => words.start(true),
        };
    };
    if !daemon.stopped.is_empty() {
        let pids: Vec<_> = daemon.stopped.iter().map(i32::to_string).collect();
        return format!("kill -CONT {}", pids.join(" "));
    }
    match facts.mounted {
        Mounted::Lxcfs => words.replace(daemon.pid),
        Mounted::Silent if !words.has_unit => {
            format!("kill -9 {}; sleep 1; {}", daemon.pid, words.start(false))
        }
        Mounted::Dead if daemon.version.is_some() => take_over(daemon),
        _ => words.start(false),
    }
}

fn program(facts: &Facts, words: &Words) -> Vec<Line> {
    let Some(daemon) = facts
        .daemon
        .as_ref()
        .filter(|_| matches!(facts.mounted, Mounted::Alive | Mounted::Failing(_)))
    else {
        return Vec::new();
    };
    let mut lines = Vec::new();
    if daemon.views_off {
        let text = "SIGUSR2 has switched the views off, so all containers see the host";
        lines.push(Line::mend(text).by(format!("kill -USR2 {}", daemon.pid)));
    }
    if daemon.is_blind {
        lines.push(Line::note(
            "it lacks CAP_SYS_PTRACE, so processes of containers that may do more than it are \
             shown the figures of their own cgroup; start it with all capabilities of root",
        ));
    }
    let reload = if words.has_unit {
        "systemctl reload lxcfs".to_owned()
    } else {
        take_over(daemon)
    };
    if daemon.may_crash_kernel {
        lines.push(
            Line::mend(
                "the kernel could not be kept from interrupting requests, and by its number can \
                 crash when a server is killed meanwhile (CVE-2026-64265; Linux 6.12.96, 6.18.39 \
                 and 7.1.4 are mended, and some kernels of distributions); this tries again",
            )
            .by(&reload),
        );
    }
    if daemon.is_outdated {
        lines.push(
            Line::note("another version of its program is installed and can take over").by(&reload),
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
    lines.extend(facts.unmounted.as_ref().map(|other| {
        Line::note(format!(
            "process {} serves containers that were started before and ends with them",
            other.pid
        ))
    }));
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

fn of_config(config: &Config, facts: &Facts) -> Line {
    let daemon = facts.daemon.as_ref();
    match config {
        Config::InForce(path) if daemon.is_some() => {
            Line::ok(format!("{} is in order and in force", path.display()))
        }
        Config::InForce(path) => Line::ok(format!("{} is in order", path.display())),
        Config::Changed(path) => {
            let line = Line::mend(format!(
                "{} was changed and is not in force",
                path.display()
            ));
            match daemon {
                Some(daemon) => line.by(format!("kill -HUP {}", daemon.pid)),
                None => line,
            }
        }
        Config::Bad(why) if daemon.is_some() => {
            Line::mend(format!("{why}; the last good configuration is in force"))
        }
        Config::Bad(why) => Line::mend(format!("{why}; no lxcfs can start with it")),
    }
}

/// Rules for containers that are yet to come are as good as those with a slip of the pen.
fn of_rules(daemon: &Daemon) -> Option<Line> {
    let shown =
        |rule: &UnmatchedRule| format!("number {} (cgroup = {:?})", rule.number, rule.cgroup);
    let shown: Vec<_> = daemon.unmatched.iter().map(shown).collect();
    if shown.is_empty() {
        return None;
    }
    Some(Line::note(format!(
        "no container that runs is matched by these rules of the configuration: {}; \
         lxcfs show NAME meminfo --explain prints the cgroup of a container",
        shown.join(", ")
    )))
}

#[cfg(test)]
mod tests;

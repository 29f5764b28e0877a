//! Containers and their views.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;

use super::Line;
use super::words::Words;
use crate::cgroup::Limit;
use crate::container::Journal;
use crate::container::policy::Policy;
use crate::fs::Views;
use crate::host::Host;
use crate::host::process::Proc;
use crate::parse::mountinfo::{self, Mount};
use crate::places::health::{self, Device, Health};
use crate::places::spot::is_of_lxcfs;
use crate::places::survey::Place;
use crate::places::{containers, name};
use crate::reader::Resolved;
use crate::session::mount::FS_TYPE;

/// Cgroup files that are kept open while the command runs.
const KEPT_FDS: usize = 256;

/// What stands for all files of a container.
const SAMPLE: &str = "/proc/meminfo";

/// The process that keeps the namespaces of a pod: nothing in it reads anything.
const PAUSE: &str = "pause";

/// What a container has over its own files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Views that are served.
    Live,
    /// Nothing.
    Missing,
    /// The host's file, as it was started while lxcfs was not mounted.
    Hosts,
    /// Views that nobody serves, or that do not answer.
    Unserved,
}

/// A container with limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limited {
    /// Its name, or the first digits of its id, if anything tells.
    pub name: Option<String>,
    /// Its init.
    pub pid: i32,
    /// What it has.
    pub state: State,
}

/// All that is known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// Containers with limits.
    pub limited: Vec<Limited>,
    /// Those with views of a dead lxcfs.
    pub dead: BTreeSet<String>,
    /// Those with views of one that does not answer.
    pub silent: BTreeSet<String>,
}

/// Asks all lxcfs file systems on this host how they are.
pub fn health(places: &[Place], proc: &Arc<Proc>) -> BTreeMap<Device, Health> {
    let views = places.iter().flat_map(|place| &place.views);
    let devices: BTreeSet<_> = views.map(|mount| mount.device).collect();
    health::ask(places, &devices, proc)
}

/// Looks at all containers.
pub fn gather(
    places: &[Place],
    health: &BTreeMap<Device, Health>,
    proc: &Proc,
) -> anyhow::Result<Facts> {
    let with = |wanted: Health| -> BTreeSet<String> {
        let is_such = |mount: &Mount| is_view(mount) && health.get(&mount.device) == Some(&wanted);
        let places = places
            .iter()
            .filter(|place| place.views.iter().any(is_such));
        let shown = |place: &Place| shown(place.container.as_deref(), place.pid);
        places
            .filter(|place| place.inode.is_some())
            .map(shown)
            .collect()
    };
    let running = containers::running(proc).context("cannot list the processes")?;
    let limits = Limits::open()?;
    let mut limited = Vec::new();
    for container in running {
        let command = proc.read(container.pid, "comm").unwrap_or_default();
        if command.trim_end() == PAUSE || !limits.has_any(container.pid) {
            continue;
        }
        let mountinfo = format!("{}/mountinfo", container.pid);
        let Ok(mounts) = proc.mounts(&mountinfo, tells_of_views) else {
            continue;
        };
        if let Some(state) = state(&mounts, health) {
            limited.push(Limited {
                name: container
                    .name
                    .filter(|_| container.is_roots_name)
                    .map(|name| name::short(&name).to_owned()),
                pid: container.pid,
                state,
            });
        }
    }
    Ok(Facts {
        limited,
        dead: with(Health::Dead),
        silent: with(Health::Silent),
    })
}

fn shown(container: Option<&str>, pid: i32) -> String {
    container.map_or_else(|| format!("process {pid}"), str::to_owned)
}

fn is_view(mount: &Mount) -> bool {
    mount.fs_type == FS_TYPE && mount.root != Path::new("/")
}

/// Whether [`state`] needs to know of the mount.
fn tells_of_views(line: &mountinfo::Line<'_>) -> bool {
    is_of_lxcfs(line) || line.fs_type == b"proc" || line.mount_point() == Path::new(SAMPLE)
}

/// What the mounts of a container say; `None` for one without `/proc`.
fn state(mounts: &[Mount], health: &BTreeMap<Device, Health>) -> Option<State> {
    let sample = mounts
        .iter()
        .rfind(|mount| mount.mount_point == Path::new(SAMPLE));
    let mut views = mounts.iter().filter(|mount| is_view(mount)).peekable();
    let is_served = |view: &Mount| {
        !matches!(
            health.get(&view.device),
            Some(Health::Dead | Health::Silent)
        )
    };
    if views.peek().is_some() {
        let all_served = views.all(is_served);
        Some(if all_served {
            State::Live
        } else {
            State::Unserved
        })
    } else if sample.is_some_and(|mount| mount.fs_type == "proc") {
        Some(State::Hosts)
    } else {
        let proc = Path::new("/proc");
        mounts
            .iter()
            .any(|mount| mount.fs_type == "proc" && mount.mount_point == proc)
            .then_some(State::Missing)
    }
}

/// Tells which processes have less than the host has.
struct Limits {
    views: Views,
    host: Host,
}

impl Limits {
    fn open() -> anyhow::Result<Self> {
        let cannot = "cannot read the host's figures";
        Ok(Self {
            views: Views::open(KEPT_FDS, Policy::default(), Journal::none(), None)
                .context(cannot)?,
            host: Host::open(Path::new("/")).context(cannot)?,
        })
    }

    /// One that is gone, or whose limits cannot be read, has none.
    fn has_any(&self, pid: i32) -> bool {
        self.views.container(pid).is_ok_and(|resolved| {
            self.of_memory(&resolved) || of_cpus(&resolved) || self.of_cpuset(&resolved)
        })
    }

    fn of_memory(&self, resolved: &Resolved) -> bool {
        let total_kb = self.host.meminfo().get("MemTotal").unwrap_or(u64::MAX);
        matches!(
            resolved.container.cgroup.memory(false),
            Ok(Some(memory)) if memory.limit_bytes.or_at_most(u64::MAX) >> 10 < total_kb
        )
    }

    fn of_cpuset(&self, resolved: &Resolved) -> bool {
        let cpus = resolved.container.cgroup.cpuset();
        matches!(cpus, Ok(Some(cpus)) if cpus.len() < self.host.online().len())
    }
}

fn of_cpus(resolved: &Resolved) -> bool {
    matches!(
        resolved.container.cgroup.cpu_limit_millis(),
        Ok(Limit::Value(_))
    )
}

/// What there is to say of these facts.
pub fn lines(facts: &Facts, words: &Words) -> Vec<Line> {
    let mut lines = Vec::new();
    let live = facts
        .limited
        .iter()
        .filter(|known| known.state == State::Live);
    match live.count() {
        0 => {}
        1 => lines.push(Line::ok("1 container with limits has the views")),
        count => lines.push(Line::ok(format!(
            "{count} containers with limits have the views"
        ))),
    }
    for Limited { name, pid, state } in &facts.limited {
        let sees = match state {
            State::Live | State::Unserved => continue,
            State::Missing => "has limits and sees the host",
            State::Hosts => "has limits, was started without lxcfs and sees the host",
        };
        let (text, word) = match name {
            Some(name) => (format!("{name} (process {pid}) {sees}"), name.clone()),
            None => (format!("process {pid} {sees}"), pid.to_string()),
        };
        lines.push(Line::mend(text).by(words.attach(&word)));
    }
    let list = |names: &BTreeSet<String>| {
        names
            .iter()
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join(", ")
    };
    if !facts.dead.is_empty() {
        let text = format!("files of a dead lxcfs are left in {}", list(&facts.dead));
        lines.push(Line::mend(text).by(words.remount()));
    }
    if !facts.silent.is_empty() {
        lines.push(Line::note(format!(
            "files of an lxcfs that does not answer are in {}",
            list(&facts.silent)
        )));
    }
    if lines.is_empty() {
        lines.push(Line::ok("no container with limits runs"));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Verdict;
    use crate::doctor::words::tests::words;

    const PROC: &str = "2 1 0:5 / /proc rw - proc proc rw\n";

    #[test]
    fn mounts_tell_what_a_container_sees() {
        let mut health = BTreeMap::new();
        let state_of = |text: &str, health: &_| {
            let mounts: Vec<_> = mountinfo::mounts(text.as_bytes()).collect();
            state(&mounts, health)
        };
        let state_with = |more: &str| state_of(&format!("{PROC}{more}"), &health);
        assert_eq!(state_of("1 0 8:1 / / rw - ext4 a rw\n", &health), None);
        assert_eq!(state_with(""), Some(State::Missing));
        let hosts = "3 2 0:5 /meminfo /proc/meminfo rw - proc proc rw\n";
        assert_eq!(state_with(hosts), Some(State::Hosts));
        let live = "3 2 0:9 /proc/stat /proc/stat rw - fuse.lxcfs lxcfs rw\n";
        assert_eq!(state_with(live), Some(State::Live));
        let tree = "3 2 0:9 / /var/lib/lxcfs rw - fuse.lxcfs lxcfs rw\n";
        assert_eq!(state_with(tree), Some(State::Missing));
        health.insert((0, 9), Health::Dead);
        assert_eq!(
            state_of(&format!("{PROC}{live}"), &health),
            Some(State::Unserved)
        );
    }

    fn summary(facts: &Facts) -> Vec<(Verdict, String)> {
        let lines = lines(facts, &words(true)).into_iter();
        lines
            .map(|line| (line.verdict, line.command.unwrap_or(line.text)))
            .collect()
    }

    fn limited(name: Option<&str>, pid: i32, state: State) -> Limited {
        Limited {
            name: name.map(str::to_owned),
            pid,
            state,
        }
    }

    #[test]
    fn each_container_is_mended_in_its_way() {
        let facts = Facts {
            limited: vec![
                limited(Some("web"), 10, State::Live),
                limited(Some("db"), 11, State::Missing),
                limited(None, 12, State::Hosts),
                limited(Some("old"), 13, State::Unserved),
            ],
            dead: ["old".to_owned(), "process 14".to_owned()].into(),
            silent: BTreeSet::new(),
        };
        let expected = [
            (Verdict::Ok, "1 container with limits has the views"),
            (Verdict::Mend, "lxcfs attach db"),
            (Verdict::Mend, "lxcfs attach 12"),
            (Verdict::Mend, "lxcfs remount"),
        ];
        assert_eq!(
            summary(&facts),
            expected.map(|(verdict, text)| (verdict, text.to_owned()))
        );
        let lines = lines(&facts, &words(true));
        assert!(
            lines[3].text.ends_with("old, process 14"),
            "{}",
            lines[3].text
        );
    }

    #[test]
    fn nothing_to_say_is_said() {
        let said = summary(&Facts::default());
        assert_eq!(
            said,
            [(Verdict::Ok, "no container with limits runs".to_owned())]
        );
        let silent = ["web".to_owned()].into();
        let [(verdict, _)] = summary(&Facts {
            silent,
            ..Facts::default()
        })[..] else {
            panic!("more than a line");
        };
        assert_eq!(verdict, Verdict::Note);
    }
}

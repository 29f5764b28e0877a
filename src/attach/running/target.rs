//! Finding the container that is meant.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread;

use anyhow::{Context, anyhow, bail, ensure};
use nix::errno::Errno;
use nix::sys::stat::fstat;

use crate::host::process::{Namespace, Proc};
use crate::places::containers::{self, Container};
use crate::places::{name, tool};

/// Engines that are asked for a name that no cgroup has, and what makes them print the ids of
/// containers or the number of an init.
const ENGINES: [(&str, &[&str]); 6] = [
    (
        "docker",
        &["inspect", "--type", "container", "--format", ID, "NAME"],
    ),
    (
        "podman",
        &["inspect", "--type", "container", "--format", ID, "NAME"],
    ),
    ("nerdctl", &["inspect", "--format", ID, "NAME"]),
    ("crictl", &["ps", "--quiet", "--name", "^NAME$"]),
    ("lxc-info", &["--pid", "--no-humanize", "--name", "NAME"]),
    (
        "machinectl",
        &["show", "--property=Leader", "--value", "NAME"],
    ),
];
const ID: &str = "{{.ID}}";

/// Names that a message lists.
const MOST_NAMES: usize = 12;

/// A container whose mounts can be changed.
#[derive(Debug)]
pub struct Target {
    /// What it is called in messages.
    pub shown: String,
    /// One of its processes.
    pub(super) pid: i32,
    /// Inode number of its mount namespace.
    pub inode: u64,
    pub(super) namespace: Arc<OwnedFd>,
    pub(super) root: Arc<OwnedFd>,
}

impl Target {
    /// The container called `word`.
    ///
    /// # Errors
    /// One sentence if there is none, or more than one, or the process is one of the host's.
    pub fn find(word: &str, proc: &Proc) -> anyhow::Result<Self> {
        let (pid, shown) = find_pid(word, proc)?;
        Self::of(pid, &shown, proc)
    }

    pub(super) fn of(pid: i32, shown: &str, proc: &Proc) -> anyhow::Result<Self> {
        let cannot = |errno| match errno {
            Errno::ENOENT | Errno::ESRCH => anyhow!("{shown} has ended"),
            errno => anyhow!("cannot enter the mount namespace of {shown}: {errno}"),
        };
        let namespace = proc.hold_namespace(pid, Namespace::Mount).map_err(cannot)?;
        let root = proc.open_root(pid).map_err(cannot)?;
        let inode = fstat(&namespace).map_err(cannot)?.st_ino;
        ensure!(
            !containers::hosts_own(proc, Namespace::Mount).contains(&inode),
            "{shown} is in the mount namespace of the host, where everybody would get the views; \
             name a container, or a process of one"
        );
        // Another process may have got the number between the two.
        let is_same = proc.namespace(pid, Namespace::Mount) == Some(inode);
        ensure!(is_same, "{shown} has ended");
        Ok(Self {
            shown: shown.to_owned(),
            pid,
            inode,
            namespace: Arc::new(namespace),
            root: Arc::new(root),
        })
    }
}

/// A process of the container called `word`, and what to call it in messages: by its name, by
/// the number of one of its processes, or by the first digits of its id. Engines are only asked
/// for names that no cgroup has.
///
/// # Errors
/// One sentence if there is none, or more than one.
pub fn find_pid(word: &str, proc: &Proc) -> anyhow::Result<(i32, String)> {
    let running = containers::running(proc).context("cannot list the processes")?;
    let shown = word.escape_debug().to_string();
    if let Some(pid) = by_name(word, &running) {
        return Ok((pid, shown));
    }
    let number = word.parse().ok().filter(|pid| *pid > 0);
    if let Some(pid) = number.filter(|pid| proc.stat(*pid).is_some()) {
        return Ok((pid, format!("process {pid}")));
    }
    let by_digits = by_digits(word, &running);
    let found = if by_digits.len() == 1 && name::is_id_as_printed(word) {
        by_digits
    } else {
        // A name can look like the first digits of the id of another container.
        let asked = by_engines(word, &running);
        if asked.is_empty() { by_digits } else { asked }
    };
    match found.as_slice() {
        [pid] => Ok((*pid, shown)),
        [] => match by_others(word, &running) {
            Some(pid) => bail!(
                "{shown} is what another user than root calls process {pid}; name that by its number"
            ),
            None => bail!("{}", unknown(&shown, &running)),
        },
        several => bail!("{}", ambiguous(&shown, several, &running)),
    }
}

fn by_name(word: &str, running: &[Container]) -> Option<i32> {
    let called = |container: &&Container| container.name.as_deref() == Some(word);
    let mut vouched = running.iter().filter(|container| container.is_roots_name);
    vouched.find(called).map(|container| container.pid)
}

/// A container that somebody other than root has given this name, or an id that begins so.
fn by_others(word: &str, running: &[Container]) -> Option<i32> {
    let others = running.iter().filter(|container| !container.is_roots_name);
    let named = others.filter_map(|container| Some((container.name.as_deref()?, container.pid)));
    let mut meant = named.filter(|(name, _)| {
        *name == word
            || (name::is_id(name) && name::is_id_as_printed(word) && name.starts_with(word))
    });
    meant.next().map(|(_, pid)| pid)
}

/// The containers whose ids begin with `word`.
fn by_digits(word: &str, running: &[Container]) -> Vec<i32> {
    let begins = |container: &&Container| {
        let name = container.name.as_deref().unwrap_or_default();
        container.is_roots_name && name::is_id(name) && name.starts_with(word)
    };
    let found = running.iter().filter(|_| !word.is_empty());
    found
        .filter(begins)
        .map(|container| container.pid)
        .collect()
}

/// The containers that engines know by the name `word`; all are asked at the same time.
fn by_engines(word: &str, running: &[Container]) -> Vec<i32> {
    if word.is_empty() || word.starts_with('-') {
        return Vec::new();
    }
    let found: BTreeSet<_> = thread::scope(|scope| {
        let asked: Vec<_> = ENGINES
            .iter()
            .map(|(program, arguments)| scope.spawn(|| ask(program, arguments, word)))
            .collect();
        let answers = asked.into_iter().filter_map(|thread| thread.join().ok()?);
        answers.flat_map(|answer| pids(&answer, running)).collect()
    });
    found.into_iter().collect()
}

fn ask(program: &str, arguments: &[&str], word: &str) -> Option<String> {
    let name = match program {
        "crictl" => quoted(word),
        _ => word.to_owned(),
    };
    let arguments = arguments
        .iter()
        .map(|argument| argument.replace("NAME", &name));
    let arguments: Vec<_> = arguments.collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    tool::output(program, &arguments)
}

/// For a regular expression.
fn quoted(word: &str) -> String {
    let quote = |letter: char| {
        let is_plain = letter.is_ascii_alphanumeric() || letter == '-' || letter == '_';
        let slash = (!is_plain).then_some('\\');
        slash.into_iter().chain([letter])
    };
    word.chars().flat_map(quote).collect()
}

/// What an engine answers: ids of containers, of which those on this host count, or the
/// number of a process.
fn pids(answer: &str, running: &[Container]) -> Vec<i32> {
    let words = answer.split_ascii_whitespace();
    let pid = |word: &str| {
        let number = word.parse().ok().filter(|pid| *pid > 0);
        by_name(word, running).or(number)
    };
    words.filter_map(pid).collect()
}

fn unknown(word: &str, running: &[Container]) -> String {
    let names = names(running.iter());
    if word.parse::<u32>().is_ok() {
        format!("there is no process {word}, and no running container of this name")
    } else if names.is_empty() {
        format!("no running container is called {word}; name a process of it by its number")
    } else {
        format!("no running container is called {word}; there are {names}")
    }
}

fn ambiguous(word: &str, pids: &[i32], running: &[Container]) -> String {
    let is_meant = |container: &&Container| pids.contains(&container.pid);
    let names = names(running.iter().filter(is_meant));
    format!("{word} can be any of {names}; give more of the id")
}

/// The names of the containers that have one, as many as fit into a message.
fn names<'a>(containers: impl Iterator<Item = &'a Container>) -> String {
    let vouched = containers.filter(|container| container.is_roots_name);
    let names = vouched.filter_map(|container| container.name.as_deref().map(name::short));
    let mut names: Vec<_> = names.collect();
    let more = names.len().saturating_sub(MOST_NAMES);
    names.truncate(MOST_NAMES);
    let listed = names.join(", ");
    match more {
        0 => listed,
        more => format!("{listed} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn running() -> Vec<Container> {
        let container = |name: Option<String>, pid| Container {
            is_roots_name: name.is_some(),
            name,
            pid,
        };
        vec![
            container(Some(format!("ab{}", "0".repeat(62))), 10),
            container(Some(format!("ac{}", "1".repeat(62))), 11),
            container(Some("web".to_owned()), 12),
            container(None, 13),
        ]
    }

    #[test]
    fn containers_are_found_by_name_and_by_first_digits() {
        let running = running();
        assert_eq!(by_name("web", &running), Some(12));
        assert_eq!(by_name("we", &running), None);
        assert_eq!(by_digits("ab0", &running), [10]);
        assert_eq!(by_digits("a", &running), [10, 11]);
        assert!(by_digits("we", &running).is_empty());
        assert!(by_digits("", &running).is_empty());
    }

    #[test]
    fn a_name_that_anybody_can_give_is_nobodys() {
        let mut running = running();
        for container in &mut running {
            container.is_roots_name = false;
        }
        let id = format!("ab{}", "0".repeat(62));
        assert_eq!(by_name("web", &running), None);
        assert!(by_digits("ab0", &running).is_empty());
        assert!(pids(&format!("{id}\n"), &running).is_empty());
        assert_eq!(by_others("web", &running), Some(12));
        assert_eq!(by_others(&id[..12], &running), Some(10));
        assert_eq!(by_others("db", &running), None);
    }

    #[test]
    fn answers_of_engines_are_ids_or_numbers() {
        let running = running();
        let id = format!("ab{}", "0".repeat(62));
        assert_eq!(pids(&format!("{id}\n"), &running), [10]);
        assert_eq!(pids("4711\n", &running), [4711]);
        // One that does not run, and one on another host.
        let none = format!("0\n{}\n", "f".repeat(64));
        assert!(pids(&none, &running).is_empty());
    }

    #[test]
    fn messages_list_what_there_is() {
        let running = running();
        let text = unknown("db", &running);
        assert!(
            text.ends_with("there are ab0000000000, ac1111111111, web"),
            "{text}"
        );
        let text = ambiguous("a", &[10, 11], &running);
        assert!(
            text.contains("any of ab0000000000, ac1111111111;"),
            "{text}"
        );
        let many: Vec<_> = (0..20)
            .map(|pid| Container {
                is_roots_name: true,
                name: Some(pid.to_string()),
                pid,
            })
            .collect();
        assert!(unknown("db", &many).ends_with("11 and 8 more"));
    }

    #[test]
    fn a_name_is_no_regular_expression() {
        assert_eq!(quoted("a.b-c"), "a\\.b-c");
    }
}

//! `lxcfs doctor` names what is wrong, and the commands that it prints mend it.

mod states;
mod strangers;

use std::fs;
use std::path::Path;
use std::process::Command;

use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::common::daemon::binary;
use crate::common::mounts::total_mib;
use crate::common::{Daemon, Ran, alone, patience, run_within, wait_for};
use crate::running::{assert_has_views, attach, cell};

/// One finding, with the command that mends it.
#[derive(Debug, Clone)]
struct Finding {
    section: String,
    verdict: String,
    text: String,
    command: Option<String>,
}

/// What the doctor finds.
#[derive(Debug)]
struct Findings(Vec<Finding>);

impl Findings {
    #[track_caller]
    fn of(views: &Path) -> Self {
        Self::by(
            Command::new(binary())
                .args(["doctor", "--views"])
                .arg(views),
        )
    }

    #[track_caller]
    fn by(command: &mut Command) -> Self {
        let ran = run_within(command, patience(60));
        let mut all: Vec<Finding> = Vec::new();
        let mut section = String::new();
        for line in ran.out.lines() {
            if let Some(command) = line.strip_prefix("        $ ") {
                all.last_mut().expect("a finding").command = Some(command.to_owned());
            } else if let Some(finding) = line.strip_prefix("  ") {
                let (verdict, text) = finding.split_once(' ').expect("a verdict");
                assert!(["ok", "note", "mend"].contains(&verdict), "{line}");
                all.push(Finding {
                    section: section.clone(),
                    verdict: verdict.to_owned(),
                    text: text.trim_start().to_owned(),
                    command: None,
                });
            } else {
                section = line.to_owned();
            }
        }
        assert_exit_code(&ran, &all);
        Self(all)
    }

    /// What is to be mended in a section.
    fn to_mend(&self, section: &str) -> Vec<Finding> {
        let is_such = |finding: &&Finding| finding.section == section && finding.verdict == "mend";
        self.0.iter().filter(is_such).cloned().collect()
    }

    /// The finding that speaks of something.
    #[track_caller]
    fn about(&self, part: &str) -> Finding {
        let found = self.0.iter().find(|finding| finding.text.contains(part));
        found
            .unwrap_or_else(|| panic!("nothing about {part}: {self:?}"))
            .clone()
    }

    /// The same, about lxcfs itself.
    fn of_lxcfs(&self, part: &str) -> bool {
        let is_such = |finding: &Finding| finding.section == "lxcfs" && finding.text.contains(part);
        self.0.iter().any(is_such)
    }

    fn speaks_of(&self, part: &str) -> bool {
        self.0.iter().any(|finding| finding.text.contains(part))
    }
}

#[track_caller]
fn assert_exit_code(ran: &Ran, all: &[Finding]) {
    let expected = i32::from(all.iter().any(|finding| finding.verdict == "mend"));
    assert_eq!(ran.code, Some(expected), "{ran:?}");
    assert_eq!(ran.err, "", "{ran:?}");
}

impl Finding {
    /// Types the command.
    #[track_caller]
    pub fn mend(&self) {
        let command = self.command.as_ref().expect("a command");
        run_within(Command::new("sh").args(["-c", command]), patience(30)).ok();
    }
}

#[test]
fn a_host_is_healthy_and_a_container_without_views_is_named() {
    let _turn = alone();
    let daemon = Daemon::start(&[]);
    let with = cell("");
    attach(&daemon, &with.init.to_string()).ok();
    let without = cell("");
    // As one that was started while there were only links to the host's own files.
    let hosts_own = cell("mount --bind /proc/meminfo /proc/meminfo");
    let found = Findings::of(daemon.point());
    for section in ["host", "lxcfs"] {
        assert_eq!(found.to_mend(section).len(), 0, "{found:?}");
    }
    let served = found.about(" is served by lxcfs ");
    assert!(
        served.text.contains(&format!("process {}", daemon.pid())),
        "{served:?}"
    );
    let name = |pid: i32| format!("process {pid} ");
    assert!(!found.speaks_of(&name(with.init)), "{found:?}");
    let hosts = found.about(&name(hosts_own.init));
    assert!(hosts.text.contains("started without lxcfs"), "{hosts:?}");
    for (cell, finding) in [
        (&without, found.about(&name(without.init))),
        (&hosts_own, hosts),
    ] {
        assert_eq!(finding.verdict, "mend");
        assert!(total_mib(cell) > 64);
        finding.mend();
        assert_has_views(cell, 64);
    }
    let found = Findings::of(daemon.point());
    for cell in [&with, &without, &hosts_own] {
        assert!(!found.speaks_of(&name(cell.init)), "{found:?}");
    }
}

/// The processes that a command has started for a mountpoint, ended when dropped.
struct Started<'a>(&'a Path);

impl Started<'_> {
    fn pid(&self) -> Option<i32> {
        let words = fs::read_dir("/proc").ok()?.flatten().filter_map(|entry| {
            let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
            Some((pid, fs::read_to_string(entry.path().join("cmdline")).ok()?))
        });
        let end = format!("\0{}\0", self.0.display());
        let mut daemons =
            words.filter(|(_, line)| line.contains("lxcfs\0--pidfile") && line.ends_with(&end));
        daemons.next().map(|(pid, _)| pid)
    }
}

impl Drop for Started<'_> {
    fn drop(&mut self) {
        if let Some(pid) = self.pid() {
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
            let gone = || (!Path::new(&format!("/proc/{pid}")).exists()).then_some(());
            wait_for(patience(10), gone);
        }
        while umount2(self.0, MntFlags::MNT_DETACH).is_ok() {}
    }
}

#[test]
fn a_dead_lxcfs_is_started_and_then_its_containers_are_repaired() {
    let _turn = alone();
    let mut daemon = Daemon::start(&[]);
    let cell = cell("");
    attach(&daemon, &cell.init.to_string()).ok();
    daemon.kill_all();
    let found = Findings::of(daemon.point());
    let dead = found.about(" is dead; ");
    assert_eq!(
        (dead.section.as_str(), dead.verdict.as_str()),
        ("lxcfs", "mend")
    );
    let left = found.about("files of a dead lxcfs are left in ");
    assert_eq!(
        (left.section.as_str(), left.verdict.as_str()),
        ("containers", "mend")
    );
    let started = Started(daemon.point());
    dead.mend();
    let answers = wait_for(patience(20), || daemon.answers().then_some(()));
    assert!(answers.is_some(), "{dead:?}");
    left.mend();
    assert_has_views(&cell, 64);
    let found = Findings::of(daemon.point());
    assert_eq!(found.to_mend("lxcfs").len(), 0, "{found:?}");
    let pid = started.pid().expect("the daemon");
    assert!(
        found
            .about(" is served by ")
            .text
            .contains(&format!("process {pid}"))
    );
}

#[test]
fn a_stopped_lxcfs_is_started() {
    let _turn = alone();
    let dir = tempfile::tempdir().expect("a directory");
    let point = dir.path().join("it's here");
    assert!(
        Findings::of(&point)
            .about("is not mounted at")
            .text
            .ends_with("here")
    );
    run_within(
        Command::new(binary()).arg("prepare").arg(&point),
        patience(20),
    )
    .ok();
    let found = Findings::of(&point);
    let stopped = found.about("is not mounted at");
    assert!(
        stopped
            .text
            .ends_with("containers that start now see the host"),
        "{stopped:?}"
    );
    let started = Started(&point);
    stopped.mend();
    let served = wait_for(patience(20), || {
        let found = Findings::of(&point);
        found.speaks_of(" is served by lxcfs ").then_some(found)
    });
    assert_eq!(served.expect("a live lxcfs").to_mend("lxcfs").len(), 0);
    assert!(started.pid().is_some());
}

#[test]
fn a_wrong_command_line_is_refused() {
    let ran = run_within(
        Command::new(binary()).args(["doctor", "--views"]),
        patience(10),
    );
    assert_eq!(ran.code, Some(2), "{ran:?}");
    assert_eq!(ran.err.lines().count(), 1, "{ran:?}");
}

//! CPUs that come and go: what a container is shown of them is never empty and never apart, and no counter falls.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::common::figures::{Stat, cpu_list, cpuinfo_ids};
use crate::common::{
    Cell, Daemon, Limits, alone, beside_others, patience, report, skip, slowness, thrown_away,
    wait_for,
};

const ROLE: &str = "LXCFS_TEST_PLUG";

/// A file of the reader's directory; it ends when the file is gone.
const GO_ON: &str = "go-on";
/// What it saw, in a file of the directory.
const SEEN: &str = "seen";

/// How long files may tell of different CPUs: as long as one text serves.
const APART: Duration = Duration::from_millis(20);

/// Switches a CPU of the machine on again when dropped.
struct Off(u32);

impl Off {
    fn switch(id: u32) -> Self {
        set_online(id, "0");
        Self(id)
    }
}

impl Drop for Off {
    fn drop(&mut self) {
        set_online(self.0, "1");
    }
}

fn set_online(id: u32, value: &str) {
    let file = format!("/sys/devices/system/cpu/cpu{id}/online");
    fs::write(&file, value).unwrap_or_else(|error| panic!("{file} = {value}: {error}"));
}

/// The CPUs that the container is shown, by file.
fn shown(point: &Path) -> ([BTreeSet<u32>; 4], Stat) {
    let read = |below: &str| fs::read_to_string(point.join(below)).expect("a file");
    let stat = Stat::parse(&read("proc/stat"));
    let nodes = (0..2).map(|id| format!("sys/devices/system/node/node{id}/cpulist"));
    let lists = nodes.filter_map(|below| fs::read_to_string(point.join(below)).ok());
    let files = [
        cpu_list(&read("sys/devices/system/cpu/online")),
        cpuinfo_ids(&read("proc/cpuinfo")),
        stat.ids(),
        lists.flat_map(|list| cpu_list(&list)).collect(),
    ];
    (files, stat)
}

/// What a reader has seen that should not be.
#[derive(Default)]
struct Seen {
    rounds: u64,
    /// What all files told last.
    agreed: BTreeSet<u32>,
    wrong: Vec<String>,
    /// The line of each CPU, when it was last there.
    lines: BTreeMap<u32, Vec<u64>>,
    apart_since: Option<Instant>,
    /// How long files have told of different CPUs at least.
    longest: Duration,
}

impl Seen {
    /// Gives what all files tell, if they agree for the first time.
    fn look(&mut self, point: &Path) -> Option<String> {
        self.rounds += 1;
        let before = Instant::now();
        let (files, stat) = shown(point);
        for (name, cpus) in ["online", "cpuinfo", "stat", "cpulist"].iter().zip(&files) {
            if cpus.is_empty() {
                self.wrong.push(format!("no CPU in {name}: {files:?}"));
            }
        }
        if files.iter().all(|cpus| *cpus == files[0]) {
            self.apart_since = None;
        } else {
            // The CPUs may have changed in the midst of one look.
            let since = *self.apart_since.get_or_insert_with(Instant::now);
            self.longest = self.longest.max(before.saturating_duration_since(since));
        }
        for (id, line) in stat.cpus {
            let last = self.lines.entry(id).or_default();
            if last.iter().zip(&line).any(|(last, now)| now < last) {
                self.wrong
                    .push(format!("cpu{id} from {last:?} to {line:?}"));
            }
            *last = line;
        }
        let agreed = self.apart_since.is_none() && files[0] != self.agreed;
        agreed.then(|| {
            self.agreed.clone_from(&files[0]);
            format!("{:?}", self.agreed)
        })
    }
}

#[test]
#[ignore = "another test runs this one in its container"]
fn process_inside_a_container() {
    let Ok(role) = std::env::var(ROLE) else {
        return;
    };
    let (dir, point) = role.split_once(' ').expect("two directories");
    let (dir, point) = (PathBuf::from(dir), PathBuf::from(point));
    let mut seen = Seen::default();
    while dir.join(GO_ON).exists() {
        if let Some(cpus) = seen.look(&point) {
            fs::write(dir.join("now"), cpus).unwrap();
        }
    }
    let longest = seen.longest.as_millis();
    let text = format!(
        "{} {longest}\n{}\nend\n",
        seen.rounds,
        seen.wrong.join("\n")
    );
    fs::write(dir.join(SEEN), text).unwrap();
}

/// A process in a container that looks at the CPUs all the time.
struct Reader {
    dir: tempfile::TempDir,
    child: Child,
}

impl Reader {
    fn start(cell: &Cell, daemon: &Daemon) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        fs::write(dir.path().join(GO_ON), "").expect("a file");
        let program = std::env::current_exe().expect("this binary");
        let argv = [
            program.to_str().expect("an ASCII path"),
            "--ignored",
            "--exact",
            "--nocapture",
            "plug::process_inside_a_container",
        ];
        let mut command = cell.command(&argv);
        let role = format!("{} {}", dir.path().display(), daemon.point().display());
        command
            .env(ROLE, role)
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        let child = command.spawn().expect("starting a reader");
        Self { dir, child }
    }

    /// Waits until all files tell of these CPUs, and a while longer.
    #[track_caller]
    fn comes_to(&self, cpus: &[u32]) {
        let wanted = format!("{:?}", BTreeSet::from_iter(cpus));
        let now = || fs::read_to_string(self.dir.path().join("now")).unwrap_or_default();
        let there = wait_for(patience(10), || (now() == wanted).then_some(()));
        assert!(there.is_some(), "{} instead of {wanted}", now());
        std::thread::sleep(Duration::from_millis(100) * slowness());
    }

    #[track_caller]
    fn assert_saw_nothing_wrong(self) {
        let seen = self.stop();
        let mut lines = seen.lines();
        let counts = lines.next().and_then(|line| line.split_once(' '));
        let (rounds, apart) = counts.expect("two numbers");
        report(&format!(
            "{rounds} looks at CPUs, files apart for {apart} ms"
        ));
        let wrong: Vec<_> = lines
            .filter(|line| !line.is_empty() && *line != "end")
            .collect();
        assert!(wrong.is_empty(), "{wrong:#?}");
        let apart = Duration::from_millis(apart.parse().expect("a number"));
        assert!(apart <= APART * slowness(), "apart for {apart:?}");
    }

    /// What it saw, by its own words.
    #[track_caller]
    fn stop(mut self) -> String {
        fs::remove_file(self.dir.path().join(GO_ON)).expect("the reader's file");
        let seen = || fs::read_to_string(self.dir.path().join(SEEN)).ok();
        let seen = wait_for(patience(20), || {
            seen().filter(|text| text.ends_with("end\n"))
        });
        let seen = seen.expect("what the reader saw");
        self.child.wait().expect("the end of the reader");
        seen
    }
}

#[test]
fn cpus_come_and_go_and_no_file_is_empty_or_disagrees() {
    if !thrown_away() {
        skip!("the whole machine is changed");
    }
    let _turn = alone();
    let daemon = Daemon::start(&[]);
    let cell = Cell::start(&Limits {
        cpuset: Some("1-2"),
        ..Limits::default()
    });
    let reader = Reader::start(&cell, &daemon);
    reader.comes_to(&[1, 2]);
    let first = Off::switch(1);
    reader.comes_to(&[2]);
    let second = Off::switch(2);
    reader.comes_to(&[0, 3]);
    drop(first);
    let is_v1 = cell.cgroup.is_v1("cpuset");
    // cgroup v1 forgets a CPU that has gone, and its threads stay where it has moved them.
    if !is_v1 {
        reader.comes_to(&[1]);
    }
    drop(second);
    reader.assert_saw_nothing_wrong();
}

#[test]
fn the_line_of_a_cpu_that_comes_back_goes_on_where_it_was() {
    let _turn = beside_others();
    let daemon = Daemon::start(&[]);
    let cell = Cell::start(&Limits {
        cpuset: Some("0"),
        ..Limits::default()
    });
    if !cell.cgroup.parent().cpuset().is_superset(&[0, 1].into()) {
        skip!("needs CPUs 0 and 1");
    }
    let reader = Reader::start(&cell, &daemon);
    reader.comes_to(&[0]);
    for (list, cpus) in [("1", &[1][..]), ("0-1", &[0, 1]), ("1", &[1]), ("0", &[0])] {
        cell.cgroup.set_cpuset(list);
        reader.comes_to(cpus);
        // What a CPU had is kept for the next server.
        daemon.signal(Signal::SIGUSR1);
    }
    reader.assert_saw_nothing_wrong();
}

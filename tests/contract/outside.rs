//! The host's side: brings the checker into a container, tells it the truth, takes in its findings.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::unistd::gettid;
use tempfile::TempDir;

use crate::common::docker::SIX_FILES;
use crate::common::{Cgroup, Daemon, Inside, patience, report, run, run_within};
use crate::findings::{Findings, KERNEL, Verdict};
use crate::inside::{CALL, EVERYTHING, FIGURES, NEXT, QUESTION, ROLE};
use crate::truth::Truth;

/// This program with the libraries it needs, to run in any root file system that has the directory bound at the same
/// path.
pub struct Kit {
    dir: TempDir,
    loader: String,
    task: &'static str,
}

impl Kit {
    /// For all items.
    pub fn new() -> Self {
        Self::with_task(EVERYTHING)
    }

    /// Without those about how files behave, which no limit changes and which take long under emulation.
    pub fn for_figures() -> Self {
        Self::with_task(FIGURES)
    }

    fn with_task(task: &'static str) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("lxcfs-contract-")
            .tempdir()
            .expect("a directory");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755))
            .expect("a directory for everybody");
        let program = std::env::current_exe().expect("this program");
        fs::copy(&program, dir.path().join("contract")).expect("copying this program");
        let maps = fs::read_to_string("/proc/self/maps").expect("what is loaded");
        let loaded: BTreeSet<&str> = maps
            .lines()
            .filter_map(|line| line.split_whitespace().nth(5))
            .filter(|path| path.contains(".so"))
            .collect();
        let mut loader = None;
        for library in loaded {
            let name = Path::new(library)
                .file_name()
                .expect("a file")
                .to_str()
                .expect("ASCII");
            fs::copy(library, dir.path().join(name)).expect("copying a library");
            if name.starts_with("ld") {
                loader = Some(name.to_owned());
            }
        }
        Self {
            dir,
            loader: loader.expect("a program with shared libraries"),
            task,
        }
    }

    pub fn path(&self) -> &str {
        self.dir.path().to_str().expect("an ASCII path")
    }

    /// The command line of the checker.
    pub fn argv(&self) -> Vec<String> {
        let path = self.path();
        let words = ["--library-path", path];
        let checker = ["--ignored", "--exact", "--nocapture", "inside::checker"];
        std::iter::once(format!("{path}/{}", self.loader))
            .chain(words.map(str::to_owned))
            .chain([format!("{path}/contract")])
            .chain(checker.map(str::to_owned))
            .collect()
    }

    /// Runs the checker in a container whose figures are those of `boundary`. `at_sample` is called before each sample
    /// with its number, when the checker does nothing.
    #[track_caller]
    pub fn check(
        &self,
        inside: &Inside,
        boundary: &Cgroup,
        at_sample: impl FnMut(usize),
    ) -> Findings {
        let argv = self.argv();
        let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
        let mut command = inside.command_alone(&argv);
        command.env(ROLE, self.task);
        let findings = converse(&mut command, boundary, at_sample);
        assert_eq!(findings.0["F02"] == Verdict::Ok, self.task == EVERYTHING);
        findings
    }
}

/// Answers the questions of a checker until it ends.
fn converse(
    command: &mut Command,
    boundary: &Cgroup,
    mut at_sample: impl FnMut(usize),
) -> Findings {
    let errors = tempfile::NamedTempFile::new().expect("a file");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(errors.reopen().expect("a second handle"))
        .spawn()
        .expect("starting the checker");
    // Answers come as those of the daemon's threads do, who do not interrupt others on a busy machine.
    let own = gettid().to_string();
    run(Command::new("chrt").args(["--batch", "--pid", "0", &own])).ok();
    let mut answers = child.stdin.take().expect("a pipe");
    let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let mut findings = Findings::default();
    let (mut samples, mut other) = (0, Vec::new());
    for line in lines.map_while(Result::ok) {
        if line == NEXT {
            at_sample(samples);
            samples += 1;
            let _ = writeln!(answers);
        } else if line == CALL {
            let _ = writeln!(answers);
        } else if line == QUESTION {
            let _ = writeln!(answers, "{}", Truth::of(boundary).to_line());
        } else if !findings.take(&line) {
            other.push(line);
        }
    }
    let status = child.wait().expect("the end of the checker");
    let errors = fs::read_to_string(errors.path()).unwrap_or_default();
    assert!(
        status.success(),
        "the checker: {status}\n{}\n{errors}",
        other.join("\n")
    );
    findings.close();
    findings
}

/// The files that `-v` can bind over `/proc`, as container engines allow these only.
pub const VOLUMES: [&str; 7] = [
    "uptime",
    "swaps",
    "stat",
    "diskstats",
    "meminfo",
    "cpuinfo",
    "loadavg",
];

/// Everything that a daemon serves and that can be bound, as paths below its mount point: the files of `proc`, the
/// directories of `/sys/devices/system` as a whole, and the statistics of disks.
fn served(point: &Path) -> Vec<String> {
    fn entries(dir: &Path) -> Vec<PathBuf> {
        let entries = fs::read_dir(dir).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect()
    }
    fn files(dir: &Path, found: &mut Vec<PathBuf>) {
        for path in entries(dir) {
            if path.is_dir() {
                files(&path, found);
            } else {
                found.push(path);
            }
        }
    }
    let mut found = entries(&point.join("sys/devices/system"));
    files(&point.join("proc"), &mut found);
    let disks = entries(&point.join("sys/block"));
    found.extend(disks.iter().map(|disk| disk.join("stat")));
    let below = |path: &PathBuf| {
        let path = path.strip_prefix(point).expect("below the mount point");
        path.to_str().expect("ASCII").to_owned()
    };
    found.iter().map(below).collect()
}

/// Binds from outside what an engine has not bound; the daemon's mount point lies at the same path in the container.
#[track_caller]
pub fn bind_rest(daemon: &Daemon, inside: &Inside) {
    // The shell and its tools are the container's.
    let script = format!(
        "for path in {}; do if [ -e /$path ] && ! grep -q \" /$path fuse.lxcfs \" /proc/mounts; then \
         mount --bind '{}'/$path /$path; fi; done",
        served(daemon.point()).join(" "),
        daemon.point().display()
    );
    let init = inside.init.to_string();
    run_within(
        Command::new("nsenter")
            .args(["--target", &init, "--mount", "--pid", "--"])
            .args(["sh", "-ec", &script]),
        patience(60),
    )
    .ok();
}

/// Prints the row of a configuration for the table of all, and fails if an item has failed.
#[track_caller]
pub fn conclude(configuration: &str, findings: &Findings) {
    let count = |is: fn(&Verdict) -> bool| findings.with(is).len();
    let warned = findings.with(|verdict| matches!(verdict, Verdict::Warn(_)));
    report(&format!(
        "contract | {configuration} | {} ok | {} failed {} | kernel: {} | not served: {}",
        count(|verdict| *verdict == Verdict::Ok),
        findings.failed().len(),
        findings.failed().join(" "),
        warned.join(" "),
        findings.skipped().join(" "),
    ));
    let failed: Vec<String> = findings
        .lines()
        .into_iter()
        .filter(|line| line.contains(" FAIL: "))
        .collect();
    for line in &failed {
        report(&format!("contract | {configuration} | {line}"));
    }
    assert!(failed.is_empty(), "{configuration}:\n{}", failed.join("\n"));
    let odd: Vec<_> = warned
        .iter()
        .filter(|item| !KERNEL.contains(item))
        .collect();
    assert!(odd.is_empty(), "no matter of the kernel: {odd:?}");
    for item in ["M17", "C01", "S08", "T08", "L04", "D02"] {
        assert_eq!(
            findings.0[item],
            Verdict::Ok,
            "{configuration}: {item} was not checked"
        );
    }
}

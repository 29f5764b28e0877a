//! Readers that watch what they read: every error, every wait, every figure that does not fit the one before.
//!
//! They run as processes inside containers, which this test binary starts with itself.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::docker::{Container, Docker, Image, options};
use crate::common::figures::{Stat, keyed, uptime};
use crate::common::{Inside, images, patience, report, unique, wait_for};

const ROLE: &str = "LXCFS_TEST_WATCH";

/// A file of the watcher's directory; it ends when the file is gone.
const GO_ON: &str = "go-on";
/// A file of the directory that is there once all files have been read.
const BEGUN: &str = "begun";
/// A file of the directory that asks for a look at everything, and the one with the answer.
const ASKED: &str = "asked";
const ANSWER: &str = "answer";
/// Ends what the readers saw.
const END: &str = "\nend\n";

const FILES: [&str; 8] = [
    "meminfo",
    "stat",
    "uptime",
    "cpuinfo",
    "diskstats",
    "loadavg",
    "swaps",
    "vmstat",
];

/// What the readers of one container saw.
#[derive(Debug, Default, Clone)]
pub struct Seen {
    pub reads: u64,
    pub errors: u64,
    pub longest: Duration,
    /// The first things that were wrong.
    pub wrong: Vec<String>,
}

impl Seen {
    fn note(&mut self, wrong: String) {
        self.errors += 1;
        if self.wrong.len() < 5 {
            self.wrong.push(wrong);
        }
    }

    pub fn add(&mut self, other: Self) {
        self.reads += other.reads;
        self.errors += other.errors;
        self.longest = self.longest.max(other.longest);
        self.wrong.extend(other.wrong);
    }

    /// One line for the report of a scenario.
    pub fn report(&self, scenario: &str) {
        let longest_msec = self.longest.as_secs_f64() * 1e3;
        report(&format!(
            "{scenario}: {} reads, {} errors, longest wait {longest_msec:.1} ms",
            self.reads, self.errors
        ));
    }

    #[track_caller]
    pub fn assert_nothing_wrong(&self) {
        assert!(self.reads > 0, "nobody read");
        assert!(
            self.errors == 0,
            "{} errors: {:#?}",
            self.errors,
            self.wrong
        );
    }
}

/// Readers inside a container, ended and asked by [`Watcher::stop`].
#[derive(Debug)]
pub struct Watcher {
    dir: tempfile::TempDir,
    /// The readers, or what started the container they run in.
    child: Option<Child>,
    /// Runs until this is dropped.
    _container: Option<Container>,
}

/// This program's arguments as a reader.
const ARGUMENTS: [&str; 4] = [
    "--ignored",
    "--exact",
    "--nocapture",
    "watcher::process_inside_a_container",
];

/// Where a container with a root file system of its own has the program and the directory.
const PROGRAM: &str = "/watcher";
const DIR: &str = "/watch";

fn directory() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    fs::write(dir.path().join(GO_ON), "").expect("a file");
    dir
}

fn program() -> String {
    let program = std::env::current_exe().expect("this binary");
    program.to_str().expect("an ASCII path").to_owned()
}

fn role(dir: &Path, files: &Path, readers: usize, pause: Duration) -> String {
    let (dir, files) = (dir.display(), files.display());
    format!("{dir} {files} {readers} {}", pause.as_micros())
}

impl Watcher {
    /// Starts `readers` readers of the files below `files` (a `proc` directory), each with a pause between reads.
    pub fn start(inside: &Inside, files: &Path, readers: usize, pause: Duration) -> Self {
        let dir = directory();
        let program = program();
        let argv: Vec<&str> = [program.as_str()].into_iter().chain(ARGUMENTS).collect();
        let child = inside
            .command(&argv)
            .env(ROLE, role(dir.path(), files, readers, pause))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("starting a watcher");
        Self {
            dir,
            child: Some(child),
            _container: None,
        }
    }

    /// Starts a Docker container with the files of the daemon at `point` bound over its own, and a reader of them.
    #[track_caller]
    pub fn in_docker(docker: &'static Docker, point: &Path, pause: Duration) -> Self {
        let dir = directory();
        let mut line = options("-m 200m --cpus 1");
        let mut bind = |what: String| line.extend(["-v".to_owned(), what]);
        // runc lets nothing be mounted over vmstat: the kernel's own is read there.
        for file in FILES.into_iter().filter(|file| *file != "vmstat") {
            bind(format!("{}/proc/{file}:/proc/{file}:ro", point.display()));
        }
        bind(format!("{}:{PROGRAM}:ro", program()));
        bind(format!("{}:{DIR}", dir.path().display()));
        let role = role(Path::new(DIR), Path::new("/proc"), 1, pause);
        line.extend(["-e".to_owned(), format!("{ROLE}={role}")]);
        let argv: Vec<&str> = [PROGRAM].into_iter().chain(ARGUMENTS).collect();
        let container = docker.container_running(Image::Debian, &line, &argv);
        Self {
            dir,
            child: None,
            _container: Some(container),
        }
    }

    /// The same with LXC and the mount hook of the lxcfs package.
    #[track_caller]
    pub fn in_lxc(point: &Path, pause: Duration) -> Self {
        let dir = directory();
        let root = dir.path().join("root");
        fs::create_dir(&root).expect("a directory");
        images::make_busybox(&root).expect("a root file system");
        for (name, target) in [("lib", "usr/lib"), ("lib64", "usr/lib64")] {
            std::os::unix::fs::symlink(target, root.join(name)).expect("a link");
        }
        let (shown, program) = (dir.path().display(), program());
        let config = dir.path().join("config");
        let text = format!(
            "lxc.include = /usr/share/lxc/config/common.conf\nlxc.rootfs.path = dir:{}\nlxc.net.0.type = none\n\
             lxc.apparmor.profile = unconfined\nlxc.uts.name = test\n\
             lxc.mount.entry = /usr usr none bind,ro,create=dir 0 0\n\
             lxc.mount.entry = {shown} watch none bind,create=dir 0 0\n\
             lxc.mount.entry = {program} watcher none bind,ro,create=file 0 0\n",
            root.display()
        );
        fs::write(&config, text).expect("a configuration");
        let role = role(Path::new(DIR), Path::new("/proc"), 1, pause);
        // The hook knows one place only; a mount namespace puts ours there without touching the machine's own.
        fs::create_dir_all("/var/lib/lxcfs").expect("the place the hook looks at");
        let script = format!(
            "mount --bind '{}' /var/lib/lxcfs && exec lxc-execute -P {shown} -n {} -f {} -- \
             /bin/sh -c '{ROLE}=\"{role}\" exec {PROGRAM} {}'",
            point.display(),
            unique("lxc"),
            config.display(),
            ARGUMENTS.join(" ")
        );
        let child = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-ec", &script])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("starting a container");
        Self {
            dir,
            child: Some(child),
            _container: None,
        }
    }

    /// Waits until the first files have been read.
    #[track_caller]
    pub fn reads(&self) {
        let begun = wait_for(patience(60), || {
            self.dir.path().join(BEGUN).exists().then_some(())
        });
        assert!(begun.is_some(), "the readers do not begin");
    }

    /// Has all files read once more. Says whether that went well, and how many mounts the container has.
    #[track_caller]
    pub fn look(&self) -> (bool, usize) {
        let (asked, answer) = (self.dir.path().join(ASKED), self.dir.path().join(ANSWER));
        let _ = fs::remove_file(&answer);
        fs::write(asked, "").expect("a file");
        let answer = wait_for(patience(10), || fs::read_to_string(&answer).ok());
        let answer = answer.expect("an answer of the reader");
        let (errors, mounts) = answer.split_once(' ').expect("two numbers");
        (errors == "0", mounts.parse().expect("a number"))
    }

    /// Ends the readers and says what they saw.
    #[track_caller]
    pub fn stop(mut self) -> Seen {
        fs::remove_file(self.dir.path().join(GO_ON)).expect("the readers' file");
        let seen = self.dir.path().join("seen");
        let Some(text) = wait_for(patience(60), || {
            let text = fs::read_to_string(&seen).ok()?;
            text.ends_with(END).then_some(text)
        }) else {
            if let Some(child) = &mut self.child {
                let _ = child.kill();
            }
            panic!("a reader hangs");
        };
        if let Some(child) = &mut self.child {
            let _ = child.wait();
        }
        let mut lines = text.trim_end_matches(END).lines();
        let mut next = || {
            let line = lines.next().and_then(|line| line.parse::<u64>().ok());
            line.expect("a number")
        };
        let (reads, errors, longest) = (next(), next(), next());
        Seen {
            reads,
            errors,
            longest: Duration::from_micros(longest),
            wrong: lines.map(str::to_owned).collect(),
        }
    }
}

#[test]
#[ignore = "other tests run this one in their containers"]
fn process_inside_a_container() {
    let Ok(role) = std::env::var(ROLE) else {
        return;
    };
    let words: Vec<&str> = role.split(' ').collect();
    let (dir, files) = (Path::new(words[0]), Path::new(words[1]));
    let (readers, pause): (usize, u64) = (words[2].parse().unwrap(), words[3].parse().unwrap());
    let pause = Duration::from_micros(pause);
    let mut all = Seen::default();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..readers)
            .map(|number| scope.spawn(move || watch(dir, files, number, pause)))
            .collect();
        for thread in threads {
            all.add(thread.join().unwrap());
        }
    });
    let text = format!(
        "{}\n{}\n{}\n",
        all.reads,
        all.errors,
        all.longest.as_micros()
    );
    fs::write(dir.join("seen"), text + &all.wrong.join("\n") + END).unwrap();
}

/// Reads one file after the other, over and over.
fn watch(dir: &Path, files: &Path, number: usize, pause: Duration) -> Seen {
    let mut seen = Seen::default();
    let mut before = Before::default();
    let mut question = None;
    for round in number.. {
        if !dir.join(GO_ON).exists() {
            return seen;
        }
        let name = FILES[round % FILES.len()];
        // Small pieces make a text that is read by several requests.
        let piece = [16384, 16384, 16384, 300][round / FILES.len() % 4];
        let start = Instant::now();
        let read = read_in_pieces(&files.join(name), piece);
        seen.longest = seen.longest.max(start.elapsed());
        seen.reads += 1;
        match read {
            Ok(text) => {
                let fits = AssertUnwindSafe(|| before.fits(name, &text, start));
                match catch_unwind(fits) {
                    Ok(Ok(())) => {}
                    Ok(Err(wrong)) => seen.note(format!("{name}: {wrong}")),
                    Err(_) => seen.note(format!("{name} is garbled: {text:?}")),
                }
            }
            Err(error) => seen.note(format!("{name}: {error}")),
        }
        if seen.reads == FILES.len() as u64 {
            fs::write(dir.join(BEGUN), "").unwrap();
        }
        match question {
            None if number == 0 && dir.join(ASKED).exists() => {
                question = Some((round, seen.errors));
            }
            Some((since, errors)) if round == since + FILES.len() => {
                let mounts = fs::read_to_string("/proc/self/mountinfo")
                    .unwrap()
                    .lines()
                    .count();
                fs::remove_file(dir.join(ASKED)).unwrap();
                let unfinished = dir.join("unfinished");
                fs::write(&unfinished, format!("{} {mounts}", seen.errors - errors)).unwrap();
                fs::rename(unfinished, dir.join(ANSWER)).unwrap();
                question = None;
            }
            _ => {}
        }
        std::thread::sleep(pause);
    }
    seen
}

fn read_in_pieces(path: &Path, piece: usize) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    let mut text = Vec::new();
    let mut buffer = vec![0; piece];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(String::from_utf8_lossy(&text).into_owned()),
            count => text.extend_from_slice(&buffer[..count]),
        }
    }
}

/// The figures that were read last.
#[derive(Debug, Default)]
struct Before {
    counters: BTreeMap<String, u64>,
    constants: BTreeMap<String, String>,
    capacity: Option<(Instant, u64)>,
}

impl Before {
    /// Whether a text that was `asked` for then is whole and follows from the one before.
    fn fits(&mut self, name: &str, text: &str, asked: Instant) -> Result<(), String> {
        if !text.ends_with('\n') && !text.is_empty() {
            return Err(format!(
                "cut off: {:?}",
                &text[text.len().saturating_sub(80)..]
            ));
        }
        match name {
            "meminfo" => {
                self.same("lines of meminfo", &text.lines().count().to_string())?;
                self.same("MemTotal", text.lines().next().unwrap_or_default())
            }
            "cpuinfo" => self.same("processors", &text.matches("processor").count().to_string()),
            "swaps" => self.same("swaps", &text.lines().count().to_string()),
            "loadavg" => match text.split_whitespace().count() {
                5 => Ok(()),
                _ => Err(text.to_owned()),
            },
            "uptime" => {
                let (up, idle) = uptime(text);
                self.grows("uptime", (up * 100.0).round() as u64)?;
                self.grows("idle", (idle * 100.0).round() as u64)
            }
            "diskstats" => {
                for line in text.lines() {
                    let words: Vec<&str> = line.split_whitespace().collect();
                    if words.len() < 14 {
                        return Err(line.to_owned());
                    }
                    for (column, word) in words
                        .iter()
                        .enumerate()
                        .skip(3)
                        .filter(|(column, _)| *column != 11)
                    {
                        let value = word.parse().map_err(|_| line.to_owned())?;
                        self.grows(&format!("{} column {column}", words[2]), value)?;
                    }
                }
                Ok(())
            }
            "stat" => self.stat_fits(text, asked),
            "vmstat" => {
                self.same("lines of vmstat", &text.lines().count().to_string())?;
                for (name, value) in keyed(text) {
                    // All others are counters.
                    if !name.starts_with("nr_") && name != "workingset_nodes" {
                        self.grows(&name, value)?;
                    }
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn stat_fits(&mut self, text: &str, asked: Instant) -> Result<(), String> {
        for key in ["cpu ", "intr ", "ctxt ", "btime ", "processes ", "softirq "] {
            let line = text.lines().find(|line| line.starts_with(key));
            let line = line.ok_or_else(|| format!("no {key}in {text:?}"))?;
            for (column, word) in line.split_whitespace().enumerate().skip(1) {
                let value = word.parse().map_err(|_| line.to_owned())?;
                self.grows(&format!("{key}column {column}"), value)?;
            }
        }
        let stat = Stat::parse(text);
        let now = (asked, Stat::capacity(&stat.total));
        // A spike: more time than has passed since the last look. Times go by ticks, and texts may be 5 ms old.
        if let Some((then, before)) = self.capacity {
            let most = then.elapsed().as_secs_f64() * 100.0 * stat.cpus.len() as f64;
            let grown = now.1.saturating_sub(before);
            if grown as f64 > most + 3.0 + 2.0 * stat.cpus.len() as f64 {
                return Err(format!("{grown} ticks in a time of {most}"));
            }
        }
        self.capacity = Some(now);
        Ok(())
    }

    fn grows(&mut self, name: &str, value: u64) -> Result<(), String> {
        match self.counters.insert(name.to_owned(), value) {
            Some(before) if before > value => Err(format!("{name} went from {before} to {value}")),
            _ => Ok(()),
        }
    }

    fn same(&mut self, name: &str, value: &str) -> Result<(), String> {
        match self.constants.insert(name.to_owned(), value.to_owned()) {
            Some(before) if before != value => {
                Err(format!("{name} went from {before:?} to {value:?}"))
            }
            _ => Ok(()),
        }
    }
}

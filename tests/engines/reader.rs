//! This test binary as a process inside a container: it reads in ways a shell cannot.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SigHandler, Signal, signal};

use crate::common::load::{Figures, STACK_BYTES, hammer, hammer_by};
use crate::common::{Inside, patience, wait_for};

const ROLE: &str = "LXCFS_TEST_ROLE";

/// Reads all the time with many threads; killed or left to end.
#[derive(Debug, Clone, Copy)]
pub struct Hammer {
    pub readers: usize,
    pub time: Duration,
}

/// A process started by [`start`] and the file it writes its results to.
#[derive(Debug)]
pub struct Reader {
    pub child: Child,
    dir: tempfile::TempDir,
}

impl Reader {
    fn start(inside: &Inside, role: &str) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let program = std::env::current_exe().expect("this binary");
        let program = program.to_str().expect("an ASCII path");
        let role = format!("{role} {}", dir.path().join("result").display());
        let argv = [
            program,
            "--ignored",
            "--exact",
            "--nocapture",
            "reader::process_inside_a_container",
        ];
        let mut command: Command = inside.command(&argv);
        let child = command
            .env(ROLE, role)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("starting a reader");
        Self { child, dir }
    }

    pub fn hammer(inside: &Inside, path: &str, hammer: Hammer) -> Self {
        Self::start(
            inside,
            &format!(
                "hammer {path} {} {}",
                hammer.readers,
                hammer.time.as_millis()
            ),
        )
    }

    /// Does what the kernel asks the daemon about each time, other than reading.
    pub fn ask(inside: &Inside, ask: &str, path: &str, hammer: Hammer) -> Self {
        let Hammer { readers, time } = hammer;
        let role = format!("{ask} {path} {readers} {}", time.as_millis());
        Self::start(inside, &role)
    }

    /// Has this many threads that do nothing, until it is dropped.
    #[track_caller]
    pub fn idle(inside: &Inside, threads: usize) -> Self {
        let reader = Self::start(inside, &format!("idle {threads}"));
        let result = reader.result(patience(60));
        assert_eq!(result.as_deref(), Some("idle\n"));
        reader
    }

    /// Holds this many handles open, each with a snapshot read, until it is dropped.
    #[track_caller]
    pub fn holding(inside: &Inside, path: &str, handles: usize) -> Self {
        let reader = Self::start(inside, &format!("hold {path} {handles}"));
        let result = reader.result(patience(60));
        assert_eq!(result.as_deref(), Some("holding\n"));
        reader
    }

    /// Tries to have a lease on each file below a directory, and tells of the files and of those
    /// on which it got one.
    #[track_caller]
    pub fn leasing(inside: &Inside, directory: &str) -> (usize, Vec<String>) {
        let reader = Self::start(inside, &format!("lease {directory}"));
        let result = reader.result(patience(60)).expect("a reader that ends");
        let mut words = result.split_whitespace().map(str::to_owned);
        let files = words.next().and_then(|count| count.parse().ok());
        (files.expect("a count"), words.collect())
    }

    /// Opens a file at once, but tries to have a lease on it only when its standard input ends.
    #[track_caller]
    pub fn leasing_later(inside: &Inside, path: &str) -> Self {
        let reader = Self::start(inside, &format!("lease-later {path}"));
        assert!(
            wait_for(patience(20), || reader
                .dir
                .path()
                .join("opened")
                .exists()
                .then_some(()))
            .is_some()
        );
        reader
    }

    /// What became of that.
    #[track_caller]
    pub fn lease(mut self) -> String {
        drop(self.child.stdin.take());
        self.result(patience(20)).expect("a reader that ends")
    }

    /// Has a lease on every file in these directories on which it gets one, until it is dropped.
    #[track_caller]
    pub fn keeping_leases(inside: &Inside, directories: &[&Path]) -> (Self, usize) {
        let directories = directories.iter().map(|path| path.display().to_string());
        let directories: Vec<_> = directories.collect();
        let reader = Self::start(inside, &format!("keep-leases {}", directories.join(":")));
        let result = reader.result(patience(20)).expect("a count");
        (reader, result.trim().parse().expect("a count"))
    }

    /// Takes a lock on a file and keeps it until it is dropped.
    #[track_caller]
    pub fn locking(inside: &Inside, path: &str) -> Self {
        let reader = Self::start(inside, &format!("lock {path}"));
        let result = reader.result(patience(20));
        assert_eq!(result.as_deref(), Some("locked\n"));
        reader
    }

    /// Sets triggers without a pause, and keeps those that it gets, until it is dropped.
    #[track_caller]
    pub fn with_triggers(inside: &Inside, path: &str) -> Self {
        let reader = Self::start(inside, &format!("triggers {path}"));
        assert_eq!(reader.result(patience(60)).as_deref(), Some("refused\n"));
        reader
    }

    /// Has a mount namespace of its own with a gigabyte of `mountinfo`, and reads a file all the
    /// time until it is dropped. `directory` is where it mounts.
    #[track_caller]
    pub fn with_mounts(inside: &Inside, directory: &Path, path: &str) -> Self {
        let reader = Self::start(inside, &format!("mounts {} {path}", directory.display()));
        let result = reader.result(patience(60));
        assert_eq!(result.as_deref(), Some("mounted\n"));
        reader
    }

    fn result(&self, limit: Duration) -> Option<String> {
        wait_for(limit, || {
            fs::read_to_string(self.dir.path().join("result"))
                .ok()
                .filter(|text| text.ends_with('\n'))
        })
    }

    /// Waits for a hammer's end.
    #[track_caller]
    pub fn figures(mut self) -> Figures {
        let line = self.result(patience(60)).expect("a reader that ends");
        let _ = self.child.wait();
        Figures::from_line(&line).unwrap_or_else(|| panic!("{line}"))
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        // A holder ends when its standard input does; whatever else is left goes with the container.
        drop(self.child.stdin.take());
        if wait_for(patience(2), || self.child.try_wait().ok().flatten()).is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn be_idle(threads: usize, result: &str) {
    for _ in 0..threads {
        let small = thread::Builder::new().stack_size(STACK_BYTES);
        small.spawn(loop_forever).expect("a thread");
    }
    fs::write(result, "idle\n").expect("writing the result");
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}

fn loop_forever() -> ! {
    loop {
        thread::park();
    }
}

/// One of the requests beside those of reading, which the kernel sends each time.
fn ask(which: &str, path: &Path) -> io::Result<usize> {
    match which {
        "ioctl" => Ok(usize::from(!File::open(path)?.is_terminal())),
        "lookup" => Ok(usize::from(!path.with_file_name("nothing").exists())),
        _ => panic!("no such request: {which}"),
    }
}

fn hold(path: &Path, handles: usize, result: &str) {
    let mut buffer = [0; 100];
    let open: Vec<File> = (0..handles)
        .map(|_| {
            let mut file = File::open(path).expect("opening");
            assert!(file.read(&mut buffer).expect("reading") > 0);
            file
        })
        .collect();
    fs::write(result, "holding\n").expect("writing the result");
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    drop(open);
}

fn set_trigger(path: &str) -> std::io::Result<File> {
    let mut file = File::options().read(true).write(true).open(path)?;
    file.write_all(b"some 500000 2000000\0").map(|()| file)
}

/// Takes a lease of this kind, or ends one.
fn set_lease(file: &File, kind: libc::c_int) -> bool {
    // SAFETY: takes an open fd and a number.
    unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, kind) == 0 }
}

/// The kinds of lease that the kernel grants on an open file.
fn leases(file: &File) -> Vec<&'static str> {
    [(libc::F_WRLCK, "write"), (libc::F_RDLCK, "read")]
        .into_iter()
        .filter(|(kind, _)| set_lease(file, *kind) && set_lease(file, libc::F_UNLCK))
        .map(|(_, name)| name)
        .collect()
}

/// All files below a directory that can be opened, and the leases on them.
fn lease_all(directory: &Path) -> (usize, Vec<String>) {
    let (mut files, mut granted) = (0, Vec::new());
    let mut open = vec![directory.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            let Ok(kind) = entry.file_type() else {
                continue;
            };
            if kind.is_dir() {
                open.push(entry.path());
            } else if let Some(file) = File::open(entry.path()).ok().filter(|_| kind.is_file()) {
                files += 1;
                let leases = leases(&file).into_iter();
                granted.extend(leases.map(|kind| format!("{kind}:{}", entry.path().display())));
            }
        }
    }
    (files, granted)
}

/// Mounts 32768 times what the kernel needs 28 kB each to describe.
fn mount_a_lot(directory: &Path) {
    let bind = |from: &Path, to: &Path, flags| {
        mount(
            Some(from),
            to,
            None::<&str>,
            MsFlags::MS_BIND | flags,
            None::<&str>,
        )
        .expect("mounting");
    };
    unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace");
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>).expect("private mounts");
    mount(
        None::<&str>,
        directory,
        Some("tmpfs"),
        MsFlags::empty(),
        None::<&str>,
    )
    .expect("a tmpfs");
    let mut deep = directory.to_owned();
    // The kernel writes four bytes for a blank.
    deep.extend(std::iter::repeat_n(" ".repeat(250), 14));
    fs::create_dir_all(&deep).expect("directories");
    for round in 0..15 {
        let next = deep.join(round.to_string());
        fs::create_dir(&next).expect("a directory");
        bind(&deep, &next, MsFlags::MS_REC);
    }
}

#[test]
#[ignore = "other tests run this one in their containers"]
fn process_inside_a_container() {
    let Ok(role) = std::env::var(ROLE) else {
        return;
    };
    match role.split(' ').collect::<Vec<_>>()[..] {
        ["hammer", path, readers, millis, result] => {
            let time = Duration::from_millis(millis.parse().expect("milliseconds"));
            let figures = hammer(Path::new(path), readers.parse().expect("a count"), time);
            fs::write(result, figures.to_line() + "\n").expect("writing the result");
        }
        [which @ ("ioctl" | "lookup"), path, readers, millis, result] => {
            let time = Duration::from_millis(millis.parse().expect("milliseconds"));
            let path = Path::new(path);
            let figures = hammer_by(readers.parse().expect("a count"), time, |_| {
                ask(which, path)
            });
            fs::write(result, figures.to_line() + "\n").expect("writing the result");
        }
        ["idle", threads, result] => be_idle(threads.parse().expect("a count"), result),
        ["hold", path, handles, result] => {
            hold(Path::new(path), handles.parse().expect("a count"), result);
        }
        ["lease", directory, result] => {
            let (files, granted) = lease_all(Path::new(directory));
            let text = format!("{files} {}\n", granted.join(" "));
            fs::write(result, text).expect("writing the result");
        }
        ["lease-later", path, result] => {
            let file = File::open(path).expect("opening");
            fs::write(Path::new(result).with_file_name("opened"), "").expect("a sign");
            let _ = std::io::stdin().read_to_end(&mut Vec::new());
            fs::write(result, format!("{:?}\n", leases(&file))).expect("writing the result");
        }
        ["keep-leases", directories, result] => {
            // SAFETY: no handler is set that could run at a wrong time.
            unsafe { signal(Signal::SIGIO, SigHandler::SigIgn) }.expect("ignoring SIGIO");
            let entries = directories
                .split(':')
                .flat_map(fs::read_dir)
                .flatten()
                .flatten();
            // Processes enter a cgroup by these.
            let others = entries.filter(|entry| {
                !["cgroup.procs", "tasks"]
                    .map(OsStr::new)
                    .contains(&&*entry.file_name())
            });
            let files = others.filter_map(|entry| File::open(entry.path()).ok());
            let leased = |file: &File| set_lease(file, libc::F_WRLCK);
            let leased: Vec<_> = files.filter(leased).collect();
            fs::write(result, format!("{}\n", leased.len())).expect("writing the result");
            let _ = std::io::stdin().read_to_end(&mut Vec::new());
        }
        ["triggers", path, result] => {
            let mut kept = Vec::new();
            while let Ok(trigger) = set_trigger(path) {
                kept.push(trigger);
                assert!(kept.len() < 5000, "no limit");
            }
            assert!(!kept.is_empty());
            fs::write(result, "refused\n").expect("writing the result");
            let path = path.to_owned();
            std::thread::spawn(move || {
                loop {
                    let _ = set_trigger(&path);
                }
            });
            let _ = std::io::stdin().read_to_end(&mut Vec::new());
        }
        ["lock", path, result] => {
            let file = File::open(path).expect("opening");
            let lock = Flock::lock(file, FlockArg::LockExclusive).expect("locking");
            fs::write(result, "locked\n").expect("writing the result");
            let _ = std::io::stdin().read_to_end(&mut Vec::new());
            drop(lock);
        }
        ["mounts", directory, path, result] => {
            mount_a_lot(Path::new(directory));
            let path = path.to_owned();
            // The first thread of this process is still in the namespace of the host.
            let mut process = Command::new("sleep").arg("1000").spawn().expect("sleep");
            fs::write(result, "mounted\n").expect("writing the result");
            std::thread::spawn(move || hammer(Path::new(&path), 4, Duration::MAX));
            let _ = std::io::stdin().read_to_end(&mut Vec::new());
            let _ = process.kill().and_then(|()| process.wait());
        }
        _ => panic!("no such role: {role}"),
    }
}

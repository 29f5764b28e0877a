//! The host suspends: all processes are frozen, the daemon's before those that wait in poll(2).

use std::fs::{self, File};
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::common::{Cgroup, Daemon, beside_others, patience, skip, wait_for};

/// Names the directory whose files a process polls, and the file that it makes as soon as it has.
const FILES: &str = "LXCFS_TEST_POLLED";
const READY: &str = "LXCFS_TEST_POLLS";

#[test]
#[ignore = "another test runs this one in a process of its own"]
fn process_that_polls() {
    let (Some(files), Some(ready)) = (std::env::var_os(FILES), std::env::var_os(READY)) else {
        return;
    };
    let mut paths = Vec::new();
    find(Path::new(&files), &mut paths);
    // Pressure files without a trigger end poll(2) at once, as the kernel's do.
    paths.retain(|path| !path.to_string_lossy().contains("/pressure/"));
    let files: Vec<_> = paths
        .iter()
        .filter_map(|path| File::open(path).ok())
        .collect();
    assert!(files.len() > 20, "{paths:?}");
    let mut fds: Vec<_> = files
        .iter()
        .map(|file| PollFd::new(file.as_fd(), PollFlags::POLLPRI))
        .collect();
    poll(&mut fds, PollTimeout::from(10_u8)).expect("polling");
    File::create(ready).expect("a file");
    let count = poll(&mut fds, PollTimeout::NONE).expect("polling");
    panic!("{count} files have something to tell");
}

fn find(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("a directory").flatten() {
        let kind = entry.file_type().expect("a type");
        if kind.is_dir() {
            find(&entry.path(), found);
        } else if kind.is_file() && found.len() < 500 {
            found.push(entry.path());
        }
    }
}

/// What waits in poll(2) for all files of the daemon.
struct Poller(Child);

impl Poller {
    fn start(daemon: &Daemon) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let ready = dir.path().join("ready");
        let program = std::env::current_exe().expect("this binary");
        let child = Command::new(program)
            .args(["--exact", "suspend::process_that_polls", "--ignored"])
            .env(FILES, daemon.point())
            .env(READY, &ready)
            .stdout(Stdio::null())
            .spawn()
            .expect("a process");
        let poller = Self(child);
        wait_for(patience(20), || ready.exists().then_some(())).expect("a process that polls");
        poller
    }
}

impl Drop for Poller {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A cgroup that is frozen until it is dropped.
struct Frozen(Cgroup);

impl Frozen {
    fn with(pids: &[i32]) -> Self {
        let cgroup = Cgroup::create();
        let procs = cgroup.dir("freezer").join("cgroup.procs");
        for pid in pids {
            fs::write(&procs, pid.to_string()).expect("moving a process");
        }
        cgroup.freeze(true);
        Self(cgroup)
    }

    fn settles(&self, limit: Duration) -> bool {
        wait_for(limit, || self.0.is_frozen().then_some(())).is_some()
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        self.0.freeze(false);
    }
}

/// Whether a poller can be frozen after the daemon.
#[track_caller]
fn suspends(daemon: &Daemon, limit: Duration) -> bool {
    let poller = Poller::start(daemon);
    let pid = i32::try_from(poller.0.id()).expect("a pid");
    let daemons = Frozen::with(&daemon.processes());
    assert!(daemons.settles(patience(10)), "the daemon is not frozen");
    let pollers = Frozen::with(&[pid]);
    let settles = pollers.settles(limit);
    drop(daemons);
    drop(pollers);
    settles
}

/// Sets a trigger, which has to be kept open; `None` without pressure.
fn set_trigger(daemon: &Daemon) -> Option<std::io::Result<File>> {
    let path = daemon.path("proc/pressure/memory");
    let mut file = File::options().read(true).write(true).open(path).ok()?;
    let written = file.write_all(b"some 100000 2000000\0");
    Some(written.map(|()| file))
}

#[test]
fn processes_that_poll_our_files_do_not_keep_the_host_from_suspending() {
    let _turn = beside_others();
    if !Cgroup::create().can_freeze() {
        skip!("no freezer");
    }
    let daemon = Daemon::start(&[]);
    for _ in 0..2 {
        assert!(suspends(&daemon, patience(10)), "{}", daemon.log());
        assert!(daemon.answers());
        // The next server knows it too.
        daemon.signal(nix::sys::signal::Signal::SIGUSR1);
        let next = || (daemon.log().matches("serving").count() > 1).then_some(());
        wait_for(patience(10), next).expect("a takeover");
    }
    if let Some(Err(error)) = set_trigger(&daemon) {
        assert_eq!(error.raw_os_error(), Some(libc::EOPNOTSUPP));
    }
}

#[test]
fn triggers_stay_possible_where_they_are_wanted_or_in_use() {
    let _turn = beside_others();
    if !Cgroup::create().can_freeze() {
        skip!("no freezer");
    }
    let wanted = Daemon::start(&["--enable-psi-poll"]);
    // The kernel asks for all files then.
    assert!(!suspends(&wanted, Duration::from_secs(1)));
    let in_use = Daemon::start(&[]);
    let Some(trigger) = set_trigger(&in_use) else {
        skip!("the kernel accounts no pressure");
    };
    let trigger = trigger.expect("a trigger");
    drop(Poller::start(&in_use));
    // As programs do that put every file into an epoll set, which does not keep a host awake.
    let read = Daemon::start(&[]);
    let file = File::open(read.path("proc/meminfo")).expect("the file");
    let mut fds = [PollFd::new(
        file.as_fd(),
        PollFlags::POLLIN | PollFlags::POLLOUT,
    )];
    assert_eq!(poll(&mut fds, PollTimeout::NONE), Ok(1));
    for daemon in [&wanted, &in_use, &read] {
        let set = set_trigger(daemon).expect("the file");
        set.unwrap_or_else(|error| panic!("{error}: {}", daemon.log()));
    }
    drop(trigger);
}

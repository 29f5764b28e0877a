//! The host suspends: all processes are frozen, the daemon's before those that use its files.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use crate::common::{Cgroup, Daemon, beside_others, patience, skip, wait_for};

/// Names the directory whose files a process uses, how it does, and the file that it makes as soon as it does.
const FILES: &str = "LXCFS_TEST_USED";
const USE: &str = "LXCFS_TEST_USE";
const READY: &str = "LXCFS_TEST_READY";

#[test]
#[ignore = "another test runs this one in a process of its own"]
fn process_that_uses_files() {
    let (Some(files), Some(ready)) = (std::env::var_os(FILES), std::env::var_os(READY)) else {
        return;
    };
    let mut paths = Vec::new();
    find(Path::new(&files), &mut paths);
    let opened = paths
        .iter()
        .filter_map(|path| Some((path, File::open(path).ok()?)));
    let is_pressure = |path: &Path| path.to_string_lossy().contains("/pressure/");
    let (pressure, others): (Vec<_>, Vec<_>) = opened.partition(|(path, _)| is_pressure(path));
    assert!(others.len() > 20, "{paths:?}");
    let mut others: Vec<_> = others.into_iter().map(|(_, file)| file).collect();
    let pressure: Vec<_> = pressure.into_iter().map(|(_, file)| file).collect();
    let is_ready = || File::create(&ready).expect("a file");
    match std::env::var(USE).as_deref() {
        Ok("holds") => {
            let mut part = [0; 10];
            for file in &mut others {
                // Some files of sysfs cannot be read.
                let _ = file.read(&mut part);
            }
            is_ready();
            std::thread::sleep(Duration::from_secs(1000));
        }
        Ok("reads") => {
            is_ready();
            loop {
                fs::read(&paths[0]).expect("a file");
            }
        }
        Ok("epoll") => wait_in_epoll(pressure.iter().chain(&others), &is_ready),
        // Pressure files without a trigger end poll(2) at once, as the kernel's do, until the kernel asks for none any more.
        Ok("polls all") => wait_in_poll(&others, &pressure, &is_ready),
        _ => wait_in_poll(&others, &[], &is_ready),
    }
}

/// As programs do that put every file that they open into one set.
fn wait_in_epoll<'a>(files: impl Iterator<Item = &'a File>, is_ready: &dyn Fn() -> File) {
    let epoll = Epoll::new(EpollCreateFlags::empty()).expect("an epoll instance");
    let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLET;
    for file in files {
        epoll
            .add(file, EpollEvent::new(flags, 0))
            .expect("adding a file");
    }
    let mut events = [EpollEvent::empty(); 500];
    epoll
        .wait(&mut events, EpollTimeout::from(10_u8))
        .expect("waiting");
    is_ready();
    let count = epoll
        .wait(&mut events, EpollTimeout::NONE)
        .expect("waiting");
    panic!("{count} files have something to tell");
}

fn for_a_change(file: &File) -> PollFd<'_> {
    PollFd::new(file.as_fd(), PollFlags::POLLPRI)
}

fn wait_in_poll(first: &[File], later: &[File], is_ready: &dyn Fn() -> File) {
    let mut fds: Vec<_> = first.iter().map(for_a_change).collect();
    poll(&mut fds, PollTimeout::from(10_u8)).expect("polling");
    fds.extend(later.iter().map(for_a_change));
    is_ready();
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

/// A process that uses all files of the daemon in one of these ways.
struct User(Child);

impl User {
    fn start(daemon: &Daemon, how: &str) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let ready = dir.path().join("ready");
        let program = std::env::current_exe().expect("this binary");
        let child = Command::new(program)
            .args(["--exact", "suspend::process_that_uses_files", "--ignored"])
            .env(FILES, daemon.point())
            .env(USE, how)
            .env(READY, &ready)
            .stdout(Stdio::null())
            .spawn()
            .expect("a process");
        let user = Self(child);
        wait_for(patience(20), || ready.exists().then_some(())).expect("a process that is ready");
        user
    }

    fn pid(&self) -> i32 {
        i32::try_from(self.0.id()).expect("a pid")
    }
}

impl Drop for User {
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

fn freeze(daemon: &Daemon) -> Frozen {
    let daemons = Frozen::with(&daemon.processes());
    assert!(daemons.settles(patience(10)), "the daemon is not frozen");
    daemons
}

/// Whether what uses the files in this way can be frozen after the daemon.
#[track_caller]
fn suspends(daemon: &Daemon, how: &str, limit: Duration) -> bool {
    let user = User::start(daemon, how);
    let daemons = freeze(daemon);
    let users = Frozen::with(&[user.pid()]);
    let settles = users.settles(limit);
    drop(daemons);
    drop(users);
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
fn processes_that_have_our_files_open_do_not_keep_the_host_from_suspending() {
    let _turn = beside_others();
    if !Cgroup::create().can_freeze() {
        skip!("no freezer");
    }
    let daemon = Daemon::start(&[]);
    for _ in 0..2 {
        for how in ["holds", "epoll", "polls", "polls all"] {
            assert!(
                suspends(&daemon, how, patience(10)),
                "{how}: {}",
                daemon.log()
            );
            assert!(daemon.answers());
        }
        // The next server knows it too.
        daemon.signal(nix::sys::signal::Signal::SIGUSR1);
        let next = || (daemon.log().matches("serving").count() > 1).then_some(());
        wait_for(patience(10), next).expect("a takeover");
    }
    if let Some(Err(error)) = set_trigger(&daemon) {
        assert_eq!(error.raw_os_error(), Some(libc::EOPNOTSUPP));
    }
}

/// A request that has been made is waited for, as with any file system of FUSE.
#[test]
fn a_process_that_reads_can_be_frozen_before_the_daemon_and_goes_on_after_it() {
    let _turn = beside_others();
    if !Cgroup::create().can_freeze() {
        skip!("no freezer");
    }
    let daemon = Daemon::start(&[]);
    let mut user = User::start(&daemon, "reads");
    let users = Frozen::with(&[user.pid()]);
    assert!(users.settles(patience(10)), "{}", daemon.log());
    let daemons = freeze(&daemon);
    // It is caught in a read.
    users.0.freeze(false);
    std::thread::sleep(Duration::from_millis(100));
    users.0.freeze(true);
    drop(daemons);
    assert!(users.settles(patience(10)), "{}", daemon.log());
    drop(users);
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(user.0.try_wait().expect("a process"), None, "a read failed");
}

#[test]
fn triggers_stay_possible_where_they_are_wanted_or_in_use() {
    let _turn = beside_others();
    if !Cgroup::create().can_freeze() {
        skip!("no freezer");
    }
    let wanted = Daemon::start(&["--enable-psi-poll"]);
    // The kernel asks for all files then.
    assert!(!suspends(&wanted, "polls", Duration::from_secs(1)));
    let in_use = Daemon::start(&[]);
    let Some(trigger) = set_trigger(&in_use) else {
        skip!("the kernel accounts no pressure");
    };
    let trigger = trigger.expect("a trigger");
    drop(User::start(&in_use, "polls"));
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

//! `/proc/pressure`: what can be written there, and who is told.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::common::{
    Cell, Daemon, Limits, alone, beside_others, cgroup::cgroup_version, open_fds, patience, skip,
    unique, wait_for,
};

/// A window that everybody may have. The NUL is what /proc needs to take the number whole.
const TRIGGER: &[u8] = b"some 100000 2000000\0";

/// The host's pressure files; none if its kernel does not have them.
fn hosts_files() -> Vec<String> {
    let entries = fs::read_dir("/proc/pressure").into_iter().flatten();
    let names = entries.flatten().map(|entry| entry.file_name());
    let mut names: Vec<_> = names.filter_map(|name| name.into_string().ok()).collect();
    names.retain(|name| fs::read(format!("/proc/pressure/{name}")).is_ok());
    names.sort();
    names
}

fn to_write(path: &Path) -> File {
    let file = OpenOptions::new().read(true).write(true).open(path);
    file.unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn errno(result: std::io::Result<usize>) -> Result<usize, i32> {
    result.map_err(|error| error.raw_os_error().unwrap_or(0))
}

/// What poll(2) says within this time.
fn polled(file: &File, timeout: Duration) -> PollFlags {
    let all = PollFlags::POLLIN
        | PollFlags::POLLPRI
        | PollFlags::POLLOUT
        | PollFlags::POLLRDNORM
        | PollFlags::POLLWRNORM;
    let wanted = if timeout.is_zero() {
        all
    } else {
        PollFlags::POLLPRI
    };
    let mut fds = [PollFd::new(file.as_fd(), wanted)];
    let timeout = PollTimeout::try_from(timeout).expect("a short time");
    poll(&mut fds, timeout).expect("polling");
    fds[0].revents().expect("known flags")
}

#[test]
fn the_directory_has_the_files_of_the_hosts_with_their_modes_and_lines() {
    let _turn = beside_others();
    let daemon = Daemon::start(&[]);
    let host = hosts_files();
    assert_eq!(daemon.path("proc/pressure").exists(), !host.is_empty());
    if host.is_empty() {
        skip!("this kernel tells no pressure");
    }
    let listed = fs::read_dir(daemon.path("proc/pressure")).expect("the directory");
    let mut names: Vec<_> = listed
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .into_string()
                .expect("ASCII")
        })
        .collect();
    names.sort();
    assert_eq!(names, host);
    let cell = Cell::start(&Limits::default());
    for name in host {
        let below = format!("proc/pressure/{name}");
        let (ours, kernels) = (daemon.path(&below), format!("/proc/pressure/{name}"));
        let mode = |path: &Path| fs::metadata(path).expect("a file").mode();
        assert_eq!(mode(&ours), mode(Path::new(&kernels)), "{name}");
        let shape = |text: &str| -> Vec<String> {
            let words = text.split_inclusive([' ', '\n']);
            words
                .map(|word| match word.split_once('=') {
                    Some((key, value)) => format!("{key}={}", value.contains('.')),
                    None => word.to_owned(),
                })
                .collect()
        };
        let own = cell.read(&daemon, &below);
        let host = fs::read_to_string(&kernels).expect("the host's file");
        assert_eq!(shape(&own), shape(&host), "{name}");
    }
}

#[test]
fn a_container_that_nobody_accounts_pressure_for_has_none() {
    let _turn = beside_others();
    if hosts_files().is_empty() {
        skip!("this kernel tells no pressure");
    }
    if cgroup_version() == 2 {
        skip!("every container has a v2 cgroup here");
    }
    let daemon = Daemon::start(&[]);
    let init = ["sleep", "100000"].map(Path::new);
    let cell = Cell::with_init(&Limits::default(), &init, false);
    if cell.cgroup.dir("pressure").join("cpu.pressure").exists() {
        // To the root of the v2 hierarchy, as engines that use v1 leave it.
        let root = cell.cgroup.dir("pressure").parent().expect("the root");
        fs::write(root.join("cgroup.procs"), cell.init.to_string()).expect("moving the init");
    }
    for name in hosts_files() {
        let text = cell.read(&daemon, &format!("proc/pressure/{name}"));
        let zeros = text.split_whitespace().filter(|word| word.contains('='));
        assert!(
            zeros.clone().count() >= 4
                && zeros
                    .clone()
                    .all(|word| word.ends_with("=0") || word.ends_with("=0.00")),
            "{name}: {text}"
        );
    }
    // Writing a trigger there is no error: programs that do it would not start.
    let file = daemon.arg("proc/pressure/memory");
    let script = format!("exec 3<> {file}; echo some 100000 2000000 >&3; echo done");
    let ran = cell.run(&["bash", "-c", &script]);
    assert_eq!(ran.ok(), "done\n");
}

#[test]
fn triggers_are_taken_and_refused_as_by_the_kernel() {
    let _turn = beside_others();
    if hosts_files().is_empty() {
        skip!("this kernel tells no pressure");
    }
    let daemon = Daemon::start(&[]);
    for name in hosts_files() {
        for text in [
            "some 100000 2000000\0",
            "some 100000 2000000\n\0",
            "full 100000 2000000\0",
            "some 100000 10000000\0",
            "some 100000 1000000\0",
            "some 100000 500000\0",
            "some 2000000 2000000\0",
            "some 2000001 2000000\0",
            "some 0 2000000\0",
            "some 1 0\0",
            "some 1 12000000\0",
            "some 1\0",
            "most 1 2000000\0",
            "some -1 2000000\0",
            "some 1 2000000 and so on\0",
            "\0",
        ] {
            let both = ["/proc/pressure".into(), daemon.path("proc/pressure")].map(
                |directory: PathBuf| {
                    let mut file = to_write(&directory.join(&name));
                    let before = polled(&file, Duration::ZERO);
                    let first = errno(file.write(text.as_bytes()));
                    let flags = polled(&file, Duration::ZERO) - PollFlags::POLLPRI;
                    let second = errno(file.write(b"some 1 1000000\0"));
                    (before, first, flags, second)
                },
            );
            let [kernels, ours] = both;
            assert_eq!(ours, kernels, "{name}: {text:?}");
        }
    }
    // The kernel's own file takes the last byte for a NUL whatever it is; here nothing gets lost.
    for text in ["some 100000 2000000", "some 100000 2000000\n"] {
        let mut file = to_write(&daemon.path("proc/pressure/memory"));
        assert_eq!(
            errno(file.write(text.as_bytes())),
            Ok(text.len()),
            "{text:?}"
        );
    }
}

#[test]
fn a_shell_can_write_a_trigger_by_a_redirection() {
    let _turn = beside_others();
    if hosts_files().is_empty() {
        skip!("this kernel tells no pressure");
    }
    let daemon = Daemon::start(&[]);
    let file = daemon.path("proc/pressure/memory");
    for options in [
        OpenOptions::new().write(true).truncate(true),
        OpenOptions::new().append(true),
        OpenOptions::new()
            .write(true)
            .custom_flags(libc::O_NONBLOCK),
    ] {
        let mut open = options.open(&file).expect("opening");
        assert_eq!(errno(open.write(TRIGGER)), Ok(TRIGGER.len()));
    }
    assert_eq!(fs::metadata(&file).expect("the file").len(), 0);
    let mut text = String::new();
    to_write(&file).read_to_string(&mut text).expect("reading");
    assert!(text.starts_with("some avg10="), "{text:?}");
}

#[test]
fn polling_a_file_without_a_trigger_ends_at_once_as_in_procfs() {
    let _turn = beside_others();
    let daemon = Daemon::start(&[]);
    let mut files = vec!["meminfo".to_owned(), "stat".to_owned()];
    files.extend(hosts_files().iter().map(|name| format!("pressure/{name}")));
    for name in files {
        let open = |path: PathBuf| File::open(path).expect("opening");
        let kernels = polled(&open(Path::new("/proc").join(&name)), Duration::ZERO);
        let ours = polled(&open(daemon.path("proc").join(&name)), Duration::ZERO);
        assert_eq!(ours, kernels, "{name}");
    }
}

/// A program that uses a CPU until it is dropped.
struct Busy(Child);

impl Drop for Busy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Puts the machine's CPUs under pressure: this test is a process of the host.
fn pressed() -> Vec<Busy> {
    let cpus = std::thread::available_parallelism().expect("a number of CPUs");
    let busy = |_| {
        let mut command = Command::new("sh");
        command.args(["-c", "while :; do :; done"]);
        Busy(command.spawn().expect("starting a shell"))
    };
    (0..cpus.get() * 2).map(busy).collect()
}

/// Files with a trigger for the CPU each.
fn triggers(daemon: &Daemon, count: usize) -> Vec<File> {
    let path = daemon.path("proc/pressure/cpu");
    let with_trigger = |_| {
        let mut file = to_write(&path);
        file.write_all(TRIGGER).expect("setting a trigger");
        file
    };
    (0..count).map(with_trigger).collect()
}

/// Whether this process's pressure is the host's, which it can cause.
fn is_accounted(daemon: &Daemon) -> bool {
    let total = || {
        let text = daemon.read("proc/pressure/cpu");
        text.lines()
            .next()
            .and_then(|line| line.rsplit_once('=')?.1.parse::<u64>().ok())
    };
    let before = total();
    before
        .is_some_and(|before| wait_for(patience(5), || (total()? > before).then_some(())).is_some())
}

/// All of them fire, each in a thread of its own.
#[track_caller]
fn all_fire(files: &[File]) {
    let fired: Vec<PollFlags> = std::thread::scope(|scope| {
        let poll = |file| scope.spawn(move || polled(file, patience(10)));
        let waiting: Vec<_> = files.iter().map(poll).collect();
        waiting
            .into_iter()
            .map(|thread| thread.join().expect("polling"))
            .collect()
    });
    assert_eq!(fired, vec![PollFlags::POLLPRI; files.len()]);
}

#[test]
fn all_pollers_are_woken_also_when_the_server_is_killed_or_replaced_meanwhile() {
    if hosts_files().is_empty() {
        skip!("this kernel tells no pressure");
    }
    let _turn = alone();
    let daemon = Daemon::start(&[]);
    let files = triggers(&daemon, 20);
    // What has happened before counts for nothing.
    std::thread::sleep(Duration::from_secs(3));
    for file in &files {
        polled(file, Duration::ZERO);
    }
    let _load = pressed();
    if !is_accounted(&daemon) {
        skip!("the pressure of this test's own cgroup is accounted nowhere");
    }
    all_fire(&files);
    for round in 0..4 {
        let server = daemon.processes()[1];
        std::thread::scope(|scope| {
            scope.spawn(|| all_fire(&files));
            std::thread::sleep(Duration::from_millis(200));
            if round % 2 == 0 {
                kill(Pid::from_raw(server), Signal::SIGKILL).expect("killing the server");
            } else {
                daemon.signal(Signal::SIGUSR1);
            }
        });
        let replaced = wait_for(patience(10), || {
            daemon
                .processes()
                .get(1)
                .is_some_and(|now| *now != server)
                .then_some(())
        });
        assert!(replaced.is_some());
    }
}

#[test]
fn triggers_do_not_hold_a_takeover_up() {
    if hosts_files().is_empty() {
        skip!("this kernel tells no pressure");
    }
    let _turn = alone();
    let daemon = Daemon::start(&[]);
    let mut files = triggers(&daemon, 60);
    for _ in 0..3 {
        // Those closed a moment ago are on their way out.
        files.truncate(files.len() - 10);
        let server = daemon.processes()[1];
        kill(Pid::from_raw(server), Signal::SIGKILL).expect("killing the server");
        let start = Instant::now();
        daemon.read("proc/uptime");
        let gap = start.elapsed();
        // Closing them in turn would take the kernel half a second.
        assert!(gap < patience(1) / 4, "{gap:?}");
    }
    for mut file in files {
        assert_eq!(errno(file.write(TRIGGER)), Err(libc::EBUSY));
    }
}

#[test]
fn a_container_has_64_triggers_and_no_thread_for_each() {
    let _turn = beside_others();
    if hosts_files().is_empty() {
        skip!("this kernel tells no pressure");
    }
    let daemon = Daemon::start(&[]);
    let server = daemon.processes()[1];
    let threads = || {
        fs::read_dir(format!("/proc/{server}/task"))
            .expect("threads")
            .count()
    };
    // Starts what is started once.
    daemon.read("proc/pressure/cpu");
    let before = (threads(), open_fds(server));
    let path = daemon.path("proc/pressure/memory");
    let mut files = Vec::new();
    let refused = (0..200).find_map(|_| {
        let mut file = to_write(&path);
        let written = errno(file.write(TRIGGER));
        files.push(file);
        written.err()
    });
    assert_eq!((files.len(), refused), (65, Some(libc::ENOSPC)));
    assert_eq!(threads(), before.0);
    assert!(
        open_fds(server) <= before.1 + 64 + 8,
        "{}",
        open_fds(server)
    );
    drop(files);
    let again = wait_for(patience(10), || {
        let mut file = to_write(&path);
        (file.write(TRIGGER).is_ok() && open_fds(server) <= before.1 + 8).then_some(())
    });
    assert!(again.is_some(), "{} fds", open_fds(server));
}

/// A cell whose pressure the kernel accounts; `None` where no cgroup has it.
fn accounted_cell() -> Option<Cell> {
    let cell = Cell::start(&Limits::default());
    let file = cell.cgroup.dir("pressure").join("cpu.pressure");
    file.exists().then_some(cell)
}

/// A file with a trigger that a process of the container has written.
fn trigger_of(cell: &Cell, daemon: &Daemon, resource: &str) -> File {
    let file = to_write(&daemon.path("proc/pressure").join(resource));
    let ran = cell
        .command(&["printf", "some 100000 2000000\\0"])
        .stdout(file.try_clone().expect("a second handle"))
        .stdin(Stdio::null())
        .status();
    assert!(ran.expect("running printf").success());
    file
}

/// Uses more CPUs than there are, in the container.
fn press(cell: &Cell) {
    let cpus = std::thread::available_parallelism().expect("a number of CPUs");
    let busy = "while :; do :; done & ".repeat(cpus.get() * 2);
    // Ended with the container.
    drop(cell.spawn(&["sh", "-c", &format!("{busy}wait")]));
}

/// The total of the first line.
fn total_usec(text: &str) -> u64 {
    let line = text.lines().next().unwrap_or_default();
    let total = line.rsplit_once("total=").expect("a total").1;
    total.parse().expect("a number")
}

#[test]
fn a_container_is_shown_its_own_pressure_and_its_neighbour_none_of_it() {
    let _turn = alone();
    let Some(busy) = accounted_cell() else {
        skip!("no cgroup of this machine has pressure");
    };
    let idle = accounted_cell().expect("a second cell");
    let daemon = Daemon::start(&[]);
    press(&busy);
    let kernels = |cell: &Cell| {
        let file = cell.cgroup.dir("pressure").join("cpu.pressure");
        total_usec(&fs::read_to_string(file).expect("the kernel's file"))
    };
    let shown = |cell: &Cell| total_usec(&cell.read(&daemon, "proc/pressure/cpu"));
    let before = (shown(&busy), shown(&idle));
    std::thread::sleep(Duration::from_secs(3));
    let least = kernels(&busy);
    let own = shown(&busy);
    let most = kernels(&busy);
    assert!(
        (least..=most).contains(&own),
        "{own} not in {least}..={most}"
    );
    let (grown, beside) = (own - before.0, shown(&idle) - before.1);
    assert!(grown > 1_000_000, "{grown}");
    // The reader in there waits for a CPU too.
    assert!(beside < grown / 4, "{beside} beside {grown}");
    assert!(own <= (cell_uptime(&busy, &daemon) * 1e6) as u64);
}

fn cell_uptime(cell: &Cell, daemon: &Daemon) -> f64 {
    let text = cell.read(daemon, "proc/uptime");
    let first = text.split(' ').next().unwrap_or_default();
    first.parse().expect("an uptime")
}

#[test]
fn a_trigger_fires_by_the_containers_own_pressure_only() {
    let _turn = alone();
    let Some(busy) = accounted_cell() else {
        skip!("no cgroup of this machine has pressure");
    };
    let idle = accounted_cell().expect("a second cell");
    let daemon = Daemon::start(&[]);
    let triggers = [&busy, &idle].map(|cell| trigger_of(cell, &daemon, "cpu"));
    press(&busy);
    let server = daemon.processes()[1];
    for _ in 0..2 {
        assert_eq!(polled(&triggers[0], patience(10)), PollFlags::POLLPRI);
        assert_eq!(
            polled(&triggers[1], Duration::from_secs(3)),
            PollFlags::empty()
        );
        // And so it is for the next server.
        let _ = kill(Pid::from_raw(server), Signal::SIGKILL);
    }
}

#[test]
fn a_trigger_fires_when_memory_is_short() {
    let _turn = alone();
    let cell = Cell::start(&Limits {
        memory_bytes: Some(256 << 20),
        ..Limits::default()
    });
    let high = cell.cgroup.dir("memory").join("memory.high");
    if !high.exists() {
        skip!("cgroup v1 has no memory.high");
    }
    fs::write(&high, (24_u64 << 20).to_string()).expect("setting memory.high");
    let daemon = Daemon::start(&[]);
    let trigger = trigger_of(&cell, &daemon, "memory");
    assert_eq!(polled(&trigger, Duration::from_secs(1)), PollFlags::empty());
    drop(cell.spawn(&[
        "sh",
        "-c",
        "while :; do head -c 200000000 /dev/zero | tail -c 200000000 > /dev/null; done",
    ]));
    assert_eq!(polled(&trigger, patience(20)), PollFlags::POLLPRI);
    assert!(total_usec(&cell.read(&daemon, "proc/pressure/memory")) > 100_000);
}

#[test]
fn a_poller_is_told_when_the_cgroup_is_removed() {
    let _turn = beside_others();
    let Some(cell) = accounted_cell() else {
        skip!("no cgroup of this machine has pressure");
    };
    let daemon = Daemon::start(&[]);
    let trigger = trigger_of(&cell, &daemon, "io");
    let gone = PollFlags::POLLPRI | PollFlags::POLLERR;
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| polled(&trigger, patience(20)));
        std::thread::sleep(Duration::from_millis(200));
        drop(cell);
        assert_eq!(waiting.join().expect("polling"), gone);
    });
    let server = daemon.processes()[1];
    kill(Pid::from_raw(server), Signal::SIGKILL).expect("killing the server");
    assert_eq!(polled(&trigger, patience(10)), gone);
}

/// All that changes a file or directory, by what a shell or program does.
fn changes(path: &Path, scratch: &Path) -> Vec<(&'static str, nix::Result<()>)> {
    use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, RenameFlags, open, renameat2};
    use nix::sys::stat::{FchmodatFlags, Mode, SFlag, UtimensatFlags};
    use nix::unistd::{Gid, LinkatFlags, Uid, UnlinkatFlags};
    let (below, mode) = (path.join(unique("new")), Mode::from_bits_truncate(0o666));
    let opened = |path: &Path, flags| open(path, flags, mode).map(drop);
    let name = c"user.test";
    let path_c = std::ffi::CString::new(path.as_os_str().as_encoded_bytes()).expect("a path");
    // SAFETY: all pointers are to live strings, and the value has no bytes.
    let xattr = unsafe { libc::setxattr(path_c.as_ptr(), name.as_ptr(), std::ptr::null(), 0, 0) };
    let xattr = nix::errno::Errno::result(xattr).map(drop);
    // SAFETY: as above.
    let no_xattr = unsafe { libc::removexattr(path_c.as_ptr(), name.as_ptr()) };
    let no_xattr = nix::errno::Errno::result(no_xattr).map(drop);
    let now = nix::sys::time::TimeSpec::new(1, 0);
    let follow = UtimensatFlags::FollowSymlink;
    let not = RenameFlags::empty();
    vec![
        (
            "chmod",
            nix::sys::stat::fchmodat(AT_FDCWD, path, mode, FchmodatFlags::FollowSymlink),
        ),
        (
            "chown",
            nix::unistd::chown(path, Some(Uid::from_raw(1)), Some(Gid::from_raw(1))),
        ),
        (
            "lchown",
            nix::unistd::fchownat(
                AT_FDCWD,
                path,
                Some(Uid::from_raw(1)),
                None,
                AtFlags::AT_SYMLINK_NOFOLLOW,
            ),
        ),
        (
            "utimens",
            nix::sys::stat::utimensat(AT_FDCWD, path, &now, &now, follow),
        ),
        ("setxattr", xattr),
        ("removexattr", no_xattr),
        (
            "create below",
            opened(&below, OFlag::O_CREAT | OFlag::O_WRONLY),
        ),
        ("O_TMPFILE", opened(path, OFlag::O_TMPFILE | OFlag::O_RDWR)),
        ("mkdir below", nix::unistd::mkdir(&below, mode)),
        (
            "mknod below",
            nix::sys::stat::mknod(&below, SFlag::S_IFREG, mode, 0),
        ),
        ("mkfifo below", nix::unistd::mkfifo(&below, mode)),
        (
            "symlink below",
            nix::unistd::symlinkat("x", AT_FDCWD, &below),
        ),
        (
            "link below",
            nix::unistd::linkat(AT_FDCWD, path, AT_FDCWD, &below, LinkatFlags::empty()),
        ),
        (
            "link beside",
            nix::unistd::linkat(
                AT_FDCWD,
                path,
                AT_FDCWD,
                &path.with_file_name("new"),
                LinkatFlags::empty(),
            ),
        ),
        (
            "link out",
            nix::unistd::linkat(AT_FDCWD, path, AT_FDCWD, scratch, LinkatFlags::empty()),
        ),
        (
            "rename beside",
            renameat2(AT_FDCWD, path, AT_FDCWD, &path.with_file_name("new"), not),
        ),
        (
            "rename out",
            renameat2(AT_FDCWD, path, AT_FDCWD, scratch, not),
        ),
        ("unlink", nix::unistd::unlink(path)),
        (
            "rmdir",
            nix::unistd::unlinkat(AT_FDCWD, path, UnlinkatFlags::RemoveDir),
        ),
    ]
}

/// Opening and truncating for writing, which pressure files allow.
fn writes(path: &Path) -> Vec<(&'static str, nix::Result<()>)> {
    use nix::fcntl::{OFlag, open};
    let opened = |flags| open(path, flags, nix::sys::stat::Mode::empty()).map(drop);
    vec![
        ("O_WRONLY", opened(OFlag::O_WRONLY)),
        ("O_RDWR", opened(OFlag::O_RDWR)),
        ("O_APPEND", opened(OFlag::O_WRONLY | OFlag::O_APPEND)),
        ("O_TRUNC", opened(OFlag::O_WRONLY | OFlag::O_TRUNC)),
        ("O_CREAT", opened(OFlag::O_WRONLY | OFlag::O_CREAT)),
        (
            "O_RDONLY | O_TRUNC",
            opened(OFlag::O_RDONLY | OFlag::O_TRUNC),
        ),
        ("truncate", nix::unistd::truncate(path, 5)),
    ]
}

/// Everything below, with all attributes.
fn tree(path: &Path, found: &mut Vec<String>) {
    let stat = fs::symlink_metadata(path).expect("attributes");
    found.push(format!(
        "{} {:o} {}:{} {} {} {} {}",
        path.display(),
        stat.mode(),
        stat.uid(),
        stat.gid(),
        stat.len(),
        stat.mtime(),
        stat.ctime(),
        stat.nlink()
    ));
    if stat.is_dir() {
        let mut entries: Vec<_> = fs::read_dir(path)
            .expect("a directory")
            .flatten()
            .map(|entry| entry.path())
            .collect();
        entries.sort();
        entries.iter().for_each(|entry| tree(entry, found));
    }
}

/// The file system is mounted for writing, as triggers need that: nothing else may come of it.
#[test]
fn root_can_change_nothing_although_the_file_system_is_writable() {
    use nix::errno::Errno;
    let _turn = beside_others();
    let daemon = Daemon::start(&[]);
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let out = scratch.path().join("out");
    let state = || {
        let mut found = Vec::new();
        tree(&daemon.path("proc"), &mut found);
        found
    };
    let before = state();
    let mut paths = vec![
        "",
        "proc",
        "proc/meminfo",
        "sys",
        "sys/devices/system/cpu",
        "sys/devices/system/cpu/online",
        "sys/devices/system/cpu/uevent",
        "sys/devices/system/cpu/cpu0",
        "sys/devices/system/cpu/cpu0/topology/core_id",
    ];
    let has_pressure = !hosts_files().is_empty();
    if has_pressure {
        paths.extend(["proc/pressure", "proc/pressure/memory"]);
    }
    let refusals = [
        Errno::EACCES,
        Errno::EPERM,
        Errno::EOPNOTSUPP,
        Errno::EXDEV,
        Errno::EBUSY,
        Errno::ENOTDIR,
        Errno::EISDIR,
        Errno::ENOTEMPTY,
    ];
    for below in paths {
        let path = daemon.path(below);
        let mut attempts = changes(&path, &out);
        if !below.ends_with("pressure/memory") {
            attempts.extend(writes(&path));
        }
        for (what, result) in attempts {
            let refused = result.as_ref().is_err_and(|errno| refusals.contains(errno));
            assert!(refused, "{what} of {below:?}: {result:?}");
        }
    }
    assert_eq!(state(), before);
    assert!(!out.exists());
    assert!(daemon.answers());
    assert!(
        !daemon.log().contains("Not Implemented"),
        "{}",
        daemon.log()
    );
}

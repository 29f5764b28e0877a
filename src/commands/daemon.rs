//! The daemon: mount, serve, and tidy up at the end.

use std::io::{self, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::{geteuid, getpid};

use crate::cli::DaemonArgs;
use crate::container::load::PERIOD_NSEC;
use crate::fs::{Death, Ledger, LxcFs, SysTree, Views};
use crate::session::{mount::Mount, server};
use crate::sys::process;

/// Serving threads. More of them only help where a request can wait for something.
const MOST_THREADS: usize = 4;

/// Housekeeping rounds from one clean-up to the next.
const ROUNDS_PER_CLEAN_UP: u32 = 6;

/// Serves until it is told to end or the file system is unmounted.
///
/// # Errors
/// One sentence about what stands in the way of serving.
pub fn run(args: &DaemonArgs) -> anyhow::Result<ExitCode> {
    let Some(mountpoint) = &args.mountpoint else {
        bail!("the mount point is missing")
    };
    if !geteuid().is_root() {
        bail!("only root can mount for all users; run it as root");
    }
    report_compatible_options(args);
    let signals = block_signals()?;
    let pid_file = PidFile::lock(
        &args
            .pid_file
            .clone()
            .unwrap_or_else(|| args.runtime_dir.join("lxcfs.pid")),
    )?;
    pid_file.write()?;
    // Half of the fd table is left for what requests open for a moment.
    let views = Arc::new(
        Views::open(raise_fd_limit() / 2, args.view_options())
            .context("cannot read the host's figures")?,
    );
    let sys = SysTree::open(Path::new("/sys/devices/system/cpu"))
        .context("cannot open /sys/devices/system/cpu")?;

    // Readers that are not interrupted put several requests before a thread wakes up.
    if let Err(errno) = process::interrupt_nobody() {
        log::debug!("cannot change the scheduling policy: {errno}");
    }
    let mount = Mount::new(mountpoint, &args.options)?;
    let fds = mount
        .fds(thread_count())
        .context("cannot open further fds of the FUSE connection")?;
    let ledger = memfd_create("lxcfs-ledger", MFdFlags::MFD_CLOEXEC)
        .map_err(io::Error::from)
        .and_then(|memory| Ledger::resume(memory, Death::Ended))
        .context("cannot make the record of open files")?;
    let filesystem = LxcFs::new(Arc::clone(&views), sys, ledger);
    let connection = mount
        .fd()
        .context("cannot open further fds of the FUSE connection")?;
    let (threads, notifier) = server::serve(&filesystem, fds).context("cannot start serving")?;
    if let Some(notifier) = notifier {
        filesystem.connect(notifier, connection);
    }
    check_that_it_answers(mount.mountpoint())?;

    let unmounted = Arc::new(AtomicBool::new(false));
    watch(threads, Arc::clone(&unmounted))?;
    keep_house(Arc::clone(&views))?;
    log::info!("serving {}", mount.mountpoint().display());
    if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Ready]) {
        log::warn!("cannot tell systemd that the files are ready: {error}");
    }
    loop {
        match signals.wait()? {
            Signal::SIGUSR1 => log::info!("SIGUSR1 has no effect: there is nothing to reload"),
            Signal::SIGUSR2 => {
                let on = views.toggle();
                log::info!(
                    "the container views are {}",
                    if on {
                        "on"
                    } else {
                        "off: the host's files are shown"
                    }
                );
            }
            signal => {
                match unmounted.load(Ordering::Relaxed) {
                    true => log::info!("unmounted from outside; ending"),
                    false => log::info!("{signal}; ending"),
                }
                return Ok(ExitCode::SUCCESS);
            }
        }
    }
}

/// Reads one of the files, in a process of its own: if this one were killed while it waits
/// for itself, the wait would keep its fds open, and the connection alive, for ever.
fn check_that_it_answers(mountpoint: &Path) -> anyhow::Result<()> {
    let outcome = Command::new("/proc/self/exe")
        .arg("answers")
        .arg(mountpoint.join("proc/uptime"))
        .env_remove("NOTIFY_SOCKET")
        .output()
        .context("cannot start the check of the mounted files")?;
    if !outcome.status.success() {
        let error = String::from_utf8_lossy(&outcome.stderr);
        bail!(
            "the mounted files do not answer: {}",
            error.trim().trim_start_matches("lxcfs: ")
        );
    }
    Ok(())
}

fn report_compatible_options(args: &DaemonArgs) {
    let given = [
        (
            args.foreground,
            "--foreground",
            "the daemon always stays in the foreground",
        ),
        (
            args.enable_loadavg,
            "--enable-loadavg",
            "load averages are always the container's",
        ),
        (
            args.enable_cfs,
            "--enable-cfs",
            "--cpu-view=quota is the default",
        ),
        (
            args.enable_pidfd,
            "--enable-pidfd",
            "readers are always identified safely",
        ),
        (
            args.enable_psi_poll,
            "--enable-psi-poll",
            "there are no pressure files yet",
        ),
        (
            args.enable_cgroup,
            "--enable-cgroup",
            "the kernel's cgroup namespaces replace it",
        ),
        (
            args.single_threaded,
            "-s",
            "several readers are always served at once",
        ),
    ];
    for (_, option, reason) in given.into_iter().filter(|(given, ..)| *given) {
        log::info!("{option} has no effect: {reason}");
    }
}

/// The signals that the main thread waits for; blocked in all threads made from now on.
fn block_signals() -> anyhow::Result<SigSet> {
    let mut signals = SigSet::empty();
    for signal in [
        Signal::SIGTERM,
        Signal::SIGINT,
        Signal::SIGHUP,
        Signal::SIGUSR1,
        Signal::SIGUSR2,
    ] {
        signals.add(signal);
    }
    signals.thread_block().context("cannot block signals")?;
    Ok(signals)
}

/// Allows as many open files as the system lets this process have.
fn raise_fd_limit() -> usize {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return 1024;
    };
    let limit = match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
        Ok(()) => hard,
        Err(_) => soft,
    };
    usize::try_from(limit).unwrap_or(usize::MAX)
}

fn thread_count() -> usize {
    thread::available_parallelism()
        .map_or(2, usize::from)
        .clamp(2, MOST_THREADS)
}

/// Ends the process when the serving threads end, which they do after an unmount.
fn watch(threads: Vec<thread::JoinHandle<()>>, unmounted: Arc<AtomicBool>) -> anyhow::Result<()> {
    let wait = move || {
        for thread in threads {
            let _ = thread.join();
        }
        unmounted.store(true, Ordering::Relaxed);
        let _ = kill(getpid(), Signal::SIGTERM);
    };
    thread::Builder::new()
        .name("watch".to_owned())
        .spawn(wait)
        .context("cannot start a thread")?;
    Ok(())
}

/// Keeps load averages up to date and drops what is known of ended containers.
fn keep_house(views: Arc<Views>) -> anyhow::Result<()> {
    let work = move || {
        for round in 1_u32.. {
            thread::sleep(Duration::from_nanos(PERIOD_NSEC));
            views.keep_loads();
            if round % ROUNDS_PER_CLEAN_UP == 0 {
                views.clean_up();
            }
        }
    };
    thread::Builder::new()
        .name("housekeeping".to_owned())
        .spawn(work)
        .context("cannot start a thread")?;
    Ok(())
}

/// The file that tells the daemon's pid, locked as long as it runs.
struct PidFile {
    path: PathBuf,
    file: Flock<std::fs::File>,
}

impl PidFile {
    fn lock(path: &Path) -> anyhow::Result<Self> {
        let shown = path.display();
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory)
                .with_context(|| format!("cannot create {}", directory.display()))?;
        }
        let file = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .with_context(|| format!("cannot open the pid file {shown}"))?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(file) => Ok(Self {
                path: path.to_owned(),
                file,
            }),
            Err((_, Errno::EWOULDBLOCK)) => {
                let holder = std::fs::read_to_string(path).unwrap_or_default();
                bail!(
                    "another lxcfs (pid {}) holds {shown}; stop it first, or give this one its own --pidfile",
                    holder.trim()
                )
            }
            Err((_, errno)) => {
                Err(errno).with_context(|| format!("cannot lock the pid file {shown}"))
            }
        }
    }

    fn write(&self) -> anyhow::Result<()> {
        let mut file: &std::fs::File = &self.file;
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", getpid()))
            .with_context(|| format!("cannot write the pid file {}", self.path.display()))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

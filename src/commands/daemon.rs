//! The daemon: mounts, and has a server answer for as long as it lives.
//!
//! This is the holder's process. What it knows how to do without the files of the system is
//! in [`crate::session::holder`].

use std::ffi::OsString;
use std::io::{Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::unistd::{geteuid, getpid};
use sd_notify::NotifyState;

use crate::cli::{DaemonArgs, VERSION};
use crate::config;
use crate::session::control::Control;
use crate::session::held::Held;
use crate::session::holder::{self, Holder, Outcome, Owner};
use crate::session::mount::Mount;
use crate::session::{CONTROL, server, store};
use crate::sys::exec::{self, Named, Program};

/// A server that has not answered for so long is replaced, unless the service manager sets
/// another time.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long the program that is installed now may take to say that it can go on.
const CHECK_TIMEOUT: Duration = Duration::from_secs(5);

/// What a service manager tells the process that it started, and no child of it.
const MANAGERS_VARIABLES: [&str; 3] = ["NOTIFY_SOCKET", "WATCHDOG_PID", "FDSTORE"];

/// Variable that tells a daemon that takes over that SIGUSR2 has switched the views off.
const VIEWS_OFF: &str = "LXCFS_VIEWS_OFF";

/// Holds the mount until it is told to end or the file system is unmounted.
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
    let inherited = exec::inherited().context("cannot take over the fds handed to this process")?;
    report_compatible_options(args);
    holder::block_signals().context("cannot block signals")?;
    let pid_file = PidFile::lock(
        &args
            .pid_file
            .clone()
            .unwrap_or_else(|| args.runtime_dir.join("lxcfs.pid")),
    )?;
    pid_file.write()?;

    let (mount, held, resumes) = connect(args, mountpoint, inherited)?;
    let stored = store::put(&held).unwrap_or_else(|error| {
        log::warn!("the service manager cannot keep the connection: {error}");
        false
    });
    let patience = sd_notify::watchdog_enabled().unwrap_or(PATIENCE);
    let (control, servers_end) = Control::pair().context("cannot make a pair of sockets")?;
    let program = server_program(&held, servers_end).context("cannot make a server ready")?;
    let manager = Manager {
        program: installed_program().context("cannot tell the path of this program")?,
        mountpoint: mount.mountpoint().to_owned(),
        interval: patience / 4,
        pinged: Instant::now(),
    };
    let views_off = std::env::var_os(VIEWS_OFF).is_some_and(|value| value == "1");
    let mut holder = Holder::new(manager, program, control, patience, resumes, views_off)
        .context("cannot wait for signals")?;
    match holder.run() {
        Ok(Outcome::TakeOver) => {
            let installed = installed_program()?;
            mount.leave();
            become_installed(&installed, &held, holder.views_off())
        }
        Ok(Outcome::Ended) if stored => {
            // Whether this is the end for good or a restart, the service manager knows. See
            // the command `stopped`.
            mount.leave();
            Ok(ExitCode::SUCCESS)
        }
        Ok(Outcome::Ended) => Ok(ExitCode::SUCCESS),
        Ok(Outcome::Unmounted) => {
            forget(stored, &held);
            Ok(ExitCode::SUCCESS)
        }
        // The server has said why.
        Ok(Outcome::NeverServed) => {
            forget(stored, &held);
            Ok(ExitCode::FAILURE)
        }
        Err(error) => {
            holder.kill_server();
            forget(stored, &held);
            mount.abort();
            Err(error)
        }
    }
}

/// The connection that an earlier process left, or a new one. Tells which.
fn connect(
    args: &DaemonArgs,
    mountpoint: &Path,
    inherited: Vec<Named>,
) -> anyhow::Result<(Mount, Held, bool)> {
    if let Some(held) = Held::adopt(inherited).context("cannot take over the connection")? {
        if let Some(mount) = Mount::adopt(mountpoint, held.minor) {
            log::info!("going on with what is mounted at {}", mountpoint.display());
            return Ok((mount, held, true));
        }
        log::warn!(
            "what was served before is not mounted at {}; mounting anew",
            mountpoint.display()
        );
        forget(true, &held);
    }
    // A later server makes do with the last good one.
    config::policy(args.config.as_deref(), &args.given())?;
    let (mount, connection) = Mount::new(mountpoint, &args.options)?;
    let held = Held::new(
        connection,
        mount.minor(),
        server::thread_count(),
        !args.no_resend,
    )
    .context("cannot set up the connection")?;
    Ok((mount, held, false))
}

/// Takes the connection out of the fd store, so that it ends with this process.
fn forget(stored: bool, held: &Held) {
    if stored && let Err(error) = store::clear(held) {
        log::warn!("the service manager still keeps the connection: {error}");
    }
}

/// This very program, also when another one lies at its path by now.
fn server_program(held: &Held, control: std::os::fd::OwnedFd) -> std::io::Result<Program> {
    let mut arguments: Vec<OsString> = std::env::args_os().collect();
    arguments.insert(1.min(arguments.len()), "serve".into());
    let mut fds = held.copies()?;
    fds.push(Named {
        name: CONTROL.to_owned(),
        fd: control,
    });
    let path = "/proc/self/exe".as_ref();
    Program::new(path, &arguments, &MANAGERS_VARIABLES, &[], &fds)
}

/// The path that this program was started by; a newer version may lie there later.
fn installed_program() -> std::io::Result<PathBuf> {
    match std::env::args_os().next().map(PathBuf::from) {
        Some(path) if path.is_absolute() => Ok(path),
        _ => std::env::current_exe(),
    }
}

/// Makes way for the program at `path`, with everything it needs to go on.
fn become_installed(path: &Path, held: &Held, views_off: bool) -> anyhow::Result<ExitCode> {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let copies = held.copies().context("cannot hand over the connection")?;
    let mut failure = Errno::ENOENT;
    // If the installed one cannot be executed after all, this one goes on.
    for path in [path, Path::new("/proc/self/exe")] {
        let views_off = [(VIEWS_OFF, if views_off { "1" } else { "0" })];
        let program = Program::new(path.as_os_str(), &arguments, &[], &views_off, &copies)?;
        failure = program.execute();
    }
    Err(failure).context("cannot execute this program again")
}

/// What the holder tells others.
struct Manager {
    program: PathBuf,
    mountpoint: PathBuf,
    interval: Duration,
    pinged: Instant,
}

impl Owner for Manager {
    fn on_ready(&mut self) {
        log::info!("serving {}", self.mountpoint.display());
        if let Err(error) = sd_notify::notify(&[NotifyState::Ready]) {
            log::warn!("cannot tell the service manager that the files are ready: {error}");
        }
    }

    fn on_alive(&mut self) {
        if self.pinged.elapsed() >= self.interval {
            self.pinged = Instant::now();
            if let Err(error) = sd_notify::notify(&[NotifyState::Watchdog]) {
                log::warn!("cannot tell the service manager that this process lives: {error}");
            }
        }
    }

    fn may_take_over(&mut self) -> bool {
        let path = self.program.display();
        match version_of(&self.program) {
            Ok(version) => {
                log::info!("going on with {path}, version {version}");
                true
            }
            Err(error) => {
                log::error!("not going on with {path}: {error:#}");
                false
            }
        }
    }
}

/// What [`say_that_it_adopts`] prints before the version.
const ADOPTS: &str = "adopts mounts, version ";

/// Answers a holder that is about to make way for this program.
///
/// # Errors
/// When standard output is closed.
pub fn say_that_it_adopts() -> anyhow::Result<ExitCode> {
    writeln!(std::io::stdout(), "{ADOPTS}{VERSION}").context("cannot print")?;
    Ok(ExitCode::SUCCESS)
}

/// The version of the program, if it can go on with the mount. Another make of lxcfs cannot,
/// nor one that does not know an option: it would leave all readers waiting.
fn version_of(program: &Path) -> anyhow::Result<String> {
    let mut child = Command::new(program)
        .arg("adopts")
        .args(std::env::args_os().skip(1))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let deadline = Instant::now() + CHECK_TIMEOUT;
    while child.try_wait()?.is_none() {
        if Instant::now() >= deadline {
            child.kill()?;
            child.wait()?;
            bail!("it does not say whether it can");
        }
        thread::sleep(Duration::from_millis(2));
    }
    let output = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    match said.trim().strip_prefix(ADOPTS) {
        Some(version) if output.status.success() => Ok(version.to_owned()),
        _ => bail!("it is another program, or does not know the options"),
    }
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
            "load averages are the container's by default",
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
            "triggers can always be polled",
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

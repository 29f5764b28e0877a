//! The daemon: mounts, and has a server answer for as long as it lives.
//!
//! This is the holder's process. What it knows how to do without the files of the system is
//! in [`crate::session::holder`].

use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::unistd::geteuid;
use sd_notify::NotifyState;

use super::pid_file::PidFile;
use super::{compatible, installed, serve};
use crate::attach::fallback;
use crate::cli::{DaemonArgs, RUNTIME_DIR};
use crate::config;
use crate::fs::Views;
use crate::ops;
use crate::session::control::Control;
use crate::session::held::Held;
use crate::session::holder::{self, Beginning, Holder, Outcome, Owner};
use crate::session::mount::Mount;
use crate::session::terms::Terms;
use crate::session::{CONTROL, server, store};
use crate::sys::exec::{self, Named, Program};
use crate::sys::process;

/// A server that has not answered for so long is replaced, unless the service manager sets
/// another time.
const PATIENCE: Duration = Duration::from_secs(30);

/// An unmount from outside that is under way is done in this time.
const UNMOUNT_TIME: Duration = Duration::from_millis(50);

/// Who aborts one connection after the other makes new ones no faster than this.
const SHORTEST_LIFE: Duration = Duration::from_secs(1);

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
    let installed = installed::path()?;
    compatible::report(args);
    holder::block_signals().context("cannot block signals")?;
    let pid_file = PidFile::lock(
        &args
            .pid_file
            .clone()
            .unwrap_or_else(|| args.runtime_dir.join("lxcfs.pid")),
    )?;
    pid_file.write()?;

    let (mut mount, mut held, mut resumes) = connect(args, mountpoint, inherited)?;
    let mut views_off = std::env::var_os(VIEWS_OFF).is_some_and(|value| value == "1");
    let mut is_anew = false;
    loop {
        let began = Instant::now();
        refuse_interrupts(&installed, &mount, &held);
        let stored = store::put(&held).unwrap_or_else(|error| {
            log::warn!("the service manager cannot keep the connection: {error}");
            false
        });
        let beginning = Beginning {
            patience: patience(&held.terms),
            resumes,
            views_off,
        };
        let mut holder = holder(&installed, &mount, &held, &args.options, beginning, is_anew)?;
        let outcome = holder.run();
        views_off = holder.views_off();
        if !matches!(outcome, Ok(Outcome::Disconnected)) || !was_aborted(&mount) {
            if !matches!(outcome, Ok(Outcome::TakeOver)) {
                ops::control::remove(&ops::control::path(&args.runtime_dir));
            }
            let kept = Kept {
                mount,
                held,
                stored,
            };
            return end(outcome, holder, kept, &installed, args);
        }
        log::warn!("the connection was aborted from outside; mounting anew");
        forget(stored, &held);
        thread::sleep(SHORTEST_LIFE.saturating_sub(began.elapsed()));
        drop(mount);
        let connection;
        (mount, connection) = Mount::new(mountpoint, &args.options)?;
        held = held
            .renew(connection, server::thread_count(), !args.no_resend)
            .context("cannot set up the connection")?;
        (resumes, is_anew) = (true, true);
    }
}

/// For how long a server may not answer before it is replaced.
pub(super) fn patience(terms: &Terms) -> Duration {
    terms.patience(sd_notify::watchdog_enabled().unwrap_or(PATIENCE))
}

/// A holder with all that it needs. `is_anew` says that containers have to be given the new
/// mount.
fn holder(
    installed: &Path,
    mount: &Mount,
    held: &Held,
    options: &[String],
    beginning: Beginning,
    is_anew: bool,
) -> anyhow::Result<Holder<Manager>> {
    let (control, servers_end) = Control::pair().context("cannot make a pair of sockets")?;
    let program = server_program(installed::this(installed), held, servers_end)
        .context("cannot make a server ready")?;
    let manager = Manager {
        program: installed.to_owned(),
        mountpoint: mount.mountpoint().to_owned(),
        options: options.to_vec(),
        connection: held.connection.try_clone()?,
        minor: held.minor,
        interval: beginning.patience / 4,
        pinged: Instant::now(),
        repairs: is_anew,
    };
    let connection = held.connection.try_clone()?;
    Holder::new(manager, program, control, connection, beginning).context("cannot wait for signals")
}

/// What has to be seen to at the end.
struct Kept {
    mount: Mount,
    held: Held,
    /// Whether the service manager has copies of what is held.
    stored: bool,
}

fn end(
    outcome: anyhow::Result<Outcome>,
    mut holder: Holder<Manager>,
    Kept {
        mount,
        held,
        stored,
    }: Kept,
    installed: &Path,
    args: &DaemonArgs,
) -> anyhow::Result<ExitCode> {
    match outcome {
        Ok(Outcome::TakeOver) => {
            mount.leave();
            become_installed(installed, &held, holder.views_off())
        }
        Ok(Outcome::Ended) if stored => {
            // Whether this is the end for good or a restart, the service manager knows. See
            // the command `stopped`.
            mount.leave();
            Ok(ExitCode::SUCCESS)
        }
        Ok(Outcome::Ended) => {
            drop(mount);
            keep_ready(args);
            Ok(ExitCode::SUCCESS)
        }
        Ok(Outcome::Disconnected) => {
            log::info!("unmounted from outside; ending");
            forget(stored, &held);
            mount.leave();
            keep_ready(args);
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

/// Whether the connection has ended although the file system is still mounted. An unmount by
/// force aborts the connection first.
fn was_aborted(mount: &Mount) -> bool {
    thread::sleep(UNMOUNT_TIME);
    mount.is_there()
}

/// Does without if it does not work: only a server that is killed at a bad moment meets it.
fn refuse_interrupts(installed: &Path, mount: &Mount, held: &Held) {
    let mut reader = serve::reader(installed::this(installed), mount.mountpoint());
    if let Err(error) = held.refuse_interrupts(reader.stderr(Stdio::null())) {
        log::warn!(
            "the kernel will interrupt requests ({error}); where it is affected by CVE-2026-64265 (Linux 6.9 to 6.12.95, 6.13 to 6.18.38, 6.19 to 7.1.3) it may crash when a server is killed"
        );
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
        // Containers have its files still.
        match Mount::again(mountpoint, &args.options, &held.connection, held.minor) {
            Ok(mount) => {
                log::info!("mounted once more at {}", mountpoint.display());
                return Ok((mount, held, true));
            }
            Err(error) => log::warn!(
                "what was served before cannot be mounted at {} again ({error:#}); mounting anew",
                mountpoint.display()
            ),
        }
        forget(true, &held);
    }
    Views::check().context("cannot tell readers apart")?;
    // A later server makes do with the last good one.
    config::policy(args.config.as_deref(), &args.given())?;
    keep_ready(args);
    let (mount, connection) = Mount::new(mountpoint, &args.options)?;
    let held = Held::new(connection, server::thread_count(), !args.no_resend)
        .context("cannot set up the connection")?;
    Ok((mount, held, false))
}

/// For containers that start while nobody serves. A daemon for a single container has a
/// directory of its own, which goes with it.
fn keep_ready(args: &DaemonArgs) {
    let is_for_all = args.runtime_dir == Path::new(RUNTIME_DIR);
    if let Some(mountpoint) = args.mountpoint.as_deref().filter(|_| is_for_all) {
        fallback::keep_ready(mountpoint);
    }
}

/// Takes the connection out of the fd store, so that it ends with this process.
fn forget(stored: bool, held: &Held) {
    if stored {
        if let Err(error) = store::clear(held) {
            log::warn!("the service manager still keeps the connection: {error}");
        }
    }
}

fn server_program(path: &Path, held: &Held, control: OwnedFd) -> std::io::Result<Program> {
    let mut arguments: Vec<OsString> = std::env::args_os().collect();
    arguments.insert(1.min(arguments.len()), "serve".into());
    let mut fds = held.copies()?;
    fds.push(Named {
        name: CONTROL.to_owned(),
        fd: control,
    });
    Program::new(path.as_os_str(), &arguments, &MANAGERS_VARIABLES, &[], &fds)
}

/// Makes way for the program at `path`, with everything it needs to go on.
fn become_installed(path: &Path, held: &Held, views_off: bool) -> anyhow::Result<ExitCode> {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let copies = held.copies().context("cannot hand over the connection")?;
    let mut failure = Errno::ENOENT;
    // If the installed one cannot be executed after all, this one goes on.
    for program in [path, installed::this(path)] {
        let variables = [
            (VIEWS_OFF, OsStr::new(if views_off { "1" } else { "0" })),
            (installed::PATH_VARIABLE, path.as_os_str()),
        ];
        let program = Program::new(program.as_os_str(), &arguments, &[], &variables, &copies)?;
        failure = program.execute();
    }
    Err(failure).context("cannot execute this program again")
}

/// What the holder tells others.
struct Manager {
    program: PathBuf,
    mountpoint: PathBuf,
    options: Vec<String>,
    connection: OwnedFd,
    minor: u32,
    interval: Duration,
    pinged: Instant,
    /// Whether containers are to be given this mount as soon as it answers.
    repairs: bool,
}

impl Manager {
    /// Mounts once more what somebody has unmounted while containers had its files.
    fn mount_again(&self) {
        if Mount::is_at(&self.mountpoint, self.minor) {
            return;
        }
        match Mount::again(
            &self.mountpoint,
            &self.options,
            &self.connection,
            self.minor,
        ) {
            Ok(mount) => mount.leave(),
            Err(error) => log::warn!("cannot mount once more: {error:#}"),
        }
    }

    /// Has `lxcfs remount` give containers files of the new mount. The holder waits for all of
    /// its children.
    fn repair(&self) {
        let mut command = Command::new(installed::this(&self.program));
        command
            .arg("remount")
            .arg(&self.mountpoint)
            .stdin(Stdio::null())
            .stdout(std::io::stderr());
        process::die_with_parent(&mut command, Signal::SIGKILL);
        if let Err(error) = command.spawn() {
            log::error!("cannot repair the mounts in containers; run `lxcfs remount`: {error}");
        }
    }
}

impl Owner for Manager {
    fn on_ready(&mut self) {
        log::info!("serving {}", self.mountpoint.display());
        if let Err(error) = sd_notify::notify(&[NotifyState::Ready]) {
            log::warn!("cannot tell the service manager that the files are ready: {error}");
        }
        if self.repairs {
            self.repair();
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
        match installed::version_of(&self.program) {
            Ok(version) => {
                log::info!("going on with {path}, version {version}");
                self.mount_again();
                true
            }
            Err(error) => {
                log::error!("not going on with {path}: {error:#}");
                false
            }
        }
    }
}

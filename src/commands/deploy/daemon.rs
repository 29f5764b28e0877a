//! The daemon of the host: a unit of systemd, or where there is no systemd a process.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{Pid, getpid, setsid};

use super::{PROGRAM, host};
use crate::attach::{USUAL, bindings, fallback};
use crate::daemon;
use crate::host::process::{Namespace, Proc};
use crate::nri::Probe;
use crate::parse::mountinfo::Mount;
use crate::places::spot::is_of_lxcfs;
use crate::session::mount;
use crate::sys::process;

/// The unit of the packages, but for the place of the program.
const UNIT: &str = include_str!("../../../systemd/lxcfs.service");
const UNITS_PROGRAM: &str = "/usr/bin/lxcfs";
const UNIT_NAME: &str = "lxcfs.service";
const UNIT_PATH: &str = "/etc/systemd/system/lxcfs.service";
/// There while systemd is the host's init (man: sd_booted(3)).
const SYSTEMD: &str = "/run/systemd/system";

const PID_FILE: &str = "/run/lxcfs.pid";
/// What the daemon says where no systemd listens.
const LOG: &str = "/var/log/lxcfs.log";

/// Longest start, takeover or end of a daemon.
const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(50);
/// How long one answer of the daemon may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

/// Who serves on the host.
enum Running {
    Nobody,
    /// What was installed here.
    Ours(Pid),
    /// Another program, such as a package's.
    Others(PathBuf),
}

/// Has the installed program serve at `views`, unless a daemon does that was not installed
/// here.
///
/// # Errors
/// One sentence about what keeps it from that.
pub fn bring_up(views: &Path) -> anyhow::Result<()> {
    match running()? {
        Running::Others(program) => log::info!("{} serves here and stays", program.display()),
        Running::Ours(pid) => {
            write_unit(views)?;
            upgrade(pid)?;
        }
        Running::Nobody => start(views)?,
    }
    let mut probe = Probe::default();
    wait_for("there is no answer at the mountpoint", || {
        let served = probe.served(views, bindings(&[]), ANSWER_TIMEOUT);
        Ok(served?.is_some())
    })
}

fn running() -> anyhow::Result<Running> {
    let proc = Proc::open(Path::new("/proc")).context("cannot open /proc")?;
    let holder = daemon::holder(Path::new(PID_FILE), &proc);
    Ok(match holder {
        Some(holder) if holder.program == Path::new(PROGRAM) => {
            Running::Ours(Pid::from_raw(holder.pid))
        }
        Some(holder) => Running::Others(holder.program),
        // What is in the file is another process's number by now, if any.
        None => Running::Nobody,
    })
}

/// Has the daemon go on with the program that is installed now.
fn upgrade(pid: Pid) -> anyhow::Result<()> {
    let is_current = || -> anyhow::Result<bool> {
        let (used, installed) = (
            fs::metadata(format!("/proc/{pid}/exe"))?,
            fs::metadata(PROGRAM)?,
        );
        Ok((used.dev(), used.ino()) == (installed.dev(), installed.ino()))
    };
    if is_current().context("the daemon is gone")? {
        log::info!("the daemon is up to date");
        return Ok(());
    }
    kill(pid, Signal::SIGUSR1).context("cannot signal the daemon")?;
    wait_for(
        "the daemon does not go on with the new program; its log says why",
        is_current,
    )?;
    log::info!("the daemon goes on with the new program");
    Ok(())
}

fn start(views: &Path) -> anyhow::Result<()> {
    if has_systemd() {
        write_unit(views)?;
        systemctl(&["enable", "--now", UNIT_NAME])?;
    } else {
        spawn(views)?;
    }
    log::info!("the daemon is started");
    Ok(())
}

fn has_systemd() -> bool {
    Path::new(SYSTEMD).is_dir()
}

/// Writes the unit if there is systemd and it is not written yet.
fn write_unit(views: &Path) -> anyhow::Result<()> {
    let text = UNIT
        .replace(UNITS_PROGRAM, PROGRAM)
        .replace(USUAL, &views.to_string_lossy());
    if !has_systemd() || fs::read_to_string(UNIT_PATH).is_ok_and(|written| written == text) {
        return Ok(());
    }
    fs::write(UNIT_PATH, text).with_context(|| format!("cannot write {UNIT_PATH}"))?;
    systemctl(&["daemon-reload"])
}

fn systemctl(arguments: &[&str]) -> anyhow::Result<()> {
    let output = Command::new("systemctl")
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .context("cannot start the host's systemctl")?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "systemctl {} failed: {}",
        arguments.join(" "),
        error.split_whitespace().collect::<Vec<_>>().join(" ")
    );
    Ok(())
}

/// Starts the daemon outside of the pod, as a child of the host's init.
fn spawn(views: &Path) -> anyhow::Result<()> {
    fallback::prepare(views)?;
    let log = File::options()
        .create(true)
        .append(true)
        .custom_flags(libc::O_NOFOLLOW)
        .open(LOG)
        .with_context(|| format!("cannot open {LOG}"))?;
    let mut command = Command::new(PROGRAM);
    command
        .arg("-f")
        .arg(views)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log);
    let Some(child) = process::fork().context("cannot start a process")? else {
        process::finish(|| u8::from(complain(become_daemon(command))))
    };
    let ended = waitpid(child, None).context("cannot wait for a process")?;
    ensure!(
        matches!(ended, WaitStatus::Exited(_, 0)),
        "the daemon cannot be started"
    );
    Ok(())
}

/// Leaves the pod, and has a child become the program.
fn become_daemon(mut command: Command) -> anyhow::Result<()> {
    host::leave_cgroups()?;
    setsid()?;
    // Without the right to do so it is no more likely to be killed than this process.
    let _ = fs::write("/proc/self/oom_score_adj", "-1000");
    if process::fork()?.is_some() {
        return Ok(());
    }
    Err(command.exec().into())
}

/// Says what went wrong; whether anything did.
fn complain(result: anyhow::Result<()>) -> bool {
    result
        .inspect_err(|error| log::error!("{error:#}"))
        .is_err()
}

/// Stops the daemon that was installed here and takes it off the host, unless containers
/// still have its files.
///
/// # Errors
/// One sentence about what keeps it from that.
pub fn remove(views: &Path) -> anyhow::Result<()> {
    if let Running::Ours(pid) = running()? {
        let users = users(views)?;
        ensure!(
            users == 0,
            "containers still have its files ({users} of them); it stays until they are gone"
        );
        stop(pid, views)?;
    }
    if fs::read_to_string(UNIT_PATH).is_ok_and(|text| text.contains(PROGRAM)) {
        systemctl(&["disable", UNIT_NAME])?;
        remove_file(Path::new(UNIT_PATH))?;
        systemctl(&["daemon-reload"])?;
    }
    remove_file(Path::new(PROGRAM))?;
    if let Some(directory) = Path::new(PROGRAM).parent() {
        // Whatever else is in it is not ours.
        let _ = fs::remove_dir(directory);
    }
    log::info!("lxcfs is uninstalled");
    Ok(())
}

fn stop(pid: Pid, views: &Path) -> anyhow::Result<()> {
    if has_systemd() {
        systemctl(&["stop", UNIT_NAME])?;
    } else {
        kill(pid, Signal::SIGTERM).context("cannot signal the daemon")?;
    }
    wait_for("the daemon does not end", || {
        Ok(!Path::new(&format!("/proc/{pid}")).exists())
    })?;
    mount::take_away(views).with_context(|| format!("cannot unmount {}", views.display()))
}

fn remove_file(path: &Path) -> anyhow::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// How many other mount namespaces have files of what is mounted at `views`.
fn users(views: &Path) -> anyhow::Result<usize> {
    let proc = Proc::open(Path::new("/proc")).context("cannot open /proc")?;
    let mounts = |pid: i32| {
        let mounts = proc.mounts(&format!("{pid}/mountinfo"), is_of_lxcfs);
        mounts.unwrap_or_default()
    };
    let own = getpid().as_raw();
    let Some(device) = device(&mounts(own), views) else {
        return Ok(0);
    };
    let mut seen: BTreeSet<_> = proc.namespace(own, Namespace::Mount).into_iter().collect();
    let mut users = 0;
    for pid in proc.pids().context("cannot list the processes")? {
        let namespace = proc.namespace(pid, Namespace::Mount);
        if namespace.is_some_and(|inode| seen.insert(inode)) {
            // Services with a namespace of their own have it where the host has it.
            let is_use = |mount: &Mount| mount.device == device && mount.mount_point != views;
            users += usize::from(mounts(pid).iter().any(is_use));
        }
    }
    Ok(users)
}

fn device(mounts: &[Mount], views: &Path) -> Option<(u32, u32)> {
    let is_it = |mount: &&Mount| mount.mount_point == views;
    mounts.iter().rfind(is_it).map(|mount| mount.device)
}

/// Waits for what has to come.
fn wait_for(
    complaint: &'static str,
    mut check: impl FnMut() -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !check()? {
        if Instant::now() >= deadline {
            bail!(complaint);
        }
        thread::sleep(POLL);
    }
    Ok(())
}

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

use super::{host, take_away};
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
/// Where the unit is written: to the first directory that takes it.
const UNIT_DIRS: [&str; 2] = ["/etc/systemd/system", "/run/systemd/system"];
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

/// Has the `installed` program serve at `views`, unless a daemon does that was not installed at
/// one of the `places`.
///
/// # Errors
/// One sentence about what keeps it from that.
pub fn bring_up(views: &Path, installed: &Path, places: &[PathBuf]) -> anyhow::Result<()> {
    let done = match running(places)? {
        Running::Others(program) => format!("{} serves here and stays", program.display()),
        Running::Ours(pid) => {
            write_unit(views, installed)?;
            upgrade(pid, installed)?.to_owned()
        }
        Running::Nobody => {
            start(views, installed)?;
            "the daemon is started".to_owned()
        }
    };
    let mut probe = Probe::default();
    wait_for(
        "there is no answer at the mountpoint; its log says why",
        || {
            let served = probe.served(views, bindings(&[]), ANSWER_TIMEOUT);
            Ok(served?.is_some())
        },
    )?;
    log::info!("{done}");
    Ok(())
}

fn running(places: &[PathBuf]) -> anyhow::Result<Running> {
    let proc = Proc::open(Path::new("/proc")).context("cannot open /proc")?;
    let holder = daemon::holder(Path::new(PID_FILE), &proc);
    Ok(match holder {
        Some(holder) if places.contains(&holder.program) => {
            Running::Ours(Pid::from_raw(holder.pid))
        }
        Some(holder) => Running::Others(holder.program),
        // What is in the file is another process's number by now, if any.
        None => Running::Nobody,
    })
}

/// Has the daemon go on with the program that is installed now. Returns what became of it.
fn upgrade(pid: Pid, installed: &Path) -> anyhow::Result<&'static str> {
    let is_current = || -> anyhow::Result<bool> {
        let (used, installed) = (
            fs::metadata(format!("/proc/{pid}/exe"))?,
            fs::metadata(installed)?,
        );
        Ok((used.dev(), used.ino()) == (installed.dev(), installed.ino()))
    };
    if is_current().context("the daemon is gone")? {
        return Ok("the daemon is up to date");
    }
    kill(pid, Signal::SIGUSR1).context("cannot signal the daemon")?;
    wait_for(
        "the daemon does not go on with the new program; its log says why",
        is_current,
    )?;
    Ok("the daemon goes on with the new program")
}

fn start(views: &Path, installed: &Path) -> anyhow::Result<()> {
    if !has_systemd() {
        return spawn(views, installed);
    }
    write_unit(views, installed)?;
    // Where /etc is read-only the unit lasts until the next boot, as its link then does.
    systemctl(&["enable", "--now", UNIT_NAME])
        .or_else(|_| systemctl(&["enable", "--runtime", "--now", UNIT_NAME]))
}

fn has_systemd() -> bool {
    Path::new(SYSTEMD).is_dir()
}

/// Writes the unit if there is systemd and it is not written yet.
fn write_unit(views: &Path, installed: &Path) -> anyhow::Result<()> {
    let text = UNIT
        .replace(UNITS_PROGRAM, &installed.to_string_lossy())
        .replace(USUAL, &views.to_string_lossy());
    let is_it = |path| fs::read_to_string(path).is_ok_and(|unit| unit == text);
    if !has_systemd() || units().any(is_it) {
        return Ok(());
    }
    let mut refusals = Vec::new();
    for path in units() {
        match fs::write(&path, &text) {
            Ok(()) => return systemctl(&["daemon-reload"]),
            Err(error) => refusals.push(format!("{}: {error}", path.display())),
        }
    }
    bail!("cannot write the unit ({})", refusals.join("; "))
}

/// The files in which the unit may lie.
fn units() -> impl Iterator<Item = PathBuf> {
    UNIT_DIRS.iter().map(|dir| Path::new(dir).join(UNIT_NAME))
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
fn spawn(views: &Path, installed: &Path) -> anyhow::Result<()> {
    fallback::prepare(views)?;
    let log = File::options()
        .create(true)
        .append(true)
        .custom_flags(libc::O_NOFOLLOW)
        .open(LOG)
        .with_context(|| format!("cannot open {LOG}"))?;
    let mut command = Command::new(installed);
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
pub fn remove(views: &Path, places: &[PathBuf]) -> anyhow::Result<()> {
    if let Running::Ours(pid) = running(places)? {
        let users = users(views)?;
        ensure!(
            users == 0,
            "containers still have its files ({users} of them); it stays until they are gone"
        );
        stop(pid, views)?;
    }
    let is_ours = |path: &PathBuf| {
        let text = fs::read_to_string(path).unwrap_or_default();
        places
            .iter()
            .any(|place| text.contains(&*place.to_string_lossy()))
    };
    for unit in units().filter(is_ours) {
        systemctl(&["disable", UNIT_NAME])?;
        remove_file(&unit)?;
        systemctl(&["daemon-reload"])?;
    }
    for place in places {
        remove_file(place)?;
        take_away(place);
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

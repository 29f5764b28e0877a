//! The program that is installed: where it lies, and whether a holder can make way for it.

use std::env;
use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf, absolute};
use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::cli::VERSION;
use crate::sys::exec;

/// Variable by which a daemon that cannot tell its path from how it was executed learns it
/// from the one before.
pub(super) const PATH_VARIABLE: &str = "LXCFS_PROGRAM";

/// This very program, also when another one lies at its path by now.
pub(super) const THIS: &str = "/proc/self/exe";

/// How long the program that is installed now may take to say that it can go on.
const CHECK_TIMEOUT: Duration = Duration::from_secs(5);

/// What the kernel appends to the path of a file that has been removed.
const REMOVED: &[u8] = b" (deleted)";

/// The path that this program was started by: a newer version may lie there later. To be
/// called before anything is upgraded and before the working directory is left.
///
/// # Errors
/// When nothing tells of it.
pub(super) fn path() -> anyhow::Result<PathBuf> {
    by_execution()
        .or_else(|| env::var_os(PATH_VARIABLE).map(PathBuf::from))
        .or_else(|| by_name(&env::args_os().next()?))
        .or_else(by_link)
        .filter(|path| path.is_absolute())
        .context("cannot tell the path of this program")
}

/// What was executed: a shell has searched PATH, a wrapper has chosen, and a symbolic link,
/// such as one of `alternatives`, leads to another version later.
fn by_execution() -> Option<PathBuf> {
    let path = exec::executed_path().filter(|path| !is_for_this_process(path))?;
    absolute(path).ok()
}

/// Paths of fds and of procfs mean nothing to another process.
fn is_for_this_process(path: &Path) -> bool {
    path.starts_with("/proc") || path.starts_with("/dev/fd")
}

/// What a shell would execute by this name.
fn by_name(name: &OsStr) -> Option<PathBuf> {
    if name.as_bytes().contains(&b'/') {
        return absolute(name).ok().filter(|path| path.is_file());
    }
    let directories = env::var_os("PATH")?;
    env::split_paths(&directories)
        .map(|directory| directory.join(name))
        .find(|path| path.is_file())
        .and_then(|path| absolute(path).ok())
}

fn by_link() -> Option<PathBuf> {
    let mut path = env::current_exe().ok()?.into_os_string().into_vec();
    if path.ends_with(REMOVED) {
        path.truncate(path.len() - REMOVED.len());
    }
    Some(OsString::from_vec(path).into())
}

/// What to execute for another process of this version. A program that was started through
/// the dynamic linker, as `ld.so lxcfs`, is the linker to the kernel.
pub(super) fn this(installed: &Path) -> &Path {
    let linker = env::current_exe().is_ok_and(|path| {
        let name = path.file_name().unwrap_or_default().as_bytes();
        name.starts_with(b"ld") && name.windows(3).any(|part| part == b".so")
    });
    if linker { installed } else { Path::new(THIS) }
}

/// What [`say_that_it_adopts`] prints before the version.
const ADOPTS: &str = "adopts mounts, version ";

/// Answers a holder that is about to make way for this program.
///
/// # Errors
/// When standard output is closed.
pub(super) fn say_that_it_adopts() -> anyhow::Result<ExitCode> {
    writeln!(std::io::stdout(), "{ADOPTS}{VERSION}").context("cannot print")?;
    Ok(ExitCode::SUCCESS)
}

/// The version of the program, if it can go on with the mount. Another make of lxcfs cannot,
/// nor one that does not know an option: it would leave all readers waiting.
pub(super) fn version_of(program: &Path) -> anyhow::Result<String> {
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

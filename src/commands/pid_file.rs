//! The pid file.

use std::fs::File;
use std::io::{Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::unistd::{geteuid, getpid};

use crate::places::trust;

/// For how long the lock of a daemon that was killed may be left.
const LEFT_FOR: Duration = Duration::from_millis(500);
const POLL: Duration = Duration::from_millis(5);

/// The file that tells the daemon's pid, locked as long as it runs.
pub(super) struct PidFile {
    path: PathBuf,
    file: Flock<File>,
}

impl PidFile {
    /// Makes it this process's.
    ///
    /// # Errors
    /// One sentence, which names the process that has it.
    pub(super) fn lock(path: &Path) -> anyhow::Result<Self> {
        let shown = path.display();
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory)
                .with_context(|| format!("cannot create {}", directory.display()))?;
        }
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(path)
            .with_context(|| format!("cannot open the pid file {shown}"))?;
        let metadata = file.metadata().context("cannot look at the pid file")?;
        let is_own = metadata.uid() == geteuid().as_raw() && metadata.nlink() == 1;
        ensure!(
            metadata.is_file() && is_own,
            "{shown} is no file that only this user has; name another --pidfile"
        );
        match lock_soon(file) {
            Ok(file) => Ok(Self {
                path: path.to_owned(),
                file,
            }),
            Err((_, Errno::EWOULDBLOCK)) => {
                let holder = trust::named_by(path).map(|pid| format!(" (pid {pid})"));
                bail!(
                    "another lxcfs{} holds {shown}; stop it first, or give this one its own --pidfile",
                    holder.unwrap_or_default()
                )
            }
            Err((_, errno)) => {
                Err(errno).with_context(|| format!("cannot lock the pid file {shown}"))
            }
        }
    }

    /// Writes this process's pid.
    ///
    /// # Errors
    /// One sentence.
    pub(super) fn write(&self) -> anyhow::Result<()> {
        let mut file: &File = &self.file;
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", getpid()))
            .with_context(|| format!("cannot write the pid file {}", self.path.display()))
    }
}

/// A daemon that is killed may leave a child that is about to become another program, and has
/// the lock until then.
fn lock_soon(mut file: File) -> Result<Flock<File>, (File, Errno)> {
    let deadline = Instant::now() + LEFT_FOR;
    loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Err((back, Errno::EWOULDBLOCK)) if Instant::now() < deadline => file = back,
            done => return done,
        }
        thread::sleep(POLL);
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

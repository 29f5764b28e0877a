//! The pid file.

use std::io::{Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::unistd::getpid;

/// The file that tells the daemon's pid, locked as long as it runs.
pub(super) struct PidFile {
    path: PathBuf,
    file: Flock<std::fs::File>,
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

    /// Writes this process's pid.
    ///
    /// # Errors
    /// One sentence.
    pub(super) fn write(&self) -> anyhow::Result<()> {
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

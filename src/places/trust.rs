//! Which processes are believed.
//!
//! Anybody can start a process with any name, arguments and program, and with memory and
//! files that keep whoever reads them waiting. So nothing of a process is looked at before the
//! kernel has said that it is root's.

use std::path::{Path, PathBuf};

use nix::sys::stat::stat;
use nix::unistd::getpid;

use crate::host::process::{Namespace, Proc};
use crate::sys::file::read_small;

/// What the kernel appends to the path of a program that lies there no more.
const REPLACED: &str = " (deleted)";
/// No pid file is longer.
const LONGEST_PID_FILE: usize = 64;

/// Tells processes of root, in the namespaces of this process, from all others.
#[derive(Debug)]
pub struct Trust<'a> {
    proc: &'a Proc,
}

impl<'a> Trust<'a> {
    /// By what `proc` says.
    #[must_use]
    pub fn new(proc: &'a Proc) -> Self {
        Self { proc }
    }

    /// Whether the process is root's and no container's: in the pid and user namespace of this
    /// process, with no other user's id. Its program can be one that anybody may start as root
    /// (sudo), with arguments of their choice.
    #[must_use]
    pub fn is_roots(&self, pid: i32) -> bool {
        self.proc.user_ids(pid) == Some([0; 4])
            && self.shares(pid, Namespace::User)
            && self.shares(pid, Namespace::Pid)
    }

    /// The same, where the paths that it names are those of this process as well.
    #[must_use]
    pub fn is_roots_here(&self, pid: i32) -> bool {
        let own = getpid().as_raw();
        let root = |pid| self.proc.identity(pid, "root");
        self.is_roots(pid) && self.shares(pid, Namespace::Mount) && root(pid) == root(own)
    }

    fn shares(&self, pid: i32, namespace: Namespace) -> bool {
        let of = |pid| self.proc.namespace(pid, namespace);
        of(pid) == of(getpid().as_raw())
    }

    /// Where the program of a process of root lies, or lay; `None` for another process.
    #[must_use]
    pub fn program(&self, pid: i32) -> Option<PathBuf> {
        let link = self.proc.read_link(&format!("{pid}/exe"));
        let path = self.is_roots(pid).then_some(link)?.ok()?;
        let replaced = path.to_str().and_then(|text| text.strip_suffix(REPLACED));
        Some(replaced.map(PathBuf::from).unwrap_or(path))
    }

    /// Whether a process of root is one of the program with this name.
    #[must_use]
    pub fn is_called(&self, pid: i32, name: &str) -> bool {
        self.program(pid)
            .is_some_and(|path| path.file_name().is_some_and(|own| own == name))
    }

    /// Whether a process of root runs the very file that lies at `program` now.
    #[must_use]
    pub fn runs(&self, pid: i32, program: &Path) -> bool {
        let Ok(installed) = stat(program) else {
            return false;
        };
        self.is_roots(pid)
            && self.proc.identity(pid, "exe") == Some((installed.st_dev, installed.st_ino))
    }

    /// Whether a process of root holds the lock of a pid file of root's that names it.
    #[must_use]
    pub fn holds_pid_file(&self, pid: i32) -> bool {
        self.is_roots(pid) && self.locks(pid).iter().any(|fd| self.is_pid_file(pid, fd))
    }

    /// Whether the process holds the lock of this pid file.
    #[must_use]
    pub fn holds(&self, pid: i32, pid_file: &Path) -> bool {
        let Ok(file) = stat(pid_file) else {
            return false;
        };
        let is_it = |fd: &String| {
            self.proc.identity(pid, &format!("fd/{fd}")) == Some((file.st_dev, file.st_ino))
        };
        self.is_roots(pid) && self.locks(pid).iter().any(is_it)
    }

    /// The fds by which the process holds an exclusive lock on a file.
    fn locks(&self, pid: i32) -> Vec<String> {
        let has_lock = |fd: &String| {
            let text = self.proc.read(pid, &format!("fdinfo/{fd}"));
            let text = text.unwrap_or_default();
            let mut locks = text.lines().filter(|line| line.starts_with("lock:"));
            locks.any(|line| line.split_ascii_whitespace().any(|word| word == "WRITE"))
        };
        let fds = self.proc.open_fds(pid).unwrap_or_default();
        fds.into_iter().filter(has_lock).collect()
    }

    fn is_pid_file(&self, pid: i32, fd: &str) -> bool {
        let text = read_small(
            &self.proc.path_of(pid, &format!("fd/{fd}")),
            LONGEST_PID_FILE,
        );
        text.is_ok_and(|text| text.trim().parse() == Ok(pid))
    }
}

/// The process that a pid file names; the file need not be root's, nor the process alive.
#[must_use]
pub fn named_by(pid_file: &Path) -> Option<i32> {
    let text = read_small(pid_file, LONGEST_PID_FILE).ok()?;
    text.trim().parse().ok().filter(|pid| *pid > 0)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write;

    use super::*;
    use crate::sys::lock;

    #[test]
    fn the_holder_of_a_pid_file_is_known_by_its_lock() {
        let proc = Proc::open(Path::new("/proc")).unwrap();
        let trust = Trust::new(&proc);
        let own = getpid().as_raw();
        if !trust.is_roots(own) {
            eprintln!("SKIPPED the_holder_of_a_pid_file_is_known_by_its_lock: it needs root");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pid");
        let mut file = File::options()
            .create_new(true)
            .read(true)
            .write(true)
            .open(&path)
            .unwrap();
        writeln!(file, "{own}").unwrap();
        assert_eq!(named_by(&path), Some(own));
        assert!(!trust.holds(own, &path));
        lock::try_lock(&file).unwrap();
        assert!(trust.holds(own, &path) && trust.holds_pid_file(own));
        // One that names another process is no pid file of this one.
        file.set_len(0).unwrap();
        writeln!(file, "1{own}").unwrap();
        assert!(!trust.is_pid_file(own, &std::os::fd::AsRawFd::as_raw_fd(&file).to_string()));
    }

    #[test]
    fn a_program_is_told_by_its_file_and_not_by_its_name() {
        let proc = Proc::open(Path::new("/proc")).unwrap();
        let trust = Trust::new(&proc);
        let own = getpid().as_raw();
        if !trust.is_roots_here(own) {
            eprintln!("SKIPPED a_program_is_told_by_its_file_and_not_by_its_name: it needs root");
            return;
        }
        let program = std::env::current_exe().unwrap();
        assert_eq!(trust.program(own).as_ref(), Some(&program));
        assert!(trust.runs(own, &program) && !trust.runs(own, Path::new("/bin/sh")));
        assert!(!trust.is_roots(0), "there is no such process");
    }
}

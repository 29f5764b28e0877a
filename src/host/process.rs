//! What `/proc/PID` says of one process or thread.
//!
//! A reader waits for the answer to its request, so its `/proc/TID` cannot turn into
//! another thread's while the request is served.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{Mode, fstatat};

use crate::parse::pid_stat::PidStat;
use crate::sys::file::{AT_ONCE, read_text, read_whole};
use crate::sys::nsfs;

/// The host's `/proc`.
#[derive(Debug)]
pub struct Proc {
    dir: OwnedFd,
    path: PathBuf,
}

/// The namespaces that matter to identity, rights, time and mounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Namespace {
    /// `ns/pid`.
    Pid,
    /// `ns/cgroup`.
    Cgroup,
    /// `ns/mnt`.
    Mount,
    /// `ns/time`.
    Time,
    /// `ns/user`.
    User,
}

impl Namespace {
    const fn link(self) -> &'static str {
        match self {
            Self::Pid => "ns/pid",
            Self::Cgroup => "ns/cgroup",
            Self::Mount => "ns/mnt",
            Self::Time => "ns/time",
            Self::User => "ns/user",
        }
    }
}

/// Inode number of a namespace in a directory that [`Proc::open_namespaces`] gave, as
/// [`Proc::namespace`] gives it.
#[must_use]
pub fn namespace_in(namespaces: impl AsFd, namespace: Namespace) -> Option<u64> {
    nsfs::inode_of_link(namespaces, namespace.link().strip_prefix("ns/")?).ok()
}

impl Proc {
    /// Opens the directory.
    ///
    /// # Errors
    /// What open(2) says.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        Ok(Self {
            dir: openat(AT_FDCWD, path, flags, Mode::empty())?,
            path: path.to_owned(),
        })
    }

    /// Opens `/proc/PID/FILE`. Once the process has ended the file cannot be read, also when
    /// another one has got its number.
    ///
    /// # Errors
    /// What open(2) says.
    pub fn open_file(&self, pid: i32, file: &str) -> Result<OwnedFd, Errno> {
        openat(
            &self.dir,
            format!("{pid}/{file}").as_str(),
            AT_ONCE,
            Mode::empty(),
        )
    }

    /// The content of `/proc/PID/FILE`.
    ///
    /// # Errors
    /// What open(2) and read(2) say; `ENOENT` or `ESRCH` when the process is gone.
    pub fn read(&self, pid: i32, file: &str) -> Result<String, Errno> {
        read_text(self.open_file(pid, file)?)
    }

    /// Opens the `stat` of a thread as [`Proc::open_file`] does. It is the file below `task`: for
    /// `/proc/TID/stat` the kernel adds up all threads of the process, which takes milliseconds
    /// where there are thousands, and state and start time are the same.
    ///
    /// # Errors
    /// What open(2) says.
    pub fn open_stat(&self, tid: i32) -> Result<OwnedFd, Errno> {
        self.open_file(tid, &format!("task/{tid}/stat"))
    }

    /// State and start time of a thread; `None` when it is gone.
    #[must_use]
    pub fn stat(&self, tid: i32) -> Option<PidStat> {
        PidStat::parse(&read_whole(self.open_stat(tid).ok()?).ok()?).ok()
    }

    /// Inode number of a namespace of the process; `None` when the kernel has no such
    /// namespaces or does not let this process look.
    #[must_use]
    pub fn namespace(&self, pid: i32, namespace: Namespace) -> Option<u64> {
        nsfs::inode_of_link(&self.dir, &format!("{pid}/{}", namespace.link())).ok()
    }

    /// The same; `None` where the kernel has no such namespaces.
    ///
    /// # Errors
    /// `EACCES` when the kernel does not let this process look, which takes `CAP_SYS_PTRACE`
    /// for processes that may do more than this one.
    pub fn see_namespace(&self, pid: i32, namespace: Namespace) -> Result<Option<u64>, Errno> {
        match nsfs::inode_of_link(&self.dir, &format!("{pid}/{}", namespace.link())) {
            Err(Errno::ENOENT) => Ok(None),
            seen => seen.map(Some),
        }
    }

    /// The directory of the process's namespaces. Once the process has ended there are none
    /// in it, also when another one has got its number.
    ///
    /// # Errors
    /// What open(2) says.
    pub fn open_namespaces(&self, pid: i32) -> Result<OwnedFd, Errno> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        openat(
            &self.dir,
            format!("{pid}/ns").as_str(),
            flags,
            Mode::empty(),
        )
    }

    /// A reference to a namespace of the process that keeps it, and so its inode
    /// number, from being given to another one.
    ///
    /// # Errors
    /// What open(2) says.
    pub fn hold_namespace(&self, pid: i32, namespace: Namespace) -> Result<OwnedFd, Errno> {
        self.open_file(pid, namespace.link())
    }

    /// Seconds that the reader's time namespace adds to `CLOCK_BOOTTIME`, with nanoseconds
    /// (kernel: `/proc/PID/timens_offsets`); 0 without time namespaces.
    #[must_use]
    pub fn boottime_offset_nsec(&self, pid: i32) -> i64 {
        let text = self.read(pid, "timens_offsets").unwrap_or_default();
        text.lines()
            .find_map(|line| {
                let mut words = line.split_ascii_whitespace();
                // Linux 5.6 writes the clock's number, later ones its name.
                matches!(words.next()?, "boottime" | "7").then_some(())?;
                let seconds: i64 = words.next()?.parse().ok()?;
                let nsec: i64 = words.next()?.parse().ok()?;
                Some(seconds.saturating_mul(1_000_000_000).saturating_add(nsec))
            })
            .unwrap_or(0)
    }

    /// The numbers of the thread in the pid namespaces that it is in, from the daemon's to
    /// its own, innermost one; empty when the thread is gone.
    #[must_use]
    pub fn pids_by_namespace(&self, tid: i32) -> Vec<i32> {
        let status = self.read(tid, "status").unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
        let numbers = line.unwrap_or_default().split_ascii_whitespace();
        numbers.filter_map(|number| number.parse().ok()).collect()
    }

    /// The real, effective, saved and file system user ids of the process, in the user
    /// namespace of this one; `None` when it is gone. Who has none there is shown as 65534.
    #[must_use]
    pub fn user_ids(&self, pid: i32) -> Option<[u32; 4]> {
        let status = self.read(pid, "status").ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
        let ids = line.split_ascii_whitespace().map(|id| id.parse().ok());
        ids.collect::<Option<Vec<_>>>()?.try_into().ok()
    }

    /// Device and inode number of what a link of `/proc/PID` leads to, such as `exe`.
    #[must_use]
    pub fn identity(&self, pid: i32, link: &str) -> Option<(u64, u64)> {
        let stat = fstatat(
            &self.dir,
            format!("{pid}/{link}").as_str(),
            AtFlags::empty(),
        )
        .ok()?;
        Some((stat.st_dev, stat.st_ino))
    }

    /// Whether the thread has this capability (man: capabilities(7)) in its user namespace.
    #[must_use]
    pub fn has_capability(&self, tid: i32, capability: u32) -> bool {
        let status = self.read(tid, "status").unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
        let set = u64::from_str_radix(line.unwrap_or_default().trim(), 16).unwrap_or(0);
        set.checked_shr(capability).unwrap_or(0) & 1 == 1
    }

    /// The root directory of the process, for looking up paths only.
    ///
    /// # Errors
    /// What open(2) says.
    pub fn open_root(&self, pid: i32) -> Result<OwnedFd, Errno> {
        openat(
            &self.dir,
            format!("{pid}/root").as_str(),
            OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
            Mode::empty(),
        )
    }

    /// The content of a file of `/proc` itself.
    ///
    /// # Errors
    /// What open(2) and read(2) say.
    pub fn read_file(&self, name: &str) -> io::Result<Vec<u8>> {
        Ok(read_whole(self.open_named(name)?)?)
    }

    /// Opens a file of `/proc` itself.
    ///
    /// # Errors
    /// What open(2) says.
    pub(super) fn open_named(&self, name: &str) -> Result<OwnedFd, Errno> {
        openat(&self.dir, name, AT_ONCE, Mode::empty())
    }

    /// Whether `/proc` itself has a file of this name.
    #[must_use]
    pub fn has_file(&self, name: &str) -> bool {
        fstatat(&self.dir, name, AtFlags::empty()).is_ok()
    }

    /// Where a link of `/proc` leads to, such as `thread-self/fd/3`.
    ///
    /// # Errors
    /// What readlink(2) says.
    pub fn read_link(&self, name: &str) -> Result<PathBuf, Errno> {
        readlinkat(&self.dir, name).map(PathBuf::from)
    }

    /// The numbers of the fds of the process, as text.
    ///
    /// # Errors
    /// What open(2) says.
    pub fn open_fds(&self, pid: i32) -> io::Result<Vec<String>> {
        let names = std::fs::read_dir(self.path_of(pid, "fd"))?.flatten();
        let names = names.map(|entry| entry.file_name());
        Ok(names.filter_map(|name| name.into_string().ok()).collect())
    }

    /// Path of `/proc/PID/FILE`.
    #[must_use]
    pub fn path_of(&self, pid: i32, file: &str) -> PathBuf {
        self.path.join(pid.to_string()).join(file)
    }

    /// All process numbers.
    ///
    /// # Errors
    /// What open(2) says.
    pub fn pids(&self) -> io::Result<Vec<i32>> {
        let names = std::fs::read_dir(&self.path)?
            .flatten()
            .map(|entry| entry.file_name());
        Ok(names
            .filter_map(|name| name.to_str()?.parse().ok())
            .collect())
    }
}

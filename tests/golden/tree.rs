//! A machine that consists of plain files.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lxcfs::cgroup::account::{CpuUsage, DeviceIo, Memory};
use lxcfs::cgroup::{Cgroup, Error, FdBudget, Layout, Limit};
use lxcfs::parse::cpu_list::CpuSet;
use tempfile::TempDir;

/// A directory with `proc` and `sys`.
pub struct Tree {
    pub root: PathBuf,
    _temporary: Option<TempDir>,
}

impl Tree {
    pub fn fixture(name: &str) -> Self {
        Self {
            root: Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("tests/fixtures")
                .join(name),
            _temporary: None,
        }
    }

    /// A copy that may be changed.
    pub fn copy_of(name: &str) -> Self {
        let temporary = tempfile::tempdir().unwrap();
        copy(&Self::fixture(name).root, temporary.path());
        Self {
            root: temporary.path().to_owned(),
            _temporary: Some(temporary),
        }
    }

    pub fn read(&self, path: &str) -> String {
        let path = self.root.join(path);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    pub fn layout(&self) -> Arc<Layout> {
        self.layout_with(&Arc::new(FdBudget::new(1000)))
    }

    pub fn layout_with(&self, budget: &Arc<FdBudget>) -> Arc<Layout> {
        let mountinfo = self.read("proc/1/mountinfo");
        Arc::new(Layout::detect(&mountinfo, &self.root, budget).unwrap())
    }

    /// The cgroup with these lines in `/proc/PID/cgroup`.
    pub fn cgroup(&self, memberships: &str) -> Cgroup {
        let layout = self.layout();
        layout.open(&layout.paths(memberships)).unwrap()
    }

    pub fn cgroup_of(&self, tid: i32) -> Cgroup {
        self.cgroup(&self.read(&format!("proc/{tid}/cgroup")))
    }
}

/// Copies what is in one directory to another one.
pub fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            fs::create_dir(&to).unwrap();
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// All that is read from a cgroup.
#[derive(Debug, Clone, PartialEq)]
pub struct Figures {
    pub memory: Result<Memory, Fault>,
    pub cpu_usage: Result<CpuUsage, Fault>,
    pub cpu_limit_millis: Result<Limit, Fault>,
    pub cpuset: Result<Option<CpuSet>, Fault>,
    pub io: Result<Vec<DeviceIo>, Fault>,
    pub threads: Result<Vec<i32>, Fault>,
    pub thread_count: Result<Option<u64>, Fault>,
}

/// [`Error`] with the file that is to blame, in a form that can be compared.
#[derive(Debug, Clone, PartialEq)]
pub enum Fault {
    Gone,
    Io(&'static str),
    Parse(&'static str),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        match error {
            Error::Gone => Self::Gone,
            Error::Io { file, .. } => Self::Io(file),
            Error::Parse(error) => Self::Parse(error.file),
        }
    }
}

impl Figures {
    /// Reads everything, huge pages included. What no cgroup accounts is zero.
    pub fn read(cgroup: &Cgroup) -> Self {
        Self {
            memory: defaulted(cgroup.memory(true)),
            cpu_usage: defaulted(cgroup.cpu_usage(true)),
            cpu_limit_millis: cgroup.cpu_limit_millis().map_err(Fault::from),
            cpuset: cgroup.cpuset().map_err(Fault::from),
            io: cgroup.io().map_err(Fault::from),
            threads: cgroup.threads().map_err(Fault::from),
            thread_count: cgroup.thread_count().map_err(Fault::from),
        }
    }

    /// The same figures with another memory account.
    pub fn with_memory(mut self, change: impl FnOnce(&mut Memory)) -> Self {
        change(self.memory.as_mut().unwrap());
        self
    }

    /// The same figures with another CPU account.
    pub fn with_cpu(mut self, change: impl FnOnce(&mut CpuUsage)) -> Self {
        change(self.cpu_usage.as_mut().unwrap());
        self
    }
}

fn defaulted<T: Default>(read: Result<Option<T>, Error>) -> Result<T, Fault> {
    read.map(Option::unwrap_or_default).map_err(Fault::from)
}

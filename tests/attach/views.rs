//! One lxcfs at a place that does not change when it is stopped and started.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::daemon::{Daemon, binary};
use crate::common::run;

/// The place, prepared as the packages do it.
#[derive(Debug)]
pub struct Views {
    dir: tempfile::TempDir,
}

impl Views {
    #[track_caller]
    pub fn prepare() -> Self {
        let dir = tempfile::Builder::new()
            .prefix("lxcfs-test-")
            .tempdir()
            .expect("a directory");
        let views = Self { dir };
        run(Command::new(binary()).arg("prepare").arg(views.point())).ok();
        views
    }

    /// Where the place is, and room for more.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn point(&self) -> PathBuf {
        self.dir.path().join("views")
    }

    /// The same as an argument.
    pub fn arg(&self) -> String {
        self.point().to_str().expect("an ASCII path").to_owned()
    }

    #[track_caller]
    pub fn start(&self) -> Daemon {
        Daemon::start_at(&binary(), &self.point(), &self.dir.path().join("pid"), &[])
    }
}

/// The program under test as an argument.
pub fn program() -> String {
    binary().to_str().expect("an ASCII path").to_owned()
}

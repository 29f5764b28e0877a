//! What a process in a container asks others for, beside reading.

use std::fs::File;
use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A process that says again what it is told.
#[derive(Debug)]
pub struct Other {
    process: Child,
    says: File,
    hears: File,
}

impl Other {
    pub fn start() -> Self {
        let mut command = Command::new("cat");
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().expect("starting cat");
        let says = process.stdout.take().map(OwnedFd::from);
        let hears = process.stdin.take().map(OwnedFd::from);
        Self {
            process,
            says: says.expect("a pipe").into(),
            hears: hears.expect("a pipe").into(),
        }
    }

    /// As often as a reader waits for the daemon: for OPEN and two times READ.
    pub fn talk(&self) -> io::Result<usize> {
        for _ in 0..3 {
            (&self.hears).write_all(b"?")?;
            (&self.says).read_exact(&mut [0])?;
        }
        Ok(1)
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.process.kill().and_then(|()| self.process.wait());
    }
}

/// One of the requests beside those of reading, which the kernel sends each time.
pub fn ask(which: &str, path: &Path) -> io::Result<usize> {
    match which {
        "ioctl" => Ok(usize::from(!File::open(path)?.is_terminal())),
        "lookup" => Ok(usize::from(!path.with_file_name("nothing").exists())),
        _ => panic!("no such request: {which}"),
    }
}

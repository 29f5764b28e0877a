//! This test binary as a process inside a container: it reads in ways a shell cannot.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::common::load::{Figures, hammer};
use crate::common::{Inside, patience, wait_for};

const ROLE: &str = "LXCFS_TEST_ROLE";

/// Reads all the time with many threads; killed or left to end.
#[derive(Debug, Clone, Copy)]
pub struct Hammer {
    pub readers: usize,
    pub time: Duration,
}

/// A process started by [`start`] and the file it writes its results to.
#[derive(Debug)]
pub struct Reader {
    pub child: Child,
    dir: tempfile::TempDir,
}

impl Reader {
    fn start(inside: &Inside, role: &str) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let program = std::env::current_exe().expect("this binary");
        let program = program.to_str().expect("an ASCII path");
        let role = format!("{role} {}", dir.path().join("result").display());
        let argv = [
            program,
            "--ignored",
            "--exact",
            "--nocapture",
            "reader::process_inside_a_container",
        ];
        let mut command: Command = inside.command(&argv);
        let child = command
            .env(ROLE, role)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("starting a reader");
        Self { child, dir }
    }

    pub fn hammer(inside: &Inside, path: &str, hammer: Hammer) -> Self {
        Self::start(
            inside,
            &format!(
                "hammer {path} {} {}",
                hammer.readers,
                hammer.time.as_millis()
            ),
        )
    }

    /// Holds this many handles open, each with a snapshot read, until it is dropped.
    #[track_caller]
    pub fn holding(inside: &Inside, path: &str, handles: usize) -> Self {
        let reader = Self::start(inside, &format!("hold {path} {handles}"));
        let result = reader.result(patience(60));
        assert_eq!(result.as_deref(), Some("holding\n"));
        reader
    }

    fn result(&self, limit: Duration) -> Option<String> {
        wait_for(limit, || {
            fs::read_to_string(self.dir.path().join("result"))
                .ok()
                .filter(|text| text.ends_with('\n'))
        })
    }

    /// Waits for a hammer's end.
    #[track_caller]
    pub fn figures(mut self) -> Figures {
        let line = self.result(patience(60)).expect("a reader that ends");
        let _ = self.child.wait();
        Figures::from_line(&line).unwrap_or_else(|| panic!("{line}"))
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        // A holder ends when its standard input does; whatever else is left goes with the container.
        drop(self.child.stdin.take());
        if wait_for(patience(2), || self.child.try_wait().ok().flatten()).is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn hold(path: &Path, handles: usize, result: &str) {
    let mut buffer = [0; 100];
    let open: Vec<File> = (0..handles)
        .map(|_| {
            let mut file = File::open(path).expect("opening");
            assert!(file.read(&mut buffer).expect("reading") > 0);
            file
        })
        .collect();
    fs::write(result, "holding\n").expect("writing the result");
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    drop(open);
}

#[test]
#[ignore = "other tests run this one in their containers"]
fn process_inside_a_container() {
    let Ok(role) = std::env::var(ROLE) else {
        return;
    };
    match role.split(' ').collect::<Vec<_>>()[..] {
        ["hammer", path, readers, millis, result] => {
            let time = Duration::from_millis(millis.parse().expect("milliseconds"));
            let figures = hammer(Path::new(path), readers.parse().expect("a count"), time);
            fs::write(result, figures.to_line() + "\n").expect("writing the result");
        }
        ["hold", path, handles, result] => {
            hold(Path::new(path), handles.parse().expect("a count"), result);
        }
        _ => panic!("no such role: {role}"),
    }
}

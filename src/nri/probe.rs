//! Whether lxcfs serves right now, asked in a process of its own: a server that hangs keeps
//! whoever asks it, and such a process cannot even be killed.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use nix::unistd::Pid;

use crate::attach::{Binding, fallback};
use crate::sys::aside::Aside;
use crate::sys::process;

/// Read to learn whether there is an answer.
const ASKED: &str = "proc/uptime";

/// Processes that may wait for an answer at the same time.
const MOST_WAITING: usize = 4;

/// What the process says of a binding.
const SERVED: u8 = b'1';

/// Asks, and remembers who still waits.
#[derive(Debug, Default)]
pub struct Probe {
    waiting: Vec<Pid>,
}

impl Probe {
    /// Those of the bindings that are served at `views`; `None` if there is no lxcfs, or no answer
    /// within `limit`. To be called while this process has one thread.
    ///
    /// # Errors
    /// If no process can be made.
    pub fn served(
        &mut self,
        views: &Path,
        bindings: Vec<Binding>,
        limit: Duration,
    ) -> io::Result<Option<Vec<Binding>>> {
        self.waiting
            .retain(|pid| matches!(process::reap(Some(*pid)), Ok(None)));
        if self.waiting.len() >= MOST_WAITING {
            return Ok(None);
        }
        let mut aside = Aside::start(|| look(views, &bindings))?;
        let answer = aside.answer(Some(limit));
        // One that has answered is gone by the next time.
        self.waiting.push(aside.abandon());
        let Some(answer) = answer? else {
            return Ok(None);
        };
        if answer.is_empty() {
            return Ok(None);
        }
        let found = bindings.into_iter().zip(answer);
        let served = found.filter(|(_, said)| *said == SERVED);
        Ok(Some(served.map(|(binding, _)| binding).collect()))
    }
}

/// One byte for each binding; none if no lxcfs answers.
fn look(views: &Path, bindings: &[Binding]) -> Vec<u8> {
    let asked = views.join(ASKED);
    if fallback::is_hosts_own(&asked) || fs::read(&asked).is_err() {
        return Vec::new();
    }
    let is_served = |binding: &Binding| {
        let found = fs::metadata(binding.source(views));
        found.is_ok_and(|found| found.is_dir() == binding.is_directory)
    };
    let said = |binding| if is_served(binding) { SERVED } else { b'0' };
    bindings.iter().map(said).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::attach::Part;

    #[test]
    fn only_what_is_there_is_served_and_the_hosts_own_is_not() {
        let views = tempfile::tempdir().unwrap();
        let place = |path: &str| views.path().join(path);
        fs::create_dir_all(place("proc/pressure")).unwrap();
        let binding = |path: &str| Binding {
            path: path.into(),
            part: Part::Cpu,
            is_directory: true,
            is_for_mounts: true,
        };
        let bindings = ["proc/pressure", "proc/uptime", "proc/stat"].map(binding);
        assert_eq!(look(views.path(), &bindings), b"");
        symlink("/proc/uptime", place(ASKED)).unwrap();
        assert_eq!(look(views.path(), &bindings), b"");
        fs::remove_file(place(ASKED)).unwrap();
        fs::write(place(ASKED), "1 1").unwrap();
        assert_eq!(look(views.path(), &bindings), b"100");
    }
}

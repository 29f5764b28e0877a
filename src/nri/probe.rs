//! Whether lxcfs serves right now, asked in a process of its own: a server that hangs keeps
//! whoever asks it, and such a process cannot even be killed.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::{Pid, pipe2};

use crate::attach::{Binding, fallback};
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
        let (receiver, sender) = pipe2(OFlag::O_CLOEXEC)?;
        let Some(child) = process::fork()? else {
            process::finish(|| {
                drop(receiver);
                let answer = look(views, &bindings);
                u8::from(File::from(sender).write_all(&answer).is_err())
            })
        };
        drop(sender);
        let Some(answer) = read_within(receiver, limit) else {
            let _ = kill(child, Signal::SIGKILL);
            self.waiting.push(child);
            return Ok(None);
        };
        // It has nothing left to do but to end.
        waitpid(child, None)?;
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

/// All that comes until the end, if that comes in time.
fn read_within(receiver: OwnedFd, limit: Duration) -> Option<Vec<u8>> {
    let deadline = Instant::now() + limit;
    let mut file = File::from(receiver);
    let mut answer = Vec::new();
    loop {
        let rest = deadline.saturating_duration_since(Instant::now());
        let mut waited = [PollFd::new(file.as_fd(), PollFlags::POLLIN)];
        match poll(&mut waited, PollTimeout::try_from(rest).ok()?) {
            Ok(0) => return None,
            Ok(_) => {}
            Err(Errno::EINTR) => continue,
            Err(_) => return None,
        }
        let mut piece = [0; 256];
        match file.read(&mut piece) {
            Ok(0) => return Some(answer),
            Ok(count) => answer.extend_from_slice(piece.get(..count)?),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use nix::unistd::pipe;

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

    #[test]
    fn an_answer_counts_if_it_is_whole_in_time() {
        let (receiver, sender) = pipe().unwrap();
        let mut sender = File::from(sender);
        sender.write_all(b"10").unwrap();
        let late = receiver.try_clone().unwrap();
        assert_eq!(read_within(late, Duration::from_millis(20)), None);
        sender.write_all(b"1").unwrap();
        drop(sender);
        assert_eq!(
            read_within(receiver, Duration::from_secs(10)),
            Some(b"1".to_vec())
        );
    }
}

//! Other programs that are asked, which may never answer.

use std::io::Read;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// How long an answer may take that mostly comes within a second.
const PATIENCE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(5);
/// No answer that can be used is longer.
const LONGEST: u64 = 1 << 20;

/// What the program prints; `None` if it cannot be started, fails or takes too long.
#[must_use]
pub fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let mut child = Command::new(installed(program)?)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let pipe = child.stdout.take()?;
    let (sender, receiver) = mpsc::channel();
    let read_all = move || {
        let mut text = Vec::new();
        let read = pipe.take(LONGEST).read_to_end(&mut text);
        // Nobody listens any more if it took too long.
        let _ = sender.send(read.map(|_| text));
    };
    thread::Builder::new().spawn(read_all).ok()?;
    let text = receiver.recv_timeout(PATIENCE);
    let succeeded = text.is_ok() && succeeds(&mut child);
    if !succeeded {
        // Fails if it has ended. Nobody waits for one that cannot be ended.
        let _ = child.kill();
    }
    let text = text.ok()?.ok().filter(|_| succeeded)?;
    String::from_utf8(text).ok()
}

/// Whether a program that has said all it has to say ends well, and soon.
fn succeeds(child: &mut Child) -> bool {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        match child.try_wait() {
            Ok(Some(status)) => return status.success(),
            Ok(None) => thread::sleep(POLL),
            Err(_) => return false,
        }
    }
    false
}

/// Where a program of this name is installed; a path is taken as it is.
#[must_use]
pub fn installed(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Where those of administrators are, which not every PATH has.
    let more = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    let mut all = std::env::split_paths(&path).chain(more);
    all.find_map(|directory| Some(directory.join(program)).filter(|path| path.is_file()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_program_prints_counts_if_it_succeeds() {
        assert_eq!(output("echo", &["a", "b"]).as_deref(), Some("a b\n"));
        assert_eq!(output("false", &[]), None);
        assert_eq!(output("a program that nobody has", &[]), None);
        assert!(installed("sh").is_some() && installed("/bin/sh").is_some());
        assert_eq!(installed("a program that nobody has"), None);
    }
}

//! What the daemon goes by now: in a memory that later servers get, and that the commands which
//! ask a daemon read through `/proc` of its holder.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

/// Longest configuration.
pub const MOST_BYTES: usize = 1 << 20;

/// After the length of the configuration and the room for that.
const STATE_AT: u64 = (8 + MOST_BYTES) as u64;
const STATE_BYTES: usize = 128;
const VIEWS_OFF: &str = "off";

/// The memory: the length of the last configuration that was good in eight bytes, its text, and
/// then the state.
#[derive(Debug)]
pub struct InForce(File);

/// What else a server says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// Its version.
    pub version: String,
    /// Whether readers are shown the host's own files.
    pub views_off: bool,
    /// Minor device number of the file system.
    pub minor: u32,
}

impl InForce {
    /// The memory behind `fd`.
    #[must_use]
    pub fn new(fd: OwnedFd) -> Self {
        Self(fd.into())
    }

    /// Keeps the text of a configuration that is in force from now on.
    ///
    /// # Errors
    /// `FileTooLarge`, or what pwrite(2) says.
    pub fn keep(&self, text: &str) -> io::Result<()> {
        if text.len() > MOST_BYTES {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let mut content = (text.len() as u64).to_ne_bytes().to_vec();
        content.extend_from_slice(text.as_bytes());
        self.0.write_all_at(&content, 0)
    }

    /// The text of the configuration; `None` if no server has kept one.
    #[must_use]
    pub fn text(&self) -> Option<String> {
        let mut length = [0; 8];
        self.0.read_exact_at(&mut length, 0).ok()?;
        let length = usize::try_from(u64::from_ne_bytes(length)).ok()?;
        let mut text = vec![0; length.min(MOST_BYTES)];
        self.0.read_exact_at(&mut text, 8).ok()?;
        String::from_utf8(text).ok()
    }

    /// Notes the state.
    ///
    /// # Errors
    /// What pwrite(2) says.
    pub fn note(&self, state: &State) -> io::Result<()> {
        let views = if state.views_off { VIEWS_OFF } else { "on" };
        let mut content = format!("{} {views} {}\n", state.version, state.minor).into_bytes();
        content.resize(STATE_BYTES, 0);
        self.0.write_all_at(&content, STATE_AT)
    }

    /// The state; `None` if the server is of a version that notes none.
    #[must_use]
    pub fn state(&self) -> Option<State> {
        let mut content = [0; STATE_BYTES];
        self.0.read_exact_at(&mut content, STATE_AT).ok()?;
        let text = String::from_utf8_lossy(&content);
        let mut words = text.lines().next()?.split_ascii_whitespace();
        Some(State {
            version: words.next()?.to_owned(),
            views_off: words.next()? == VIEWS_OFF,
            minor: words.next()?.parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_state_stand_beside_each_other() {
        let file = tempfile::tempfile().unwrap();
        let memory = InForce::new(file.try_clone().unwrap().into());
        assert_eq!((memory.text(), memory.state()), (None, None));
        for (text, views_off) in [("# long\n[defaults]\n", true), ("# short\n", false)] {
            let state = State {
                version: "1.2.3".to_owned(),
                views_off,
                minor: 42,
            };
            memory.keep(text).unwrap();
            memory.note(&state).unwrap();
            let read = InForce::new(file.try_clone().unwrap().into());
            assert_eq!(read.text().as_deref(), Some(text));
            assert_eq!(read.state(), Some(state));
        }
        assert!(memory.keep(&" ".repeat(MOST_BYTES + 1)).is_err());
        memory.keep(&" ".repeat(MOST_BYTES)).unwrap();
        assert!(memory.state().is_some());
    }
}

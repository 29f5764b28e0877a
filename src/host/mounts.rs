//! What is mounted where a process is, read in pieces.
//!
//! Whoever may mount in a namespace of his own can make that list as long as he likes: a gigabyte
//! takes the kernel half a minute to write. So no reader of it goes on for ever, or keeps more
//! than it needs.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::unistd::read;

use super::process::Proc;
use crate::parse::mountinfo::{Line, Mount, Pieces};

/// Bytes that are read at once.
const PIECE: usize = 1 << 15;

/// How much of a list is read.
#[derive(Debug, Clone, Copy)]
pub struct Limit {
    /// So many bytes, or little more.
    pub bytes: usize,
    /// No piece is begun after this time.
    pub time: Duration,
}

impl Limit {
    /// For what somebody waits for: more than a thousand mounts.
    pub const BRIEF: Self = Self {
        bytes: 1 << 18,
        time: Duration::from_millis(50),
    };
    /// For what has to be known: more than a hundred thousand mounts.
    pub const THOROUGH: Self = Self {
        bytes: 1 << 25,
        time: Duration::from_secs(3),
    };
}

/// What has been read of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// All of it.
    Whole,
    /// The list is longer than the limit.
    Part,
}

impl Proc {
    /// Has `visit` see the mounts in a file of `/proc`, such as `thread-self/mountinfo`.
    ///
    /// # Errors
    /// What open(2) and read(2) say; `EINVAL` when the process has ended.
    pub fn visit_mounts(
        &self,
        name: &str,
        limit: Limit,
        visit: impl FnMut(&Line<'_>),
    ) -> Result<Extent, Errno> {
        visit_file(&self.open_named(name)?, limit, visit)
    }

    /// The mounts in such a file that are wanted.
    ///
    /// # Errors
    /// The same, and `EFBIG` when the list is longer than [`Limit::THOROUGH`].
    pub fn mounts(
        &self,
        name: &str,
        is_wanted: impl Fn(&Line<'_>) -> bool,
    ) -> Result<Vec<Mount>, Errno> {
        let mut mounts = Vec::new();
        let extent = self.visit_mounts(name, Limit::THOROUGH, |line| {
            if is_wanted(line) {
                mounts.push(line.to_mount());
            }
        })?;
        match extent {
            Extent::Whole => Ok(mounts),
            Extent::Part => Err(Errno::EFBIG),
        }
    }
}

/// The lines of this process's own list that are about file systems whose type begins like this:
/// of a list that is too long, those in its beginning.
///
/// # Errors
/// What open(2) and read(2) say.
pub fn own_lines(proc: &Proc, fs_type: &str) -> Result<String, Errno> {
    let mut text = String::new();
    proc.visit_mounts("self/mountinfo", Limit::THOROUGH, |line| {
        if line.fs_type.starts_with(fs_type.as_bytes()) {
            text.push_str(&String::from_utf8_lossy(line.text));
            text.push('\n');
        }
    })?;
    Ok(text)
}

fn visit_file(
    file: &OwnedFd,
    limit: Limit,
    mut visit: impl FnMut(&Line<'_>),
) -> Result<Extent, Errno> {
    let deadline = Instant::now() + limit.time;
    let (mut piece, mut pieces) = (vec![0; PIECE], Pieces::default());
    let mut length = 0;
    loop {
        let count = match read(file, &mut piece) {
            Ok(0) => return Ok(Extent::Whole),
            Ok(count) => count,
            Err(Errno::EINTR) => continue,
            Err(errno) => return Err(errno),
        };
        pieces.take(piece.get(..count).unwrap_or_default(), &mut visit);
        length += count;
        if length >= limit.bytes || Instant::now() >= deadline {
            return Ok(Extent::Part);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Seek, Write};

    use super::*;

    #[test]
    fn own_lines_are_those_of_the_file() {
        let proc = Proc::open(std::path::Path::new("/proc")).unwrap();
        let whole = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let lines = own_lines(&proc, "proc").unwrap();
        assert!(lines.contains(" /proc "), "{lines}");
        assert!(lines.lines().all(|line| whole.contains(line)), "{lines}");
        assert_eq!(own_lines(&proc, "no such type"), Ok(String::new()));
    }

    #[test]
    fn a_list_is_read_up_to_the_limit() {
        let line = "1 2 0:53 / /a rw - fuse.lxcfs lxcfs rw\n";
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(line.repeat(10_000).as_bytes()).unwrap();
        let mut read = |limit| {
            file.rewind().unwrap();
            let mut count = 0;
            let file = file.try_clone().unwrap().into();
            let extent = visit_file(&file, limit, |_| count += 1).unwrap();
            (extent, count)
        };
        assert_eq!(read(Limit::THOROUGH), (Extent::Whole, 10_000));
        let (extent, count) = read(Limit::BRIEF);
        assert_eq!(extent, Extent::Part);
        let least = Limit::BRIEF.bytes / line.len();
        assert!((least..least + PIECE).contains(&count), "{count}");
        let time = Duration::ZERO;
        let at_once = Limit {
            time,
            ..Limit::THOROUGH
        };
        assert!(matches!(read(at_once), (Extent::Part, 1..10_000)));
    }
}

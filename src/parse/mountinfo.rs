//! `/proc/PID/mountinfo` (man: proc_pid_mountinfo(5)).

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// What the kernel appends to the path of an object that has no name any more.
const NAMELESS: &[u8] = b"//deleted";

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Number of the mount; another mount may get it later.
    pub id: u32,
    /// Number of the mount that this one lies on.
    pub parent: u32,
    /// Major and minor number of the file system: one for each superblock.
    pub device: (u32, u32),
    /// What of the file system is shown, as a path from its root.
    pub root: PathBuf,
    /// Where, as a path from the root of the process.
    pub mount_point: PathBuf,
    /// Comma-separated options of the mount, such as `ro,nosuid`.
    pub options: String,
    /// What is mounted on this mount is mounted on all others with the same number, in
    /// whatever namespace they are.
    pub peer_group: Option<u32>,
    /// Type of the file system, with its subtype after a dot.
    pub fs_type: String,
}

impl Mount {
    /// Whether the mount has this option of its own, such as `ro`.
    #[must_use]
    pub fn has_option(&self, option: &str) -> bool {
        self.options.split(',').any(|known| known == option)
    }
}

/// One line of the file. Paths are as they are written there.
#[derive(Debug, Clone, Copy)]
pub struct Line<'a> {
    /// As [`Mount::id`].
    pub id: u32,
    /// As [`Mount::parent`].
    pub parent: u32,
    /// As [`Mount::device`].
    pub device: (u32, u32),
    /// As [`Mount::peer_group`].
    pub peer_group: Option<u32>,
    /// As [`Mount::fs_type`].
    pub fs_type: &'a [u8],
    /// The line itself.
    pub text: &'a [u8],
    super_options: &'a [u8],
    root: &'a [u8],
    mount_point: &'a [u8],
    options: &'a [u8],
}

impl Line<'_> {
    /// Whether the file system has this option, such as `user_id=0`, whatever the mount has.
    #[must_use]
    pub fn has_super_option(&self, option: &str) -> bool {
        let mut options = self.super_options.split(|byte| *byte == b',');
        options.any(|known| known == option.as_bytes())
    }

    /// Where the mount is, as a path from the root of the process.
    #[must_use]
    pub fn mount_point(&self) -> PathBuf {
        path(self.mount_point)
    }

    /// The mount, with memory of its own.
    #[must_use]
    pub fn to_mount(&self) -> Mount {
        Mount {
            id: self.id,
            parent: self.parent,
            device: self.device,
            root: path(self.root.strip_suffix(NAMELESS).unwrap_or(self.root)),
            mount_point: self.mount_point(),
            options: String::from_utf8_lossy(self.options).into_owned(),
            peer_group: self.peer_group,
            fs_type: String::from_utf8_lossy(self.fs_type).into_owned(),
        }
    }
}

/// A line that is longer is dropped: with each of its bytes escaped a path of the longest kind
/// takes a quarter of it.
const LONGEST_LINE: usize = 1 << 16;

/// Takes a file apart that comes in pieces, and keeps no more of it than one line.
#[derive(Debug, Default)]
pub struct Pieces {
    begun: Vec<u8>,
    is_too_long: bool,
}

impl Pieces {
    /// The next piece: `visit` sees the lines that end in it. Those of another form are dropped.
    pub fn take(&mut self, piece: &[u8], mut visit: impl FnMut(&Line<'_>)) {
        let mut rest = piece;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let (line, after) = rest.split_at(end);
            rest = after.get(1..).unwrap_or_default();
            if self.begun.is_empty() && !self.is_too_long {
                parse(line).iter().for_each(&mut visit);
                continue;
            }
            self.begin(line);
            if !std::mem::take(&mut self.is_too_long) {
                parse(&self.begun).iter().for_each(&mut visit);
            }
            self.begun.clear();
        }
        self.begin(rest);
    }

    fn begin(&mut self, part: &[u8]) {
        self.is_too_long |= self.begun.len() + part.len() > LONGEST_LINE;
        if !self.is_too_long {
            self.begun.extend_from_slice(part);
        }
    }
}

/// The mounts listed in `text`; lines of another form are dropped.
pub fn mounts(text: &[u8]) -> impl Iterator<Item = Mount> {
    let lines = text.split(|byte| *byte == b'\n').filter_map(parse);
    lines.map(|line| line.to_mount())
}

fn parse(line: &[u8]) -> Option<Line<'_>> {
    let mut fields = line.split(|byte| *byte == b' ');
    let id = number(fields.next()?)?;
    let parent = number(fields.next()?)?;
    let mut device = fields.next()?.splitn(2, |byte| *byte == b':');
    let device = (number(device.next()?)?, number(device.next()?)?);
    let root = fields.next()?;
    let mount_point = fields.next()?;
    let options = fields.next()?;
    // Optional fields about propagation end with a single dash.
    let mut peer_group = None;
    let fs_type = loop {
        match fields.next()? {
            b"-" => break fields.next()?,
            field => peer_group = peer_group.or(field.strip_prefix(b"shared:").and_then(number)),
        }
    };
    let super_options = fields.nth(1).unwrap_or_default();
    Some(Line {
        text: line,
        super_options,
        id,
        parent,
        device,
        peer_group,
        fs_type,
        root,
        mount_point,
        options,
    })
}

fn number(field: &[u8]) -> Option<u32> {
    std::str::from_utf8(field).ok()?.parse().ok()
}

/// Undoes the kernel's `\ooo` for blanks and backslashes.
fn path(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        match escaped(after).filter(|_| *first == b'\\') {
            Some((byte, after)) => {
                bytes.push(byte);
                rest = after;
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    OsString::from_vec(bytes).into()
}

fn escaped(rest: &[u8]) -> Option<(u8, &[u8])> {
    let (digits, after) = rest.split_at_checked(3)?;
    let digits = std::str::from_utf8(digits).ok()?;
    Some((u8::from_str_radix(digits, 8).ok()?, after))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;

    fn only(line: &[u8]) -> Mount {
        let found: Vec<_> = mounts(line).collect();
        assert_eq!(found.len(), 1, "{found:?}");
        found.into_iter().next().unwrap()
    }

    #[test]
    fn reads_a_bind_of_one_file() {
        let line = b"812 790 0:53 /proc/meminfo /proc/meminfo ro,nosuid,relatime - fuse.lxcfs lxcfs rw,user_id=0\n";
        let mount = only(line);
        assert_eq!((mount.id, mount.parent, mount.device), (812, 790, (0, 53)));
        assert_eq!(mount.root, Path::new("/proc/meminfo"));
        assert_eq!(mount.mount_point, Path::new("/proc/meminfo"));
        assert_eq!(mount.fs_type, "fuse.lxcfs");
        assert!(mount.has_option("ro") && mount.has_option("nosuid"));
        assert!(!mount.has_option("noexec") && !mount.has_option("rw"));
    }

    #[test]
    fn options_of_a_file_system_are_not_those_of_the_mount() {
        let line =
            b"812 790 0:53 / /a ro,nosuid - fuse.lxcfs a\\040b rw,user_id=0,default_permissions";
        let line = parse(line).unwrap();
        for option in ["rw", "user_id=0", "default_permissions"] {
            assert!(line.has_super_option(option), "{option}");
        }
        for option in ["ro", "user_id", "user_id=01", ""] {
            assert!(!line.has_super_option(option), "{option}");
        }
    }

    #[test]
    fn propagation_may_have_any_number_of_fields() {
        for (fields, peer_group) in [
            ("", None),
            ("master:2 ", None),
            ("shared:7 ", Some(7)),
            ("shared:7 master:2 propagate_from:1 ", Some(7)),
        ] {
            let line = format!("1 2 0:53 / /a rw {fields}- fuse.lxcfs lxcfs rw");
            let mount = only(line.as_bytes());
            assert_eq!(mount.fs_type, "fuse.lxcfs", "{fields}");
            assert_eq!(mount.peer_group, peer_group, "{fields}");
        }
    }

    #[test]
    fn blanks_backslashes_and_bytes_that_are_no_text_come_back() {
        let line = b"1 2 0:53 / /a\\040b\\011c\\012d\\134e\xff\\9 rw - fuse.lxcfs a\\040b rw";
        let expected = OsStr::from_bytes(b"/a b\tc\nd\\e\xff\\9");
        assert_eq!(only(line).mount_point.as_os_str(), expected);
    }

    #[test]
    fn a_file_that_was_forgotten_keeps_its_name() {
        let line = b"1 2 0:53 /proc/stat//deleted /proc/stat ro - fuse.lxcfs lxcfs rw";
        assert_eq!(only(line).root, Path::new("/proc/stat"));
    }

    #[test]
    fn lines_of_another_form_are_dropped() {
        let text = b"\n1 2\n1 2 0 / / rw - a b c\nx 2 0:1 / / rw - a b c\n1 2 0:1 / / rw a b\n1 2 0:1 / / rw -\n";
        assert_eq!(mounts(text).count(), 0);
    }

    #[test]
    fn a_line_without_an_end_takes_no_memory_and_harms_no_other() {
        let line = b"1 2 0:53 / /a rw - fuse.lxcfs lxcfs rw\n";
        let (mut pieces, mut count) = (Pieces::default(), 0);
        pieces.take(line, |_| count += 1);
        for _ in 0..1000 {
            pieces.take(&[b'7'; 1000], |_| count += 1);
        }
        assert!(pieces.begun.capacity() <= 2 * LONGEST_LINE);
        pieces.take(b"\n", |_| count += 1);
        pieces.take(line, |_| count += 1);
        assert_eq!(count, 2);
    }

    proptest! {
        #[test]
        fn any_path_survives(name in proptest::collection::vec(1_u8..=255, 1..40)) {
            let mut line = b"1 2 0:53 / /".to_vec();
            for byte in &name {
                match byte {
                    b' ' | b'\t' | b'\n' | b'\\' => line.extend(format!("\\{byte:03o}").into_bytes()),
                    other => line.push(*other),
                }
            }
            line.extend(b" rw - fuse.lxcfs lxcfs rw");
            let mount_point = only(&line).mount_point;
            prop_assert_eq!(mount_point.as_os_str().as_bytes().split_at(1), (&b"/"[..], &name[..]));
        }

        #[test]
        fn any_bytes_are_taken(text in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = mounts(&text).count();
        }

        #[test]
        fn it_does_not_matter_where_pieces_end(ends in proptest::collection::vec(1_usize..60, 1..40)) {
            let text: String = (0..9)
                .map(|id| format!("{id} 1 0:53 / /{} rw - fuse.lxcfs lxcfs rw\n", "a".repeat(id)))
                .collect();
            let (mut pieces, mut found) = (Pieces::default(), Vec::new());
            let mut rest = text.as_bytes();
            for end in ends.into_iter().chain([text.len()]) {
                let (piece, after) = rest.split_at(end.min(rest.len()));
                pieces.take(piece, |line| found.push(line.to_mount()));
                rest = after;
            }
            prop_assert_eq!(found, mounts(text.as_bytes()).collect::<Vec<_>>());
        }
    }
}

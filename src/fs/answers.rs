//! The answers to the kernel's requests, as plain values.

use std::ffi::OsStr;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use fuser::{FileAttr, FileType, INodeNo, OpenAccMode, OpenFlags, Request};
use nix::errno::Errno;
use nix::sys::stat::SFlag;

#[cfg(debug_assertions)]
use super::fault::Faults;
use super::handles::{Handles, Part};
use super::sendfile::NotedSizes;
use super::sys_views::{self, SysViews};
use super::tree::{self, BLOCK, CPU, Entry, NODE, PRESSURE, ProcFile, SPL};
use super::triggers::{Triggers, What};
use super::views::Views;
use crate::host::kernel_is_since;
use crate::parse::pressure::{Resource, Trigger};

/// What never changes may stay in the kernel's caches for this long.
const FOREVER: Duration = Duration::from_secs(86_400);
/// Entries of the host's sysfs come and go with CPUs that are plugged in.
pub(super) const A_WHILE: Duration = Duration::from_secs(60);
/// The kernel marks the number of a request that it sends again.
const SENT_AGAIN: u64 = 1 << 63;
/// For what differs from one reader to the next: the kernel's caches know no readers.
const NEVER: Duration = Duration::ZERO;

/// Whom a request is from, and what it is about.
#[derive(Debug, Clone, Copy)]
pub(super) struct By {
    /// The number of the request.
    pub(super) unique: u64,
    /// The reader's thread id in the daemon's pid namespace; 0 if it has none there.
    pub(super) reader: i32,
    /// What is asked for, in the words of FUSE.
    operation: &'static str,
    inode: u64,
}

impl By {
    pub(super) fn new(request: &Request, operation: &'static str, inode: u64) -> Self {
        Self {
            unique: request.unique().0,
            reader: i32::try_from(request.pid()).unwrap_or(0),
            operation,
            inode,
        }
    }
}

/// For the log.
impl fmt::Display for By {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "request {:#x}: {} of ", self.unique, self.operation)?;
        match tree::entry(self.inode) {
            Some(Entry::Proc(file)) => write!(out, "/proc/{}", file.path()),
            _ => write!(out, "inode {:#x}", self.inode),
        }?;
        write!(out, " by thread {}", self.reader)
    }
}

/// Everything that answers are made of.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) views: Arc<Views>,
    pub(super) sys: SysViews,
    pub(super) handles: Handles,
    pub(super) sizes: Arc<NotedSizes>,
    pub(super) triggers: Arc<Triggers>,
    /// Shown as all times of all files: the same for every server.
    pub(super) times: SystemTime,
    #[cfg(debug_assertions)]
    pub(super) faults: Faults,
}

/// Attributes together with the time for which the kernel may keep them.
pub(super) type Attributes = (FileAttr, Duration);

impl Shared {
    /// Whether the host has nothing that a fixed directory is about.
    fn is_missing(&self, inode: u64) -> bool {
        match inode {
            PRESSURE => self.children(PRESSURE).next().is_none(),
            SPL => !self.views.has_arcstats(),
            _ => self.sys.lacks(inode),
        }
    }

    pub(super) fn look_up(&self, parent: u64, name: &OsStr) -> Result<Attributes, Errno> {
        let name = name.to_str().ok_or(Errno::ENOENT)?;
        if let Some((_, inode, entry)) = self.children(parent).find(|(known, ..)| *known == name) {
            self.sizes.on_noted(inode);
            return Ok((self.fixed_attributes(inode, entry), FOREVER));
        }
        if !is_of_host(parent) {
            return Err(Errno::ENOENT);
        }
        let (inode, attributes) = self.sys.look_up(parent, name)?;
        Ok(self.sys_attributes(inode, &attributes))
    }

    /// What is in a fixed directory on this machine.
    fn children(&self, parent: u64) -> impl Iterator<Item = (&'static str, u64, Entry)> {
        tree::children(parent).filter(|(_, inode, entry)| match entry {
            Entry::Directory => !self.is_missing(*inode),
            Entry::Proc(file) => self.views.permissions(*file).is_some(),
        })
    }

    pub(super) fn attributes(
        &self,
        inode: u64,
        has_handle: bool,
        reader: i32,
    ) -> Result<Attributes, Errno> {
        if let Some(entry) = tree::entry(inode) {
            if matches!(entry, Entry::Proc(_)) {
                self.sizes.on_getattr(inode, has_handle);
            }
            return Ok((self.fixed_attributes(inode, entry), FOREVER));
        }
        let attributes = self.sys.attributes(inode, reader)?;
        Ok(self.sys_attributes(inode, &attributes))
    }

    pub(super) fn open(&self, inode: u64, reader: i32, flags: OpenFlags) -> Result<u64, Errno> {
        if flags.acc_mode() != OpenAccMode::O_RDONLY {
            self.check_writable(inode, reader)?;
        }
        if tree::entry(inode).is_some() {
            self.sizes.on_open(inode);
        } else {
            self.sys.check_open(inode, reader)?;
        }
        Ok(self.handles.open())
    }

    /// The same for the process that keeps files open, whatever container it is in. It reads and
    /// writes nothing.
    pub(super) fn open_for_pinning(&self, inode: u64) -> Result<u64, Errno> {
        self.path(inode)?;
        Ok(self.handles.open())
    }

    /// The attributes for that process, which has to get everywhere.
    pub(super) fn attributes_for_pinning(&self, inode: u64) -> Result<Attributes, Errno> {
        match tree::entry(inode) {
            Some(entry) => Ok((self.fixed_attributes(inode, entry), FOREVER)),
            None => Ok(self.sys_attributes(inode, &self.sys.attributes_of_all(inode)?)),
        }
    }

    /// The path of a file from the root of the tree.
    pub(super) fn path(&self, inode: u64) -> Result<String, Errno> {
        match tree::entry(inode) {
            Some(Entry::Proc(file)) => Ok(format!("proc/{}", file.path())),
            Some(Entry::Directory) => Err(Errno::EISDIR),
            None => Ok(format!("sys/{}", self.sys.path(inode)?)),
        }
    }

    /// Pressure files alone are written to, by those that the kernel would let do it.
    fn check_writable(&self, inode: u64, writer: i32) -> Result<(), Errno> {
        if pressure_file(inode).is_none() {
            return Err(Errno::EACCES);
        }
        if !kernel_is_since(6, 4) && !self.views.may_use_resources(writer) {
            return Err(Errno::EPERM);
        }
        Ok(())
    }

    /// Sets a trigger.
    pub(super) fn write(&self, inode: u64, handle: u64, data: &[u8], by: By) -> Result<(), Errno> {
        let (file, resource) = pressure_file(inode).ok_or(Errno::EBADF)?;
        let again = by.unique & SENT_AGAIN != 0;
        if !again && self.triggers.has(handle) {
            return Err(Errno::EBUSY);
        }
        let trigger = Trigger::parse(data).ok_or(Errno::EINVAL)?;
        let is_allowed = !trigger.is_privileged() || self.views.may_use_resources(by.reader);
        if !is_allowed || !self.views.has_line(resource, trigger.share) {
            return Err(Errno::EINVAL);
        }
        let (stalls, owner) = self.views.stalls(file, by.reader)?;
        let what = What {
            resource,
            trigger,
            stalls,
        };
        self.triggers.set(handle, &what, owner, again)
    }

    /// The only change of attributes that is let pass, as procfs does: what open(2) with
    /// `O_TRUNC` asks for has no effect on a pressure file.
    pub(super) fn truncate(&self, inode: u64) -> Result<Attributes, Errno> {
        let (file, _) = pressure_file(inode).ok_or(Errno::EPERM)?;
        self.sizes.on_noted(inode);
        Ok((self.fixed_attributes(inode, Entry::Proc(file)), FOREVER))
    }

    pub(super) fn read(
        &self,
        inode: u64,
        handle: u64,
        offset: u64,
        size: u32,
        reader: i32,
    ) -> Result<Part, Errno> {
        #[cfg(debug_assertions)]
        if let Some(Entry::Proc(file)) = tree::entry(inode) {
            self.faults.strike(file);
        }
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        self.handles
            .read(handle, offset, size, || match tree::entry(inode) {
                Some(Entry::Proc(file)) => self.views.render(file, reader),
                Some(Entry::Directory) => Err(Errno::EISDIR),
                None => self.sys.read(inode, reader),
            })
    }

    /// Everything in a directory, `.` and `..` first.
    pub(super) fn list(
        &self,
        inode: u64,
        reader: i32,
    ) -> Result<Vec<(u64, FileType, String)>, Errno> {
        let mut entries = vec![
            (inode, FileType::Directory, ".".to_owned()),
            (tree::parent(inode), FileType::Directory, "..".to_owned()),
        ];
        if is_of_host(inode) {
            let children = self.sys.list(inode, reader)?;
            entries.extend(
                children
                    .iter()
                    .map(|child| (child.inode, file_type(child.kind), child.name().to_owned())),
            );
        } else {
            entries.extend(
                self.children(inode)
                    .filter(|(_, child, _)| tree::is_listed(*child))
                    .map(|(name, child, entry)| (child, kind_of(entry), name.to_owned())),
            );
        }
        Ok(entries)
    }

    fn fixed_attributes(&self, inode: u64, entry: Entry) -> FileAttr {
        let (perm, nlink) = match entry {
            Entry::Directory => (0o555, 2),
            Entry::Proc(file) => (self.views.permissions(file).unwrap_or(0o444), 1),
        };
        self.attr(inode, 0, kind_of(entry), perm, nlink)
    }

    fn sys_attributes(&self, inode: u64, attributes: &sys_views::Attributes) -> Attributes {
        let (stat, depends_on_reader) = attributes;
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        let kind = file_type(SFlag::from_bits_truncate(
            stat.st_mode & SFlag::S_IFMT.bits(),
        ));
        // Nobody checks the mode of a link.
        let shown = if kind == FileType::Symlink {
            0o777
        } else {
            0o555
        };
        let perm = u16::try_from(stat.st_mode & shown).unwrap_or(0);
        let nlink = u32::try_from(stat.st_nlink).unwrap_or(1);
        let keep = if *depends_on_reader { NEVER } else { A_WHILE };
        (self.attr(inode, size, kind, perm, nlink), keep)
    }

    fn attr(&self, inode: u64, size: u64, kind: FileType, perm: u16, nlink: u32) -> FileAttr {
        FileAttr {
            ino: INodeNo(inode),
            size,
            blocks: 0,
            atime: self.times,
            mtime: self.times,
            ctime: self.times,
            crtime: self.times,
            kind,
            perm,
            nlink,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }
}

/// Whether a directory is one of the host's `/sys`.
fn is_of_host(inode: u64) -> bool {
    matches!(inode, CPU | NODE | BLOCK) || tree::entry(inode).is_none()
}

fn kind_of(entry: Entry) -> FileType {
    match entry {
        Entry::Directory => FileType::Directory,
        Entry::Proc(_) => FileType::RegularFile,
    }
}

fn file_type(kind: SFlag) -> FileType {
    match kind {
        SFlag::S_IFDIR => FileType::Directory,
        SFlag::S_IFLNK => FileType::Symlink,
        _ => FileType::RegularFile,
    }
}

/// The pressure file with this inode number.
pub(super) fn pressure_file(inode: u64) -> Option<(ProcFile, Resource)> {
    match tree::entry(inode)? {
        Entry::Proc(file) => Some((file, file.resource()?)),
        Entry::Directory => None,
    }
}

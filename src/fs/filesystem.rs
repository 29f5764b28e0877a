//! The adapter between the `fuser` crate and the views.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use fuser::{
    BsdFileFlags, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo,
    Notifier, OpenAccMode, OpenFlags, PollEvents, PollFlags, PollNotifier, RenameFlags, ReplyAttr,
    ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyOpen,
    ReplyPoll, ReplyWrite, Request, TimeOrNow, WriteFlags,
};
use nix::errno::Errno;
use nix::sys::stat::SFlag;

use super::drain::Drain;
#[cfg(debug_assertions)]
use super::fault::Faults;
use super::guarded::Guarded;
use super::handles::{Handles, Part};
use super::ledger::Ledger;
use super::linger::Linger;
use super::sendfile::NotedSizes;
use super::sys_views::{self, SysViews};
use super::sysfs::SysTree;
use super::tree::{self, BLOCK, CPU, Entry, NODE, PRESSURE, ProcFile, SPL};
use super::triggers::{READY, TriggerFiles, Triggers, What};
use super::views::Views;
use crate::host::{boottime_nsec, kernel_is_since};
use crate::parse::pressure::{Resource, Trigger};

/// What never changes may stay in the kernel's caches for this long.
const FOREVER: Duration = Duration::from_secs(86_400);
/// Entries of the host's sysfs come and go with CPUs that are plugged in.
const A_WHILE: Duration = Duration::from_secs(60);
/// The kernel marks the number of a request that it sends again.
const SENT_AGAIN: u64 = 1 << 63;
/// For what differs from one reader to the next: the kernel's caches know no readers.
const NEVER: Duration = Duration::ZERO;

/// The file system. Clones share everything; each serving thread has one.
#[derive(Debug, Clone)]
pub struct LxcFs {
    shared: Arc<Guarded<Shared>>,
    sizes: Arc<NotedSizes>,
    triggers: Arc<Triggers>,
    linger: Arc<Linger>,
    drain: Arc<Drain>,
}

#[derive(Debug)]
struct Shared {
    views: Arc<Views>,
    sys: SysViews,
    handles: Handles,
    sizes: Arc<NotedSizes>,
    triggers: Arc<Triggers>,
    /// Shown as all times of all files: the same for every server.
    times: SystemTime,
    #[cfg(debug_assertions)]
    faults: Faults,
}

impl LxcFs {
    /// A file system of `views` and the host's `sys`, which goes on with what an
    /// earlier server left in `ledger` and `files`.
    #[must_use]
    pub fn new(views: Arc<Views>, sys: SysTree, ledger: Ledger, files: TriggerFiles) -> Self {
        let now_nsec = boottime_nsec();
        let sizes = Arc::new(NotedSizes::new(now_nsec / 1000));
        let times = views.host_start();
        let triggers = Triggers::resume(Arc::clone(&views), ledger.triggers, files);
        let triggers = Arc::new(triggers);
        let shared = Shared {
            sys: SysViews::new(Arc::clone(&views), sys),
            views,
            // Handles that an earlier server gave out are smaller: there have been fewer
            // of them than nanoseconds.
            handles: Handles::new(now_nsec, ledger.snapshots),
            sizes: Arc::clone(&sizes),
            triggers: Arc::clone(&triggers),
            times,
            #[cfg(debug_assertions)]
            faults: Faults::from_environment(),
        };
        Self {
            shared: Arc::new(Guarded::new(shared, ledger.in_flight)),
            sizes,
            triggers,
            linger: Arc::default(),
            drain: Arc::default(),
        }
    }

    /// Lets the file system send notifications to the kernel and wait for requests.
    pub fn connect(&self, notifier: Notifier, connection: OwnedFd) {
        self.triggers.start(notifier.clone());
        self.sizes.connect(notifier);
        self.linger.connect(connection);
    }

    /// Brings the serving threads to rest, each after the next request that it answers.
    pub fn drain(&self) {
        self.drain.ask();
    }

    /// Waits until so many threads rest, but no longer than `timeout`. Gives whether they do.
    #[must_use]
    pub fn rests(&self, threads: usize, timeout: Duration) -> bool {
        self.drain.wait(threads, timeout)
    }
}

/// Attributes together with the time for which the kernel may keep them.
type Attributes = (FileAttr, Duration);

impl Shared {
    /// Whether the host has nothing that a fixed directory is about.
    fn is_missing(&self, inode: u64) -> bool {
        match inode {
            PRESSURE => self.children(PRESSURE).next().is_none(),
            SPL => !self.views.has_arcstats(),
            _ => self.sys.lacks(inode),
        }
    }

    fn look_up(&self, parent: u64, name: &OsStr) -> Result<Attributes, Errno> {
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

    fn attributes(&self, inode: u64, has_handle: bool, reader: i32) -> Result<Attributes, Errno> {
        if let Some(entry) = tree::entry(inode) {
            if matches!(entry, Entry::Proc(_)) {
                self.sizes.on_getattr(inode, has_handle);
            }
            return Ok((self.fixed_attributes(inode, entry), FOREVER));
        }
        let attributes = self.sys.attributes(inode, reader)?;
        Ok(self.sys_attributes(inode, &attributes))
    }

    fn open(&self, inode: u64, reader: i32, flags: OpenFlags) -> Result<u64, Errno> {
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
    fn write(&self, inode: u64, handle: u64, data: &[u8], by: &Request) -> Result<(), Errno> {
        let (file, resource) = pressure_file(inode).ok_or(Errno::EBADF)?;
        let again = by.unique().0 & SENT_AGAIN != 0;
        if !again && self.triggers.has(handle) {
            return Err(Errno::EBUSY);
        }
        let trigger = Trigger::parse(data).ok_or(Errno::EINVAL)?;
        let is_allowed = !trigger.is_privileged() || self.views.may_use_resources(reader(by));
        if !is_allowed || !self.views.has_line(resource, trigger.share) {
            return Err(Errno::EINVAL);
        }
        let (stalls, owner) = self.views.stalls(file, reader(by))?;
        let what = What {
            resource,
            trigger,
            stalls,
        };
        self.triggers.set(handle, &what, owner, again)
    }

    /// The only change of attributes that is let pass, as procfs does: what open(2) with
    /// `O_TRUNC` asks for has no effect on a pressure file.
    fn truncate(&self, inode: u64) -> Result<Attributes, Errno> {
        let (file, _) = pressure_file(inode).ok_or(Errno::EPERM)?;
        self.sizes.on_noted(inode);
        Ok((self.fixed_attributes(inode, Entry::Proc(file)), FOREVER))
    }

    fn read(
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
    fn list(&self, inode: u64, reader: i32) -> Result<Vec<(u64, FileType, String)>, Errno> {
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
fn pressure_file(inode: u64) -> Option<(ProcFile, Resource)> {
    match tree::entry(inode)? {
        Entry::Proc(file) => Some((file, file.resource()?)),
        Entry::Directory => None,
    }
}

/// The reader's thread id in the daemon's pid namespace; 0 if it has none there.
fn reader(request: &Request) -> i32 {
    i32::try_from(request.pid()).unwrap_or(0)
}

impl Filesystem for LxcFs {
    fn lookup(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let _turn = self.drain.turn();
        match self
            .shared
            .attempt(request, |shared| shared.look_up(parent.0, name))
        {
            Ok((attr, keep)) => {
                let keep_name = keep.max(A_WHILE);
                reply.entry_with_ttls(&keep, &keep_name, &attr, Generation(0));
            }
            Err(errno) => reply.error(errno),
        }
    }

    fn getattr(
        &self,
        request: &Request,
        inode: INodeNo,
        handle: Option<FileHandle>,
        reply: ReplyAttr,
    ) {
        let _turn = self.drain.turn();
        match self.shared.attempt(request, |shared| {
            shared.attributes(inode.0, handle.is_some(), reader(request))
        }) {
            Ok((attr, keep)) => reply.attr(&keep, &attr),
            Err(errno) => reply.error(errno),
        }
    }

    fn readlink(&self, request: &Request, inode: INodeNo, reply: ReplyData) {
        let _turn = self.drain.turn();
        match self.shared.attempt(request, |shared| {
            shared.sys.link_target(inode.0, reader(request))
        }) {
            Ok(target) => reply.data(target.as_encoded_bytes()),
            Err(errno) => reply.error(errno),
        }
    }

    fn open(&self, request: &Request, inode: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let _turn = self.drain.turn();
        match self.shared.attempt(request, |shared| {
            shared.open(inode.0, reader(request), flags)
        }) {
            // No page cache, since each reader reads something else; no FLUSH at close.
            Ok(handle) => reply.opened(
                FileHandle(handle),
                FopenFlags::FOPEN_DIRECT_IO | FopenFlags::FOPEN_NOFLUSH,
            ),
            Err(errno) => return reply.error(errno),
        }
        self.linger.after_open(reader(request));
    }

    fn read(
        &self,
        request: &Request,
        inode: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        lock_owner: Option<fuser::LockOwner>,
        reply: ReplyData,
    ) {
        let _turn = self.drain.turn();
        // Only read(2) names an owner of locks. All else is for the page cache, which
        // would hand this reader's figures to others.
        if lock_owner.is_none() {
            return reply.error(fuser::Errno::EINVAL);
        }
        match self.shared.attempt(request, |shared| {
            shared.read(inode.0, handle.0, offset, size, reader(request))
        }) {
            Ok(part) => {
                reply.data(part.bytes());
                self.linger.after_read(part.bytes().is_empty());
            }
            Err(errno) => reply.error(errno),
        }
    }

    fn write(
        &self,
        request: &Request,
        inode: INodeNo,
        handle: FileHandle,
        _offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<fuser::LockOwner>,
        reply: ReplyWrite,
    ) {
        let _turn = self.drain.turn();
        match self.shared.attempt(request, |shared| {
            shared.write(inode.0, handle.0, data, request)
        }) {
            Ok(()) => reply.written(u32::try_from(data.len()).unwrap_or(u32::MAX)),
            Err(errno) => reply.error(errno),
        }
    }

    fn poll(
        &self,
        request: &Request,
        inode: INodeNo,
        handle: FileHandle,
        notifier: PollNotifier,
        _events: PollEvents,
        _flags: PollFlags,
        reply: ReplyPoll,
    ) {
        let _turn = self.drain.turn();
        if pressure_file(inode.0).is_none() {
            reply.poll(READY);
            return self.linger.after_open(reader(request));
        }
        match self.shared.attempt(request, |shared| {
            Ok(shared.triggers.poll(handle.0, notifier.handle()))
        }) {
            Ok(events) => reply.poll(events),
            Err(errno) => return reply.error(errno),
        }
        self.triggers.told(handle.0);
    }

    fn release(
        &self,
        request: &Request,
        inode: INodeNo,
        handle: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<fuser::LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        let _turn = self.drain.turn();
        match self.shared.attempt(request, |shared| {
            shared.handles.close(handle.0);
            if pressure_file(inode.0).is_some() {
                shared.triggers.remove(handle.0);
            }
            Ok(())
        }) {
            Ok(()) => reply.ok(),
            Err(errno) => reply.error(errno),
        }
        self.linger.after_end();
    }

    fn readdir(
        &self,
        request: &Request,
        inode: INodeNo,
        _handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let _turn = self.drain.turn();
        match self
            .shared
            .attempt(request, |shared| shared.list(inode.0, reader(request)))
        {
            Ok(entries) => {
                for (next, (inode, kind, name)) in (1..)
                    .zip(entries)
                    .skip(usize::try_from(offset).unwrap_or(usize::MAX))
                {
                    if reply.add(INodeNo(inode), next, kind, name) {
                        break;
                    }
                }
                reply.ok();
            }
            Err(errno) => reply.error(errno),
        }
    }

    fn setattr(
        &self,
        request: &Request,
        inode: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _handle: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let _turn = self.drain.turn();
        let truncates = size.is_some() && mode.is_none() && uid.is_none() && gid.is_none();
        match self.shared.attempt(request, |shared| match truncates {
            true => shared.truncate(inode.0),
            false => Err(Errno::EPERM),
        }) {
            Ok((attr, keep)) => reply.attr(&keep, &attr),
            Err(errno) => reply.error(errno),
        }
    }

    // Nothing can be made, removed or renamed. The errors are those of procfs.

    fn create(
        &self,
        _request: &Request,
        _parent: INodeNo,
        _name: &OsStr,
        _mode: u32,
        _umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        let _turn = self.drain.turn();
        reply.error(fuser::Errno::EACCES);
    }

    fn mknod(
        &self,
        _request: &Request,
        _parent: INodeNo,
        _name: &OsStr,
        _mode: u32,
        _umask: u32,
        _device: u32,
        reply: ReplyEntry,
    ) {
        let _turn = self.drain.turn();
        reply.error(fuser::Errno::EPERM);
    }

    fn mkdir(
        &self,
        _request: &Request,
        _parent: INodeNo,
        _name: &OsStr,
        _mode: u32,
        _umask: u32,
        reply: ReplyEntry,
    ) {
        let _turn = self.drain.turn();
        reply.error(fuser::Errno::EPERM);
    }

    fn symlink(
        &self,
        _request: &Request,
        _parent: INodeNo,
        _name: &OsStr,
        _target: &Path,
        reply: ReplyEntry,
    ) {
        let _turn = self.drain.turn();
        reply.error(fuser::Errno::EPERM);
    }

    fn link(
        &self,
        _request: &Request,
        _inode: INodeNo,
        _parent: INodeNo,
        _name: &OsStr,
        reply: ReplyEntry,
    ) {
        let _turn = self.drain.turn();
        reply.error(fuser::Errno::EPERM);
    }

    fn unlink(&self, _request: &Request, _parent: INodeNo, _name: &OsStr, reply: ReplyEmpty) {
        let _turn = self.drain.turn();
        reply.error(fuser::Errno::EPERM);
    }

    fn rmdir(&self, _request: &Request, _parent: INodeNo, _name: &OsStr, reply: ReplyEmpty) {
        let _turn = self.drain.turn();
        reply.error(fuser::Errno::EPERM);
    }

    fn rename(
        &self,
        _request: &Request,
        _parent: INodeNo,
        _name: &OsStr,
        _new_parent: INodeNo,
        _new_name: &OsStr,
        _flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let _turn = self.drain.turn();
        reply.error(fuser::Errno::EPERM);
    }

    /// Programs ask whether the file is a terminal. The kernel does not cache the answer.
    fn ioctl(
        &self,
        _request: &Request,
        _inode: INodeNo,
        _handle: FileHandle,
        _flags: fuser::IoctlFlags,
        _command: u32,
        _input: &[u8],
        _output_size: u32,
        reply: ReplyIoctl,
    ) {
        let _turn = self.drain.turn();
        reply.error(fuser::Errno::from_i32(Errno::ENOTTY as i32));
    }
}

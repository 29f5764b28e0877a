//! The adapter between the `fuser` crate and the answers.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use fuser::{
    BsdFileFlags, FileHandle, Filesystem, FopenFlags, Generation, INodeNo, Notifier, OpenFlags,
    PollEvents, PollFlags, PollNotifier, RenameFlags, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyOpen, ReplyPoll, ReplyWrite, Request,
    TimeOrNow, WriteFlags,
};
use nix::errno::Errno;

use super::answers::{A_WHILE, Shared, pressure_file, reader};
use super::drain::Drain;
#[cfg(debug_assertions)]
use super::fault::Faults;
use super::guarded::Guarded;
use super::handles::Handles;
use super::ledger::Ledger;
use super::linger::Linger;
use super::sendfile::NotedSizes;
use super::sys_views::SysViews;
use super::sysfs::SysTree;
use super::triggers::{READY, TriggerFiles, Triggers};
use super::views::Views;
use crate::host::boottime_nsec;

/// The file system. Clones share everything; each serving thread has one.
#[derive(Debug, Clone)]
pub struct LxcFs {
    shared: Arc<Guarded<Shared>>,
    sizes: Arc<NotedSizes>,
    triggers: Arc<Triggers>,
    linger: Arc<Linger>,
    drain: Arc<Drain>,
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

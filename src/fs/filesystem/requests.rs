//! The adapter between the `fuser` crate and the answers.

use std::ffi::OsStr;
use std::path::Path;
use std::time::SystemTime;

use fuser::{
    BsdFileFlags, FileHandle, Filesystem, FopenFlags, Generation, INodeNo, OpenFlags, PollEvents,
    PollFlags, PollNotifier, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory,
    ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyOpen, ReplyPoll, ReplyStatfs, ReplyWrite, Request,
    TimeOrNow, WriteFlags,
};
use nix::errno::Errno;

use super::LxcFs;
use crate::fs::answers::{A_WHILE, By, pressure_file};
use crate::fs::triggers::READY;

impl Filesystem for LxcFs {
    fn lookup(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let name = name.to_owned();
        self.in_turn(By::new(request, "lookup", parent.0), move |fs, by| match fs
            .shared
            .attempt(by, |shared| shared.look_up(parent.0, &name))
        {
            Ok((attr, keep)) => {
                let keep_name = keep.max(A_WHILE);
                reply.entry_with_ttls(&keep, &keep_name, &attr, Generation(0));
            }
            Err(errno) => reply.error(errno),
        });
    }

    fn getattr(
        &self,
        request: &Request,
        inode: INodeNo,
        handle: Option<FileHandle>,
        reply: ReplyAttr,
    ) {
        self.in_turn(By::new(request, "getattr", inode.0), move |fs, by| {
            let is_opener = fs.pins.is_opener(by.reader);
            match fs.shared.attempt(by, |shared| match is_opener {
                true => shared.attributes_for_pinning(inode.0),
                false => shared.attributes(inode.0, handle.is_some(), by.reader),
            }) {
                Ok((attr, keep)) => reply.attr(&keep, &attr),
                Err(errno) => reply.error(errno),
            }
        });
    }

    fn readlink(&self, request: &Request, inode: INodeNo, reply: ReplyData) {
        self.in_turn(
            By::new(request, "readlink", inode.0),
            move |fs, by| match fs
                .shared
                .attempt(by, |shared| shared.sys.link_target(inode.0, by.reader))
            {
                Ok(target) => reply.data(target.as_encoded_bytes()),
                Err(errno) => reply.error(errno),
            },
        );
    }

    fn open(&self, request: &Request, inode: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        self.in_turn(By::new(request, "open", inode.0), move |fs, by| {
            let is_opener = fs.pins.is_opener(by.reader);
            let opened = fs.shared.attempt(by, |shared| match is_opener {
                true => shared.open_for_pinning(inode.0),
                false => shared.open(inode.0, by.reader, flags),
            });
            let handle = match opened {
                Ok(handle) => FileHandle(handle),
                Err(errno) => return reply.error(errno),
            };
            // No page cache, since each reader reads something else; no FLUSH at close.
            let flags = FopenFlags::FOPEN_DIRECT_IO | FopenFlags::FOPEN_NOFLUSH;
            if is_opener {
                return reply.opened(handle, flags);
            }
            let path = || fs.shared.attempt(by, |shared| shared.path(inode.0)).ok();
            let answer = move || reply.opened(handle, flags);
            fs.pins.answer_when_pinned(inode.0, path, answer);
            fs.linger.after_open(by.reader);
        });
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
        self.in_turn(By::new(request, "read", inode.0), move |fs, by| {
            // Only read(2) names an owner of locks. All else is for the page cache, which
            // would hand this reader's figures to others.
            if lock_owner.is_none() {
                return reply.error(fuser::Errno::EINVAL);
            }
            match fs.shared.attempt(by, |shared| {
                shared.read(inode.0, handle.0, offset, size, by.reader)
            }) {
                Ok(part) => {
                    reply.data(part.bytes());
                    fs.linger.after_read(part.bytes().is_empty());
                }
                Err(errno) => reply.error(errno),
            }
        });
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
        let data = data.to_owned();
        self.in_turn(By::new(request, "write", inode.0), move |fs, by| {
            match fs
                .shared
                .attempt(by, |shared| shared.write(inode.0, handle.0, &data, by))
            {
                Ok(()) => reply.written(u32::try_from(data.len()).unwrap_or(u32::MAX)),
                Err(errno) => reply.error(errno),
            }
        });
    }

    fn poll(
        &self,
        request: &Request,
        inode: INodeNo,
        handle: FileHandle,
        notifier: PollNotifier,
        events: PollEvents,
        flags: PollFlags,
        reply: ReplyPoll,
    ) {
        let poller = notifier.handle();
        self.in_turn(By::new(request, "poll", inode.0), move |fs, by| {
            if pressure_file(inode.0).is_none() {
                let may_wait = flags.contains(PollFlags::FUSE_POLL_SCHEDULE_NOTIFY);
                let waits = may_wait && !events.intersects(READY);
                match fs.triggers.poll_other(waits) {
                    Some(events) => reply.poll(events),
                    None => reply.error(fuser::Errno::ENOSYS),
                }
                return fs.linger.after_open(by.reader);
            }
            match fs
                .shared
                .attempt(by, |shared| Ok(shared.triggers.poll(handle.0, poller)))
            {
                Ok(events) => reply.poll(events),
                Err(errno) => return reply.error(errno),
            }
            fs.triggers.told(handle.0);
        });
    }

    /// Nobody waits for it, and to hold it back would cost more than to answer it.
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
        let _turn = self.turn();
        match self
            .shared
            .attempt(By::new(request, "release", inode.0), |shared| {
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

    fn opendir(&self, request: &Request, inode: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        self.in_turn(By::new(request, "opendir", inode.0), |_, _| {
            reply.opened(FileHandle(0), FopenFlags::empty());
        });
    }

    fn statfs(&self, request: &Request, inode: INodeNo, reply: ReplyStatfs) {
        self.in_turn(By::new(request, "statfs", inode.0), |_, _| {
            reply.statfs(0, 0, 0, 0, 0, 512, 255, 0);
        });
    }

    fn readdir(
        &self,
        request: &Request,
        inode: INodeNo,
        _handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        self.in_turn(By::new(request, "readdir", inode.0), move |fs, by| match fs
            .shared
            .attempt(by, |shared| shared.list(inode.0, by.reader))
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
        });
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
        let truncates = size.is_some() && mode.is_none() && uid.is_none() && gid.is_none();
        self.in_turn(
            By::new(request, "setattr", inode.0),
            move |fs, by| match fs.shared.attempt(by, |shared| match truncates {
                true => shared.truncate(inode.0),
                false => Err(Errno::EPERM),
            }) {
                Ok((attr, keep)) => reply.attr(&keep, &attr),
                Err(errno) => reply.error(errno),
            },
        );
    }

    // Nothing can be made, removed or renamed. The errors are those of procfs.

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        _name: &OsStr,
        _mode: u32,
        _umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        self.in_turn(By::new(request, "create", parent.0), |_, _| {
            reply.error(fuser::Errno::EACCES);
        });
    }

    fn mknod(
        &self,
        request: &Request,
        parent: INodeNo,
        _name: &OsStr,
        _mode: u32,
        _umask: u32,
        _device: u32,
        reply: ReplyEntry,
    ) {
        self.in_turn(By::new(request, "mknod", parent.0), |_, _| {
            reply.error(fuser::Errno::EPERM);
        });
    }

    fn mkdir(
        &self,
        request: &Request,
        parent: INodeNo,
        _name: &OsStr,
        _mode: u32,
        _umask: u32,
        reply: ReplyEntry,
    ) {
        self.in_turn(By::new(request, "mkdir", parent.0), |_, _| {
            reply.error(fuser::Errno::EPERM);
        });
    }

    fn symlink(
        &self,
        request: &Request,
        parent: INodeNo,
        _name: &OsStr,
        _target: &Path,
        reply: ReplyEntry,
    ) {
        self.in_turn(By::new(request, "symlink", parent.0), |_, _| {
            reply.error(fuser::Errno::EPERM);
        });
    }

    fn link(
        &self,
        request: &Request,
        inode: INodeNo,
        _parent: INodeNo,
        _name: &OsStr,
        reply: ReplyEntry,
    ) {
        self.in_turn(By::new(request, "link", inode.0), |_, _| {
            reply.error(fuser::Errno::EPERM);
        });
    }

    fn unlink(&self, request: &Request, parent: INodeNo, _name: &OsStr, reply: ReplyEmpty) {
        self.in_turn(By::new(request, "unlink", parent.0), |_, _| {
            reply.error(fuser::Errno::EPERM);
        });
    }

    fn rmdir(&self, request: &Request, parent: INodeNo, _name: &OsStr, reply: ReplyEmpty) {
        self.in_turn(By::new(request, "rmdir", parent.0), |_, _| {
            reply.error(fuser::Errno::EPERM);
        });
    }

    fn rename(
        &self,
        request: &Request,
        parent: INodeNo,
        _name: &OsStr,
        _new_parent: INodeNo,
        _new_name: &OsStr,
        _flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        self.in_turn(By::new(request, "rename", parent.0), |_, _| {
            reply.error(fuser::Errno::EPERM);
        });
    }

    /// Programs ask whether the file is a terminal. The kernel does not cache the answer.
    fn ioctl(
        &self,
        request: &Request,
        inode: INodeNo,
        _handle: FileHandle,
        _flags: fuser::IoctlFlags,
        _command: u32,
        _input: &[u8],
        _output_size: u32,
        reply: ReplyIoctl,
    ) {
        self.in_turn(By::new(request, "ioctl", inode.0), |_, _| {
            reply.error(fuser::Errno::from_i32(Errno::ENOTTY as i32));
        });
    }
}

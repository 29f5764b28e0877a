//! What a file system on the crate `fuser` costs that has nothing to do: constant texts, of the same length, asked for
//! by as many requests and served by as many threads as the daemon's. Its threads sleep and run as any others do.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

use fuser::{
    Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo,
    LockOwner, MountOption, OpenFlags, ReplyAttr, ReplyData, ReplyEntry, ReplyOpen, Request,
    SessionACL,
};
use lxcfs::session::server::thread_count;
use nix::mount::{MntFlags, umount2};

use crate::common::daemon::mounted_at;
use crate::common::{patience, wait_for};

/// The first argument that makes this program the file system.
pub const FLOOR: &str = "--floor";

const FOREVER: Duration = Duration::from_secs(3600);
const ROOT: u64 = 1;

struct Constant {
    files: Vec<(String, Vec<u8>)>,
}

impl Constant {
    fn attributes(&self, inode: u64) -> Option<FileAttr> {
        let kind = match inode {
            ROOT => FileType::Directory,
            _ => {
                self.text(inode)?;
                FileType::RegularFile
            }
        };
        let zero = SystemTime::UNIX_EPOCH;
        Some(FileAttr {
            ino: INodeNo(inode),
            size: 0,
            blocks: 0,
            atime: zero,
            mtime: zero,
            ctime: zero,
            crtime: zero,
            kind,
            perm: if inode == ROOT { 0o555 } else { 0o444 },
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        })
    }

    fn text(&self, inode: u64) -> Option<&[u8]> {
        let place = usize::try_from(inode.checked_sub(ROOT + 1)?).ok()?;
        self.files.get(place).map(|(_, text)| text.as_slice())
    }
}

impl Filesystem for Constant {
    fn lookup(&self, _: &Request, _: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let place = self
            .files
            .iter()
            .position(|(known, _)| name == known.as_str());
        match place.and_then(|place| self.attributes(ROOT + 1 + place as u64)) {
            Some(attributes) => reply.entry(&FOREVER, &attributes, Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.attributes(inode.0) {
            Some(attributes) => reply.attr(&FOREVER, &attributes),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        let flags = FopenFlags::FOPEN_DIRECT_IO | FopenFlags::FOPEN_NOFLUSH;
        reply.opened(FileHandle(0), flags);
    }

    fn read(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let text = self.text(inode.0).unwrap_or_default();
        let start = text.len().min(offset as usize);
        let end = text.len().min(start + size as usize);
        reply.data(&text[start..end]);
    }
}

/// Serves the files of a directory as they are now, until it is unmounted.
pub fn serve(texts: &Path, point: &Path) {
    let files = fs::read_dir(texts).expect("the texts").map(|entry| {
        let path = entry.expect("a text").path();
        let name = path.file_name().expect("a name").to_str().expect("ASCII");
        (name.to_owned(), fs::read(&path).expect("a text"))
    });
    let mut config = Config::default();
    config.mount_options = vec![MountOption::RO, MountOption::DefaultPermissions];
    config.acl = SessionACL::All;
    config.n_threads = Some(thread_count());
    config.clone_fd = true;
    let constant = Constant {
        files: files.collect(),
    };
    // Whoever started it sees whether it mounts; how it ends does not matter.
    let _ = fuser::mount(constant, point, &config);
}

/// A running file system of constant texts; ended and unmounted when dropped.
#[derive(Debug)]
pub struct Floor {
    child: Child,
    dir: tempfile::TempDir,
}

impl Floor {
    /// Serves these texts by name.
    pub fn start(texts: impl Iterator<Item = (String, String)>) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let (from, point) = (dir.path().join("texts"), dir.path().join("mnt"));
        fs::create_dir(&from).expect("a directory");
        fs::create_dir(&point).expect("a directory");
        for (name, text) in texts {
            fs::write(from.join(name), text).expect("writing a text");
        }
        let child = Command::new(std::env::current_exe().expect("this program"))
            .arg(FLOOR)
            .args([&from, &point])
            .stdin(Stdio::null())
            .spawn()
            .expect("starting a file system");
        wait_for(patience(10), || mounted_at(&point)).expect("a mount");
        Self { child, dir }
    }

    pub fn path(&self, name: &str) -> String {
        let path = self.dir.path().join("mnt").join(name);
        path.to_str().expect("ASCII").to_owned()
    }

    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("a pid")
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        let _ = umount2(&self.dir.path().join("mnt"), MntFlags::MNT_DETACH);
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

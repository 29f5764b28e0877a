//! The load in the container while samples are taken: a busy thread, some memory, writes to the disk.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

const MEMORY_BYTES: usize = 24 << 20;
const BLOCK: usize = 64 << 10;
const ALIGNED: usize = 4096;
const WRITES_APART: Duration = Duration::from_millis(100);

/// Ends when dropped.
pub struct Work {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    written: Arc<AtomicU64>,
    memory: Vec<u8>,
}

impl Work {
    pub fn start() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let written = Arc::new(AtomicU64::new(0));
        let stopped = {
            let stop = Arc::clone(&stop);
            move || stop.load(Ordering::Relaxed)
        };
        let busy = {
            let stopped = stopped.clone();
            move || while !stopped() {}
        };
        let writer = {
            let written = Arc::clone(&written);
            move || {
                while !stopped() {
                    if write_block().is_ok() {
                        written.fetch_add(BLOCK as u64, Ordering::Relaxed);
                    }
                    std::thread::sleep(WRITES_APART);
                }
            }
        };
        Self {
            stop,
            threads: vec![std::thread::spawn(busy), std::thread::spawn(writer)],
            written,
            memory: vec![1; MEMORY_BYTES],
        }
    }

    /// What has surely reached the disk.
    pub fn written_bytes(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
        assert!(
            std::hint::black_box(&self.memory)
                .iter()
                .all(|byte| *byte == 1)
        );
        if let Some(path) = scratch() {
            let _ = fs::remove_file(path);
        }
    }
}

/// A file on the container's own root, where that is on a disk.
fn scratch() -> Option<String> {
    let dirs = ["/var/tmp", "/root", "/tmp"];
    let dir = dirs.into_iter().find(|dir| Path::new(dir).is_dir())?;
    Some(format!("{dir}/lxcfs-contract-{}", std::process::id()))
}

/// Past the page cache: what the kernel writes back later, v1 counts for the root cgroup.
fn write_block() -> std::io::Result<()> {
    let path = scratch().ok_or(std::io::ErrorKind::NotFound)?;
    let open = |flags| {
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .custom_flags(flags)
            .open(&path)
    };
    let buffer = vec![1; BLOCK + ALIGNED];
    let start = buffer.as_ptr().align_offset(ALIGNED);
    let block = &buffer[start..start + BLOCK];
    let direct = open(nix::libc::O_DIRECT).and_then(|mut file| file.write_all(block));
    if direct.is_err() {
        let mut file = open(0)?;
        file.write_all(block)?;
        file.sync_all()?;
    }
    Ok(())
}

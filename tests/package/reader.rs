//! A reader inside a container that writes down when which read went wrong.
//!
//! It is this test program itself, started in the container.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use crate::common::{patience, wait_for};

/// Where a container has this program, and the directory that it shares with the test.
pub const PROGRAM: &str = "/reader";
pub const DIR: &str = "/shared";

/// This program's arguments as a reader.
pub const ARGUMENTS: &str =
    "--ignored --exact --nocapture --test-threads=1 reader::process_inside_a_container";

/// Files of the directory: one that is there as long as the reader is to go on, and its record.
const GO_ON: &str = "go-on";
const RECORD: &str = "record";

/// What is read, over and over.
pub const FILES: [&str; 6] = ["meminfo", "stat", "uptime", "cpuinfo", "diskstats", "swaps"];

/// Milliseconds since boot, the same in every container.
pub fn now_msec() -> i64 {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("a clock");
    time.tv_sec() * 1000 + time.tv_nsec() / 1_000_000
}

/// What was seen between two moments.
#[derive(Debug, Default)]
pub struct Seen {
    /// Rounds in which every file was read.
    pub rounds: usize,
    /// Moment and message of each read that went wrong.
    pub errors: Vec<(i64, String)>,
}

impl Seen {
    /// From the first error to the last one.
    pub fn outage_msec(&self) -> i64 {
        match (self.errors.first(), self.errors.last()) {
            (Some(first), Some(last)) => last.0 - first.0,
            _ => 0,
        }
    }
}

/// The host's end of a reader.
#[derive(Debug)]
pub struct Record {
    dir: tempfile::TempDir,
}

impl Record {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        fs::write(dir.path().join(GO_ON), "").expect("a file");
        Self { dir }
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    fn text(&self) -> String {
        fs::read_to_string(self.dir().join(RECORD)).unwrap_or_default()
    }

    /// What was seen from one moment to another.
    pub fn between(&self, from_msec: i64, to_msec: i64) -> Seen {
        let mut seen = Seen::default();
        for line in self.text().lines() {
            let Some((moment, what)) = line.split_once(' ') else {
                continue;
            };
            let moment: i64 = moment.parse().expect("a moment");
            match what {
                _ if !(from_msec..to_msec).contains(&moment) => {}
                "ok" => seen.rounds += 1,
                error => seen.errors.push((moment, error.to_owned())),
            }
        }
        seen
    }

    /// Waits until the reader has gone through all files once more without an error.
    #[track_caller]
    pub fn reads(&self) {
        let since = now_msec();
        let read = wait_for(patience(20), || {
            // A round that was begun before may be in the record yet.
            (self.between(since, i64::MAX).rounds > 1).then_some(())
        });
        assert!(read.is_some(), "the reader does not read: {}", self.text());
    }

    /// Ends the reader.
    pub fn stop(&self) {
        let _ = fs::remove_file(self.dir().join(GO_ON));
    }
}

#[test]
#[ignore = "other tests run this one in their containers"]
fn process_inside_a_container() {
    let dir = Path::new(DIR);
    if !dir.join(GO_ON).exists() {
        return;
    }
    let mut record = OpenOptions::new()
        .create(true)
        .append(true)
        .open(dir.join(RECORD))
        .expect("the record");
    while dir.join(GO_ON).exists() {
        write_down(&mut record);
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn write_down(record: &mut File) {
    let mut text = String::new();
    for file in FILES {
        if let Err(error) = fs::read(Path::new("/proc").join(file)) {
            text.push_str(&format!("{} {file}: {error}\n", now_msec()));
        }
    }
    if text.is_empty() {
        text = format!("{} ok\n", now_msec());
    }
    record.write_all(text.as_bytes()).expect("the record");
}

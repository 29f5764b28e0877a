//! Random sequences of calls end as on the kernel's own files.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::common::{Daemon, beside_others, slowness};

/// One call on an open file; positions and sizes are in percent of the file's own length.
#[derive(Debug, Clone)]
enum Call {
    Read(usize),
    ReadAt(usize, usize),
    SeekSet(i64),
    SeekCurrent(i64),
    /// A seek before the start: the only one from the end that a FUSE file of size 0 answers as procfs does.
    SeekBeforeStart,
    Stat,
    /// Goes on with a duplicate, which shares the position.
    Duplicate,
    Reopen,
}

/// The kind of a result: an error's number, or how much of what was asked for came.
#[derive(Debug, PartialEq)]
enum Kind {
    Errno(i32),
    End,
    Part,
    All,
    Position(bool),
    Stat {
        mode: u32,
        size: u64,
        owner: (u32, u32),
        links: u64,
    },
    Done,
}

fn calls() -> impl Strategy<Value = Vec<Call>> {
    let call = prop_oneof![
        (1_usize..130).prop_map(Call::Read),
        (0_usize..150, 1_usize..130).prop_map(|(at, count)| Call::ReadAt(at, count)),
        (0_i64..150).prop_map(Call::SeekSet),
        (-120_i64..50).prop_map(Call::SeekCurrent),
        Just(Call::SeekBeforeStart),
        Just(Call::Stat),
        Just(Call::Duplicate),
        Just(Call::Reopen),
    ];
    proptest::collection::vec(call, 1..24)
}

fn kind_of_read(result: std::io::Result<usize>, asked: usize) -> Kind {
    match result {
        Err(error) => Kind::Errno(error.raw_os_error().unwrap_or(0)),
        Ok(0) => Kind::End,
        Ok(count) if count == asked => Kind::All,
        Ok(_) => Kind::Part,
    }
}

fn kind_of_seek(result: std::io::Result<u64>) -> Kind {
    result.map_or_else(
        |error| Kind::Errno(error.raw_os_error().unwrap_or(0)),
        |at| Kind::Position(at > 0),
    )
}

/// Does the calls and names the kinds of their results.
fn kinds(path: &Path, calls: &[Call]) -> Vec<Kind> {
    let length = fs::read(path).expect("reading the whole file").len();
    // A percent that does not fall on the end itself keeps lengths that change between two reads out of the comparison.
    let scaled = |percent: i64| (length as i64 * percent) / 100;
    let size = |percent: usize| (length * percent) / 100 + 1;
    let mut file = File::open(path).expect("opening the file");
    let apply = |call: &Call| match *call {
        Call::Read(count) => {
            let mut buffer = vec![0; size(count)];
            kind_of_read(file.read(&mut buffer), buffer.len())
        }
        Call::ReadAt(at, count) => {
            let mut buffer = vec![0; size(count)];
            kind_of_read(
                file.read_at(&mut buffer, (length * at / 100) as u64),
                buffer.len(),
            )
        }
        Call::SeekSet(to) => kind_of_seek(file.seek(SeekFrom::Start(scaled(to) as u64))),
        Call::SeekCurrent(by) => kind_of_seek(file.seek(SeekFrom::Current(scaled(by)))),
        Call::SeekBeforeStart => kind_of_seek(file.seek(SeekFrom::End(-1 - length as i64))),
        Call::Stat => file.metadata().map_or_else(
            |error| Kind::Errno(error.raw_os_error().unwrap_or(0)),
            |stat| Kind::Stat {
                mode: stat.mode(),
                size: stat.len(),
                owner: (stat.uid(), stat.gid()),
                links: stat.nlink(),
            },
        ),
        Call::Duplicate => file.try_clone().map_or(Kind::End, |copy| {
            file = copy;
            Kind::Done
        }),
        Call::Reopen => File::open(path).map_or(Kind::End, |again| {
            file = again;
            Kind::Done
        }),
    };
    calls.iter().map(apply).collect()
}

#[test]
fn random_calls_on_meminfo_end_as_on_the_kernels_own() {
    let _turn = beside_others();
    let daemon = Daemon::start(&[]);
    let ours = daemon.path("proc/meminfo");
    let mut runner = TestRunner::new(Config {
        cases: 300 / slowness(),
        failure_persistence: None,
        ..Config::default()
    });
    let result = runner.run(&calls(), |calls| {
        prop_assert_eq!(
            kinds(Path::new("/proc/meminfo"), &calls),
            kinds(&ours, &calls)
        );
        Ok(())
    });
    if let Err(error) = result {
        panic!("left the kernel's, right ours: {error}");
    }
}

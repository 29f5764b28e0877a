use std::cell::Cell;
use std::os::unix::fs::FileExt;
use std::sync::Once;

use nix::sys::memfd::{MFdFlags, memfd_create};
use proptest::collection::vec;
use proptest::prelude::*;

use super::region::{BLOCK_BYTES, Region, checksum};
use super::store::{MAGIC, header};
use super::*;

fn file() -> File {
    memfd_create("journal", MFdFlags::MFD_CLOEXEC)
        .unwrap()
        .into()
}

fn file_with(bytes: &[u8]) -> File {
    let file = file();
    file.write_all_at(bytes, 0).unwrap();
    file
}

fn bytes_of(file: &File) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(file.metadata().unwrap().len()).unwrap()];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

fn resume(file: &File) -> Journal {
    Journal::resume(file.try_clone().unwrap())
}

fn owner(inode: u64) -> Owner {
    Owner {
        directories: vec![Directory {
            hierarchy: "memory".to_owned(),
            path: format!("/docker/{inode}"),
            inode,
        }],
        on_host: false,
    }
}

fn put(record: &Record, content: &[u8]) {
    record.write(|out| {
        out.extend_from_slice(content);
        true
    });
}

/// What a new server finds for this container.
fn found(file: &File, inode: u64) -> Option<Vec<u8>> {
    resume(file).claim(&owner(inode)).1
}

fn blocks_in_use(journal: &Journal) -> usize {
    let store = journal.store.as_ref().unwrap();
    let bytes = bytes_of(&store.file);
    let blocks = bytes.chunks(usize::try_from(BLOCK_BYTES).unwrap());
    let in_use = blocks.filter(|block| block.iter().any(|byte| *byte != 0));
    in_use.count()
}

thread_local! {
    static LOGGED: Cell<usize> = const { Cell::new(0) };
}

struct CountingLog;

impl log::Log for CountingLog {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, _: &log::Record<'_>) {
        LOGGED.set(LOGGED.get() + 1);
    }

    fn flush(&self) {}
}

/// How many lines the log grows by.
fn lines_logged(work: impl FnOnce()) -> usize {
    static START: Once = Once::new();
    START.call_once(|| {
        log::set_logger(&CountingLog).unwrap();
        log::set_max_level(log::LevelFilter::Info);
    });
    LOGGED.set(0);
    work();
    LOGGED.get()
}

#[test]
fn the_next_server_finds_the_latest_record_of_each_container() {
    let file = file();
    let lines = lines_logged(|| {
        let journal = resume(&file);
        let (one, none) = journal.claim(&owner(1));
        let (two, _) = journal.claim(&owner(2));
        assert_eq!(none, None);
        for content in [b"first", b"again", b"third"] {
            put(&one, content);
        }
        put(&two, b"other");
        two.write(|_| false);
        assert_eq!(found(&file, 1).as_deref(), Some(&b"third"[..]));
        assert_eq!(found(&file, 2).as_deref(), Some(&b"other"[..]));
        assert_eq!(found(&file, 3), None);
    });
    assert_eq!(lines, 0);
}

#[test]
fn a_host_process_and_a_container_in_one_cgroup_have_records_of_their_own() {
    let file = file();
    put(&resume(&file).claim(&owner(1)).0, b"container");
    let on_host = Owner {
        on_host: true,
        ..owner(1)
    };
    assert_eq!(resume(&file).claim(&on_host).1, None);
}

#[test]
fn a_journal_that_is_none_keeps_nothing() {
    let journal = Journal::none();
    let (record, content) = journal.claim(&owner(1));
    assert_eq!(content, None);
    record.write(|_| panic!("nothing is to be written"));
    record.retire(|_| panic!("nothing is to be left"));
    journal.forget_ended(|_| panic!("nothing is left"));
}

#[test]
fn a_record_that_grows_moves_and_leaves_no_second_one() {
    let file = file();
    let journal = resume(&file);
    let (record, _) = journal.claim(&owner(1));
    for length in [1, 100, 5_000, 20_000, 300_000] {
        put(&record, &vec![7; length]);
        assert_eq!(found(&file, 1), Some(vec![7; length]));
        let copies = blocks_in_use(&journal) as u64 * BLOCK_BYTES;
        assert!(copies <= 3 * length as u64 + 3 * BLOCK_BYTES, "{length}");
    }
    put(&record, b"short again");
    assert_eq!(found(&file, 1).as_deref(), Some(&b"short again"[..]));
}

#[test]
fn records_of_ended_containers_make_room() {
    let file = file();
    let journal = resume(&file);
    let mut most_blocks = 0;
    for inode in 0..500 {
        let (record, _) = journal.claim(&owner(inode));
        put(&record, b"content");
        record.retire(|out| out.extend_from_slice(b"content"));
        journal.forget_ended(|owner| owner.directories[0].inode + 10 > inode);
        most_blocks = most_blocks.max(blocks_in_use(&journal));
    }
    assert!(most_blocks <= 12, "{most_blocks}");
    drop(journal);
    // So do those that no reader of the new server has asked for.
    let journal = resume(&file);
    journal.forget_ended(|_| false);
    assert_eq!(blocks_in_use(&journal), 1);
    assert_eq!(found(&file, 499), None);
    assert_eq!(bytes_of(&file).len() as u64, BLOCK_BYTES);
}

#[test]
fn a_forgotten_container_goes_on_when_it_is_found_again() {
    let file = file();
    let journal = resume(&file);
    let (old, _) = journal.claim(&owner(1));
    put(&old, b"written");
    old.retire(|out| out.extend_from_slice(b"latest"));
    let (new, content) = journal.claim(&owner(1));
    assert_eq!(content.as_deref(), Some(&b"latest"[..]));
    put(&new, b"newer");
    put(&old, b"late");
    assert_eq!(found(&file, 1).as_deref(), Some(&b"newer"[..]));
}

#[test]
fn an_older_record_never_replaces_a_newer_one() {
    let file = file();
    let journal = resume(&file);
    let (record, _) = journal.claim(&owner(1));
    let state = Mutex::new((0_u64, false));
    let shown = || {
        let (figure, is_unsaved) = &mut *state.lock();
        (*figure, *is_unsaved) = (*figure + 1, true);
        *figure
    };
    let save = || {
        record.write(|out| {
            let (figure, is_unsaved) = &mut *state.lock();
            figure.store(out);
            std::mem::take(is_unsaved)
        });
    };
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..500 {
                    let figure = shown();
                    save();
                    let left = {
                        // What is being written is torn.
                        let _writer = record.writer.lock();
                        highest(&file)
                    };
                    assert!(left >= figure, "{left} was left, {figure} was shown");
                }
            });
        }
    });
    assert_eq!(highest(&file), 2000);
}

/// The figure of the only container. The file stays as it is.
fn highest(file: &File) -> u64 {
    let copy = file_with(&bytes_of(file));
    u64::restore(&mut found(&copy, 1).unwrap().as_slice()).unwrap()
}

#[test]
fn a_server_killed_at_any_byte_of_a_write_leaves_one_whole_record() {
    let long = [5; 9_000];
    for (before, after) in [
        (&[1; 90][..], &[2; 100][..]),
        (&[3; 2_000], &[4; 30]),
        // Into a larger region.
        (&[3; 200], &long),
    ] {
        let file = file();
        let journal = resume(&file);
        let (record, _) = journal.claim(&owner(1));
        put(&record, b"oldest");
        put(&record, before);
        let old = bytes_of(&file);
        put(&record, after);
        let mut new = bytes_of(&file);
        new.resize(new.len().max(old.len()), 0);
        for torn in torn(&old, &new) {
            let left = found(&file_with(&torn), 1).expect("a record is left");
            assert!(left == before || left == after, "{left:?}");
        }
    }
}

/// All states in which a kill can leave the file on its way from `old` to `new`: first
/// comes what is written, in ascending order, then what is erased.
fn torn(old: &[u8], new: &[u8]) -> Vec<Vec<u8>> {
    let mut file = old.to_vec();
    file.resize(new.len(), 0);
    let block = usize::try_from(BLOCK_BYTES).unwrap();
    let is_erased = |place: usize| {
        let start = place / block * block;
        new[start..new.len().min(start + block)]
            .iter()
            .all(|byte| *byte == 0)
    };
    let mut places: Vec<usize> = (0..new.len())
        .filter(|place| file[*place] != new[*place])
        .collect();
    places.sort_by_key(|place| (is_erased(*place), *place));
    let step = places.len().div_ceil(700);
    let mut states = vec![file.clone()];
    for some in places.chunks(step) {
        for place in some {
            file[*place] = new[*place];
        }
        states.push(file.clone());
    }
    states
}

#[test]
fn a_first_record_that_was_killed_is_dropped() {
    let file = file();
    let journal = resume(&file);
    let old = bytes_of(&file);
    put(&journal.claim(&owner(1)).0, b"content");
    for torn in torn(&old, &bytes_of(&file)) {
        let file = file_with(&torn);
        let left = found(&file, 1);
        assert!(left.is_none_or(|left| left == b"content"));
        // Nothing of it is left to be complained about again.
        assert_eq!(lines_logged(|| drop(resume(&file))), 0);
    }
}

#[test]
fn another_version_is_dropped_with_one_line() {
    let file = file();
    let journal = resume(&file);
    (1..9).for_each(|inode| put(&journal.claim(&owner(inode)).0, b"content"));
    let mut other = Vec::new();
    MAGIC.store(&mut other);
    (VERSION + 1).store(&mut other);
    checksum(0, &other).store(&mut other);
    file.write_all_at(&other, 0).unwrap();
    assert_eq!(lines_logged(|| assert_eq!(found(&file, 1), None)), 1);
    assert_eq!(lines_logged(|| assert_eq!(found(&file, 1), None)), 0);
    assert_eq!(blocks_in_use(&resume(&file)), 1);
}

#[test]
fn damaged_records_are_dropped_with_one_line_and_the_others_stay() {
    let file = file();
    let journal = resume(&file);
    (1..9).for_each(|inode| put(&journal.claim(&owner(inode)).0, &[1; 3_000]));
    for inode in [2, 3, 7] {
        let needle = format!("/docker/{inode}");
        let bytes = bytes_of(&file);
        let place = bytes
            .windows(needle.len())
            .position(|window| window == needle.as_bytes())
            .unwrap();
        file.write_all_at(b"?", place as u64).unwrap();
    }
    assert_eq!(lines_logged(|| drop(resume(&file))), 1);
    assert_eq!(lines_logged(|| drop(resume(&file))), 0);
    let left: Vec<u64> = (1..9)
        .filter(|inode| found(&file, *inode).is_some())
        .collect();
    assert_eq!(left, [1, 4, 5, 6, 8]);
}

#[test]
fn a_file_that_cannot_be_written_stops_nobody() {
    let path = tempfile::NamedTempFile::new().unwrap();
    let read_only = File::open(path.path()).unwrap();
    let lines = lines_logged(|| {
        let journal = Journal::resume(read_only);
        put(&journal.claim(&owner(1)).0, b"content");
    });
    assert_eq!(lines, 1);
}

#[test]
fn a_huge_file_is_not_read_through() {
    let file = file();
    file.set_len(1 << 40).unwrap();
    assert_eq!(found(&file, 1), None);
    assert_eq!(bytes_of(&file).len(), header().len());
}

/// Whatever is in the file: it can be used, and what is written then is found.
fn check_any(bytes: &[u8]) -> Journal {
    let file = file_with(bytes);
    let journal = resume(&file);
    let (record, _) = journal.claim(&owner(1000));
    put(&record, b"new");
    assert_eq!(found(&file, 1000).as_deref(), Some(&b"new"[..]));
    journal
}

proptest! {
    #[test]
    fn garbage_does_no_harm(
        garbage in vec(any::<u8>(), 0..20_000),
        with_header in any::<bool>(),
    ) {
        let mut bytes = if with_header { header() } else { Vec::new() };
        if with_header {
            bytes.resize(usize::try_from(BLOCK_BYTES).unwrap(), 0);
        }
        bytes.extend(garbage);
        check_any(&bytes);
    }

    #[test]
    fn a_damaged_file_tells_no_lies(
        contents in vec(vec(any::<u8>(), 1..6_000), 1..8),
        damage in vec((any::<prop::sample::Index>(), any::<u8>(), 1..40_usize), 0..5),
        length in any::<prop::sample::Index>(),
        cut in any::<bool>(),
    ) {
        let file = file();
        let journal = resume(&file);
        for (inode, content) in contents.iter().enumerate() {
            let (record, _) = journal.claim(&owner(inode as u64));
            put(&record, b"before");
            put(&record, content);
        }
        let mut bytes = bytes_of(&file);
        for (place, byte, count) in damage {
            let place = place.index(bytes.len());
            let end = bytes.len().min(place + count);
            bytes[place..end].fill(byte);
        }
        if cut {
            bytes.truncate(length.index(bytes.len()));
        }
        let journal = check_any(&bytes);
        for (inode, content) in contents.iter().enumerate() {
            let found = journal.claim(&owner(inode as u64)).1;
            prop_assert!(found.is_none_or(|found| found == *content || found == b"before"));
        }
    }

    #[test]
    fn heads_with_right_checksums_and_absurd_numbers_do_no_harm(
        blocks in prop_oneof![0..20_u64, any::<u64>()],
        announced in prop_oneof![0..9_000_u64, any::<u64>()],
        sequence in any::<u64>(),
    ) {
        let mut bytes = header();
        bytes.resize(usize::try_from(BLOCK_BYTES).unwrap(), 0);
        let key = [1, 2, 3];
        let (_, head) = Region::create(1, blocks, &key);
        bytes.extend(head);
        (0_u64, (sequence, announced)).store(&mut bytes);
        bytes.resize(bytes.len() + 300, 1);
        check_any(&bytes);
    }
}

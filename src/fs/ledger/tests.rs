use std::os::fd::OwnedFd;

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::uio::{pread, pwrite};
use proptest::prelude::*;

use super::snapshots::BUCKETS;
use super::*;

/// An empty memory.
pub(in crate::fs) fn memory() -> OwnedFd {
    memfd_create("test", MFdFlags::MFD_CLOEXEC).unwrap()
}

fn snapshots(memory: &OwnedFd) -> Snapshots {
    Ledger::resume(memory, Death::Killed).unwrap().snapshots
}

fn partly(content: &[u8]) -> Progress {
    Progress::Partly(content.into())
}

/// Changes one word.
fn spoil(memory: &OwnedFd, word: usize, by: u64) {
    let offset = i64::try_from(word * 8).unwrap();
    let mut bytes = [0; 8];
    pread(memory, &mut bytes, offset).unwrap();
    let spoilt = u64::from_ne_bytes(bytes) ^ by;
    pwrite(memory, &spoilt.to_ne_bytes(), offset).unwrap();
}

/// The first word of each slot that is in use.
fn used_slots(memory: &OwnedFd) -> Vec<usize> {
    let mapped = SharedMemory::map(memory, WORDS).unwrap();
    let used = |word: &usize| mapped.words()[*word].load(Ordering::Relaxed) != 0;
    SLOTS.step_by(4).filter(used).collect()
}

#[test]
fn what_was_recorded_is_found_by_all_servers_that_follow() {
    let memory = memory();
    let first = snapshots(&memory);
    let long: Vec<u8> = (0..100_000_u32).flat_map(u32::to_ne_bytes).collect();
    let recorded = [
        (7, partly(b"short")),
        (8, Progress::Wholly(1500)),
        (9, partly(&long)),
        (10, Progress::Wholly(0)),
    ];
    for (handle, progress) in &recorded {
        first.put(*handle, progress);
    }
    drop(first);
    for _ in 0..3 {
        let next = snapshots(&memory);
        for (handle, progress) in &recorded {
            assert_eq!(next.get(*handle).as_ref(), Some(progress));
        }
        assert_eq!(next.get(11), None);
        assert_eq!(next.get(7 + BUCKETS as u64), None);
    }
}

#[test]
fn the_latest_record_of_a_handle_counts() {
    let memory = memory();
    let first = snapshots(&memory);
    for progress in [
        partly(b"one"),
        partly(b"another"),
        Progress::Wholly(3),
        partly(b"last"),
    ] {
        first.put(7, &progress);
        assert_eq!(snapshots(&memory).get(7), Some(progress));
    }
    first.remove(7);
    assert_eq!(snapshots(&memory).get(7), None);
}

/// A server that is killed in the midst of `put` has the next one read the file anew.
#[test]
fn no_stray_bytes_at_the_end_when_the_server_was_killed_while_it_noted_that() {
    let memory = memory();
    let first = snapshots(&memory);
    first.put(7, &partly(b"some content"));
    let mapped = SharedMemory::map(&memory, WORDS).unwrap();
    let word = |word: usize| mapped.words()[word].load(Ordering::Relaxed);
    let before: Vec<u64> = (0..WORDS).map(word).collect();
    let old = used_slots(&memory)[0];
    first.put(7, &Progress::Wholly(12));
    let new = used_slots(&memory)[0];
    assert_ne!(old, new, "the new record takes the place of the old one");
    // What there was before the old one was emptied.
    let restore_old = || {
        for (word, value) in before.iter().enumerate().skip(old).take(4) {
            spoil(&memory, word, *value);
        }
    };
    restore_old();
    assert_eq!(used_slots(&memory).len(), 2);
    let next = snapshots(&memory);
    assert!(next.get(7).is_some());
    next.put(7, &Progress::Wholly(12));
    assert_eq!(used_slots(&memory).len(), 1);
    assert_eq!(next.get(7), Some(Progress::Wholly(12)));
    restore_old();
    next.remove(7);
    assert!(used_slots(&memory).is_empty());
}

#[test]
fn content_is_replaced_where_there_is_no_room_for_both() {
    let memory = memory();
    let first = snapshots(&memory);
    let large = |byte| partly(&vec![byte; (3 << 20) / 2]);
    first.put(7, &large(1));
    first.put(7, &large(2));
    assert_eq!(snapshots(&memory).get(7), Some(large(2)));
}

#[test]
fn a_full_bucket_forgets_its_oldest_file() {
    let memory = memory();
    let first = snapshots(&memory);
    let handle = |turn: u64| 5 + turn * BUCKETS as u64;
    for turn in 0..9 {
        first.put(handle(turn), &Progress::Wholly(turn));
    }
    let next = snapshots(&memory);
    assert_eq!(next.get(handle(0)), None);
    for turn in 1..9 {
        assert_eq!(next.get(handle(turn)), Some(Progress::Wholly(turn)));
    }
}

#[test]
fn content_beyond_the_room_for_it_is_not_recorded_and_room_is_found_again() {
    let memory = memory();
    let first = snapshots(&memory);
    let text = |handle: u64| vec![u8::try_from(handle).unwrap(); 256 << 10];
    for handle in 1..10 {
        first.put(handle, &partly(&text(handle)));
    }
    first.put(10, &partly(&vec![0; 3 << 20]));
    let next = snapshots(&memory);
    for handle in 1..9 {
        assert_eq!(next.get(handle), Some(partly(&text(handle))));
    }
    assert_eq!((next.get(9), next.get(10)), (None, None));
    next.remove(4);
    next.put(9, &partly(&text(9)));
    assert_eq!(snapshots(&memory).get(9), Some(partly(&text(9))));
    assert_eq!(snapshots(&memory).get(3), Some(partly(&text(3))));
}

#[test]
fn a_torn_record_is_not_believed() {
    // Killed after 0, 1, 2 or 3 of the stores that fill a slot, or in the midst of the text.
    for written in 0..5 {
        let memory = memory();
        snapshots(&memory).put(7, &partly(b"some content"));
        let slot = used_slots(&memory)[0];
        for word in written..4 {
            let mapped = SharedMemory::map(&memory, WORDS).unwrap();
            mapped.words()[slot + word].store(0, Ordering::Relaxed);
        }
        if written == 4 {
            spoil(&memory, CONTENT.start + 1, 1);
        }
        let next = snapshots(&memory);
        assert_eq!(next.get(7), None, "{written}");
        next.put(7, &partly(b"new"));
        assert_eq!(snapshots(&memory).get(7), Some(partly(b"new")));
    }
}

#[test]
fn a_handle_that_has_not_been_given_out_yet_is_not_known() {
    let memory = memory();
    snapshots(&memory).put(u64::MAX - 1, &Progress::Wholly(3));
    assert_eq!(snapshots(&memory).get(u64::MAX - 1), None);
}

#[test]
fn another_layout_is_begun_anew() {
    for (word, by) in [(0, 1), (1, 2), (2, 8)] {
        let memory = memory();
        snapshots(&memory).put(7, &Progress::Wholly(3));
        spoil(&memory, word, by);
        assert_eq!(snapshots(&memory).get(7), None);
        snapshots(&memory).put(8, &Progress::Wholly(4));
        let next = snapshots(&memory);
        assert_eq!(
            (next.get(7), next.get(8)),
            (None, Some(Progress::Wholly(4)))
        );
    }
}

#[test]
fn a_memory_of_another_size_is_begun_anew() {
    for length in [0, 1, 4096, 64 << 20] {
        let memory = memory();
        snapshots(&memory).put(7, &Progress::Wholly(3));
        ftruncate(&memory, length).unwrap();
        assert_eq!(snapshots(&memory).get(7), None);
        assert_eq!(fstat(&memory).unwrap().st_size, 6_438_912);
    }
}

#[test]
fn what_is_no_memory_file_is_refused() {
    let (pipe, _other_end) = nix::unistd::pipe().unwrap();
    assert!(Ledger::resume(&pipe, Death::Ended).is_err());
}

#[test]
fn little_memory_is_used() {
    let memory = memory();
    let first = snapshots(&memory);
    for handle in 1..10_000 {
        first.put(handle, &Progress::Wholly(1500));
        first.remove(handle);
        first.put(handle, &partly(&[b'x'; 1500]));
        first.remove(handle);
    }
    let used_kb = fstat(&memory).unwrap().st_blocks / 2;
    assert!(used_kb <= 148, "{used_kb} kB");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn garbage_is_never_taken_for_a_record(bytes in prop::collection::vec(any::<u8>(), 0..40_000), header: bool) {
        let memory = memory();
        if header {
            drop(snapshots(&memory));
        }
        pwrite(&memory, &bytes, if header { 64 } else { 0 }).unwrap();
        let ledger = Ledger::resume(&memory, Death::Crashed).unwrap();
        for handle in 0..BUCKETS as u64 {
            prop_assert_eq!(ledger.snapshots.get(handle), None);
        }
        prop_assert!(ledger.in_flight.enter(2).is_ok());
        prop_assert!(!ledger.in_flight.has_suspects());
    }

    #[test]
    fn a_damaged_record_is_whole_or_not_there(damage in prop::collection::vec((0..CONTENT.start + 2000, any::<u64>()), 1..40), slots: bool) {
        let memory = memory();
        let first = snapshots(&memory);
        let progress = |handle: u64| match handle % 3 {
            0 => Progress::Wholly(handle),
            _ => partly(&handle.to_ne_bytes().repeat(usize::try_from(handle).unwrap())),
        };
        for handle in 1..60 {
            first.put(handle, &progress(handle));
        }
        for (word, by) in damage {
            // Either anywhere, or in the slots that are in use.
            spoil(&memory, if slots { SLOTS.start + word % (60 * 32) } else { word }, by);
        }
        let next = snapshots(&memory);
        for handle in 1..60 {
            if let Some(found) = next.get(handle) {
                prop_assert_eq!(found, progress(handle));
            }
        }
        next.put(61, &partly(b"goes on"));
        prop_assert_eq!(snapshots(&memory).get(61), Some(partly(b"goes on")));
    }
}

//! Which requests a server is working on, and which of them may have ended it.
//!
//! What a server was working on when it died comes again to the next one. A request that
//! keeps ending servers must not do so for ever, so those that were worked on become
//! suspects, with a weight that grows with each such death.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};

use super::{Death, SEATS, SUSPECTS, checksum};
use crate::sys::clock::boottime_nsec;
use crate::sys::shared_memory::SharedMemory;

/// The number of a request, without the bit 63 by which the kernel marks what it sends
/// again. Numbers rise by 2, so the bits above these are not reached in centuries.
const NUMBER: u64 = (1 << WEIGHT_SHIFT) - 1;
const WEIGHT_SHIFT: u32 = 56;

/// From this weight on a request is not worked on any more.
const DEADLY: u64 = 2 * CRASH;
/// From this weight on the next crash would make it [`DEADLY`].
const DANGEROUS: u64 = CRASH;
/// The weight of a crash. A kill, which may well come again and again from outside, for lack
/// of memory say, weighs 1.
const CRASH: u64 = 8;

/// Suspects come again at once, if ever: before this much time has passed.
const SUSPICION_NSEC: u64 = 5_000_000_000;
/// How long a request waits for its turn. It must not be for ever, since the one whose turn
/// it is may hang.
const LONGEST_TURN: Duration = Duration::from_millis(100);

/// A request, with its weight above it, and the checksum of this word. The word is 0 where
/// there is none.
type Entry = [AtomicU64; 2];
/// The entry of what a thread works on, in a cache line of its own.
const SEAT_WORDS: usize = 8;

/// The request has ended several servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::fs) struct Poisonous;

/// The requests.
#[derive(Debug)]
pub struct InFlight {
    memory: Arc<SharedMemory>,
    /// How many suspects have not been answered.
    suspects: AtomicUsize,
    suspect_until_nsec: u64,
    /// While there are dangerous suspects, requests are worked on one by one: otherwise
    /// the innocent that are in flight beside a poisonous one would be condemned with it.
    turn: Option<Mutex<()>>,
}

/// Stands for a request that is being worked on.
#[derive(Debug)]
pub(in crate::fs) struct Noted<'a> {
    seat: Option<&'a Entry>,
    suspects: Option<&'a AtomicUsize>,
    turn: Option<MutexGuard<'a, ()>>,
}

thread_local! {
    /// The seat that the thread tries first.
    static SEAT: usize = {
        static THREADS: AtomicUsize = AtomicUsize::new(0);
        THREADS.fetch_add(1, Ordering::Relaxed)
    };
}

impl InFlight {
    pub(super) fn resume(memory: Arc<SharedMemory>, death: Death) -> Self {
        let suspects = match death {
            Death::Ended => BTreeMap::new(),
            Death::Killed => suspects(&memory, 1),
            Death::Crashed => suspects(&memory, CRASH),
        };
        let table = memory.groups(SUSPECTS);
        table.iter().for_each(empty);
        // The newest, if there are too many.
        for ([request, sum], (unique, weight)) in table.iter().zip(suspects.iter().rev()) {
            let word = weight << WEIGHT_SHIFT | unique;
            request.store(word, Ordering::Release);
            sum.store(checksum([word]), Ordering::Release);
        }
        let seats = memory.groups::<SEAT_WORDS>(SEATS);
        seats.iter().filter_map(entry).for_each(empty);
        let dangerous = suspects.values().any(|weight| *weight >= DANGEROUS);
        Self {
            suspects: AtomicUsize::new(suspects.len().min(table.len())),
            suspect_until_nsec: boottime_nsec().saturating_add(SUSPICION_NSEC),
            turn: dangerous.then(Mutex::default),
            memory,
        }
    }

    /// Notes that a request is being worked on, as long as the result lives.
    pub(in crate::fs) fn enter(&self, unique: u64) -> Result<Noted<'_>, Poisonous> {
        let unique = unique & NUMBER;
        if self.suspects.load(Ordering::Relaxed) == 0 {
            return Ok(self.note(unique, 0));
        }
        self.enter_among_suspects(unique)
    }

    fn enter_among_suspects(&self, unique: u64) -> Result<Noted<'_>, Poisonous> {
        let table = self.memory.groups(SUSPECTS);
        if boottime_nsec() > self.suspect_until_nsec {
            table.iter().for_each(empty);
            self.suspects.store(0, Ordering::Relaxed);
            return Ok(self.note(unique, 0));
        }
        let turn = self.turn.as_ref();
        let turn = turn.and_then(|turn| turn.try_lock_for(LONGEST_TURN));
        let known = table
            .iter()
            .find_map(|entry| Some((entry, weight_of(entry, unique)?)));
        let mut noted = self.note(unique, known.map_or(0, |(_, weight)| weight));
        noted.turn = turn;
        if let Some((entry, weight)) = known {
            noted.suspects = Some(&self.suspects);
            empty(entry);
            if weight >= DEADLY {
                return Err(Poisonous);
            }
        }
        Ok(noted)
    }

    /// With more threads than seats, some requests are not noted.
    fn note(&self, unique: u64, weight: u64) -> Noted<'_> {
        let seats = self.memory.groups::<SEAT_WORDS>(SEATS);
        let first = SEAT.with(|seat| seat % seats.len().max(1));
        let in_order = seats.get(first..).unwrap_or_default().iter().chain(seats);
        let word = weight << WEIGHT_SHIFT | unique;
        let seat = in_order.filter_map(entry).find(|[request, _]| {
            request
                .compare_exchange(0, word, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
        });
        if let Some([_, sum]) = seat {
            sum.store(checksum([word]), Ordering::Release);
        }
        Noted {
            seat,
            suspects: None,
            turn: None,
        }
    }
}

impl Drop for Noted<'_> {
    fn drop(&mut self) {
        if let Some(seat) = self.seat {
            empty(seat);
        }
        if let Some(suspects) = self.suspects {
            // There are none left if it has taken too long.
            let _ = suspects.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| {
                count.checked_sub(1)
            });
        }
        self.turn = None;
    }
}

/// The suspects after a death that adds `weight` to whatever was being worked on.
fn suspects(memory: &SharedMemory, weight: u64) -> BTreeMap<u64, u64> {
    let mut suspects: BTreeMap<_, _> = memory.groups(SUSPECTS).iter().filter_map(load).collect();
    let seats = memory.groups::<SEAT_WORDS>(SEATS);
    for (unique, before) in seats.iter().filter_map(entry).filter_map(load) {
        let sum = suspects.entry(unique).or_default();
        *sum = before.max(*sum).saturating_add(weight).min(DEADLY);
    }
    suspects
}

/// The entry in a cache line.
fn entry(line: &[AtomicU64; SEAT_WORDS]) -> Option<&Entry> {
    line.first_chunk()
}

/// Number and weight.
fn load([request, sum]: &Entry) -> Option<(u64, u64)> {
    let word = request.load(Ordering::Acquire);
    let valid = word != 0 && sum.load(Ordering::Acquire) == checksum([word]);
    valid.then_some((word & NUMBER, word >> WEIGHT_SHIFT))
}

fn weight_of(entry: &Entry, unique: u64) -> Option<u64> {
    let (suspect, weight) = load(entry)?;
    (suspect == unique).then_some(weight)
}

/// Empties an entry. Its word is the last that changes, since then it is free for others.
fn empty([request, sum]: &Entry) {
    sum.store(0, Ordering::Release);
    request.store(0, Ordering::Release);
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;
    use std::time::Instant;

    use super::*;
    use crate::fs::ledger::Ledger;
    use crate::fs::ledger::tests::memory;

    impl InFlight {
        pub(in crate::fs) fn has_suspects(&self) -> bool {
            self.suspects.load(Ordering::Relaxed) != 0
        }
    }

    fn server(memory: &OwnedFd, death: Death) -> InFlight {
        Ledger::resume(memory, death).unwrap().in_flight
    }

    /// A server that dies with these requests in flight.
    fn die_with(server: &InFlight, requests: &[u64]) {
        for unique in requests {
            std::mem::forget(server.enter(*unique));
        }
    }

    /// How many servers a request ends before it is refused.
    fn deaths(memory: &OwnedFd, death: Death) -> usize {
        let refused = |_: &usize| {
            let next = server(memory, death);
            next.enter(2 | 1 << 63).map(std::mem::forget).is_err()
        };
        (0..20).find(refused).unwrap()
    }

    #[test]
    fn two_crashes_or_sixteen_kills_are_enough() {
        assert_eq!(deaths(&memory(), Death::Crashed), 2);
        assert_eq!(deaths(&memory(), Death::Killed), 16);
    }

    #[test]
    fn kills_and_crashes_add_up() {
        let memory = memory();
        die_with(&server(&memory, Death::Ended), &[2]);
        for _ in 0..8 {
            die_with(&server(&memory, Death::Killed), &[2]);
        }
        assert_eq!(
            server(&memory, Death::Crashed).enter(2).err(),
            Some(Poisonous)
        );
    }

    #[test]
    fn a_request_that_was_answered_is_no_suspect() {
        let memory = memory();
        for _ in 0..5 {
            let crashed = server(&memory, Death::Crashed);
            drop(crashed.enter(2).unwrap());
            assert!(!crashed.has_suspects());
            die_with(&crashed, &[2]);
        }
    }

    #[test]
    fn an_end_in_order_clears_all() {
        let memory = memory();
        for _ in 0..5 {
            die_with(&server(&memory, Death::Crashed), &[2]);
            assert!(!server(&memory, Death::Ended).has_suspects());
        }
        assert!(!server(&memory, Death::Crashed).has_suspects());
    }

    #[test]
    fn a_suspect_that_no_server_has_come_to_stays_one() {
        let memory = memory();
        die_with(&server(&memory, Death::Ended), &[2]);
        die_with(&server(&memory, Death::Crashed), &[100]);
        die_with(&server(&memory, Death::Crashed), &[2]);
        assert!(server(&memory, Death::Crashed).enter(2).is_err());
    }

    #[test]
    fn a_refused_request_is_over_and_done_with() {
        let memory = memory();
        deaths(&memory, Death::Crashed);
        assert!(!server(&memory, Death::Crashed).has_suspects());
    }

    #[test]
    fn the_innocent_beside_a_poisonous_request_are_served() {
        let memory = memory();
        die_with(&server(&memory, Death::Ended), &[2, 4, 6, 8]);
        let second = server(&memory, Death::Crashed);
        drop(second.enter(4).unwrap());
        // Ends this server; others wait for it meanwhile, and are not blamed.
        let poisonous = second.enter(6).unwrap();
        std::thread::scope(|scope| {
            let other = scope.spawn(|| {
                let start = Instant::now();
                drop(second.enter(8).unwrap());
                start.elapsed()
            });
            // It does not wait for ever.
            assert!(other.join().unwrap() >= LONGEST_TURN);
        });
        std::mem::forget(poisonous);
        let third = server(&memory, Death::Crashed);
        assert!(third.enter(2).is_ok());
        assert!(third.enter(6).is_err());
        assert!(third.enter(8).is_ok());
        assert!(!third.has_suspects());
    }

    #[test]
    fn one_kill_makes_nobody_wait() {
        let memory = memory();
        die_with(&server(&memory, Death::Ended), &[2, 4]);
        let next = server(&memory, Death::Killed);
        let _slow = next.enter(2).unwrap();
        std::thread::scope(|scope| {
            let other = scope.spawn(|| {
                let start = Instant::now();
                drop(next.enter(4).unwrap());
                start.elapsed()
            });
            assert!(other.join().unwrap() < LONGEST_TURN);
        });
    }

    #[test]
    fn suspicion_ends_but_not_that_of_what_is_being_worked_on() {
        let memory = memory();
        die_with(&server(&memory, Death::Ended), &[2, 4]);
        let mut hanging = server(&memory, Death::Crashed);
        std::mem::forget(hanging.enter(2));
        hanging.suspect_until_nsec = 0;
        drop(hanging.enter(100).unwrap());
        assert!(!hanging.has_suspects());
        let next = server(&memory, Death::Crashed);
        assert!(next.enter(2).is_err());
        assert!(!next.has_suspects());
    }

    #[test]
    fn of_too_many_suspects_the_newest_are_known() {
        let memory = memory();
        let requests: Vec<u64> = (1..=200).map(|number| number * 2).collect();
        let (older, newer) = requests.split_at(64);
        die_with(&server(&memory, Death::Ended), older);
        die_with(&server(&memory, Death::Killed), newer);
        let last = server(&memory, Death::Killed);
        let known = last.memory.groups(SUSPECTS).iter().filter_map(load);
        // No more than there are seats have been noted.
        let expected: Vec<_> = requests[64..128]
            .iter()
            .rev()
            .map(|request| (*request, 1))
            .collect();
        assert_eq!(known.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_torn_note_accuses_nobody() {
        let memory = memory();
        for _ in 0..5 {
            let killed = server(&memory, Death::Crashed);
            let noted = killed.enter(2).unwrap();
            noted.seat.unwrap()[1].store(0, Ordering::Relaxed);
            std::mem::forget(noted);
        }
        assert!(!server(&memory, Death::Crashed).has_suspects());
    }
}

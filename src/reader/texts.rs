//! Texts that were made a moment ago.
//!
//! A container that reads a file thousands of times a second is given the same text for a moment,
//! unless a limit may have changed: after a change no file may tell of what was before. So the
//! cost of collecting figures does not grow with the rate of reading.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::freshness::{Cached, Moment, validity};

/// How soon after another one a text must be made to be kept. Most containers read now and
/// then, and their texts would only take memory.
const OFTEN_NSEC: u64 = 20_000_000;

/// The latest text in each of `N` slots.
#[derive(Debug)]
pub struct TextCache<const N: usize> {
    slots: [Mutex<Option<Box<Cached<Text>>>>; N],
}

/// None where the one before it was made long ago.
type Text = Option<Arc<[u8]>>;

impl<const N: usize> TextCache<N> {
    /// No texts yet.
    pub(super) fn new() -> Self {
        Self {
            slots: std::array::from_fn(|_| Mutex::default()),
        }
    }

    /// The text in a slot, made anew unless it is fresh `now` and not from before `since_nsec`
    /// (`CLOCK_BOOTTIME`).
    /// Readers that come at the same moment may each make one; nobody waits for another.
    ///
    /// # Errors
    /// What `make` fails with.
    pub fn get<E>(
        &self,
        slot: usize,
        now: Moment,
        since_nsec: u64,
        make: impl FnOnce() -> Result<Arc<[u8]>, E>,
    ) -> Result<Arc<[u8]>, E> {
        let Some(slot) = self.slots.get(slot) else {
            return make();
        };
        let mut is_often = false;
        if let Some(known) = &*slot.lock() {
            is_often = now.nsec_since(known.found()) < OFTEN_NSEC;
            let is_since = known.found().nsec >= since_nsec;
            if let (true, Some(Some(text))) = (is_since, known.fresh(now, validity::TEXT)) {
                return Ok(Arc::clone(text));
            }
        }
        let text = make()?;
        let made = Cached::new(is_often.then(|| Arc::clone(&text)), now);
        match &mut *slot.lock() {
            Some(known) => **known = made,
            none => *none = Some(Box::new(made)),
        }
        Ok(text)
    }

    /// Drops the texts that serve nobody any more: on a machine with many CPUs they are long, and
    /// a container can have many keys.
    pub(super) fn forget_old(&self, now: Moment) {
        for slot in &self.slots {
            if let Some(known) = &mut *slot.lock() {
                if !known.is_fresh(now, validity::TEXT) {
                    **known = Cached::new(None, known.found());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::freshness::Epoch;

    const FIRST: Epoch = Epoch::numbered(1);
    const MSEC: u64 = 1_000_000;

    fn at(msec: u64, epoch: Epoch) -> Moment {
        Moment {
            nsec: msec * MSEC,
            epoch,
        }
    }

    /// What a reader gets at a moment at which the text would be this one.
    fn get(texts: &TextCache<2>, slot: usize, now: Moment, text: u8) -> u8 {
        let got = texts.get(slot, now, 0, || Ok::<_, ()>([text].into()));
        got.unwrap()[0]
    }

    #[test]
    fn a_text_serves_for_a_moment_and_in_its_slot_only() {
        let texts = TextCache::new();
        assert_eq!(get(&texts, 0, at(100, FIRST), 1), 1);
        assert_eq!(get(&texts, 0, at(101, FIRST), 2), 2, "kept by now");
        assert_eq!(get(&texts, 0, at(105, FIRST), 3), 2);
        assert_eq!(get(&texts, 1, at(105, FIRST), 4), 4);
        assert_eq!(get(&texts, 0, at(106, FIRST), 5), 5);
        assert_eq!(get(&texts, 7, at(106, FIRST), 6), 6, "a slot too many");
    }

    #[test]
    fn a_text_is_kept_for_readers_that_come_often_only() {
        let texts = TextCache::new();
        for msec in [100, 120, 140] {
            assert_eq!(get(&texts, 0, at(msec, FIRST), 1), 1);
            assert!(texts.slots[0].lock().as_ref().unwrap().value().is_none());
        }
        get(&texts, 0, at(159, FIRST), 1);
        assert!(texts.slots[0].lock().as_ref().unwrap().value().is_some());
    }

    #[test]
    fn a_container_that_has_stopped_reading_leaves_no_texts() {
        let texts = TextCache::new();
        get(&texts, 0, at(100, FIRST), 1);
        get(&texts, 0, at(101, FIRST), 1);
        let keeps = || texts.slots[0].lock().as_ref().unwrap().value().is_some();
        texts.forget_old(at(105, FIRST));
        assert!(keeps());
        texts.forget_old(at(106, FIRST));
        assert!(!keeps());
    }

    #[test]
    fn no_text_from_before_a_change_of_a_limit_serves_after_it() {
        let texts = TextCache::new();
        get(&texts, 0, at(100, FIRST), 1);
        get(&texts, 0, at(100, FIRST), 1);
        assert_eq!(get(&texts, 0, at(100, Epoch::numbered(2)), 2), 2);
        assert_eq!(get(&texts, 0, at(100, Epoch::UNKNOWN), 3), 3);
        assert_eq!(get(&texts, 0, at(100, Epoch::UNKNOWN), 4), 4);
    }

    #[test]
    fn no_text_from_before_a_given_time_serves() {
        let texts = TextCache::<1>::new();
        let get = |since_nsec, text| {
            let made = texts.get(0, at(100, FIRST), since_nsec, || Ok::<_, ()>([text].into()));
            made.unwrap()[0]
        };
        get(0, 1);
        get(0, 2);
        assert_eq!(get(100 * MSEC, 3), 2);
        assert_eq!(get(100 * MSEC + 1, 4), 4);
        assert_eq!(get(u64::MAX, 5), 5);
    }

    #[test]
    fn a_failure_is_not_kept() {
        let texts = TextCache::<2>::new();
        let failed = texts.get(0, at(100, FIRST), 0, || Err("gone"));
        assert_eq!(failed, Err("gone"));
        assert_eq!(get(&texts, 0, at(100, FIRST), 1), 1);
    }
}

//! Texts that were made a moment ago.
//!
//! A container that reads a file thousands of times a second gets the same text for 5 ms,
//! half the resolution of its times, unless a limit may have changed: after a change no file
//! may tell of what was before. So the cost of collecting figures does not grow with the rate
//! of reading.

use std::sync::Arc;

use parking_lot::Mutex;

use super::moves::Lull;
use crate::host::boottime_nsec;

/// How long a text serves.
const LIFETIME_NSEC: u64 = 5_000_000;

/// How soon after another one a text must be made to be kept. Most containers read now and
/// then, and their texts would only take memory.
const OFTEN_NSEC: u64 = 20_000_000;

/// The latest text in each of `N` slots.
#[derive(Debug)]
pub struct Recent<const N: usize> {
    slots: [Mutex<Option<Box<Made>>>; N],
}

#[derive(Debug)]
struct Made {
    at_nsec: u64,
    lull: Lull,
    /// None where the one before it was made long ago.
    text: Option<Arc<[u8]>>,
}

impl<const N: usize> Recent<N> {
    /// No texts yet.
    pub(super) fn new() -> Self {
        Self {
            slots: std::array::from_fn(|_| Mutex::default()),
        }
    }

    /// The text in a slot, made anew unless it is recent, from the present `lull`, and not
    /// from before `since_nsec` (`CLOCK_BOOTTIME`).
    /// Readers that come at the same moment may each make one; nobody waits for another.
    ///
    /// # Errors
    /// What `make` fails with.
    pub fn get<E>(
        &self,
        slot: usize,
        lull: Option<Lull>,
        since_nsec: u64,
        make: impl FnOnce() -> Result<Arc<[u8]>, E>,
    ) -> Result<Arc<[u8]>, E> {
        let (Some(slot), Some(lull)) = (self.slots.get(slot), lull) else {
            return make();
        };
        let now_nsec = boottime_nsec();
        let age_nsec = |made: &Made| now_nsec.saturating_sub(made.at_nsec);
        let mut is_often = false;
        if let Some(made) = &*slot.lock() {
            is_often = age_nsec(made) < OFTEN_NSEC;
            let is_valid =
                made.lull == lull && made.at_nsec >= since_nsec && age_nsec(made) < LIFETIME_NSEC;
            if let Some(text) = made.text.as_ref().filter(|_| is_valid) {
                return Ok(Arc::clone(text));
            }
        }
        let text = make()?;
        let made = Made {
            at_nsec: now_nsec,
            lull,
            text: is_often.then(|| Arc::clone(&text)),
        };
        match &mut *slot.lock() {
            Some(known) => **known = made,
            none => *none = Some(Box::new(made)),
        }
        Ok(text)
    }

    /// Drops the texts that serve nobody any more: on a machine with many CPUs they are long, and
    /// a container can have many places.
    pub(super) fn forget_old(&self) {
        let now_nsec = boottime_nsec();
        for slot in &self.slots {
            if let Some(made) = &mut *slot.lock() {
                if now_nsec.saturating_sub(made.at_nsec) >= LIFETIME_NSEC {
                    made.text = None;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::time::Duration;

    use super::*;

    const LULL: Option<Lull> = Some(Lull::FIRST);

    #[test]
    fn a_text_serves_for_a_moment_and_in_its_slot_only() {
        let recent = Recent::<2>::new();
        let made = Cell::new(0_u8);
        let get = |slot| {
            recent.get(slot, LULL, 0, || {
                made.set(made.get() + 1);
                Ok::<_, ()>(vec![made.get()].into())
            })
        };
        get(0).unwrap();
        let first = get(0).unwrap();
        assert_eq!(*get(1).unwrap(), [3]);
        std::thread::sleep(Duration::from_millis(20));
        assert_ne!(get(0).unwrap(), first);
    }

    #[test]
    fn a_text_is_kept_for_readers_that_come_often_only() {
        let recent = Recent::<1>::new();
        let keeps = || {
            recent.get(0, LULL, 0, || Ok::<_, ()>([0].into())).unwrap();
            recent.slots[0].lock().as_ref().unwrap().text.is_some()
        };
        assert!(!keeps());
        std::thread::sleep(Duration::from_millis(30));
        assert!(!keeps());
        // Both come within 20 ms sooner or later, however busy the machine is.
        assert!((0..1000).any(|_| keeps()));
    }

    #[test]
    fn a_container_that_has_stopped_reading_leaves_no_texts() {
        let recent = Recent::<1>::new();
        let keeps = || recent.slots[0].lock().as_ref().unwrap().text.is_some();
        let read = || {
            recent.get(0, LULL, 0, || Ok::<_, ()>([0].into())).unwrap();
            keeps()
        };
        assert!((0..1000).any(|_| read()));
        std::thread::sleep(Duration::from_millis(20));
        recent.forget_old();
        assert!(!keeps());
    }

    #[test]
    fn no_text_from_before_a_change_of_a_limit_serves_after_it() {
        let recent = Recent::<1>::new();
        let get = |lull, text| {
            *recent
                .get(0, lull, 0, || Ok::<_, ()>([text].into()))
                .unwrap()
                == [text]
        };
        assert!(get(LULL, 1));
        assert!(get(LULL.map(Lull::next), 2));
        assert!(get(None, 3));
        assert!(get(None, 4));
    }

    #[test]
    fn no_text_from_before_a_given_time_serves() {
        let recent = Recent::<1>::new();
        let before_nsec = boottime_nsec();
        let get = |since_nsec, text| {
            let made = recent.get(0, LULL, since_nsec, || Ok::<_, ()>([text].into()));
            *made.unwrap() == [text]
        };
        assert!(get(before_nsec, 1));
        assert!(get(u64::MAX, 2));
        assert!(get(boottime_nsec() + 1, 3));
    }

    #[test]
    fn a_failure_is_not_kept() {
        let recent = Recent::<1>::new();
        assert_eq!(recent.get(0, LULL, 0, || Err("gone")), Err("gone"));
        assert_eq!(
            *recent
                .get(0, LULL, 0, || Ok::<_, &str>([1].into()))
                .unwrap(),
            [1]
        );
    }
}

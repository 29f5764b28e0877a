//! Texts that were made a moment ago.
//!
//! A container that reads a file thousands of times a second gets the same text for 5 ms,
//! half the resolution of its times. So the cost of collecting figures does not grow with
//! the rate of reading.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::host::boottime_nsec;

/// How long a text serves.
const LIFETIME_NSEC: u64 = 5_000_000;

/// The latest text in each of `N` slots.
#[derive(Debug)]
pub struct Recent<const N: usize> {
    slots: [Mutex<Option<Made>>; N],
}

#[derive(Debug, Clone)]
struct Made {
    at_nsec: u64,
    text: Arc<[u8]>,
}

impl<const N: usize> Recent<N> {
    /// No texts yet.
    pub(super) fn new() -> Self {
        Self {
            slots: std::array::from_fn(|_| Mutex::default()),
        }
    }

    /// The text in a slot, made anew unless it is recent. Readers that come at the same
    /// moment may each make one; nobody waits for another.
    ///
    /// # Errors
    /// What `make` fails with.
    pub fn get<E>(
        &self,
        slot: usize,
        make: impl FnOnce() -> Result<Vec<u8>, E>,
    ) -> Result<Arc<[u8]>, E> {
        let now_nsec = boottime_nsec();
        let known = self.slots.get(slot).and_then(|slot| slot.lock().clone());
        if let Some(made) = known
            && now_nsec.saturating_sub(made.at_nsec) < LIFETIME_NSEC
        {
            return Ok(made.text);
        }
        let text: Arc<[u8]> = make()?.into();
        if let Some(slot) = self.slots.get(slot) {
            *slot.lock() = Some(Made {
                at_nsec: now_nsec,
                text: Arc::clone(&text),
            });
        }
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_text_serves_for_a_moment_and_in_its_slot_only() {
        let recent = Recent::<2>::new();
        let made = Cell::new(0_u8);
        let get = |slot| {
            recent.get(slot, || {
                made.set(made.get() + 1);
                Ok::<_, ()>(vec![made.get()])
            })
        };
        let first = get(0).unwrap();
        assert_eq!(*get(1).unwrap(), [2]);
        std::thread::sleep(Duration::from_millis(20));
        assert_ne!(get(0).unwrap(), first);
    }

    #[test]
    fn a_failure_is_not_kept() {
        let recent = Recent::<1>::new();
        assert_eq!(recent.get(0, || Err("gone")), Err("gone"));
        assert_eq!(*recent.get(0, || Ok::<_, &str>(vec![1])).unwrap(), [1]);
    }
}

//! Load averages of one container (kernel: `kernel/sched/loadavg.c`): the kernel's
//! own exponential in fixed point, over the container's own threads.

use super::journal::stored::stored;

/// One in the fixed point of the averages, which has 11 bits of fraction.
pub const FIXED_1: u64 = 1 << 11;

/// How often the averages are brought up to date.
pub const PERIOD_NSEC: u64 = 5_000_000_000;

/// `FIXED_1 / exp(5 s / 1 min)`, the same for 5 and for 15 minutes.
const DECAY: [u64; 3] = [1884, 2014, 2037];

/// More threads than any kernel has; keeps the arithmetic free of overflow.
const MAX_ACTIVE: u64 = 1 << 32;

/// Averages over 1, 5 and 15 minutes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Load {
    averages: [u64; 3],
}

stored!(Load { averages } if Load::is_sound);

impl Load {
    /// Averages of a container of the given age that is read for the first time,
    /// as if all its life as many threads had been active as are now.
    #[must_use]
    pub fn seeded(active: u64, age_nsec: u64) -> Self {
        let mut load = Self::default();
        load.advance(active, age_nsec / PERIOD_NSEC);
        load
    }

    /// Whether there can be such averages. Only a damaged journal can have others.
    fn is_sound(&self) -> bool {
        let highest = MAX_ACTIVE * FIXED_1;
        self.averages.iter().all(|average| *average <= highest)
    }

    /// Averages over 1, 5 and 15 minutes in units of `1 / FIXED_1` threads.
    #[must_use]
    pub fn averages(&self) -> [u64; 3] {
        self.averages
    }

    /// Adds periods during each of which so many threads were runnable or in
    /// uninterruptible sleep.
    pub fn advance(&mut self, active: u64, periods: u64) {
        let active = active.min(MAX_ACTIVE) * FIXED_1;
        for _ in 0..periods {
            let before = self.averages;
            for (average, decay) in self.averages.iter_mut().zip(DECAY) {
                *average = decayed(*average, decay, active);
            }
            // Averages that have settled stay for all periods to come.
            if self.averages == before {
                break;
            }
        }
    }
}

/// One step; rounded up while the load grows, so that it does reach `active`.
fn decayed(average: u64, decay: u64, active: u64) -> u64 {
    let sum = average * decay + active * (FIXED_1 - decay);
    let rounding = if active >= average { FIXED_1 - 1 } else { 0 };
    (sum + rounding) / FIXED_1
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: u64 = 12 * PERIOD_NSEC;

    #[test]
    fn follows_the_kernels_recurrence() {
        let mut load = Load::default();
        load.advance(2, 1);
        // 4096 * (2048 - 1884) / 2048 and so on, rounded up.
        assert_eq!(load.averages(), [328, 68, 22]);
        load.advance(0, 1);
        assert_eq!(load.averages(), [301, 66, 21]);
    }

    #[test]
    fn a_first_read_shows_the_load_of_the_whole_life() {
        let [one, five, fifteen] = Load::seeded(4, MINUTE).averages();
        // 4 * (1 - 1/e), 4 * (1 - exp(-1/5)), 4 * (1 - exp(-1/15)).
        assert!(one.abs_diff(4 * FIXED_1 * 632 / 1000) < 40, "{one}");
        assert!(five.abs_diff(4 * FIXED_1 * 181 / 1000) < 40, "{five}");
        assert!(fifteen.abs_diff(4 * FIXED_1 * 64 / 1000) < 40, "{fifteen}");
        assert_eq!(Load::seeded(4, PERIOD_NSEC - 1), Load::default());
    }

    #[test]
    fn missed_periods_count_one_by_one() {
        let mut at_once = Load::seeded(3, MINUTE);
        let mut one_by_one = at_once;
        at_once.advance(7, 40);
        (0..40).for_each(|_| one_by_one.advance(7, 1));
        assert_eq!(at_once, one_by_one);
    }

    #[test]
    fn settles_exactly_and_soon_however_long_nobody_read() {
        let mut load = Load::seeded(5, u64::MAX);
        assert_eq!(load.averages(), [5 * FIXED_1; 3]);
        load.advance(0, u64::MAX);
        assert_eq!(load.averages(), [0; 3]);
    }

    #[test]
    fn absurd_numbers_of_threads_do_not_overflow() {
        let mut load = Load::seeded(u64::MAX, u64::MAX);
        load.advance(u64::MAX, 3);
        assert_eq!(load.averages(), [MAX_ACTIVE * FIXED_1; 3]);
    }
}

//! Increments of counters that several threads read, each at its own moment.

/// How much a counter grew beyond `seen`, which follows it.
///
/// Readings may overtake each other: a late one adds nothing and takes nothing away,
/// else the same growth would be counted twice. Only a fall to less than half is a
/// new count, which grows from its present value.
pub(super) fn increment(seen: &mut u64, now: u64) -> u64 {
    if now < *seen / 2 {
        *seen = now;
    }
    let increment = now.saturating_sub(*seen);
    *seen = now.max(*seen);
    increment
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reading_that_was_overtaken_is_not_counted_twice() {
        let mut seen = 0;
        let grown: Vec<u64> = [100, 130, 120, 140]
            .map(|now| increment(&mut seen, now))
            .to_vec();
        assert_eq!(grown, [100, 30, 0, 10]);
    }

    #[test]
    fn a_new_count_grows_from_its_present_value() {
        let mut seen = 1000;
        assert_eq!(increment(&mut seen, 7), 0);
        assert_eq!(increment(&mut seen, 9), 2);
    }
}

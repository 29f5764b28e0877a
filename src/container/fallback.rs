//! What happens when a source of a figure fails: the last good value serves, and the
//! failure is counted by cause.

use std::collections::HashMap;

use parking_lot::Mutex;

/// Failures by cause. Causes are few: names of kernel files with what is wrong.
static FAILURES: Mutex<Option<HashMap<String, u64>>> = Mutex::new(None);

/// Causes that are told apart at the most.
const MOST_CAUSES: usize = 1000;

/// A source has failed, and the last good value serves.
pub(super) fn report(what: &str, cause: &dyn std::fmt::Display) {
    warn(&format!(
        "{what}: {cause}; the last good value is shown instead"
    ));
}

/// A file of the host's has a form that is not known, so that nothing of it is shown.
pub fn report_unknown(file: &str) {
    warn(&format!(
        "{file}: the form is not known; only what the container is shown is listed there"
    ));
}

/// Counts a failure. It is logged the first time, the tenth, the hundredth...
pub(crate) fn warn(text: &str) {
    let count = {
        let mut failures = FAILURES.lock();
        let failures = failures.get_or_insert_default();
        if failures.len() >= MOST_CAUSES {
            failures.clear();
        }
        let count = failures.entry(text.to_owned()).or_default();
        *count += 1;
        *count
    };
    if is_power_of_ten(count) {
        log::warn!("{text} (time {count})");
    }
}

fn is_power_of_ten(count: u64) -> bool {
    count
        .checked_ilog10()
        .is_some_and(|exponent| 10_u64.pow(exponent) == count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_does_not_grow_with_every_failure() {
        let logged: Vec<_> = (0..=1000).filter(|count| is_power_of_ten(*count)).collect();
        assert_eq!(logged, [1, 10, 100, 1000]);
    }
}

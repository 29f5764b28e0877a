//! What happens when a source of a figure fails: the last good value serves, and each
//! cause is logged once.

use std::collections::HashSet;

use parking_lot::Mutex;

/// Causes that have been logged. They are few: names of kernel files.
static REPORTED: Mutex<Option<HashSet<String>>> = Mutex::new(None);

/// Logs `cause` the first time it occurs.
pub(super) fn report(what: &str, cause: &dyn std::fmt::Display) {
    let text = format!("{what}: {cause}");
    let first = REPORTED.lock().get_or_insert_default().insert(text.clone());
    if first {
        log::warn!("{text}; the last good value is shown instead");
    }
}

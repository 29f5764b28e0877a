//! The time of day as text.

use std::mem::MaybeUninit;
use std::time::{SystemTime, UNIX_EPOCH};

/// The time now in UTC, to the millisecond, as in ISO 8601.
#[must_use]
pub fn utc_now() -> String {
    utc(SystemTime::now())
}

/// `time` in UTC; the epoch for times before it.
fn utc(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = libc::time_t::try_from(since.as_secs()).unwrap_or(0);
    let mut broken_down = MaybeUninit::<libc::tm>::zeroed();
    // SAFETY: both pointers are to live values; every bit pattern of the struct that zeroed
    // memory or the call leaves is valid.
    let at = unsafe {
        libc::gmtime_r(&raw const seconds, broken_down.as_mut_ptr());
        broken_down.assume_init()
    };
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
        at.tm_year.saturating_add(1900),
        at.tm_mon.saturating_add(1),
        at.tm_mday,
        at.tm_hour,
        at.tm_min,
        at.tm_sec,
        since.subsec_millis()
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_time_is_written_in_utc() {
        let leap_day = UNIX_EPOCH + Duration::from_millis(1_709_210_096_007);
        assert_eq!(utc(leap_day), "2024-02-29T12:34:56.007Z");
        assert_eq!(utc(UNIX_EPOCH), "1970-01-01T00:00:00.000Z");
    }
}

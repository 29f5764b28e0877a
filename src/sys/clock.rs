//! The kernel's clocks, and the time of day as text.

use std::mem::MaybeUninit;
use std::time::{SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};

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

/// Time since the boot in nanoseconds, suspended time included (`CLOCK_BOOTTIME`, which
/// `/proc/uptime` shows).
#[must_use]
pub fn boottime_nsec() -> u64 {
    nsec_of(ClockId::CLOCK_BOOTTIME)
}

/// Time that only serves to compare with other such times: to a few milliseconds, for a fraction of
/// what [`boottime_nsec`] costs (`CLOCK_MONOTONIC_COARSE`).
#[must_use]
pub fn coarse_nsec() -> u64 {
    nsec_of(ClockId::CLOCK_MONOTONIC_COARSE)
}

/// CPU time that this thread has used, in nanoseconds (`CLOCK_THREAD_CPUTIME_ID`).
#[must_use]
pub fn thread_cpu_nsec() -> u64 {
    nsec_of(ClockId::CLOCK_THREAD_CPUTIME_ID)
}

fn nsec_of(clock: ClockId) -> u64 {
    let Ok(now) = clock_gettime(clock) else {
        return 0;
    };
    let seconds = u64::try_from(now.tv_sec()).unwrap_or(0);
    seconds
        .saturating_mul(1_000_000_000)
        .saturating_add(u64::try_from(now.tv_nsec()).unwrap_or(0))
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

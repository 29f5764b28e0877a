//! `/proc/uptime` (kernel: Documentation/filesystems/proc.rst, "uptime").

use super::{put, put_hundredths};

/// What the file is made of.
#[derive(Debug, Clone, Copy)]
pub struct Input {
    /// Age of the container.
    pub uptime_nsec: u64,
    /// Idle time of all CPUs shown, the same as in `/proc/stat`.
    pub idle_nsec: u64,
}

/// Renders both times in seconds, cut to hundredths.
pub fn render(input: &Input, out: &mut Vec<u8>) {
    put_hundredths(out, input.uptime_nsec / 10_000_000);
    put(out, " ");
    put_hundredths(out, input.idle_nsec / 10_000_000);
    put(out, "\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_times_have_two_decimals_and_are_not_rounded_up() {
        for (uptime_nsec, idle_nsec, expected) in [
            (0, 0, "0.00 0.00\n"),
            (1_059_999_999, 12_000_000_000, "1.05 12.00\n"),
            (u64::MAX, 9_999_999, "18446744073.70 0.00\n"),
        ] {
            let mut out = Vec::new();
            let input = Input {
                uptime_nsec,
                idle_nsec,
            };
            render(&input, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }
}

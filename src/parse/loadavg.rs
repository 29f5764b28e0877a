//! `/proc/loadavg` (kernel: Documentation/filesystems/proc.rst, "loadavg").

use super::ParseError;

/// The figures behind the averages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Threads {
    /// Runnable threads.
    pub running: u64,
    /// All threads.
    pub total: u64,
    /// The newest pid in the pid namespace of the one who reads the file.
    pub last_pid: u64,
}

/// Parses the fourth and the fifth field.
///
/// # Errors
/// Any other form than `0.00 0.00 0.00 RUNNING/TOTAL PID`.
pub fn parse(text: &str) -> Result<Threads, ParseError> {
    let threads = || {
        let mut words = text.split_ascii_whitespace().skip(3);
        let (running, total) = words.next()?.split_once('/')?;
        Some(Threads {
            running: running.parse().ok()?,
            total: total.parse().ok()?,
            last_pid: words.next()?.parse().ok()?,
        })
    };
    threads().ok_or_else(|| ParseError::new("loadavg", "line", text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_stands_behind_the_averages() {
        let expected = Threads {
            running: 4,
            total: 112,
            last_pid: 7992,
        };
        assert_eq!(parse("0.40 0.20 0.13 4/112 7992\n"), Ok(expected));
    }

    #[test]
    fn refuses_other_forms() {
        for text in [
            "",
            "0.40 0.20 0.13",
            "1 2 3 4 5",
            "1 2 3 4/x 5",
            "1 2 3 4/5 -1",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}

//! `/proc/PID/stat` (kernel: Documentation/filesystems/proc.rst, table 1-4).

use super::ParseError;

/// The fields of `/proc/PID/stat` that this project needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PidStat {
    /// State letter: `R` running, `S` sleeping, `D` uninterruptible...
    pub state: u8,
    /// Start of the process in clock ticks after the boot, in the time namespace
    /// of the thread that read the file.
    pub starttime_ticks: u64,
}

impl PidStat {
    /// Parses the file. The command name stands in parentheses and may itself hold
    /// parentheses, spaces and newlines, hence the search from the last `)`.
    ///
    /// # Errors
    /// When a field is missing or no number.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        let bad = || ParseError::new("pid/stat", "field", &String::from_utf8_lossy(bytes));
        let end = bytes
            .iter()
            .rposition(|byte| *byte == b')')
            .ok_or_else(bad)?;
        let rest = bytes.get(end + 1..).unwrap_or_default();
        let mut fields = rest.split(|byte| *byte == b' ').skip(1);
        let state = fields
            .next()
            .and_then(|field| field.first())
            .copied()
            .ok_or_else(bad)?;
        // `state` is field 3 of the file, `starttime` field 22.
        let starttime_ticks = fields
            .nth(18)
            .and_then(|field| std::str::from_utf8(field).ok()?.trim().parse().ok())
            .ok_or_else(bad)?;
        Ok(Self {
            state,
            starttime_ticks,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REST: &str = "S 1 2 2 0 -1 4194560 1 0 0 0 3 4 0 0 20 0 1 0 5757 1000 2 184 1 1 0 0\n";

    #[test]
    fn finds_the_fields_behind_any_command_name() {
        for name in ["sh", "a b", "a) R 1 (", "x\ny", "", ")))", "(("] {
            let text = format!("42 ({name}) {REST}");
            let stat = PidStat::parse(text.as_bytes()).unwrap();
            assert_eq!((stat.state, stat.starttime_ticks), (b'S', 5757), "{name:?}");
        }
    }

    #[test]
    fn refuses_a_short_or_empty_file() {
        for text in ["", "1 (sh)", "1 (sh) S 1 2", "1 (sh) "] {
            assert!(PidStat::parse(text.as_bytes()).is_err(), "{text:?}");
        }
    }
}

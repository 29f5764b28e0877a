//! Limits of cgroup files such as `memory.max`, `cpu.max`, `memory.limit_in_bytes`.

use super::ParseError;

/// Values from which on cgroup v1 means "no limit": `PAGE_COUNTER_MAX` pages, i.e.
/// `LONG_MAX` rounded down to the page size (64 KiB at the most).
const V1_UNLIMITED: u64 = (i64::MAX as u64) & !0xffff;

/// A limit in the unit of its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Limit {
    /// No limit at this level.
    #[default]
    Max,
    /// At most this much.
    Value(u64),
}

impl Limit {
    /// The stricter of two limits.
    #[must_use]
    pub fn min(self, other: Self) -> Self {
        match (self, other) {
            (Self::Value(a), Self::Value(b)) => Self::Value(a.min(b)),
            (Self::Max, limit) | (limit, Self::Max) => limit,
        }
    }

    /// The limit where `ceiling` is all there is anyway.
    #[must_use]
    pub fn or_at_most(self, ceiling: u64) -> u64 {
        match self {
            Self::Max => ceiling,
            Self::Value(value) => value.min(ceiling),
        }
    }

    /// The limit that cgroup v1 means by a number: none by one that is large enough.
    #[must_use]
    pub const fn from_v1(value: u64) -> Self {
        if value >= V1_UNLIMITED {
            Self::Max
        } else {
            Self::Value(value)
        }
    }

    /// Parses a one-value file: a number or `max` (cgroup v2), or a number so
    /// large that cgroup v1 means "unlimited" by it.
    ///
    /// # Errors
    /// Anything else, the empty file included.
    pub fn parse(file: &'static str, text: &str) -> Result<Self, ParseError> {
        let text = text.trim();
        if text == "max" {
            return Ok(Self::Max);
        }
        match text.parse::<u64>() {
            Ok(value) => Ok(Self::from_v1(value)),
            // A number beyond u64 limits nothing either.
            Err(_) if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) => Ok(Self::Max),
            Err(_) => Err(ParseError::new(file, "limit", text)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_both_notations_of_no_limit() {
        for text in [
            "max\n",
            "9223372036854771712\n",
            "9223372036854710272",
            "18446744073709551615",
            "99999999999999999999999",
        ] {
            assert_eq!(Limit::parse("memory.max", text), Ok(Limit::Max), "{text}");
        }
        assert_eq!(Limit::parse("memory.max", "0\n"), Ok(Limit::Value(0)));
        assert_eq!(
            Limit::parse("memory.max", "52428800\n"),
            Ok(Limit::Value(52_428_800))
        );
    }

    #[test]
    fn refuses_garbage() {
        for text in ["", "\n", "-1", "12 kB", "maximum"] {
            assert!(Limit::parse("memory.max", text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn the_stricter_limit_wins() {
        assert_eq!(Limit::Max.min(Limit::Value(3)), Limit::Value(3));
        assert_eq!(Limit::Value(4).min(Limit::Value(3)), Limit::Value(3));
        assert_eq!(Limit::Max.min(Limit::Max), Limit::Max);
        assert_eq!(Limit::Value(9).or_at_most(5), 5);
        assert_eq!(Limit::Max.or_at_most(5), 5);
    }
}

//! What the views of parts of `/sys` have in common.

use std::borrow::Cow;

use crate::parse::cpu_list::CpuSet;

/// How a file writes its CPUs or nodes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Notation {
    /// `0-3,8`
    List,
    /// `0 1 2 3 8`
    Ids,
    /// `0000010f`
    Mask,
}

/// The text with all counters zero; the frequencies that label some of them stay.
pub(super) fn without_counts(path: &str, text: &str) -> String {
    let name = path.rsplit('/').next().unwrap_or_default();
    let is_digit = |c: char| match name {
        "purr" | "spurr" | "idle_purr" | "idle_spurr" => c.is_ascii_hexdigit(),
        _ => c.is_ascii_digit(),
    };
    let mut zeroed = String::with_capacity(text.len());
    for line in text.lines() {
        let label_end = match name {
            "time_in_state" => line.find(' ').unwrap_or(0),
            "trans_table" => match line.split_once(':') {
                // The heading is made of frequencies.
                Some((label, _)) if ["", "From"].contains(&label.trim()) => line.len(),
                Some((label, _)) if label.trim().parse::<u64>().is_ok() => label.len(),
                _ => 0,
            },
            _ => 0,
        };
        let (label, counts) = line.split_at(label_end);
        zeroed.push_str(label);
        let mut after_digit = false;
        for c in counts.chars() {
            match (is_digit(c), after_digit) {
                (true, true) => {}
                (true, false) => zeroed.push('0'),
                (false, _) => zeroed.push(c),
            }
            after_digit = is_digit(c);
        }
        zeroed.push('\n');
    }
    zeroed
}

/// What is to be seen of a file.
#[derive(Debug, PartialEq, Eq)]
pub struct Seen<'a> {
    /// Its content.
    pub content: Cow<'a, [u8]>,
    /// Whether the host's text has a form that is not known. The content is then made of
    /// what the reader is shown, never of the host's text.
    pub is_unknown: bool,
}

impl<'a> Seen<'a> {
    /// The host's own text.
    pub(super) const fn host(content: &'a [u8]) -> Self {
        Self {
            content: Cow::Borrowed(content),
            is_unknown: false,
        }
    }

    /// A text that takes the place of the host's.
    pub(super) fn own(text: String) -> Self {
        Self {
            content: Cow::Owned(text.into_bytes()),
            is_unknown: false,
        }
    }

    /// The host's text with those `shown` only. Where it cannot be parsed, `instead`.
    pub(super) fn kept(
        notation: Notation,
        content: &'a [u8],
        shown: &CpuSet,
        instead: &CpuSet,
    ) -> Self {
        match notation.parse(content) {
            Some(cpus) if cpus.intersection_len(shown) == cpus.len() => Self::host(content),
            Some(cpus) => Self::own(notation.text(&cpus.intersection(shown), content)),
            None => Self {
                is_unknown: true,
                ..Self::own(notation.text(instead, content))
            },
        }
    }
}

impl Notation {
    fn parse(self, content: &[u8]) -> Option<CpuSet> {
        let text = std::str::from_utf8(content).ok()?;
        let cpus = match self {
            // Some kernels write this for an empty `nohz_full`.
            Self::List if text.trim() == "(null)" => return Some(CpuSet::new()),
            Self::List | Self::Ids => CpuSet::parse("CPU list", text),
            Self::Mask => CpuSet::parse_mask("CPU mask", text),
        };
        cpus.ok()
    }

    /// The set as a line; a mask has the width of the `host`'s one.
    pub(super) fn text(self, cpus: &CpuSet, host: &[u8]) -> String {
        let text = match self {
            Self::List => cpus.to_string(),
            Self::Ids => {
                let ids: Vec<String> = cpus.iter().map(|cpu| cpu.to_string()).collect();
                ids.join(" ")
            }
            Self::Mask => {
                let is_known = self.parse(host).is_some();
                let digits = host.iter().filter(|byte| byte.is_ascii_hexdigit()).count();
                let needed = cpus.iter().last().map_or(1, |cpu| cpu / 4 + 1);
                cpus.to_mask(if is_known { digits } else { needed })
            }
        };
        text + "\n"
    }
}

/// The number in a name that is `prefix` and digits; one that is too large is
/// nobody's.
pub(super) fn numbered(name: &str, prefix: &str) -> Option<usize> {
    let digits = name.strip_prefix(prefix)?;
    let all_digits = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
    all_digits.then(|| digits.parse().unwrap_or(usize::MAX))
}

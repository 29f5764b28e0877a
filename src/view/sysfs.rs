//! What the views of parts of `/sys` have in common.

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
                Some((label, _)) if label.trim().parse::<u64>().is_ok() => label.len(),
                _ => line.len(),
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

/// The text with those `shown` only; none if there is nothing to hide.
pub(super) fn kept(notation: Notation, content: &[u8], shown: &CpuSet) -> Option<String> {
    let text = std::str::from_utf8(content).ok()?;
    let cpus = match notation {
        Notation::List | Notation::Ids => CpuSet::parse("CPU list", text),
        Notation::Mask => CpuSet::parse_mask("CPU mask", text),
    };
    let cpus = cpus.ok()?;
    if cpus.intersection_len(shown) == cpus.len() {
        return None;
    }
    let cpus = cpus.intersection(shown);
    let mut narrowed = match notation {
        Notation::List => cpus.to_string(),
        Notation::Ids => {
            let ids: Vec<String> = cpus.iter().map(|cpu| cpu.to_string()).collect();
            ids.join(" ")
        }
        Notation::Mask => cpus.to_mask(text.matches(|c: char| c.is_ascii_hexdigit()).count()),
    };
    narrowed.push_str(text.get(text.trim_end().len()..).unwrap_or_default());
    Some(narrowed)
}

/// The number in a name that is `prefix` and digits; one that is too large is
/// nobody's.
pub(super) fn numbered(name: &str, prefix: &str) -> Option<usize> {
    let digits = name.strip_prefix(prefix)?;
    let all_digits = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
    all_digits.then(|| digits.parse().unwrap_or(usize::MAX))
}

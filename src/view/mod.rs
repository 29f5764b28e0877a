//! One file for each virtual file: plain data in, text out. No I/O, cannot fail.
//!
//! Rendering avoids the formatting machinery: it runs for every read.

pub mod arcstats;
pub mod cpuinfo;
pub mod diskstats;
pub mod interrupts;
pub mod loadavg;
pub mod meminfo;
pub mod node_memory;
pub mod pressure;
pub mod slabinfo;
pub mod stat;
pub mod swaps;
pub mod sys_block;
pub mod sys_cpu;
pub mod sys_node;
pub mod sysfs;
pub mod uptime;
pub mod vmstat;

/// Where the value of a line comes from; see `docs/SEMANTICS.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// The cgroup's own accounting or limit.
    Exact,
    /// Computed from exact values.
    Derived,
    /// An estimate: the host's increments by the container's share of them.
    Apportioned,
    /// True of the machine for everybody.
    Fact,
    /// Zero, as neither the kernel nor an estimate gives the container's value.
    Zero,
}

/// The row for which `is_wanted`, looked for from `cursor` on, which then stands behind it.
fn find_from<'a, T>(
    rows: &'a [T],
    cursor: &mut usize,
    is_wanted: impl Fn(&T) -> bool,
) -> Option<&'a T> {
    let from_cursor = rows.iter().enumerate().cycle().skip(*cursor);
    let (index, row) = from_cursor
        .take(rows.len())
        .find(|(_, row)| is_wanted(row))?;
    *cursor = index + 1;
    Some(row)
}

fn put(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
}

/// Appends `value` in decimal.
fn put_u64(out: &mut Vec<u8>, value: u64) {
    put_u64_padded(out, value, 0);
}

/// Appends `value` in decimal, with spaces before it up to `width` characters, 20 at most.
fn put_u64_padded(out: &mut Vec<u8>, value: u64, width: usize) {
    let mut field = [b' '; 20];
    let mut start = field.len();
    let mut rest = value;
    for digit in field.iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
        start -= 1;
        if rest == 0 {
            break;
        }
    }
    let start = start.min(field.len().saturating_sub(width));
    out.extend_from_slice(field.get(start..).unwrap_or_default());
}

/// Appends a number of hundredths as a decimal with two places.
fn put_hundredths(out: &mut Vec<u8>, hundredths: u64) {
    put_u64(out, hundredths / 100);
    put(out, if hundredths % 100 < 10 { ".0" } else { "." });
    put_u64(out, hundredths % 100);
}

fn put_spaces(out: &mut Vec<u8>, count: usize) {
    out.resize(out.len() + count, b' ');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_look_like_the_standard_librarys() {
        for value in [0, 7, 10, 12_345_678, 123_456_789, u64::MAX] {
            let mut out = Vec::new();
            put_u64(&mut out, value);
            put(&mut out, "|");
            put_u64_padded(&mut out, value, 8);
            assert_eq!(out, format!("{value}|{value:>8}").into_bytes());
        }
    }
}

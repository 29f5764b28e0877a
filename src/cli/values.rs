//! Values of arguments, checked.

use crate::parse::cpu_list::CpuSet;

/// Smallest memory limit in bytes in which a command can be started at all.
const MIN_MEMORY_BYTES: u64 = 1 << 20;
/// Smallest CPU limit: the kernel takes no quota below 1 ms in a period of 100 ms.
const MIN_CPUS: f64 = 0.01;
/// Largest CPU limit, beyond the CPUs of any machine.
const MAX_CPUS: f64 = 16_384.0;

pub(super) fn size(text: &str) -> Result<u64, String> {
    let (digits, shift) = match text.to_ascii_lowercase().as_bytes().last() {
        Some(b'k') => (text.get(..text.len() - 1), 10),
        Some(b'm') => (text.get(..text.len() - 1), 20),
        Some(b'g') => (text.get(..text.len() - 1), 30),
        Some(b't') => (text.get(..text.len() - 1), 40),
        _ => (Some(text), 0),
    };
    digits
        .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|digits| digits.parse::<u64>().ok())
        .and_then(|number| number.checked_mul(1 << shift))
        .filter(|bytes| i64::try_from(*bytes).is_ok())
        .ok_or_else(|| "expected a number of bytes such as 52428800 or 50m".to_owned())
}

pub(super) fn memory_limit(text: &str) -> Result<u64, String> {
    match size(text)? {
        bytes if bytes < MIN_MEMORY_BYTES => Err("at least 1m is needed".to_owned()),
        bytes => Ok(bytes),
    }
}

pub(super) fn cpu_limit(text: &str) -> Result<f64, String> {
    text.parse::<f64>()
        .ok()
        .filter(|cpus| (MIN_CPUS..=MAX_CPUS).contains(cpus))
        .ok_or_else(|| format!("expected a number of CPUs from {MIN_CPUS} to {MAX_CPUS}"))
}

pub(super) fn cpu_list(text: &str) -> Result<CpuSet, String> {
    CpuSet::parse("--cpuset", text)
        .ok()
        .filter(|cpus| !cpus.is_empty())
        .ok_or_else(|| "expected a list of CPUs such as 0-3,8".to_owned())
}

pub(super) fn plugin_index(text: &str) -> Result<String, String> {
    if text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit()) {
        Ok(text.to_owned())
    } else {
        Err("expected two digits such as 10".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_suffixes_in_powers_of_1024() {
        assert_eq!(size("7"), Ok(7));
        assert_eq!(size("2K"), Ok(2048));
        assert_eq!(size("3g"), Ok(3 << 30));
        for text in [
            "", "m", "-1", "+1", "1.5g", "1kb", "0x10", "9t9", "\u{e9}", "8388608t",
        ] {
            assert!(size(text).is_err(), "{text}");
        }
    }
}

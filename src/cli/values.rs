//! Values of arguments, checked.

use std::fs;
use std::io::ErrorKind::NotFound;
use std::path::PathBuf;

use clap::CommandFactory;

use super::Cli;
use crate::parse::cpu_list::CpuSet;

/// Smallest memory limit in bytes in which a command can be started at all.
const MIN_MEMORY_BYTES: u64 = 1 << 20;
/// Smallest CPU limit: the kernel takes no quota below 1 ms in a period of 100 ms.
const MIN_CPUS: f64 = 0.01;
/// Largest CPU limit, beyond the CPUs of any machine.
const MAX_CPUS: f64 = 16_384.0;

/// Suffixes of sizes, without the `b` or `ib` that may follow, with their powers of two.
const SUFFIXES: [(char, u32); 5] = [('k', 10), ('m', 20), ('g', 30), ('t', 40), ('p', 50)];

/// A number of bytes as engines take it: `52428800`, `50m`, `1.5g`, `100MB`, `100MiB`.
pub(super) fn size(text: &str) -> Result<u64, String> {
    parse_size(&text.to_ascii_lowercase())
        .ok_or_else(|| "expected a number of bytes such as 52428800, 50m or 1.5g".to_owned())
}

fn parse_size(text: &str) -> Option<u64> {
    let number_end = text
        .find(|letter: char| !letter.is_ascii_digit() && letter != '.')
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at_checked(number_end)?;
    let shift = match suffix
        .strip_suffix("ib")
        .or_else(|| suffix.strip_suffix('b'))
    {
        Some("") if suffix == "b" => 0,
        None if suffix.is_empty() => 0,
        letter => {
            let letter = letter.unwrap_or(suffix);
            SUFFIXES
                .iter()
                .find(|(known, _)| letter.chars().eq([*known]))?
                .1
        }
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || fraction.len() > 9 {
        return None;
    }
    let scale = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    let scaled =
        whole.parse::<u64>().ok().map(u128::from)? * scale + fraction.parse::<u128>().ok()?;
    let bytes = scaled.checked_mul(1 << shift)? / scale;
    u64::try_from(bytes)
        .ok()
        .filter(|bytes| i64::try_from(*bytes).is_ok())
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

/// A directory that a file of configuration may name: its reader has another working directory.
pub(super) fn absolute_path(text: &str) -> Result<PathBuf, String> {
    Some(PathBuf::from(text))
        .filter(|path| path.is_absolute())
        .ok_or_else(|| "expected an absolute path, starting with /".to_owned())
}

/// The command that clap adds by itself, and later than it lists commands.
const HELP: &str = "help";

/// How alike two words are, from 0 to 1, to take one for a misspelling of the other.
const ALIKE: f64 = 0.7;

/// The directory to mount at. A word without a slash that names nothing here is more likely a
/// command that does not exist.
pub(super) fn mountpoint(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    let command = Cli::command();
    let is_command = text == HELP || command.find_subcommand(text).is_some();
    let is_missing = || fs::symlink_metadata(&path).is_err_and(|error| error.kind() == NotFound);
    if is_command || text.contains('/') || !is_missing() {
        return Ok(path);
    }
    let names = command
        .get_subcommands()
        .filter(|command| !command.is_hide_set())
        .map(clap::Command::get_name)
        .chain([HELP]);
    let closest = names
        .map(|name| (strsim::jaro_winkler(name, text), name))
        .filter(|(similarity, _)| *similarity > ALIKE)
        .max_by(|(one, _), (other, _)| one.total_cmp(other));
    Err(match closest {
        Some((_, name)) => format!("no such command or directory; did you mean {name}?"),
        None => "no such command or directory".to_owned(),
    })
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
    fn sizes_are_taken_as_other_engines_write_them() {
        for text in [
            "100m",
            "100M",
            "100mb",
            "100MB",
            "100MiB",
            "104857600",
            "104857600b",
        ] {
            assert_eq!(size(text), Ok(100 << 20), "{text}");
        }
        assert_eq!(size("1.5g"), Ok(3 << 29));
        assert_eq!(size("0.5k"), Ok(512));
        assert_eq!(size("1.5"), Ok(1));
    }

    #[test]
    fn sizes_have_suffixes_in_powers_of_1024() {
        assert_eq!(size("7"), Ok(7));
        assert_eq!(size("2K"), Ok(2048));
        assert_eq!(size("3g"), Ok(3 << 30));
        assert_eq!(size("0"), Ok(0));
        for text in [
            "",
            "m",
            "-1",
            "+1",
            "0x10",
            "9t9",
            "\u{e9}",
            "8388608t",
            ".",
            "1.",
            ".5g",
            "1.5.2g",
            "1.0000000001g",
            "ib",
            "1ib",
            "1mm",
            "1mbb",
            "1 m",
            "99999999999999999999",
        ] {
            assert!(size(text).is_err(), "{text}");
        }
    }
}

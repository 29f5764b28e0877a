//! Which kernel this is.

use nix::sys::utsname::uname;

/// Whether the kernel is of version `major.minor` or later. An unknown one is taken for a
/// new one.
#[must_use]
pub fn kernel_is_since(major: u32, minor: u32) -> bool {
    let name = uname().ok();
    let release = name.as_ref().and_then(|name| name.release().to_str());
    is_since(release.unwrap_or_default(), (major, minor))
}

/// Whether a release such as `6.12.5-amd64` is of the version or a later one. What is no release
/// is taken for a new one.
#[must_use]
pub fn is_since(release: &str, version: (u32, u32)) -> bool {
    let mut numbers = release.split(['.', '-', '+']).map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) >= version,
        _ => true,
    }
}

/// Whether the running kernel can crash when a request that was interrupted is sent again
/// (CVE-2026-64265), by its number. Distributions may have mended it without another number.
#[must_use]
pub fn resend_may_crash() -> bool {
    let Ok(name) = uname() else {
        return false;
    };
    let [release, build] = [name.release(), name.version()].map(|text| text.to_string_lossy());
    may_crash(&release, &build)
}

/// The first releases that are affected, each with the first one after it that is mended.
const CRASHING: [(Version, Version); 3] = [
    ((6, 9, 0), (6, 12, 96)),
    ((6, 13, 0), (6, 18, 39)),
    ((6, 19, 0), (7, 1, 4)),
];

type Version = (u32, u32, u32);

/// The same for a kernel of which uname(2) says this. Debian's release may number the ABI alone
/// (`6.12.0-1-amd64`); then the build has the version.
fn may_crash(release: &str, build: &str) -> bool {
    let debians = build.split_once("Debian ").map(|(_, version)| version);
    let version = debians.and_then(version).or_else(|| version(release));
    version.is_some_and(|version| {
        let mut ranges = CRASHING.iter();
        ranges.any(|(first, mended)| (first..mended).contains(&&version))
    })
}

/// What a text starts with, such as `6.12.117+deb13-amd64`, `7.0-rc3` or `6.12.30_1`.
fn version(text: &str) -> Option<Version> {
    let mut numbers = text.splitn(3, '.').map(|part| {
        let end = part.find(|letter: char| !letter.is_ascii_digit());
        part[..end.unwrap_or(part.len())].parse::<u32>().ok()
    });
    let (major, minor) = (numbers.next()??, numbers.next()??);
    Some((major, minor, numbers.next().flatten().unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_that_crash_at_a_resend_are_known_by_their_numbers() {
        for (release, may) in [
            ("6.8.12", false),
            ("6.8.0-60-generic", false),
            ("6.1.0-35-amd64", false),
            ("6.9-rc1", true),
            ("6.11.0-29-generic", true),
            ("6.12.95-1-lts", true),
            ("6.12.96", false),
            ("6.12.117+deb13-cloud-amd64", false),
            ("6.12.30_1", true),
            ("6.12.0-55.9.1.el10_0.x86_64", true),
            ("6.14.8-2-pve", true),
            ("6.18.38-1-default", true),
            ("6.18.39-1-default", false),
            ("6.18", true),
            ("7.1.3-arch1-1", true),
            ("7.1.4-arch1-1", false),
            ("7.2.0", false),
            ("odd", false),
            ("6", false),
            ("", false),
        ] {
            let build = "#1 SMP PREEMPT_DYNAMIC @0";
            assert_eq!(may_crash(release, build), may, "{release}");
        }
        for (release, build, may) in [
            (
                "6.12.0-1-amd64",
                "#1 SMP Debian 6.12.117-1 (2026-09-09)",
                false,
            ),
            (
                "6.12.0-1-amd64",
                "#1 SMP Debian 6.12.94-1 (2026-06-06)",
                true,
            ),
            (
                "6.12.38+deb13-amd64",
                "#1 SMP PREEMPT_DYNAMIC Debian 6.12.38-1 (2025-07-16)",
                true,
            ),
        ] {
            assert_eq!(may_crash(release, build), may, "{build}");
        }
    }

    #[test]
    fn releases_of_distributions_are_understood() {
        for (release, since) in [
            ("6.5.0-14-generic", true),
            ("6.12.117+deb13-cloud-amd64", true),
            ("7.0", true),
            ("6.4.16", false),
            ("4.18.0-553.el8_10.x86_64", false),
            ("odd", true),
            ("", true),
        ] {
            assert_eq!(is_since(release, (6, 5)), since, "{release}");
        }
    }
}

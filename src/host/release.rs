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

#[cfg(test)]
mod tests {
    use super::*;

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

//! The two generic formats of cgroup files (kernel: Documentation/admin-guide/cgroup-v2.rst, "Format").

/// The pairs of a flat keyed file (`key value` per line); other lines are dropped.
pub fn flat(text: &str) -> impl Iterator<Item = (&str, u64)> {
    text.lines().filter_map(|line| {
        let (key, value) = line.split_once(' ')?;
        Some((key, value.trim().parse().ok()?))
    })
}

/// The value of `key` in a flat keyed file.
#[must_use]
pub fn flat_value(text: &str, key: &str) -> Option<u64> {
    flat(text)
        .find(|(found, _)| *found == key)
        .map(|(_, value)| value)
}

/// The lines of a nested keyed file (`key name=value name=value`), each with its
/// pairs; pairs of another form are dropped.
pub fn nested(text: &str) -> impl Iterator<Item = (&str, impl Iterator<Item = (&str, u64)>)> {
    text.lines().filter_map(|line| {
        let (key, rest) = line.split_once(' ')?;
        let pairs = rest.split_ascii_whitespace().filter_map(|pair| {
            let (name, value) = pair.split_once('=')?;
            Some((name, value.parse().ok()?))
        });
        Some((key, pairs))
    })
}

/// Major and minor number of a block device.
pub type DeviceNumber = (u32, u32);

/// A device number as cgroup files write it: `major:minor`.
#[must_use]
pub fn device(text: &str) -> Option<DeviceNumber> {
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_flat_keyed_files() {
        let text = "anon 4096\nfile 12\n\nbroken\nx y\nslab 18446744073709551615\n";
        assert_eq!(flat_value(text, "slab"), Some(u64::MAX));
        assert_eq!(flat_value(text, "file"), Some(12));
        assert_eq!(flat_value(text, "broken"), None);
        assert_eq!(flat(text).count(), 3);
        assert_eq!(flat("").count(), 0);
    }

    #[test]
    fn reads_nested_keyed_files() {
        let text = "8:16 rbytes=1459200 wbytes=314773504 x=y\n8:0\n";
        let lines: Vec<_> = nested(text)
            .map(|(key, pairs)| (device(key), pairs.collect::<Vec<_>>()))
            .collect();
        assert_eq!(
            lines,
            [(
                Some((8, 16)),
                vec![("rbytes", 1_459_200), ("wbytes", 314_773_504)]
            )]
        );
    }
}

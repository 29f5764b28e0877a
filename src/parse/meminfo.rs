//! `/proc/meminfo` (kernel: Documentation/filesystems/proc.rst, "meminfo").

/// The host's lines in the host's order, so that a line which a newer kernel
/// adds is not lost.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemInfo {
    /// Every line that reads `Key: number [kB]`.
    pub lines: Vec<Line>,
}

/// One line of `/proc/meminfo`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The key without its colon, e.g. `Active(anon)`.
    pub key: String,
    /// The value; kB where `in_kb`, else a plain count (`HugePages_Total`).
    pub value: u64,
    /// Whether the line ends in ` kB`.
    pub in_kb: bool,
}

impl MemInfo {
    /// Parses the whole file; lines of another form are dropped.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let lines = text
            .lines()
            .filter_map(|line| {
                let (key, rest) = line.split_once(':')?;
                let mut words = rest.split_ascii_whitespace();
                Some(Line {
                    key: key.to_owned(),
                    value: words.next()?.parse().ok()?,
                    in_kb: words.next() == Some("kB"),
                })
            })
            .collect();
        Self { lines }
    }

    /// Parses the `meminfo` of a node, whose lines start with `Node N`.
    #[must_use]
    pub fn parse_node(text: &str) -> Self {
        let lines = text.lines().filter_map(|line| {
            let (_, line) = line.strip_prefix("Node ")?.split_once(' ')?;
            Some(format!("{line}\n"))
        });
        Self::parse(&lines.collect::<String>())
    }

    /// The value of `key`, if the kernel has the line.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<u64> {
        self.lines
            .iter()
            .find(|line| line.key == key)
            .map(|line| line.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_lines_in_their_order_with_their_unit() {
        let info = MemInfo::parse("MemTotal:  24684096 kB\nHugePages_Total:     7\n");
        let expected = [
            ("MemTotal", 24_684_096, true),
            ("HugePages_Total", 7, false),
        ];
        let lines = info.lines.iter();
        let lines: Vec<_> = lines
            .map(|line| (&*line.key, line.value, line.in_kb))
            .collect();
        assert_eq!(lines, expected);
        assert_eq!(info.get("MemTotal"), Some(24_684_096));
        assert_eq!(info.get("Mem"), None);
    }

    #[test]
    fn drops_what_is_no_line() {
        let text = "MemTotal 5 kB\nMemFree:\nBuffers: x kB\nCached: -1 kB\n\nShmem: 99999999999999999999\nSlab: 3 kB";
        let keys: Vec<_> = MemInfo::parse(text)
            .lines
            .into_iter()
            .map(|line| line.key)
            .collect();
        assert_eq!(keys, ["Slab"]);
    }
}

//! `/proc/spl/kstat/zfs/arcstats` of OpenZFS: a named kstat (kstat(3kstat) of illumos).

/// The host's file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ArcStats {
    /// The two lines at the top, which tell the kstat's own state and the columns.
    pub head: String,
    /// The statistics in the host's order.
    pub lines: Vec<Line>,
}

/// One statistic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Its name, e.g. `c_max`.
    pub name: String,
    /// The number of its data type, e.g. `4`.
    pub data_type: String,
    /// Its value; 0 for one below 0.
    pub value: u64,
}

impl ArcStats {
    /// Parses the whole file; lines of another form are dropped.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let head = text.split_inclusive('\n').take(2).collect();
        let lines = text.lines().skip(2).filter_map(|line| {
            let mut words = line.split_ascii_whitespace();
            let (name, data_type) = (words.next()?.to_owned(), words.next()?.to_owned());
            let value: i128 = words.next()?.parse().ok()?;
            Some(Line {
                name,
                data_type,
                value: u64::try_from(value.max(0)).ok()?,
            })
        });
        Self {
            head,
            lines: lines.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_head_and_lines() {
        let head = "13 1 0x01 3 816 511 976\nname                            type data\n";
        let text = format!(
            "{head}c_max                           4    8367976448\n\
             memory_available_bytes          3    -1048576\n\
             size                            4    18446744073709551615\n"
        );
        let stats = ArcStats::parse(&text);
        assert_eq!(stats.head, head);
        let lines = stats.lines.iter();
        let lines: Vec<_> = lines
            .map(|line| (&*line.name, &*line.data_type, line.value))
            .collect();
        assert_eq!(
            lines,
            [
                ("c_max", "4", 8_367_976_448),
                ("memory_available_bytes", "3", 0),
                ("size", "4", u64::MAX)
            ]
        );
    }

    #[test]
    fn drops_what_is_no_line() {
        assert_eq!(ArcStats::parse(""), ArcStats::default());
        let stats =
            ArcStats::parse("1\nname\nsize\nc 4\nc_min 4 x\nhits 4 18446744073709551616\np 4 1");
        assert_eq!(stats.head, "1\nname\n");
        assert_eq!(stats.lines.len(), 1);
    }
}

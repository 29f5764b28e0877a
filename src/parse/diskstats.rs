//! `/proc/diskstats` (kernel: Documentation/admin-guide/iostats.rst).

/// One device or partition of the host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Device {
    /// Device number, major part.
    pub major: u32,
    /// Device number, minor part.
    pub minor: u32,
    /// Name below `/sys/block`, e.g. `sda`.
    pub name: String,
    /// The columns behind the name: 11, since kernel 4.18 15 with discards, since
    /// 5.5 17 with flushes; a later kernel may have more. Times in milliseconds.
    pub columns: Vec<u64>,
}

/// Places in [`Device::columns`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names of iostats.rst")]
pub enum Column {
    Reads = 0,
    ReadMerges = 1,
    ReadSectors = 2,
    ReadMsec = 3,
    Writes = 4,
    WriteMerges = 5,
    WrittenSectors = 6,
    WriteMsec = 7,
    InFlight = 8,
    IoMsec = 9,
    WeightedMsec = 10,
    Discards = 11,
    DiscardMerges = 12,
    DiscardedSectors = 13,
    DiscardMsec = 14,
}

impl Device {
    /// The value of a column; 0 where the kernel does not have it.
    #[must_use]
    pub fn get(&self, column: Column) -> u64 {
        self.columns.get(column as usize).copied().unwrap_or(0)
    }
}

/// Parses the whole file; a line that lacks a column or has another form is dropped.
#[must_use]
pub fn parse(text: &str) -> Vec<Device> {
    text.lines().filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<Device> {
    let mut words = line.split_ascii_whitespace();
    let device = Device {
        major: words.next()?.parse().ok()?,
        minor: words.next()?.parse().ok()?,
        name: words.next()?.to_owned(),
        columns: words.map(|word| word.parse().ok()).collect::<Option<_>>()?,
    };
    (device.columns.len() > Column::WeightedMsec as usize).then_some(device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_lines_of_all_kernels() {
        let devices = parse(
            "   8       0 sda 1 2 3 4 5 6 7 8 9 10 11\n\
             \x20254       0 vda 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15\n\
             \x20259       1 nvme0n1p1 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17\n",
        );
        let widths: Vec<usize> = devices.iter().map(|device| device.columns.len()).collect();
        assert_eq!(widths, [11, 15, 17]);
        let [sda, _, nvme] = &devices[..] else {
            panic!("{devices:?}")
        };
        assert_eq!((sda.major, sda.minor, &*sda.name), (8, 0, "sda"));
        assert_eq!(sda.get(Column::WeightedMsec), 11);
        assert_eq!(sda.get(Column::Discards), 0);
        assert_eq!(nvme.get(Column::DiscardMsec), 15);
    }

    #[test]
    fn drops_lines_of_another_form() {
        let text = "\n8 0\n8 1 sda1 1 2 3 4\n8 x sda 1 2 3 4 5 6 7 8 9 10 11\n\
                    8 0 sda 1 2 3 4 5 6 7 8 - 10 11\n";
        assert_eq!(parse(text), []);
    }
}

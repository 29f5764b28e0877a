//! Tables with a column for each CPU: `/proc/interrupts` and `/proc/softirqs` (kernel:
//! Documentation/filesystems/proc.rst).

/// The host's file without its numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CpuTable {
    /// Width of what stands before the first CPU in the heading.
    pub margin: usize,
    /// The rows in the host's order.
    pub rows: Vec<Row>,
}

/// One row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// What stands before the numbers, its colon included, e.g. `LOC:` or ` 24:`.
    pub label: String,
    /// Whether there is a number for each CPU, not one for all.
    pub is_per_cpu: bool,
    /// What follows after the numbers.
    pub rest: String,
}

impl CpuTable {
    /// Parses the whole file; lines without a label are dropped, and all of them under a
    /// heading that does not tell the number of columns.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let heading = text.lines().next().unwrap_or_default();
        let mut columns = heading.split_ascii_whitespace();
        let cpus = columns.clone().count();
        if cpus == 0 || !columns.all(|column| column.starts_with("CPU")) {
            return Self::default();
        }
        let rows = text
            .lines()
            .skip(1)
            .filter_map(|line| Row::parse(line, cpus));
        Self {
            margin: heading.len() - heading.trim_start_matches(' ').len(),
            rows: rows.collect(),
        }
    }
}

impl Row {
    fn parse(line: &str, cpus: usize) -> Option<Self> {
        let (label, mut rest) = line.split_at_checked(line.find(':')? + 1)?;
        let mut numbers = 0;
        while numbers < cpus {
            let trimmed = rest.trim_start_matches(' ');
            let end = trimmed.find(' ').unwrap_or(trimmed.len());
            match trimmed.split_at_checked(end) {
                Some((word, after)) if word.parse::<u64>().is_ok() => rest = after,
                _ => break,
            }
            numbers += 1;
        }
        let is_per_cpu = numbers == cpus;
        // Without a number for each CPU there is one for all, or a text of another kind;
        // numbers further on are counts in a form that is not known.
        let is_number = |word: &str| word.bytes().any(|byte| byte.is_ascii_digit());
        let is_count = !is_per_cpu && rest.split_ascii_whitespace().any(is_number);
        Some(Self {
            label: label.to_owned(),
            is_per_cpu,
            rest: if is_count {
                String::new()
            } else {
                rest.to_owned()
            },
        })
    }

    /// The label alone, e.g. `LOC` or `24`.
    #[must_use]
    pub fn name(&self) -> &str {
        self.label.trim_start().trim_end_matches(':')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_labels_and_descriptions() {
        let table = CpuTable::parse(
            "           CPU0       CPU3       \n \
             24:          1          0  IO-APIC   5-edge      ACPI:Ged\n\
             LOC:   11871667   12152442   Local timer interrupts\n\
             ERR:          0\n",
        );
        assert_eq!(table.margin, 11);
        let rows: Vec<_> = table
            .rows
            .iter()
            .map(|row| (row.name(), row.is_per_cpu, &*row.rest))
            .collect();
        assert_eq!(
            rows,
            [
                ("24", true, "  IO-APIC   5-edge      ACPI:Ged"),
                ("LOC", true, "   Local timer interrupts"),
                ("ERR", false, ""),
            ]
        );
    }

    #[test]
    fn a_number_in_a_description_is_no_column() {
        let table = CpuTable::parse("           CPU0       \n 11:        100 30 Level\n");
        assert_eq!(table.rows[0].rest, " 30 Level");
    }

    #[test]
    fn counts_of_an_unknown_form_are_dropped() {
        let table = CpuTable::parse("     CPU0  CPU1\nLOC:  17  x19  Local timer\nFIQ: usb\n");
        assert_eq!(table.rows[0].rest, "");
        assert_eq!(table.rows[1].rest, " usb");
        for heading in ["", "LOC:  17  19", "CPU0 1"] {
            let text = format!("{heading}\nNMI: 3 4\n");
            assert_eq!(CpuTable::parse(&text).rows, [], "{heading:?}");
        }
    }

    #[test]
    fn garbage_has_no_rows() {
        assert_eq!(CpuTable::parse(""), CpuTable::default());
        assert_eq!(CpuTable::parse("no colon\nneither here\n").rows, []);
    }
}

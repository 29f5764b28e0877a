//! `/proc/interrupts` and `/proc/softirqs` (kernel: Documentation/filesystems/proc.rst).
//!
//! The kernel accounts neither to cgroups. The rows are the host's, the columns those of
//! the CPUs shown, and the sums are what `/proc/stat` shows.

use super::{put, put_spaces, put_u64, put_u64_padded};
use crate::parse::cpu_list::CpuSet;
use crate::parse::cpu_table::{CpuTable, Row};

/// Width of a column; there is a space before it.
const WIDTH: usize = 10;

/// Renders `/proc/interrupts`: `interrupts` altogether. Which device they came from is not
/// known; those of a container are mostly its own timer's.
pub fn render_interrupts(host: &CpuTable, shown: &CpuSet, interrupts: u64, out: &mut Vec<u8>) {
    let is_local = |row: &&Row| row.is_per_cpu && row.name().parse::<u32>().is_err();
    let local = || host.rows.iter().filter(is_local);
    let timer = local()
        .find(|row| row.name() == "LOC")
        .or_else(|| local().next());
    put_heading(out, host, shown);
    for row in &host.rows {
        let is_timer = timer.is_some_and(|timer| std::ptr::eq(timer, row));
        put_row(out, row, shown, if is_timer { interrupts } else { 0 });
    }
}

/// Renders `/proc/softirqs`: so many of each kind, in the order of the rows.
pub fn render_softirqs(host: &CpuTable, shown: &CpuSet, softirqs: &[u64], out: &mut Vec<u8>) {
    put_heading(out, host, shown);
    let counts = softirqs.iter().copied().chain(std::iter::repeat(0));
    for (row, count) in host.rows.iter().zip(counts) {
        put_row(out, row, shown, count);
    }
}

fn put_heading(out: &mut Vec<u8>, host: &CpuTable, shown: &CpuSet) {
    put_spaces(out, host.margin);
    for id in shown.iter() {
        let start = out.len();
        put(out, "CPU");
        put_u64(out, id as u64);
        let width = out.len() - start;
        put_spaces(out, (WIDTH + 1).saturating_sub(width));
    }
    put(out, "\n");
}

/// Spreads the count evenly, since it is not known by CPU.
fn put_row(out: &mut Vec<u8>, row: &Row, shown: &CpuSet, count: u64) {
    put(out, &row.label);
    if row.is_per_cpu {
        let cpus = shown.iter().count().max(1) as u64;
        for place in (0..cpus).rev() {
            put_column(out, count.saturating_add(place) / cpus);
        }
    } else {
        put_column(out, count);
    }
    put(out, &row.rest);
    put(out, "\n");
}

fn put_column(out: &mut Vec<u8>, count: u64) {
    put(out, " ");
    put_u64_padded(out, count, WIDTH);
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERRUPTS: &str = "           \
CPU0       CPU1       CPU2       CPU3       
 24:          1          0         16          9  IO-APIC   5-edge      ACPI:Ged
NMI:          2          0          0          0   Non-maskable interrupts
LOC:   11871667   12152442          5          9   Local timer interrupts
ERR:          7
";

    fn shown(list: &str) -> CpuSet {
        CpuSet::parse("test", list).unwrap()
    }

    fn rendered(render: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        render(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn interrupts_are_the_timers_and_columns_the_cpus_shown() {
        let host = CpuTable::parse(INTERRUPTS);
        let text = rendered(|out| render_interrupts(&host, &shown("1,3"), 1_001, out));
        assert_eq!(
            text,
            "           \
CPU1       CPU3       
 24:          0          0  IO-APIC   5-edge      ACPI:Ged
NMI:          0          0   Non-maskable interrupts
LOC:        501        500   Local timer interrupts
ERR:          0
"
        );
    }

    #[test]
    fn machines_without_a_local_timer_have_another_row_for_the_sum() {
        let host = CpuTable::parse(
            "           CPU0       CPU1       \n 11:          5          6  GICv3  30 Level\nIPI0:          5          6  Rescheduling interrupts\n",
        );
        let text = rendered(|out| render_interrupts(&host, &shown("0"), 7, out));
        assert!(text.contains("11:          0  GICv3"), "{text}");
        assert!(text.contains("IPI0:          7  Resch"), "{text}");
    }

    #[test]
    fn softirqs_have_the_sums_of_stat() {
        let host = CpuTable::parse(
            "                    CPU0       CPU1       \n          HI:          3          0\n       TIMER:     633121     496511\n",
        );
        let text = rendered(|out| render_softirqs(&host, &shown("0-1"), &[4, 9, 77], out));
        assert_eq!(
            text,
            "                    CPU0       CPU1       \n          HI:          2          2\n       TIMER:          5          4\n"
        );
    }

    #[test]
    fn what_all_cpus_show_is_the_sum_and_none_decreases() {
        let host = CpuTable::parse(INTERRUPTS);
        let mut before = vec![0; 3];
        for count in [0, 1, 2, 3, 7, 8, 1_000_000_007, u64::MAX / 2] {
            let text = rendered(|out| render_interrupts(&host, &shown("0-2"), count, out));
            let line = text.lines().find(|line| line.starts_with("LOC:")).unwrap();
            let words = line.split_ascii_whitespace().skip(1);
            let columns: Vec<u64> = words.map_while(|word| word.parse().ok()).collect();
            assert_eq!(columns.iter().sum::<u64>(), count);
            assert!(
                columns
                    .iter()
                    .zip(&before)
                    .all(|(now, before)| now >= before)
            );
            before = columns;
        }
    }
}

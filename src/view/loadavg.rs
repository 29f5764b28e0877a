//! `/proc/loadavg` (kernel: Documentation/filesystems/proc.rst, "loadavg").

use super::{put, put_hundredths, put_u64};
use crate::container::load::{FIXED_1, Load};

/// What the file is made of.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// The averages.
    pub load: &'a Load,
    /// Runnable threads of the container; the reader itself is one.
    pub running: u64,
    /// All its threads.
    pub total: u64,
    /// The newest pid in the reader's pid namespace.
    pub last_pid: u64,
}

/// Renders the averages rounded to hundredths as the kernel rounds them.
pub fn render(input: &Input<'_>, out: &mut Vec<u8>) {
    for average in input.load.averages() {
        let rounded = average.saturating_add(FIXED_1 / 200);
        let hundredths = (rounded % FIXED_1) * 100 / FIXED_1;
        put_hundredths(out, (rounded / FIXED_1).saturating_mul(100) + hundredths);
        put(out, " ");
    }
    let total = input.total.max(1);
    put_u64(out, input.running.clamp(1, total));
    put(out, "/");
    put_u64(out, total);
    put(out, " ");
    put_u64(out, input.last_pid);
    put(out, "\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(load: &Load, running: u64, total: u64) -> String {
        let mut out = Vec::new();
        let input = Input {
            load,
            running,
            total,
            last_pid: 42,
        };
        render(&input, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn rounds_as_the_kernel_does() {
        let mut load = Load::default();
        assert_eq!(rendered(&load, 1, 3), "0.00 0.00 0.00 1/3 42\n");
        load.advance(1, 1);
        assert_eq!(rendered(&load, 1, 3), "0.08 0.02 0.01 1/3 42\n");
        load.advance(1, 100_000);
        assert_eq!(rendered(&load, 1, 3), "1.00 1.00 1.00 1/3 42\n");
    }

    #[test]
    fn the_reader_itself_runs_and_nobody_else_can_exceed_the_total() {
        let load = Load::default();
        assert_eq!(rendered(&load, 0, 0), "0.00 0.00 0.00 1/1 42\n");
        assert_eq!(rendered(&load, 9, 4), "0.00 0.00 0.00 4/4 42\n");
    }
}

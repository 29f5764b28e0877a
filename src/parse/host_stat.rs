//! The host's `/proc/stat` (kernel: Documentation/filesystems/proc.rst, "/proc/stat").

/// What the host's file tells; `None` where a line is missing or unreadable.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostStat {
    /// All CPUs together.
    pub total: Option<CpuTicks>,
    /// The online CPUs with their ids.
    pub cpus: Vec<(usize, CpuTicks)>,
    /// All interrupts.
    pub interrupts: Option<u64>,
    /// How many single interrupts the line has.
    pub interrupt_columns: usize,
    /// Context switches.
    pub context_switches: Option<u64>,
    /// Boot time in seconds since 1970.
    pub btime_sec: Option<u64>,
    /// Forks.
    pub processes: Option<u64>,
    /// Softirqs by kind.
    pub softirqs: Option<Vec<u64>>,
}

/// The times of a `cpu` line in ticks of `USER_HZ`, in the kernel's order: user,
/// nice, system, idle, iowait, irq, softirq, steal, guest, guest_nice.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CpuTicks(pub [u64; 10]);

impl CpuTicks {
    /// Time in which the CPU worked: neither idle nor waiting nor stolen. Guest
    /// time is part of user time.
    #[must_use]
    pub fn busy(&self) -> u64 {
        let [user, nice, system, _, _, irq, softirq, ..] = self.0;
        let times = [user, nice, system, irq, softirq];
        times.iter().fold(0, |sum, ticks| ticks.saturating_add(sum))
    }

    /// Older kernels have fewer columns; those are zero.
    fn parse(columns: &str) -> Option<Self> {
        let mut ticks = Self::default();
        let mut words = columns.split_ascii_whitespace();
        for (place, word) in ticks.0.iter_mut().zip(&mut words) {
            *place = word.parse().ok()?;
        }
        Some(ticks)
    }
}

impl HostStat {
    /// Parses the whole file; lines that are not known are skipped. Single
    /// interrupts, of which large hosts have thousands, are only counted.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut stat = Self::default();
        for (key, rest) in text.lines().filter_map(|line| line.split_once(' ')) {
            match key {
                "cpu" => stat.total = CpuTicks::parse(rest),
                "intr" => {
                    let (total, single) = rest.split_once(' ').unwrap_or((rest, ""));
                    stat.interrupts = total.parse().ok();
                    let spaces = single.bytes().filter(|byte| *byte == b' ').count();
                    stat.interrupt_columns = spaces + usize::from(!single.is_empty());
                }
                "ctxt" => stat.context_switches = rest.parse().ok(),
                "btime" => stat.btime_sec = rest.parse().ok(),
                "processes" => stat.processes = rest.parse().ok(),
                "softirq" => {
                    let kinds = rest.split(' ').skip(1).map(|kind| kind.parse().ok());
                    stat.softirqs = kinds.collect();
                }
                _ => {
                    let id = key.strip_prefix("cpu").and_then(|id| id.parse().ok());
                    stat.cpus.extend(id.zip(CpuTicks::parse(rest)));
                }
            }
        }
        stat
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "\
cpu  10575 1 4264 199174 6165 2 70 67 3 4
cpu0 4642 0 1824 102323 1326 0 6 30 0 0
cpu17 5932 0 2439 96851 4838 0 63 37 0 0
intr 250123 0 9 0 77 12
ctxt 460119
btime 1795314241
processes 7994
procs_running 4
procs_blocked 0
softirq 151868 0 19901 4 6059 56969 0 65 34273 0 34597
";

    #[test]
    fn reads_every_line() {
        let stat = HostStat::parse(STAT);
        let total = CpuTicks([10_575, 1, 4_264, 199_174, 6_165, 2, 70, 67, 3, 4]);
        assert_eq!(stat.total, Some(total));
        assert_eq!(total.busy(), 10_575 + 1 + 4_264 + 2 + 70);
        let ids: Vec<usize> = stat.cpus.iter().map(|(id, _)| *id).collect();
        assert_eq!(ids, [0, 17]);
        assert_eq!(
            (stat.interrupts, stat.interrupt_columns),
            (Some(250_123), 5)
        );
        assert_eq!(stat.context_switches, Some(460_119));
        assert_eq!(stat.btime_sec, Some(1_795_314_241));
        assert_eq!(stat.processes, Some(7_994));
        let softirqs = [0, 19_901, 4, 6_059, 56_969, 0, 65, 34_273, 0, 34_597];
        assert_eq!(stat.softirqs.as_deref(), Some(&softirqs[..]));
    }

    #[test]
    fn old_kernels_have_fewer_columns() {
        let stat = HostStat::parse("cpu  1 2 3 4 5 6 7\n");
        assert_eq!(stat.total, Some(CpuTicks([1, 2, 3, 4, 5, 6, 7, 0, 0, 0])));
    }

    #[test]
    fn garbage_is_nothing_rather_than_a_wrong_number() {
        assert_eq!(HostStat::parse(""), HostStat::default());
        let stat = HostStat::parse("cpu  1 x\ncpu1 -1\ncpux 1 2\nintr\nctxt many\nsoftirq 1 y\n");
        assert_eq!(stat, HostStat::default());
        let stat = HostStat::parse("intr 5\nbtime 18446744073709551616\n");
        assert_eq!((stat.interrupts, stat.interrupt_columns), (Some(5), 0));
        assert_eq!(stat.btime_sec, None);
    }
}

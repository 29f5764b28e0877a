//! Pressure stall information: `/proc/pressure/*`, `*.pressure` of a cgroup, and what is
//! written there (kernel: Documentation/accounting/psi.rst).

/// The longest window that a trigger may have, in microseconds.
const LONGEST_WINDOW_USEC: u32 = 10_000_000;

/// What tasks can stall for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    /// A CPU.
    Cpu,
    /// I/O.
    Io,
    /// A CPU that is busy with interrupts.
    Irq,
    /// Memory.
    Memory,
}

impl Resource {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Cpu, Self::Io, Self::Irq, Self::Memory];

    /// The name of the file below `/proc/pressure`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Io => "io",
            Self::Irq => "irq",
            Self::Memory => "memory",
        }
    }
}

/// Which tasks have to stall: a line of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// At least one.
    Some,
    /// All that are not idle.
    Full,
}

impl Share {
    /// Both, in the order of their lines.
    pub const ALL: [Self; 2] = [Self::Some, Self::Full];

    /// The first word of the line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Some => "some",
            Self::Full => "full",
        }
    }
}

/// One line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stall {
    /// Share of the time stalled in the last 10, 60 and 300 s, in hundredths of a percent.
    pub averages: [u64; 3],
    /// All the time stalled.
    pub total_usec: u64,
}

/// A whole file. Which lines there are depends on the kernel and the resource.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pressure {
    some: Option<Stall>,
    full: Option<Stall>,
}

impl Pressure {
    /// Takes what has the form of a line of this file; figures that are none are 0.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let line = |share: Share| {
            let mut lines = text.lines().filter_map(|line| line.split_once(' '));
            let (_, figures) = lines.find(|(name, _)| *name == share.name())?;
            Some(stall(figures))
        };
        Self {
            some: line(Share::Some),
            full: line(Share::Full),
        }
    }

    /// The line, if the file has it.
    #[must_use]
    pub const fn get(&self, share: Share) -> Option<Stall> {
        match share {
            Share::Some => self.some,
            Share::Full => self.full,
        }
    }
}

fn stall(figures: &str) -> Stall {
    let mut stall = Stall::default();
    for (name, value) in figures
        .split_ascii_whitespace()
        .filter_map(|figure| figure.split_once('='))
    {
        let [last_10, last_60, last_300] = &mut stall.averages;
        match name {
            "avg10" => *last_10 = hundredths(value),
            "avg60" => *last_60 = hundredths(value),
            "avg300" => *last_300 = hundredths(value),
            "total" => stall.total_usec = value.parse().unwrap_or(0),
            _ => {}
        }
    }
    stall
}

/// A percentage with two decimals.
fn hundredths(text: &str) -> u64 {
    let number = |text: &str| text.parse::<u64>().unwrap_or(0);
    let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
    number(whole)
        .saturating_mul(100)
        .saturating_add(number(decimals))
}

/// What a poller wants to be woken by: so much stall within so much time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trigger {
    /// The line that counts.
    pub share: Share,
    /// Stall from which on there is an event.
    pub threshold_usec: u32,
    /// Time within which it must come.
    pub window_usec: u32,
}

impl Trigger {
    /// Reads `some THRESHOLD WINDOW` or `full THRESHOLD WINDOW` as the kernel does: what
    /// follows is ignored, be it a newline, a NUL or anything else. `None` for what it
    /// refuses with EINVAL from everybody.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let (share, rest) = Share::ALL
            .into_iter()
            .find_map(|share| Some((share, bytes.strip_prefix(share.name().as_bytes())?)))?;
        let (threshold_usec, rest) = number(rest)?;
        let (window_usec, _) = number(rest)?;
        let is_valid = window_usec <= LONGEST_WINDOW_USEC
            && threshold_usec != 0
            && threshold_usec <= window_usec;
        is_valid.then_some(Self {
            share,
            threshold_usec,
            window_usec,
        })
    }

    /// Whether the kernel wants `CAP_SYS_RESOURCE` for it: all but windows of a multiple of
    /// 2 s make it look more often than it does anyway.
    #[must_use]
    pub const fn is_privileged(self) -> bool {
        self.window_usec % 2_000_000 != 0
    }

    /// The text to write to a file of the kernel's. Files of `/proc/pressure` take the last
    /// byte for a NUL, whatever it is.
    #[must_use]
    pub fn text(self) -> String {
        let name = self.share.name();
        format!("{name} {} {}\0", self.threshold_usec, self.window_usec)
    }
}

/// A number after white space, and what follows it.
fn number(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let bytes = bytes.trim_ascii_start();
    let length = bytes
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    let (digits, rest) = bytes.split_at_checked(length)?;
    Some((std::str::from_utf8(digits).ok()?.parse().ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_kernels_write() {
        let old = "some avg10=0.20 avg60=12.08 avg300=100.00 total=18446744073709551615\n";
        let pressure = Pressure::parse(old);
        let some = pressure.get(Share::Some).unwrap();
        assert_eq!(some.averages, [20, 1208, 10_000]);
        assert_eq!(some.total_usec, u64::MAX);
        assert_eq!(pressure.get(Share::Full), None);
        let irq = "full avg10=0.00 avg60=0.00 avg300=0.00 total=5\n";
        assert_eq!(Pressure::parse(irq).get(Share::Full).unwrap().total_usec, 5);
        assert_eq!(Pressure::parse(irq).get(Share::Some), None);
    }

    #[test]
    fn garbage_is_zero_or_nothing() {
        for text in ["", "\n", "somewhat avg10=1.00\n", "\0\0"] {
            assert_eq!(Pressure::parse(text), Pressure::default(), "{text:?}");
        }
        let broken = Pressure::parse("some avg10=x avg60 avg300=1.y total=-1\nfull ");
        assert_eq!(broken.get(Share::Some).unwrap().averages, [0, 0, 100]);
        assert_eq!(broken.get(Share::Full), Some(Stall::default()));
    }

    #[test]
    fn triggers_are_read_as_the_kernel_reads_them() {
        let trigger = Trigger {
            share: Share::Some,
            threshold_usec: 150_000,
            window_usec: 1_000_000,
        };
        for text in [
            "some 150000 1000000",
            "some 150000 1000000\n",
            "some 150000 1000000\0",
            "some  150000\t1000000 and more",
            "some150000 1000000",
        ] {
            assert_eq!(Trigger::parse(text.as_bytes()), Some(trigger), "{text:?}");
        }
        assert_eq!(trigger.text(), "some 150000 1000000\0");
        let full = Trigger::parse(b"full 1 10000000").unwrap();
        assert_eq!(full.share, Share::Full);
        assert!(trigger.is_privileged() && !full.is_privileged());
    }

    #[test]
    fn what_the_kernel_refuses_is_no_trigger() {
        for text in [
            "",
            "some",
            "some 1",
            "some -1 1000000",
            "some 1 x",
            "Some 1 1000000",
            " some 1 1000000",
            "some 0 1000000",
            "some 1 0",
            "some 1000001 1000000",
            "some 1 10000001",
            "some 1 99999999999",
            "some\0 1 1000000",
        ] {
            assert_eq!(Trigger::parse(text.as_bytes()), None, "{text:?}");
        }
    }
}

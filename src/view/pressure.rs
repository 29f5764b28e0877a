//! `/proc/pressure/*` (kernel: Documentation/accounting/psi.rst).

use super::{put, put_hundredths, put_u64};
use crate::parse::pressure::{Pressure, Share};

/// What a file is made of.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// The host's file, for its lines.
    pub host: &'a Pressure,
    /// The container's figures.
    pub own: &'a Pressure,
    /// Age of the container: nothing can have stalled for longer.
    pub uptime_nsec: u64,
}

/// Renders the lines that the host's file has.
pub fn render(input: &Input<'_>, out: &mut Vec<u8>) {
    for share in Share::ALL {
        if input.host.get(share).is_none() {
            continue;
        }
        let stall = input.own.get(share).unwrap_or_default();
        put(out, share.name());
        for (name, average) in [" avg10=", " avg60=", " avg300="]
            .into_iter()
            .zip(stall.averages)
        {
            put(out, name);
            put_hundredths(out, average);
        }
        put(out, " total=");
        put_u64(out, stall.total_usec.min(input.uptime_nsec / 1000));
        put(out, "\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &str = "some avg10=1.05 avg60=0.20 avg300=12.00 total=5000000\n\
                       full avg10=0.00 avg60=0.07 avg300=0.00 total=4000000\n";

    fn rendered(host: &str, own: &str, uptime_nsec: u64) -> String {
        let mut out = Vec::new();
        let input = Input {
            host: &Pressure::parse(host),
            own: &Pressure::parse(own),
            uptime_nsec,
        };
        render(&input, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_containers_figures_look_as_the_kernel_writes_them() {
        assert_eq!(rendered(OWN, OWN, u64::MAX), OWN);
    }

    #[test]
    fn the_lines_are_those_of_the_hosts_file() {
        let some = "some avg10=9.99 avg60=9.99 avg300=9.99 total=1\n";
        assert_eq!(
            rendered(some, OWN, u64::MAX),
            OWN.split_inclusive('\n').next().unwrap()
        );
        let full = "full avg10=0.00 avg60=0.00 avg300=0.00 total=0\n";
        assert_eq!(rendered(&some.replace("some", "full"), "", u64::MAX), full);
    }

    #[test]
    fn nothing_has_stalled_for_longer_than_the_container_is_there() {
        let text = rendered(OWN, OWN, 4_500_000_000);
        assert!(
            text.contains("total=4500000\n") && text.contains("total=4000000\n"),
            "{text}"
        );
    }
}

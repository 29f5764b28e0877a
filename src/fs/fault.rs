//! Faults on demand, for tests of what outlives them. Not in release builds.

use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, raise};

use super::tree::ProcFile;
use crate::sys::process;

/// The variable that names faults: `FILE:delay=MILLISECONDS`, `FILE:abort`, `FILE:segv`,
/// `FILE:panic` or `FILE:hang` for a file below `/proc`, several separated by commas.
const VARIABLE: &str = "LXCFS_TEST_FAULT";

/// What happens in a READ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Delay(Duration),
    Abort,
    Segv,
    Panic,
    Hang,
}

/// The faults of all files.
#[derive(Debug, Default)]
pub(super) struct Faults(Vec<(ProcFile, Fault)>);

impl Faults {
    pub(super) fn from_environment() -> Self {
        let text = std::env::var_os(VARIABLE).unwrap_or_default();
        let text = text.to_string_lossy();
        let named = text.split(',').filter(|fault| !fault.is_empty());
        let faults = named.filter_map(|text| {
            let fault = parse(text);
            if fault.is_none() {
                log::warn!("{VARIABLE}: there is no fault {text:?}; ignored");
            }
            fault
        });
        Self(faults.collect())
    }

    /// Does what is wanted for READs of a file.
    pub(super) fn strike(&self, file: ProcFile) {
        for (_, fault) in self.0.iter().filter(|(struck, _)| *struck == file) {
            match fault {
                Fault::Delay(time) => thread::sleep(*time),
                Fault::Abort => std::process::abort(),
                Fault::Segv => {
                    // The runtime's handler would take it for a stack that is too small.
                    let _ = process::default_signal(Signal::SIGSEGV);
                    let _ = raise(Signal::SIGSEGV);
                }
                #[allow(clippy::panic, reason = "it stands for a defect")]
                Fault::Panic => panic!("a fault on demand"),
                Fault::Hang => loop {
                    thread::park();
                },
            }
        }
    }
}

fn parse(text: &str) -> Option<(ProcFile, Fault)> {
    let (file, fault) = text.split_once(':')?;
    let fault = match fault {
        "abort" => Fault::Abort,
        "segv" => Fault::Segv,
        "panic" => Fault::Panic,
        "hang" => Fault::Hang,
        other => Fault::Delay(Duration::from_millis(
            other.strip_prefix("delay=")?.parse().ok()?,
        )),
    };
    Some((ProcFile::by_path(file)?, fault))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn faults_are_named_by_file_and_kind() {
        let delay = Fault::Delay(Duration::from_millis(5));
        assert_eq!(parse("meminfo:delay=5"), Some((ProcFile::Meminfo, delay)));
        assert_eq!(parse("swaps:abort"), Some((ProcFile::Swaps, Fault::Abort)));
        assert_eq!(parse("stat:segv"), Some((ProcFile::Stat, Fault::Segv)));
        assert_eq!(parse("uptime:hang"), Some((ProcFile::Uptime, Fault::Hang)));
        for odd in [
            "",
            "swaps",
            "swaps:",
            "swaps:delay=",
            "swaps:delay=-1",
            "nothing:abort",
        ] {
            assert_eq!(parse(odd), None, "{odd}");
        }
    }

    #[test]
    fn a_delay_concerns_its_file_only() {
        let pause = Duration::from_millis(50);
        let faults = Faults(vec![(ProcFile::Meminfo, Fault::Delay(pause))]);
        let start = Instant::now();
        faults.strike(ProcFile::Swaps);
        let other = start.elapsed();
        faults.strike(ProcFile::Meminfo);
        assert!(start.elapsed() >= other + pause);
        assert!(other < pause);
    }
}

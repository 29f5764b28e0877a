//! Pure parsers: text of one kernel file in, plain data out. No I/O.

pub mod arcstats;
pub mod cpu_list;
pub mod cpu_table;
pub mod cpuinfo;
pub mod diskstats;
pub mod host_stat;
pub mod keyed;
pub mod limit;
pub mod meminfo;
pub mod mountinfo;
pub mod numa_stat;
pub mod pid_cgroup;
pub mod pid_stat;
pub mod pressure;

/// A kernel file whose content is not what its document says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}: unexpected {what} {text:?}")]
pub struct ParseError {
    /// The kernel's name of the file, e.g. `memory.stat`.
    pub file: &'static str,
    /// What was expected at that place, e.g. `a number of bytes`.
    pub what: &'static str,
    /// The offending text, cut to a length fit for a log line.
    pub text: String,
}

impl ParseError {
    /// An error about `text`, of which at most 80 characters are kept.
    #[must_use]
    pub fn new(file: &'static str, what: &'static str, text: &str) -> Self {
        Self {
            file,
            what,
            text: text.chars().take(80).collect(),
        }
    }
}

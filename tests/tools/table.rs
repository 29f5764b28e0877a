//! What the tools showed: one row for each tool, one column for each fact, and the symptoms known from elsewhere.

use std::fmt;

use crate::common::report;

/// The columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fact {
    Cpus,
    Memory,
    Uptime,
    Busy,
    Load,
    Disk,
}

const COLUMNS: [(Fact, &str); 6] = [
    (Fact::Cpus, "cpus"),
    (Fact::Memory, "memory"),
    (Fact::Uptime, "uptime"),
    (Fact::Busy, "busy"),
    (Fact::Load, "load"),
    (Fact::Disk, "disk"),
];

/// How a figure compares with the truth.
#[derive(Debug, Clone)]
pub enum Verdict {
    Ok,
    /// It is not, in a way that is documented: no file can change that.
    Limit(&'static str),
    Wrong(String),
}

impl Verdict {
    /// The truth of a statement about what was seen.
    pub fn holds(truth: bool, seen: impl fmt::Display) -> Self {
        if truth {
            Self::Ok
        } else {
            Self::Wrong(seen.to_string())
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ok => f.pad("ok"),
            Self::Limit(why) => f.pad(&format!("limit: {why}")),
            Self::Wrong(_) => f.pad("WRONG"),
        }
    }
}

/// All verdicts of one container.
#[derive(Debug, Default)]
pub struct Table {
    rows: Vec<(String, Vec<(Fact, Verdict)>)>,
    symptoms: Vec<(String, Verdict)>,
    absent: Vec<String>,
}

impl Table {
    pub fn put(&mut self, tool: &str, fact: Fact, verdict: Verdict) {
        let row = self.rows.iter_mut().find(|(name, _)| name == tool);
        match row {
            Some((_, cells)) => cells.push((fact, verdict)),
            None => self.rows.push((tool.to_owned(), vec![(fact, verdict)])),
        }
    }

    /// Something that a tool must not show, or must.
    pub fn symptom(&mut self, what: &str, verdict: Verdict) {
        self.symptoms.push((what.to_owned(), verdict));
    }

    /// A tool that the image lacks.
    pub fn absent(&mut self, tool: &str) {
        self.absent.push(tool.to_owned());
    }

    /// Prints everything.
    pub fn report(&self, title: &str) {
        let width = self.rows.iter().map(|(tool, _)| tool.len()).max();
        let (width, cell) = (width.unwrap_or(0), 18);
        let heads: String = COLUMNS
            .iter()
            .map(|(_, name)| format!(" | {name:cell$}"))
            .collect();
        report(&format!("[{title}] {:width$}{heads}", "tool"));
        for (tool, cells) in &self.rows {
            let cells: String = COLUMNS
                .iter()
                .map(|(fact, _)| format!(" | {:cell$}", at(cells, *fact)))
                .collect();
            report(&format!("[{title}] {tool:width$}{cells}"));
        }
        for (what, verdict) in &self.symptoms {
            report(&format!("[{title}] {what}: {verdict}"));
        }
        if !self.absent.is_empty() {
            report(&format!("[{title}] not here: {}", self.absent.join(", ")));
        }
    }

    /// Fails with every wrong figure.
    #[track_caller]
    pub fn assert_nothing_wrong(&self) {
        let mut wrong = Vec::new();
        for (tool, cells) in &self.rows {
            for (fact, verdict) in cells {
                if let Verdict::Wrong(seen) = verdict {
                    wrong.push(format!("{tool}, {fact:?}: {seen}"));
                }
            }
        }
        for (what, verdict) in &self.symptoms {
            if let Verdict::Wrong(seen) = verdict {
                wrong.push(format!("{what}: {seen}"));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}

/// The text of a cell; of several verdicts the worst.
fn at(cells: &[(Fact, Verdict)], fact: Fact) -> String {
    let rank = |verdict: &&Verdict| match verdict {
        Verdict::Ok => 0,
        Verdict::Limit(_) => 1,
        Verdict::Wrong(_) => 2,
    };
    let of_fact = cells.iter().filter(|(column, _)| *column == fact);
    of_fact
        .map(|(_, verdict)| verdict)
        .max_by_key(rank)
        .map_or_else(|| "-".to_owned(), ToString::to_string)
}

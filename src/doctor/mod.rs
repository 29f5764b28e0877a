//! What is right on this host, and what mends the rest.
//!
//! Facts are gathered first, each within a time limit; then plain functions turn them into
//! lines.

mod containers;
mod engines;
mod host;
mod service;
mod words;

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;

use self::words::Words;
use crate::host::process::Proc;
use crate::places::survey;

/// What a line says about the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// All is right.
    Ok,
    /// Good to know.
    Note,
    /// To be mended.
    Mend,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// How it is.
    pub verdict: Verdict,
    /// What was found, as one sentence without a full stop.
    pub text: String,
    /// What mends it, or makes it better.
    pub command: Option<String>,
}

impl Line {
    fn ok(text: impl Into<String>) -> Self {
        Self::new(Verdict::Ok, text)
    }

    fn note(text: impl Into<String>) -> Self {
        Self::new(Verdict::Note, text)
    }

    fn mend(text: impl Into<String>) -> Self {
        Self::new(Verdict::Mend, text)
    }

    fn new(verdict: Verdict, text: impl Into<String>) -> Self {
        Self {
            verdict,
            text: text.into(),
            command: None,
        }
    }

    fn by(self, command: impl Into<String>) -> Self {
        Self {
            command: Some(command.into()),
            ..self
        }
    }
}

/// Findings about one matter.
#[derive(Debug)]
pub struct Section {
    /// What they are about.
    pub title: &'static str,
    /// The findings.
    pub lines: Vec<Line>,
}

/// Examines the host, where lxcfs is, or should be, mounted at `views`. Threads that wait for
/// stopped servers may be left when it returns.
///
/// # Errors
/// One sentence if `/proc` cannot be read.
pub fn examine(views: &Path) -> anyhow::Result<Vec<Section>> {
    let proc = Arc::new(Proc::open(Path::new("/proc")).context("cannot open /proc")?);
    let places = survey::whole(&proc)
        .context("cannot list the processes")?
        .places;
    let health = containers::health(&places, &proc);
    let host = host::gather(&proc);
    let service = service::gather(views, &places, &health, &proc, &host);
    let words = Words::new(views, service.is_the_units());
    let containers = containers::gather(&places, &health, &proc)?;
    Ok(vec![
        Section {
            title: "host",
            lines: host::lines(&host),
        },
        Section {
            title: "lxcfs",
            lines: service::lines(&service, &words),
        },
        Section {
            title: "engines",
            lines: engines::lines(&engines::gather(&proc, &words), &words),
        },
        Section {
            title: "containers",
            lines: containers::lines(&containers, &words),
        },
    ])
}

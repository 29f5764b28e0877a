//! `lxcfs attach` and `lxcfs detach`: the views of a container that runs already.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;

use super::table::{shown, table};
use super::worker::{self, Said};
use crate::attach::bindings;
use crate::attach::running::{self, Outcome, Outcomes, Target};
use crate::cli::{AttachArgs, DetachArgs};
use crate::host::process::Proc;
use crate::places::source::Source;
use crate::places::survey::Row;
use crate::remount;

const NOTHING_TO_DETACH: &str = "nothing to detach";

/// A path, what was done there, and whether that went wrong.
type Line = (PathBuf, String, bool);

/// Attaches the views and prints what was done.
///
/// # Errors
/// One sentence if there is no such container, or nothing can be attached at all.
pub fn attach(args: &AttachArgs) -> anyhow::Result<ExitCode> {
    worker::run("attach", || {
        let proc = open_proc()?;
        let target = Target::find(&args.container, &proc)?;
        let _turn = worker::take_turn()?;
        let source = Source::at(&args.views.views, &proc)?;
        // What a dead lxcfs left is where the views belong.
        let repaired = remount::run_in(target.inode, &source, &proc)?;
        let mut lines: Vec<_> = repaired.into_iter().filter_map(of_repair).collect();
        let attached = running::attach(&target, &source, &bindings(&args.views.only), &proc)?;
        let is_same = |path: &Path, other: &Path| shown(path) == shown(other);
        let is_new = |line: &Line| !lines.iter().any(|(path, ..)| is_same(path, &line.0));
        let more: Vec<_> = of_outcomes(attached).filter(is_new).collect();
        lines.extend(more);
        Ok(said(lines, "nothing to attach"))
    })
}

/// Detaches the views from one container, or from all, and prints what was done.
///
/// # Errors
/// One sentence if there is no such container, or nothing can be detached at all.
pub fn detach(args: &DetachArgs) -> anyhow::Result<ExitCode> {
    worker::run("detach", || {
        let proc = open_proc()?;
        let Some(container) = &args.container else {
            let _turn = worker::take_turn()?;
            let rows = running::detach_everywhere(&args.views, &proc)?;
            return Ok(worker::said(&rows, is_failure, NOTHING_TO_DETACH));
        };
        let target = Target::find(container, &proc)?;
        let _turn = worker::take_turn()?;
        let detached = running::detach(&target, &proc)?;
        Ok(said(of_outcomes(detached).collect(), NOTHING_TO_DETACH))
    })
}

fn open_proc() -> anyhow::Result<Arc<Proc>> {
    let proc = Proc::open(Path::new("/proc")).context("cannot open /proc")?;
    Ok(Arc::new(proc))
}

fn of_repair(row: Row<remount::Outcome>) -> Option<Line> {
    let failed = matches!(row.outcome, remount::Outcome::Failed(_));
    Some((row.path?, row.outcome.to_string(), failed))
}

fn of_outcomes(outcomes: Outcomes) -> impl Iterator<Item = Line> {
    outcomes.into_iter().map(|(path, outcome)| {
        let failed = is_failure(&outcome);
        (path, outcome.to_string(), failed)
    })
}

fn is_failure(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Failed(_))
}

fn said(lines: Vec<Line>, nothing: &str) -> Said {
    let exit_code = u8::from(lines.iter().any(|(.., failed)| *failed));
    let cells = |(path, result, _): Line| [shown(&path), result];
    let cells: Vec<_> = lines.into_iter().map(cells).collect();
    let text = if cells.is_empty() {
        format!("{nothing}\n")
    } else {
        table(["PATH", "RESULT"], &cells)
    };
    Said { text, exit_code }
}

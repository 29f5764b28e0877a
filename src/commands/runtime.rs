//! `lxcfs runtime`: be the runtime of an engine.

use std::convert::Infallible;
use std::env;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::attach::notice;
use crate::attach::runtime::{self, Call};
use crate::cli::RuntimeArgs;

/// Names the runtime that was started last, to notice when that is this program again.
const STARTED: &str = "LXCFS_RUNTIME";

/// Adds the views to the container that is to be created, if one is, and becomes the runtime
/// that does the work.
///
/// # Errors
/// One sentence if there is no such runtime, or the views cannot be added and have to be.
pub fn run(args: &RuntimeArgs) -> Result<Infallible> {
    let call = Call::parse(&args.arguments);
    become_real(args, &call).inspect_err(|error| call.report(error))
}

fn become_real(args: &RuntimeArgs, call: &Call) -> Result<Infallible> {
    let real = runtime::real(args.runtime.as_deref())?;
    ensure!(
        env::var_os(STARTED).is_none_or(|started| Path::new(&started) != real),
        "{} starts lxcfs again; name another --runtime",
        real.display()
    );
    if let Some(config) = &call.config {
        let wanted = args.hook.wanted();
        match runtime::add(config, &wanted) {
            Err(error) if wanted.strict => return Err(error),
            Err(error) => report(&format!("a container starts without views: {error:#}")),
            Ok(()) => {}
        }
    }
    let error = Command::new(&real)
        .args(&args.arguments)
        .env(STARTED, &real)
        .exec();
    Err(error).with_context(|| format!("cannot start {}", real.display()))
}

/// Standard error is the container's by now, so it is the last place to say something.
fn report(sentence: &str) {
    if !notice::log(sentence) {
        let _ = writeln!(io::stderr(), "lxcfs: {sentence}");
    }
}

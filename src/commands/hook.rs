//! `lxcfs hook`: what engines call at the start of a container.

use std::io::{self, Read, Write};
use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::attach::hook::{self, State};
use crate::attach::{Wanted, notice, oci, program};
use crate::cli::{HookArgs, HookCommand};

/// Does what the hook is for. Unless it is strict, a container starts without the views
/// rather than not at all.
///
/// # Errors
/// What failed, if the hook is strict or no container is at stake.
pub fn run(command: &HookCommand) -> Result<ExitCode> {
    match command {
        HookCommand::CreateRuntime(args) => attach(&input()?, args, hook::create_runtime),
        HookCommand::CreateContainer(args) => attach(&input()?, args, hook::create_container),
        HookCommand::Precreate(args) => precreate(&input()?, args),
        HookCommand::LxcMount { rootfs } => hook::lxc_mount(rootfs),
    }
    .map(|()| ExitCode::SUCCESS)
}

fn input() -> Result<Vec<u8>> {
    let mut input = Vec::new();
    io::stdin()
        .read_to_end(&mut input)
        .context("cannot read standard input")?;
    Ok(input)
}

fn attach(input: &[u8], args: &HookArgs, hook: fn(&State, &Wanted) -> Result<()>) -> Result<()> {
    let wanted = args.wanted();
    let mut name = "a container".to_owned();
    let done = State::parse(input).and_then(|state| {
        name = format!("container {}", state.id);
        hook(&state, &wanted)
    });
    unless_strict(&wanted, &name, done)
}

fn precreate(input: &[u8], args: &HookArgs) -> Result<()> {
    let wanted = args.wanted();
    let mut output = input.to_vec();
    let edited = wanted.ensure_answers().and_then(|()| {
        let program = program().context("cannot find the path of this program")?;
        output = oci::add(input, &wanted, &program)?;
        Ok(())
    });
    unless_strict(&wanted, "a container", edited)?;
    let mut out = io::stdout().lock();
    out.write_all(&output)
        .and_then(|()| out.flush())
        .context("cannot print the configuration")
}

/// A failure goes to the logs, or to the engine if it is to be one of the container's start.
fn unless_strict(wanted: &Wanted, name: &str, done: Result<()>) -> Result<()> {
    let Err(error) = done else {
        return Ok(());
    };
    if wanted.strict {
        // crun does not show what a hook writes.
        notice::log(&format!("{name} does not start: {error:#}"));
        return Err(error);
    }
    let sentence = format!("{name} starts without views: {error:#}");
    notice::log(&sentence);
    // Nobody may be there to read it.
    let _ = writeln!(io::stderr(), "lxcfs: {sentence}");
    Ok(())
}

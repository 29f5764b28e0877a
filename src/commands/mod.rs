//! One file for each subcommand.

pub mod attach;
pub mod cdi;
mod compatible;
pub mod daemon;
pub mod deploy;
pub mod doctor;
pub mod generate;
pub mod hook;
mod installed;
mod logging;
pub mod mounts;
pub mod nri;
mod pid_file;
pub mod pin;
pub mod print;
pub mod remount;
pub mod run;
pub mod runtime;
pub mod serve;
mod settings;
pub mod show;
pub mod stopped;
mod table;
mod worker;

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use nix::fcntl::OFlag;
use nix::sys::prctl;

use self::pin::Place;
use crate::attach::fallback;
use crate::cli::{Cli, Command};

/// Why a command failed, with its exit code.
#[derive(Debug)]
pub struct Failure {
    /// Exit code of the process.
    pub exit_code: u8,
    /// What failed; printed as one sentence.
    pub cause: anyhow::Error,
}

/// The cause where a process that was started for the command has said why it failed.
#[derive(Debug, thiserror::Error)]
#[error("it has been said why")]
pub struct Said;

impl From<anyhow::Error> for Failure {
    fn from(cause: anyhow::Error) -> Self {
        Self {
            exit_code: 1,
            cause,
        }
    }
}

/// Does what the command line asks for.
///
/// # Errors
/// What the command fails with; exit code 1 unless `lxcfs run` says otherwise.
pub fn dispatch(cli: &Cli) -> Result<ExitCode, Failure> {
    logging::init(cli);
    logging::log_panics();
    name_process(cli.command.as_ref());
    match &cli.command {
        None => Ok(daemon::run(&cli.daemon)?),
        Some(Command::Run(args)) => run::run(args),
        Some(Command::Show(args)) => Ok(show::run(args)?),
        Some(Command::Remount(args)) => Ok(remount::run(args)?),
        Some(Command::Mounts(args)) => Ok(mounts::run(args)?),
        Some(Command::Attach(args)) => Ok(attach::attach(args)?),
        Some(Command::Doctor(args)) => Ok(doctor::run(args)?),
        Some(Command::Detach(args)) => Ok(attach::detach(args)?),
        Some(Command::Cdi { views, strict }) => {
            cdi::run(views, *strict)?;
            Ok(ExitCode::SUCCESS)
        }
        Some(Command::Hook(command)) => Ok(hook::run(command)?),
        Some(Command::Runtime(args)) => match runtime::run(args)? {},
        Some(Command::Nri(args)) => Ok(nri::run(args)?),
        Some(Command::Deploy(args)) => Ok(deploy::run(args)?),
        Some(Command::Prepare { mountpoint }) => {
            fallback::prepare(mountpoint)?;
            Ok(ExitCode::SUCCESS)
        }
        Some(Command::Generate(command)) => Ok(generate::run(command)?),
        Some(Command::Serve(args)) => Ok(serve::run(args)?),
        Some(Command::Adopts(_)) => Ok(installed::say_that_it_adopts()?),
        Some(Command::Stopped { unit, mountpoint }) => Ok(stopped::run(unit, mountpoint)?),
        Some(Command::Answers { file }) => {
            answers(file).with_context(|| format!("cannot read {}", file.display()))?;
            Ok(ExitCode::SUCCESS)
        }
        Some(Command::Pin { minor, mountpoint }) => {
            let (mountpoint, minor) = (mountpoint.clone(), *minor);
            Ok(pin::run(&Place { mountpoint, minor })?)
        }
    }
}

/// Gives this process the name by which others look for it, since one that was executed as
/// `/proc/self/exe` is called `exe`. Whoever sends signals to `lxcfs` means the holder.
fn name_process(command: Option<&Command>) {
    let name = match command {
        Some(Command::Serve(_)) => c"lxcfs-server",
        None => c"lxcfs",
        Some(_) if prctl::get_name().is_ok_and(|name| name.as_c_str() == c"exe") => c"lxcfs",
        Some(_) => return,
    };
    if let Err(errno) = prctl::set_name(name) {
        log::debug!("cannot set the name of this process: {errno}");
    }
}

/// Whether the file can be read. One on which somebody has a lease cannot be opened for a while,
/// which is nothing that its server could do better.
fn answers(file: &Path) -> io::Result<()> {
    let opened = File::options()
        .read(true)
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(file);
    match opened {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
        opened => opened?.read_to_end(&mut Vec::new()).map(drop),
    }
}

//! The `lxcfs` binary: parse, dispatch, exit code.

use std::env;
use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use lxcfs::cli::{self, Cli};
use lxcfs::commands::print::unless_enough;
use lxcfs::commands::{self, Failure, Said, nri};

/// Exit code of a wrong command line.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let arguments = arguments();
    let outcome = match Cli::try_parse_from(&arguments) {
        Ok(cli) => commands::dispatch(&cli),
        Err(error) if error.use_stderr() => Err(Failure {
            exit_code: USAGE,
            cause: anyhow::Error::msg(cli::usage_error(&error, &arguments)),
        }),
        Err(help) => unless_enough(help.print())
            .map(|()| ExitCode::SUCCESS)
            .map_err(|error| anyhow::Error::new(error).context("cannot print").into()),
    };
    outcome.unwrap_or_else(|failure| {
        if failure.cause.is::<Said>() {
            return ExitCode::from(failure.exit_code);
        }
        if log::log_enabled!(log::Level::Error) {
            log::error!("{:#}", failure.cause);
        } else {
            // Nobody is left to tell if standard error is gone too.
            let _ = writeln!(io::stderr(), "lxcfs: {:#}", failure.cause);
        }
        ExitCode::from(failure.exit_code)
    })
}

/// Those of the command line. A runtime starts its NRI plugins without any, under a name such
/// as `10-lxcfs`.
fn arguments() -> Vec<OsString> {
    let mut arguments: Vec<_> = env::args_os().collect();
    if arguments.len() == 1 && env::var_os(nri::SOCKET_VARIABLE).is_some() {
        arguments.push("nri".into());
    }
    arguments
}

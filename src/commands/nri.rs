//! `lxcfs nri`: be a plugin of a runtime, started by it or by somebody else.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::attach;
use crate::cli::NriArgs;
use crate::nri::{Ended, Plugin, Settings, Switch};
use crate::sys::exec;

/// Number of the fd that a runtime starts its plugins with.
pub const SOCKET_VARIABLE: &str = "NRI_PLUGIN_SOCKET";
const NAME_VARIABLE: &str = "NRI_PLUGIN_NAME";
const INDEX_VARIABLE: &str = "NRI_PLUGIN_IDX";

/// How often is looked for a runtime: containers that it creates before it is found start
/// without the views.
const SEARCH_INTERVAL: Duration = Duration::from_millis(100);
/// How long a runtime that wants nothing of us is left alone.
const REFUSAL_INTERVAL: Duration = Duration::from_secs(5);

/// Answers the runtime that started this program until it ends; without one, whichever
/// serves the socket, for ever.
///
/// # Errors
/// One sentence about what is wrong with how it was started.
pub fn run(args: &NriArgs) -> anyhow::Result<ExitCode> {
    // Found now: a newer version may lie at that path later.
    let program = attach::program().context("cannot tell the path of this program")?;
    let mut plugin = plugin(args, program);
    match std::env::var(SOCKET_VARIABLE) {
        Ok(number) => launched(&mut plugin, &number),
        Err(_) => serve_forever(&mut plugin, &args.socket),
    }
}

/// The plugin that the arguments describe, with `program` for its hook.
#[must_use]
pub fn plugin(args: &NriArgs, program: PathBuf) -> Plugin {
    let given =
        |variable, argument: &str| std::env::var(variable).unwrap_or_else(|_| argument.to_owned());
    let mut settings = Settings {
        views: args.views.views.clone(),
        is_on: args.default == Switch::On,
        only: args.views.only.clone(),
        ..Settings::default()
    };
    if !args.exclude_namespace.is_empty() {
        settings.exclude_namespaces = args.exclude_namespace.clone();
    }
    Plugin::new(
        given(NAME_VARIABLE, &args.name),
        given(INDEX_VARIABLE, &args.index),
        settings,
        program,
    )
}

fn launched(plugin: &mut Plugin, number: &str) -> anyhow::Result<ExitCode> {
    let socket = number
        .parse()
        .ok()
        .and_then(|number| exec::handed_over(number).ok());
    let Some(socket) = socket else {
        bail!("{SOCKET_VARIABLE} is no open fd: {number:?}");
    };
    match plugin.serve(&UnixStream::from(socket)) {
        Ok(Ended::Used) => Ok(ExitCode::SUCCESS),
        Ok(Ended::Refused) => bail!("the runtime does not accept this plugin"),
        Err(error) => Err(error).context("cannot go on as a plugin"),
    }
}

/// Registers with the runtime that serves `socket`, again whenever one comes back.
pub fn serve_forever(plugin: &mut Plugin, socket: &Path) -> ! {
    let mut was_waiting = false;
    loop {
        let connected = Instant::now();
        let ended = match UnixStream::connect(socket) {
            Ok(stream) => {
                was_waiting = false;
                plugin.serve(&stream)
            }
            Err(error) => {
                if !was_waiting {
                    log::info!("waiting for a runtime at {}: {error}", socket.display());
                }
                was_waiting = true;
                thread::sleep(SEARCH_INTERVAL);
                continue;
            }
        };
        pause_after(ended, connected.elapsed());
    }
}

/// Gives a runtime that wants nothing of us time to think better of it.
fn pause_after(ended: io::Result<Ended>, lasted: Duration) {
    let is_refusal = match ended {
        Ok(Ended::Used) => {
            log::info!("the runtime has closed the connection");
            false
        }
        Ok(Ended::Refused) => {
            log::error!("the runtime does not accept this plugin");
            true
        }
        Err(error) => {
            log::error!("the connection with the runtime is lost: {error}");
            lasted < REFUSAL_INTERVAL
        }
    };
    if is_refusal {
        thread::sleep(REFUSAL_INTERVAL);
    }
}

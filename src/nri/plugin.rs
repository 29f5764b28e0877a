//! One registration with a runtime.

use std::io::{self, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::adjust::{Offer, adjustment};
use super::messages::{Adjustment, Configure, CreateContainer, register_plugin, synchronized};
use super::mux;
use super::probe::Probe;
use super::settings::Settings;
use super::ttrpc::{self, Call, Envelope, Pieces, Status, code};
use super::wire::Malformed;
use crate::attach::Wanted;

const PLUGIN_SERVICE: &str = "nri.pkg.api.v1alpha1.Plugin";
const RUNTIME_SERVICE: &str = "nri.pkg.api.v1alpha1.Runtime";
/// What Docker calls itself.
const DOCKER: &str = "docker";

/// How long a runtime may take to configure a plugin that has registered.
const REGISTRATION_TIMEOUT: Duration = Duration::from_secs(30);
/// How long it may take to read an answer.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a runtime waits for an answer before it drops the plugin, unless it says.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);
/// No container waits any longer, even if its runtime would.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(10);

/// How a registration came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The runtime had accepted the plugin, and has ended or dropped it.
    Used,
    /// It never accepted it.
    Refused,
}

/// The plugin.
#[derive(Debug)]
pub struct Plugin {
    /// What it registers as.
    pub name: String,
    /// Two digits; runtimes call plugins in this order.
    pub index: String,
    /// What it was told on the command line.
    pub settings: Settings,
    hook: PathBuf,
    probe: Probe,
    was_served: bool,
}

/// What a runtime has said of itself.
#[derive(Debug)]
struct Terms {
    settings: Settings,
    is_docker: bool,
    /// How long lxcfs may take to answer.
    patience: Duration,
}

impl Plugin {
    /// `hook` is this program as runtimes find it.
    #[must_use]
    pub fn new(name: String, index: String, settings: Settings, hook: PathBuf) -> Self {
        Self {
            name,
            index,
            settings,
            hook,
            probe: Probe::default(),
            was_served: true,
        }
    }

    /// Registers and answers until the runtime closes the connection.
    ///
    /// # Errors
    /// What is wrong with what the runtime sends, or with the socket.
    pub fn serve(&mut self, socket: &UnixStream) -> io::Result<Ended> {
        socket.set_read_timeout(Some(REGISTRATION_TIMEOUT))?;
        socket.set_write_timeout(Some(WRITE_TIMEOUT))?;
        let registration = register_plugin(&self.name, &self.index);
        let request = ttrpc::request(1, RUNTIME_SERVICE, "RegisterPlugin", &registration);
        send(socket, mux::RUNTIME, &request)?;

        let mut reader = BufReader::new(socket);
        let (mut calls, mut answers) = (Pieces::default(), Pieces::default());
        let mut terms = None;
        while let Some(frame) = mux::read(&mut reader)? {
            match frame.connection {
                mux::PLUGIN => calls.add(&frame.payload),
                mux::RUNTIME => answers.add(&frame.payload),
                _ => {}
            }
            while let Some(envelope) = answers.next()? {
                if let Call::Response(result) = open(&envelope)? {
                    result.map_err(io::Error::other)?;
                }
            }
            while let Some(envelope) = calls.next()? {
                let Call::Request {
                    service,
                    method,
                    payload,
                } = open(&envelope)?
                else {
                    continue;
                };
                let result = self.answer(&service, &method, &payload, &mut terms);
                send(
                    socket,
                    mux::PLUGIN,
                    &ttrpc::response(envelope.stream, &result),
                )?;
                if terms.is_some() {
                    socket.set_read_timeout(None)?;
                }
            }
        }
        Ok(if terms.is_some() {
            Ended::Used
        } else {
            Ended::Refused
        })
    }

    fn answer(
        &mut self,
        service: &str,
        method: &str,
        payload: &[u8],
        terms: &mut Option<Terms>,
    ) -> Result<Vec<u8>, Status> {
        match (service, method) {
            (PLUGIN_SERVICE, "Configure") => {
                *terms = Some(self.configure(&Configure::parse(payload).map_err(invalid)?));
                Ok(Configure::answer())
            }
            (PLUGIN_SERVICE, "Synchronize") => synchronized(payload).map_err(invalid),
            (PLUGIN_SERVICE, "CreateContainer") => {
                let given = terms.as_ref().and_then(|terms| self.adjust(payload, terms));
                Ok(given.unwrap_or_default().answer())
            }
            (PLUGIN_SERVICE, "Shutdown" | "StateChange") => Ok(Vec::new()),
            _ => Err(Status {
                code: code::UNIMPLEMENTED,
                message: format!("{service}/{method} is not implemented"),
            }),
        }
    }

    fn configure(&self, request: &Configure) -> Terms {
        let settings = self.settings.with(&request.config).unwrap_or_else(|why| {
            log::warn!("the configuration from the runtime is not used: {why}");
            self.settings.clone()
        });
        log::info!(
            "registered with {} {}",
            request.runtime_name,
            request.runtime_version
        );
        let timeout = request.request_timeout.unwrap_or(REQUEST_TIMEOUT);
        Terms {
            settings,
            is_docker: request.runtime_name == DOCKER,
            patience: timeout.min(LONGEST_TIMEOUT) / 3 * 2,
        }
    }

    /// What a container gets. Nothing that goes wrong here may keep it from starting.
    fn adjust(&mut self, payload: &[u8], terms: &Terms) -> Option<Adjustment> {
        let request = CreateContainer::parse(payload)
            .inspect_err(|error| log::warn!("a container is left as it is: {error}"))
            .ok()?;
        let wanted = Wanted {
            views: terms.settings.views.clone(),
            only: terms.settings.choose(&request)?,
            strict: false,
        };
        let served = self
            .probe
            .served(&wanted.views, wanted.bindings(), terms.patience)
            .unwrap_or_else(|error| {
                log::warn!("cannot ask whether lxcfs serves: {error}");
                None
            });
        self.note(&wanted.views, served.is_some());
        let offer = Offer {
            wanted: &wanted,
            served: &served?,
            // A hook that is missing would keep the container from starting.
            hook: Some(self.hook.as_path()).filter(|program| program.is_file()),
            is_for_docker: terms.is_docker,
        };
        Some(adjustment(&offer, &request.container))
    }

    /// Says when lxcfs is away and when it is back.
    fn note(&mut self, views: &Path, is_served: bool) {
        let views = views.display();
        match (self.was_served, is_served) {
            (true, false) => log::warn!("no lxcfs answers at {views}: containers start without it"),
            (false, true) => log::info!("lxcfs answers at {views} again"),
            _ => {}
        }
        self.was_served = is_served;
    }
}

fn send(mut socket: &UnixStream, connection: u32, message: &[u8]) -> io::Result<()> {
    mux::write(&mut socket, connection, message)?;
    socket.flush()
}

fn open(envelope: &Envelope) -> io::Result<Call> {
    let invalid = |error: Malformed| io::Error::new(ErrorKind::InvalidData, error);
    envelope.open().map_err(invalid)
}

fn invalid(error: Malformed) -> Status {
    Status {
        code: code::INVALID_ARGUMENT,
        message: error.to_string(),
    }
}

#[cfg(test)]
mod tests;

//! What the configuration file and the command line say together, and the last good state of
//! it.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use crate::cli::{DaemonArgs, VERSION};
use crate::config::{self, Config, Error};
use crate::container::policy::{Change, Policy};
use crate::session::in_force::{InForce, State};

/// A server's settings.
#[derive(Debug)]
pub(super) struct Settings {
    path: Option<PathBuf>,
    given: Change,
    /// The last text that was good.
    kept: InForce,
}

impl Settings {
    /// Settings by the command line and the file that it names. `kept` is a memory that
    /// later servers get as well.
    pub(super) fn new(args: &DaemonArgs, kept: OwnedFd) -> Self {
        Self {
            path: args.config.clone(),
            given: args.given(),
            kept: InForce::new(kept),
        }
    }

    /// The file.
    pub(super) fn path(&self) -> &Path {
        config::location(self.path.as_deref())
    }

    /// The policy by the file as it is now.
    pub(super) fn policy(&self) -> Result<Policy, Error> {
        let text = config::read(self.path.as_deref())?;
        let config = Config::parse(&text, self.path())?;
        if let Err(error) = self.kept.keep(&text) {
            log::warn!("a later server will not know this configuration: {error}");
        }
        Ok(config.policy(&self.given))
    }

    /// The same, or the policy of the server before if the file is bad by now: readers are to
    /// be served all the same.
    pub(super) fn policy_at_start(&self) -> Policy {
        self.policy().unwrap_or_else(|error| {
            log::error!("{error}; what was read before stays in force");
            self.kept
                .text()
                .and_then(|text| Config::parse(&text, self.path()).ok())
                .unwrap_or_default()
                .policy(&self.given)
        })
    }

    /// Notes what this server is and does, for those who ask.
    pub(super) fn note(&self, views_off: bool, minor: u32) {
        let state = State {
            version: VERSION.to_owned(),
            views_off,
            minor,
        };
        if let Err(error) = self.kept.note(&state) {
            log::debug!("cannot note the state: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::Cli;
    use crate::container::policy::Uptime;

    #[test]
    fn a_bad_file_leaves_in_force_what_a_server_before_has_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lxcfs.toml");
        let line = ["lxcfs", "-u", "--config", path.to_str().unwrap(), "/m"];
        let args = Cli::try_parse_from(line).unwrap().daemon;
        let memory = tempfile::tempfile().unwrap();
        let server = || Settings::new(&args, memory.try_clone().unwrap().into());

        // The one whose text is longer comes first: nothing of it may stay.
        for text in [
            "[defaults]\nuptime = \"host\" # by default",
            "[defaults]\nuptime = \"host\"",
        ] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(server().policy().unwrap().defaults.uptime, Uptime::Host);
        }
        std::fs::write(&path, "[defaults]\nuptime = 7").unwrap();
        let error = server().policy().unwrap_err().to_string();
        assert!(error.contains("lxcfs.toml, line 2"), "{error}");
        let policy = server().policy_at_start();
        assert_eq!(policy.defaults.uptime, Uptime::Host);
        assert!(!policy.defaults.swap, "options of the command line stay");
    }

    #[test]
    fn a_bad_file_that_was_never_good_leaves_the_command_line() {
        let line = ["lxcfs", "-z", "--config", "/nonexistent", "/m"];
        let args = Cli::try_parse_from(line).unwrap().daemon;
        let memory = tempfile::tempfile().unwrap();
        let policy = Settings::new(&args, memory.into()).policy_at_start();
        assert!(!policy.defaults.zswap && policy.defaults.swap);
    }
}

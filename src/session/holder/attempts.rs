//! When to start the next server after one that has ended.

use std::time::Duration;

use anyhow::bail;

/// A server that crashes sooner than this died at once.
const SHORT_LIFE: Duration = Duration::from_millis(100);
/// Waiting time after the second server in a row that died at once; doubled after each further
/// one.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
/// After this many in a row that did not even serve the connection is given up.
const MOST_FAILURES: u32 = 10;
/// The longest waiting time while servers do serve: requests that kill them are answered one
/// after the other.
const LONGEST_PAUSE: Duration = Duration::from_millis(80);

/// What is known of the servers before.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    /// Servers in a row that died at once.
    failures: u32,
    /// Servers in a row that did not serve.
    unserved: u32,
}

impl Attempts {
    /// A server serves.
    pub(super) fn on_served(&mut self) {
        self.unserved = 0;
    }

    /// How long to wait after a server that has served for so long, if it has; `None` if there
    /// is nothing to wait for. `killed` says that somebody else killed it.
    ///
    /// # Errors
    /// When one server after the other did not serve.
    pub(super) fn pause_after(
        &mut self,
        served_for: Option<Duration>,
        killed: bool,
    ) -> anyhow::Result<Option<Duration>> {
        match served_for {
            Some(time) if killed || time >= SHORT_LIFE => {
                self.failures = 0;
                Ok(None)
            }
            Some(_) => Ok(Some(self.next_pause().min(LONGEST_PAUSE))),
            None => self.pause_after_none().map(Some),
        }
    }

    /// The same after one that did not serve or could not be started.
    ///
    /// # Errors
    /// When it was one too many.
    pub(super) fn pause_after_none(&mut self) -> anyhow::Result<Duration> {
        self.unserved += 1;
        if self.unserved >= MOST_FAILURES {
            bail!("{MOST_FAILURES} servers in a row ended at once; giving up");
        }
        Ok(self.next_pause())
    }

    fn next_pause(&mut self) -> Duration {
        self.failures = self.failures.saturating_add(1);
        match self.failures {
            1 => Duration::ZERO,
            failures => FIRST_PAUSE * 2_u32.pow((failures - 2).min(MOST_FAILURES)),
        }
    }
}

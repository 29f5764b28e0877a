//! How the daemon is.

use std::time::{Duration, Instant};

use nix::unistd::getppid;

use super::protocol::{Status, UnmatchedRule};
use crate::container::policy::Rule;
use crate::fs::Views;

/// What only the process that serves knows.
#[derive(Debug)]
pub struct Facts {
    /// Whether the kernel may send a request again that was interrupted.
    pub resends_interrupted: bool,
}

/// How long looking for unmatched rules may take: the client does not wait for ever.
const PATIENCE: Duration = Duration::from_secs(1);

/// What there is to say.
pub(super) fn status(views: &Views, facts: &Facts) -> Status {
    let unmatched = views.unmatched_rules(Instant::now() + PATIENCE);
    Status {
        pid: getppid().as_raw(),
        resends_interrupted: facts.resends_interrupted,
        unmatched_rules: unmatched.map(|rules| {
            let rules = rules.into_iter();
            let shown = |(number, rule): (usize, Rule)| UnmatchedRule {
                number,
                cgroup: rule.cgroup.as_str().to_owned(),
            };
            rules.map(shown).collect()
        }),
    }
}

//! What the operator wants containers to be shown.

use std::fmt;

use glob::{MatchOptions, Pattern};

use super::CpuView;
use crate::cgroup::Paths;

/// Since when uptime counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Uptime {
    /// The start of the container.
    #[default]
    Container,
    /// The start of the host.
    Host,
}

/// Which limit is the size of a container's memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum MemoryLimit {
    /// The one that it cannot exceed (kernel: `memory.max`).
    #[default]
    Max,
    /// The one above which it is slowed down and memory taken from it (`memory.high`), if it
    /// is smaller.
    High,
}

/// What one container is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Which CPUs.
    pub cpu_view: CpuView,
    /// Since when its uptime counts.
    pub uptime: Uptime,
    /// How large its memory is.
    pub memory_limit: MemoryLimit,
    /// Its swap, or none.
    pub swap: bool,
    /// Its zswap, or none.
    pub zswap: bool,
    /// Its own load average, or the host's.
    pub loadavg: bool,
    /// The host's own files instead of all of it.
    pub passthrough: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            cpu_view: CpuView::default(),
            uptime: Uptime::default(),
            memory_limit: MemoryLimit::default(),
            swap: true,
            zswap: true,
            loadavg: true,
            passthrough: false,
        }
    }
}

/// As in the configuration file.
impl fmt::Display for Options {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            swap,
            zswap,
            loadavg,
            passthrough,
            ..
        } = self;
        let cpu_view = match self.cpu_view {
            CpuView::Quota => "quota",
            CpuView::Cpuset => "cpuset",
            CpuView::Host => "host",
        };
        let uptime = match self.uptime {
            Uptime::Container => "container",
            Uptime::Host => "host",
        };
        let memory_limit = match self.memory_limit {
            MemoryLimit::Max => "max",
            MemoryLimit::High => "high",
        };
        write!(
            out,
            "cpu-view = \"{cpu_view}\", uptime = \"{uptime}\", \
             memory-limit = \"{memory_limit}\", swap = {swap}, zswap = {zswap}, \
             loadavg = {loadavg}, passthrough = {passthrough}"
        )
    }
}

/// Some options, each with another value.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Change {
    /// For [`Options::cpu_view`].
    pub cpu_view: Option<CpuView>,
    /// For [`Options::uptime`].
    pub uptime: Option<Uptime>,
    /// For [`Options::memory_limit`].
    pub memory_limit: Option<MemoryLimit>,
    /// For [`Options::swap`].
    pub swap: Option<bool>,
    /// For [`Options::zswap`].
    pub zswap: Option<bool>,
    /// For [`Options::loadavg`].
    pub loadavg: Option<bool>,
    /// For [`Options::passthrough`].
    pub passthrough: Option<bool>,
}

impl Options {
    /// These options, but for what the change is about.
    #[must_use]
    pub fn with(self, change: &Change) -> Self {
        Self {
            cpu_view: change.cpu_view.unwrap_or(self.cpu_view),
            uptime: change.uptime.unwrap_or(self.uptime),
            memory_limit: change.memory_limit.unwrap_or(self.memory_limit),
            swap: change.swap.unwrap_or(self.swap),
            zswap: change.zswap.unwrap_or(self.zswap),
            loadavg: change.loadavg.unwrap_or(self.loadavg),
            passthrough: change.passthrough.unwrap_or(self.passthrough),
        }
    }
}

/// A change for some containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Matches the path of the boundary cgroup in a hierarchy.
    pub cgroup: Pattern,
    /// What is different for them.
    pub change: Change,
}

impl Rule {
    /// Whether the rule is about the container whose cgroups have these paths, one for each
    /// hierarchy.
    #[must_use]
    pub fn is_about(&self, paths: &Paths) -> bool {
        // As in a shell: `*` stays within one name, `**` does not.
        let options = MatchOptions {
            require_literal_separator: true,
            ..MatchOptions::new()
        };
        let mut paths = paths.iter().flatten();
        paths.any(|path| self.cgroup.matches_with(path, options))
    }
}

/// What all containers are shown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    /// Without a rule.
    pub defaults: Options,
    /// Later ones count for more.
    pub rules: Vec<Rule>,
}

impl Policy {
    /// What the container is shown whose cgroups have these paths.
    #[must_use]
    pub fn options_for(&self, paths: &Paths) -> Options {
        let rules = self.rules.iter().filter(|rule| rule.is_about(paths));
        rules.fold(self.defaults, |options, rule| options.with(&rule.change))
    }

    /// The positions of the rules that are about this container.
    #[must_use]
    pub fn rules_for(&self, paths: &Paths) -> Box<[usize]> {
        let rules = self.rules.iter().enumerate();
        let matching = rules.filter(|(_, rule)| rule.is_about(paths));
        matching.map(|(position, _)| position).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(cgroup: &str, change: Change) -> Rule {
        Rule {
            cgroup: Pattern::new(cgroup).unwrap(),
            change,
        }
    }

    fn at(paths: &[&str]) -> Paths {
        paths.iter().map(|path| Some(*path)).chain([None]).collect()
    }

    #[test]
    fn later_rules_count_for_more_and_leave_alone_what_they_do_not_name() {
        let no_swap = Change {
            swap: Some(false),
            ..Change::default()
        };
        let cpuset = Change {
            cpu_view: Some(CpuView::Cpuset),
            swap: Some(true),
            ..Change::default()
        };
        let policy = Policy {
            defaults: Options {
                uptime: Uptime::Host,
                ..Options::default()
            },
            rules: vec![rule("/lxc/*", no_swap), rule("/lxc/web-?", cpuset)],
        };
        let others = policy.options_for(&at(&["/docker/1"]));
        assert_eq!(others, policy.defaults);
        let db = policy.options_for(&at(&["/lxc/db"]));
        assert!(!db.swap && db.uptime == Uptime::Host && db.cpu_view == CpuView::Quota);
        let web = policy.options_for(&at(&["/lxc/web-1"]));
        assert!(web.swap && web.cpu_view == CpuView::Cpuset);
    }

    #[test]
    fn a_star_stays_within_one_name_and_two_do_not() {
        let matches = |cgroup, path| rule(cgroup, Change::default()).is_about(&at(&[path]));
        assert!(matches("/lxc/*", "/lxc/a b) R"));
        assert!(!matches("/lxc/*", "/lxc/a/inner"));
        assert!(matches("/lxc/**", "/lxc/a/inner"));
        assert!(matches(
            "/kubepods/**/pod[ab]*/*",
            "/kubepods/burstable/podb7/c"
        ));
        assert!(!matches("/lxc/*", "/lxc"));
    }

    #[test]
    fn one_hierarchy_that_matches_is_enough() {
        let rule = rule("/docker/*", Change::default());
        assert!(rule.is_about(&at(&["/", "/docker/1"])));
        assert!(!rule.is_about(&at(&["/", "/system.slice/docker-1.scope"])));
        assert!(!rule.is_about(&at(&[])));
    }
}

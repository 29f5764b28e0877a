//! The configuration file.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use glob::Pattern;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use thiserror::Error;
use toml::Spanned;

use crate::cli::{CpuChoice, UptimeOrigin};
use crate::container::policy::{Change, MemoryLimit, Options, Policy, Rule};
use crate::session::in_force::MOST_BYTES;
use crate::sys::file::read_small;

/// Where the file lies unless the command line says otherwise.
pub const DEFAULT_PATH: &str = "/etc/lxcfs/lxcfs.toml";

/// Why a configuration cannot be used.
#[derive(Debug, Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("cannot read the configuration {path}: {cause}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        cause: io::Error,
    },
    /// It says something that is not known.
    #[error("{path}, line {line}: {message}")]
    Text {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong there.
        message: String,
    },
}

/// What a configuration file says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    defaults: Change,
    rules: Vec<Rule>,
}

impl Config {
    /// Reads the text of a file. `path` is for messages.
    ///
    /// # Errors
    /// One sentence with the number of the line that is wrong.
    pub fn parse(text: &str, path: &Path) -> Result<Self, Error> {
        let wrong = |at: Option<Range<usize>>, message: &str| {
            let before = text.get(..at.map_or(0, |span| span.start));
            Error::Text {
                path: path.to_owned(),
                line: before.unwrap_or(text).matches('\n').count() + 1,
                message: message.replace('\n', ", "),
            }
        };
        let file: File =
            toml::from_str(text).map_err(|error| wrong(error.span(), error.message()))?;
        let mut config = Self::default();
        if let Some(section) = file.defaults {
            if section.as_ref().cgroup.is_some() {
                let message = "defaults are for all containers and have no `cgroup`";
                return Err(wrong(Some(section.span()), message));
            }
            config.defaults = section.as_ref().change();
        }
        for section in file.container {
            let Some(cgroup) = section.as_ref().cgroup.clone() else {
                return Err(wrong(Some(section.span()), "`cgroup` is missing"));
            };
            config.rules.push(Rule {
                cgroup,
                change: section.as_ref().change(),
            });
        }
        Ok(config)
    }

    /// The policy by this configuration, but for what was `given` on the command line, which
    /// takes the place of the file's defaults.
    #[must_use]
    pub fn policy(self, given: &Change) -> Policy {
        Policy {
            defaults: Options::default().with(&self.defaults).with(given),
            rules: self.rules,
        }
    }
}

/// The text of the file at `path`, or of the default one, which need not exist.
///
/// # Errors
/// When it cannot be read.
pub fn read(path: Option<&Path>) -> Result<String, Error> {
    match read_small(location(path), MOST_BYTES) {
        Err(error) if path.is_none() && error.kind() == io::ErrorKind::NotFound => {
            Ok(String::new())
        }
        read => read.map_err(|cause| Error::Read {
            path: location(path).to_owned(),
            cause,
        }),
    }
}

/// The policy by the file at `path`, or by the default one, and what was `given` on the
/// command line.
///
/// # Errors
/// As [`read`] and [`Config::parse`].
pub fn policy(path: Option<&Path>, given: &Change) -> Result<Policy, Error> {
    Ok(Config::parse(&read(path)?, location(path))?.policy(given))
}

/// Where the configuration is.
#[must_use]
pub fn location(path: Option<&Path>) -> &Path {
    path.unwrap_or_else(|| DEFAULT_PATH.as_ref())
}

/// The file as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    defaults: Option<Spanned<Section>>,
    #[serde(default)]
    container: Vec<Spanned<Section>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Section {
    #[serde(default, deserialize_with = "pattern")]
    cgroup: Option<Pattern>,
    cpu_view: Option<CpuChoice>,
    uptime: Option<UptimeOrigin>,
    memory_limit: Option<MemoryChoice>,
    swap: Option<bool>,
    zswap: Option<bool>,
    loadavg: Option<bool>,
    passthrough: Option<bool>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum MemoryChoice {
    Max,
    High,
}

impl From<MemoryChoice> for MemoryLimit {
    fn from(choice: MemoryChoice) -> Self {
        match choice {
            MemoryChoice::Max => Self::Max,
            MemoryChoice::High => Self::High,
        }
    }
}

impl Section {
    fn change(&self) -> Change {
        Change {
            cpu_view: self.cpu_view.map(CpuChoice::into),
            uptime: self.uptime.map(UptimeOrigin::into),
            memory_limit: self.memory_limit.map(MemoryChoice::into),
            swap: self.swap,
            zswap: self.zswap,
            loadavg: self.loadavg,
            passthrough: self.passthrough,
        }
    }
}

fn pattern<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Pattern>, D::Error> {
    let text = String::deserialize(from)?;
    if !text.starts_with('/') && !text.starts_with('*') {
        return Err(D::Error::custom(
            "the path of a cgroup starts with / or a pattern with *",
        ));
    }
    Pattern::new(&text).map(Some).map_err(D::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::Paths;
    use crate::container::CpuView;
    use crate::container::policy::Uptime;

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse(text, Path::new("/etc/x.toml")).map_err(|error| error.to_string())
    }

    #[test]
    fn the_example_that_is_installed_says_what_holds_anyhow() {
        let example = include_str!("../share/lxcfs.toml");
        let policy = |text| parse(text).unwrap().policy(&Change::default());
        assert_eq!(policy(example).defaults, Options::default());
        let is_set = |line: &&str| line.contains('=') && !line.starts_with('#');
        assert_eq!(example.lines().filter(is_set).count(), 7);
        let with_exception = example.replace("# [[", "[[").replace("# cgroup", "cgroup");
        assert_eq!(policy(&with_exception).rules.len(), 1);
    }

    fn at(path: &str) -> Paths {
        [Some(path)].into_iter().collect()
    }

    #[test]
    fn an_empty_file_changes_nothing() {
        let policy = parse("# nothing\n").unwrap().policy(&Change::default());
        assert_eq!(policy, Policy::default());
    }

    #[test]
    fn rules_outrank_the_command_line_and_that_outranks_defaults() {
        let text = r#"
            [defaults]
            cpu-view = "cpuset"
            uptime = "host"
            zswap = false

            [[container]]
            cgroup = "/lxc/*"
            cpu-view = "host"

            [[container]]
            cgroup = "/lxc/all"
            memory-limit = "high"
            passthrough = true
            loadavg = false
            swap = false
        "#;
        let given = Change {
            cpu_view: Some(CpuView::Quota),
            ..Change::default()
        };
        let policy = parse(text).unwrap().policy(&given);
        let other = policy.options_for(&at("/docker/1"));
        assert_eq!(other.cpu_view, CpuView::Quota);
        assert_eq!(other.uptime, Uptime::Host);
        assert!(!other.zswap && other.swap && other.loadavg && !other.passthrough);
        let all = policy.options_for(&at("/lxc/all"));
        assert_eq!(all.cpu_view, CpuView::Host);
        assert!(all.passthrough && !all.loadavg && !all.swap);
        assert_eq!(all.memory_limit, MemoryLimit::High);
        assert_eq!(other.memory_limit, MemoryLimit::Max);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        for (text, line, word) in [
            ("[defaults]\nswop = false", 2, "swop"),
            ("[defaults]\nswap = 1", 2, "boolean"),
            ("[defaults]\n\ncpu-view = \"all\"", 3, "quota"),
            ("[defaults]\ncgroup = \"/a\"", 1, "cgroup"),
            ("[[container]]\nswap = false\n", 1, "cgroup"),
            ("\n[[container]]\ncgroup = \"lxc/a\"", 3, "starts with /"),
            ("[[container]]\ncgroup = \"/a***\"", 2, "wildcard"),
            ("[[containers]]\ncgroup = \"/a\"", 1, "containers"),
            ("[defaults", 1, ""),
            ("[defaults]\nswap = false\nswap = true", 3, "duplicate"),
        ] {
            let error = parse(text).unwrap_err();
            let start = format!("/etc/x.toml, line {line}: ");
            assert!(error.starts_with(&start), "{text}: {error}");
            assert!(error.contains(word), "{text}: {error}");
            assert!(!error.contains('\n'), "{text}: {error}");
        }
    }

    #[test]
    fn options_are_printed_as_they_are_written() {
        let options = Options::default();
        let text = format!("[defaults]\n{}", options.to_string().replace(", ", "\n"));
        let policy = parse(&text).unwrap().policy(&Change::default());
        assert_eq!(policy.defaults, options);
    }

    #[test]
    fn all_options_are_in_the_texts_for_people() {
        let options = Options::default().to_string();
        for option in options.split(", ") {
            let key = option.split(' ').next().unwrap();
            let line = format!("\n{key} = ");
            assert!(include_str!("../README.md").contains(&line), "{key}");
            let page = include_str!("../packaging/man/tail.1");
            assert!(page.replace("\\-", "-").contains(&line), "{key}");
        }
    }

    #[test]
    fn only_the_default_file_may_be_missing() {
        let missing = Path::new("/nonexistent/lxcfs.toml");
        let error = read(Some(missing)).unwrap_err().to_string();
        assert!(error.contains("/nonexistent/lxcfs.toml"), "{error}");
    }
}

//! The command line of OCI runtimes
//! (<https://github.com/opencontainers/runtime-tools/blob/master/docs/command-line-interface.md>).

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde_json::json;

/// Options before the command that are followed by their value.
const GLOBAL_VALUES: [&str; 6] = [
    "log",
    "log-format",
    "root",
    "criu",
    "rootless",
    "cgroup-manager",
];

/// Options of `create` and `run` that are followed by their value.
const VALUES: [&str; 8] = [
    "bundle",
    "b",
    "config",
    "f",
    "console-socket",
    "pid-file",
    "pidfd-socket",
    "preserve-fds",
];

/// What the arguments of a runtime ask for, as far as it matters here.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Call {
    /// The configuration of the container that is to be created, if one is.
    pub config: Option<PathBuf>,
    /// Where the runtime logs as JSON, line by line.
    log: Option<PathBuf>,
}

impl Call {
    /// Reads the arguments as runc and crun do.
    #[must_use]
    pub fn parse(arguments: &[OsString]) -> Self {
        let mut words = arguments.iter().map(OsString::as_os_str);
        let (mut log, mut is_json) = (None, false);
        let command = loop {
            match next(&mut words, &GLOBAL_VALUES) {
                Some(Word::Option("log", Some(value))) => log = Some(PathBuf::from(value)),
                Some(Word::Option("log-format", Some(value))) => is_json = value == "json",
                Some(Word::Option(..)) => {}
                Some(Word::Plain(command)) => break Some(command),
                None => break None,
            }
        };
        let is_new = command.is_some_and(|command| command == "create" || command == "run");
        Self {
            config: is_new.then(|| configuration(words)),
            log: log.filter(|_| is_json),
        }
    }

    /// Writes to the runtime's log why it fails, which is where engines look.
    pub fn report(&self, error: &anyhow::Error) {
        let Some(path) = &self.log else {
            return;
        };
        let line = json!({"level": "error", "msg": format!("lxcfs: {error:#}")});
        let file = File::options().append(true).create(true).open(path);
        if let Err(error) = file.and_then(|mut file| writeln!(file, "{line}")) {
            log::warn!("cannot write {}: {error}", path.display());
        }
    }
}

/// Where `create` and `run` find the configuration that these arguments name.
fn configuration<'a>(mut words: impl Iterator<Item = &'a OsStr>) -> PathBuf {
    let (mut bundle, mut config) = (OsStr::new("."), OsStr::new("config.json"));
    while let Some(word) = next(&mut words, &VALUES) {
        match word {
            Word::Plain(word) if word == "--" => break,
            Word::Option("bundle" | "b", Some(value)) => bundle = value,
            Word::Option("config" | "f", Some(value)) => config = value,
            _ => {}
        }
    }
    Path::new(bundle).join(config)
}

enum Word<'a> {
    /// Name and value: `--name`, `--name value`, `--name=value`, `-name`.
    Option(&'a str, Option<&'a OsStr>),
    Plain(&'a OsStr),
}

/// The next word, with the one after it if that is the value of an option in `with_value`.
fn next<'a>(words: &mut impl Iterator<Item = &'a OsStr>, with_value: &[&str]) -> Option<Word<'a>> {
    let word = words.next()?;
    let Some((name, value)) = option(word) else {
        return Some(Word::Plain(word));
    };
    let value = match value {
        None if with_value.contains(&name) => words.next(),
        value => value,
    };
    Some(Word::Option(name, value))
}

fn option(word: &OsStr) -> Option<(&str, Option<&OsStr>)> {
    let name = word.as_bytes().strip_prefix(b"-")?;
    let name = name.strip_prefix(b"-").unwrap_or(name);
    let mut parts = name.splitn(2, |byte| *byte == b'=');
    let name = std::str::from_utf8(parts.next()?).ok()?;
    (!name.is_empty()).then(|| (name, parts.next().map(OsStr::from_bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(line: &str) -> Option<PathBuf> {
        let arguments: Vec<_> = line.split_whitespace().map(OsString::from).collect();
        Call::parse(&arguments).config
    }

    #[test]
    fn the_bundle_is_found_as_engines_write_it() {
        for line in [
            // containerd, podman, CRI-O, by hand
            "--root /r --log /l/log.json --log-format json --systemd-cgroup create --bundle /b --pid-file /p --console-socket /s id",
            "--cgroup-manager=systemd --root=/r create --bundle /b --pid-file /p id",
            "--systemd-cgroup --root=/r create --bundle=/b --pid-file=/p id",
            "--debug run -b /b id",
            "-debug -log=/x run -d id -bundle /b",
            "--log create run --bundle=/b --pid-file --bundle id",
        ] {
            assert_eq!(config(line), Some("/b/config.json".into()), "{line}");
        }
        assert_eq!(config("run id"), Some("./config.json".into()));
        assert_eq!(config("run -f my.json -b x id"), Some("x/my.json".into()));
        assert_eq!(
            config("create --bundle /b -- --bundle=/c"),
            Some("/b/config.json".into())
        );
        assert_eq!(config("create --bundle"), Some("./config.json".into()));
    }

    #[test]
    fn other_commands_create_nothing() {
        for line in [
            "",
            "--version",
            "features",
            "--root create",
            "--root /r start id",
            "--log /create delete create",
            "exec --process run id",
        ] {
            assert_eq!(config(line), None, "{line}");
        }
    }

    #[test]
    fn a_failure_is_written_where_containerd_reads_it() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log.json");
        let arguments = |format: &str| {
            let line = format!("--log {} --log-format {format} create", log.display());
            line.split(' ').map(OsString::from).collect::<Vec<_>>()
        };
        Call::parse(&arguments("text")).report(&anyhow::anyhow!("why"));
        assert!(!log.exists());
        Call::parse(&arguments("json")).report(&anyhow::anyhow!("why"));
        let text = std::fs::read_to_string(&log).unwrap();
        assert_eq!(text, "{\"level\":\"error\",\"msg\":\"lxcfs: why\"}\n");
    }
}

//! Standing in for an OCI runtime: its command line
//! (<https://github.com/opencontainers/runtime-tools/blob/master/docs/command-line-interface.md>),
//! and the configuration of the container that it is about to create.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, fchown};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use nix::unistd::{AccessFlags, access};

use super::oci;
use super::wanted::{Wanted, is_same_file, program};

/// Runtimes that are looked for, in this order.
const RUNTIMES: [&str; 2] = ["runc", "crun"];

/// Where programs are if nobody says.
const USUAL_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

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

/// The configuration of the container that a runtime with these arguments would create;
/// `None` if it would create none.
#[must_use]
pub fn created(arguments: &[OsString]) -> Option<PathBuf> {
    let mut words = arguments.iter().map(OsString::as_os_str);
    let command = loop {
        match option(words.next()?) {
            Some((name, None)) if GLOBAL_VALUES.contains(&name) => drop(words.next()),
            Some(_) => {}
            None => break words.clone(),
        }
    };
    let name = arguments.get(arguments.len() - command.len() - 1)?;
    if name != "create" && name != "run" {
        return None;
    }
    let mut words = command;
    let (mut bundle, mut config) = (OsStr::new("."), OsStr::new("config.json"));
    while let Some(word) = words.next() {
        if word == "--" {
            break;
        }
        let Some((name, value)) = option(word) else {
            continue;
        };
        let value = match value {
            None if VALUES.contains(&name) => words.next(),
            value => value,
        };
        match (name, value) {
            ("bundle" | "b", Some(value)) => bundle = value,
            ("config" | "f", Some(value)) => config = value,
            _ => {}
        }
    }
    Some(Path::new(bundle).join(config))
}

/// Name and value of an option: `--name`, `--name=value`, `-name`, and `-bVALUE` of crun.
fn option(word: &OsStr) -> Option<(&str, Option<&OsStr>)> {
    let bytes = word.as_bytes();
    let (name, value) = match bytes.iter().position(|byte| *byte == b'=') {
        Some(at) => bytes.split_at(at),
        None => (bytes, &[][..]),
    };
    let name = name.strip_prefix(b"-")?;
    let name = std::str::from_utf8(name.strip_prefix(b"-").unwrap_or(name)).ok()?;
    Some((
        name,
        value
            .split_first()
            .map(|(_, value)| OsStr::from_bytes(value)),
    ))
}

/// Adds what is wanted to the configuration in the file `config`.
///
/// # Errors
/// One sentence if it stays as it was.
pub fn add(config: &Path, wanted: &Wanted) -> Result<()> {
    let shown = config.display();
    wanted.ensure_answers()?;
    let program = program().context("cannot find the path of this program")?;
    let text = fs::read(config).with_context(|| format!("cannot read {shown}"))?;
    let edited = oci::add(&text, wanted, &program).with_context(|| shown.to_string())?;
    replace(config, &edited).with_context(|| format!("cannot write {shown}"))
}

/// Puts a file with `content` in place of the one at `path`, with its owner and mode.
fn replace(path: &Path, content: &[u8]) -> Result<()> {
    let path = path.canonicalize()?;
    let metadata = fs::metadata(&path)?;
    let directory = path.parent().context("it has no directory")?;
    let mut fresh = Fresh::create(directory)?;
    fresh.file.write_all(content)?;
    fresh.file.set_permissions(metadata.permissions())?;
    fchown(&fresh.file, Some(metadata.uid()), Some(metadata.gid()))?;
    fs::rename(&fresh.path, &path)?;
    Ok(())
}

/// A file that is gone unless it has got another name.
struct Fresh {
    file: fs::File,
    path: PathBuf,
}

impl Fresh {
    fn create(directory: &Path) -> Result<Self> {
        let path = directory.join(format!(".lxcfs-{}.json", std::process::id()));
        // One of an earlier process that was killed.
        let _ = fs::remove_file(&path);
        let file = fs::File::create_new(&path)?;
        Ok(Self { file, path })
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// The runtime that does the work: the one `asked` for, else the first that is there.
///
/// # Errors
/// One sentence if there is none, or if it is this program.
pub fn real(asked: Option<&Path>) -> Result<PathBuf> {
    let own = env::current_exe().context("cannot find the path of this program")?;
    if let Some(asked) = asked {
        let found = if asked.components().count() > 1 {
            Some(asked.to_owned())
        } else {
            in_path(asked).next()
        };
        let found = found.with_context(|| format!("there is no {}", asked.display()))?;
        ensure!(
            !is_same_file(&found, &own),
            "{} is lxcfs itself; name another --runtime",
            found.display()
        );
        return Ok(found);
    }
    let mut candidates = RUNTIMES.iter().flat_map(|name| in_path(Path::new(name)));
    match candidates.find(|candidate| !is_same_file(candidate, &own)) {
        Some(found) => Ok(found),
        None => bail!("neither runc nor crun is there; install one or name a --runtime"),
    }
}

/// Programs of this name, in the order in which a shell would take them.
fn in_path(name: &Path) -> impl Iterator<Item = PathBuf> {
    let path = env::var_os("PATH").unwrap_or_else(|| USUAL_PATH.into());
    let found: Vec<_> = env::split_paths(&path)
        .map(|directory| directory.join(name))
        .filter(|file| file.is_file() && access(file, AccessFlags::X_OK).is_ok())
        .collect();
    found.into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(line: &str) -> Option<PathBuf> {
        let arguments: Vec<_> = line.split_whitespace().map(OsString::from).collect();
        created(&arguments)
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
    fn the_file_is_replaced_with_its_mode_and_nothing_is_left_beside_it() {
        use std::os::unix::fs::PermissionsExt;
        let bundle = tempfile::tempdir().unwrap();
        let path = bundle.path().join("config.json");
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        replace(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o640
        );
        assert_eq!(fs::read_dir(bundle.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_runtime_that_is_not_there_is_one_sentence() {
        let error = real(Some(Path::new("no-such-runtime"))).unwrap_err();
        assert_eq!(error.to_string(), "there is no no-such-runtime");
        let own = env::current_exe().unwrap();
        assert!(
            real(Some(&own))
                .unwrap_err()
                .to_string()
                .contains("lxcfs itself")
        );
    }
}

//! Standing in for an OCI runtime.

mod call;

use std::env;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, fchown};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use nix::unistd::{AccessFlags, access};

pub use self::call::Call;
use super::oci;
use super::wanted::{Wanted, is_same_file, program};

/// Runtimes that are looked for, in this order.
const RUNTIMES: [&str; 2] = ["runc", "crun"];

/// Where programs are if nobody says.
const USUAL_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

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

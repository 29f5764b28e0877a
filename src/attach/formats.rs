//! Bindings written down for engines: arguments, lines of configuration, snippets.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::ensure;

use super::{Binding, oci};

/// Besides letters and digits, what means nothing special to shells or to any of the formats.
const PLAIN: &str = "/._-+@";

/// Bindings with the place where lxcfs is mounted.
#[derive(Debug)]
pub struct Mounts {
    bindings: Vec<Binding>,
    views: PathBuf,
}

impl Mounts {
    /// What `bindings` are where lxcfs is mounted at `views`.
    ///
    /// # Errors
    /// One sentence when the path is relative or has characters that one of the formats takes
    /// for something else.
    pub fn new(bindings: Vec<Binding>, views: &Path) -> anyhow::Result<Self> {
        let is_plain = |c: char| c.is_alphanumeric() || PLAIN.contains(c);
        ensure!(
            views.is_absolute()
                && views
                    .to_str()
                    .is_some_and(|path| path.chars().all(is_plain)),
            "the directory {views:?} cannot be written down for an engine: give an absolute path of letters, \
             digits and the characters {PLAIN}"
        );
        let views = views.to_owned();
        Ok(Self { bindings, views })
    }

    /// Arguments of `docker run` and `podman run`, one a line.
    ///
    /// `--mount`, since `-v` makes a directory of a source that is missing.
    #[must_use]
    pub fn engine_arguments(&self) -> String {
        self.lines(|source, target, is_read_only| {
            let flag = if is_read_only { ",readonly" } else { "" };
            format!("--mount type=bind,source={source},target={target}{flag}")
        })
    }

    /// Lines of the configuration of an LXC container.
    ///
    /// It mounts nothing over a link, such as those in `/sys/block`.
    #[must_use]
    pub fn lxc(&self) -> String {
        self.lines(|source, target, is_read_only| {
            let flag = if is_read_only { ",ro" } else { "" };
            let target = fs::canonicalize(target).unwrap_or_else(|_| target.into());
            let target = target.display().to_string();
            let below = target.trim_start_matches('/');
            format!("lxc.mount.entry = {source} {below} none bind{flag},optional 0 0")
        })
    }

    /// Arguments of `systemd-nspawn`, one a line.
    ///
    /// It mounts below `/proc` when the container has its own root already and looks for the
    /// source there, so the views come first as a whole.
    #[must_use]
    pub fn nspawn(&self) -> String {
        let views = self.views.display();
        let each = self.lines(|source, target, _| format!("--bind-ro={source}:{target}"));
        format!("--bind-ro={views}\n{each}")
    }

    /// A drop-in for a service of systemd. It starts without what is missing, but only where there
    /// is something to mount over, so all of `/proc` has to be there.
    #[must_use]
    pub fn systemd(&self) -> String {
        let each = self.lines(|source, target, is_read_only| {
            let key = if is_read_only {
                "BindReadOnlyPaths"
            } else {
                "BindPaths"
            };
            format!("{key}=-{source}:{target}")
        });
        format!("[Service]\nProcSubset=all\n{each}")
    }

    /// `volumes` of a pod and `volumeMounts` of its containers, in YAML.
    #[must_use]
    pub fn kubernetes(&self) -> String {
        let mut volumes = String::from("volumes:\n");
        let mut mounts = String::from("volumeMounts:\n");
        for binding in &self.bindings {
            let name = volume_name(&binding.path);
            let source = binding.source(&self.views);
            let kind = if binding.is_directory {
                "Directory"
            } else {
                "File"
            };
            // Writing to a string cannot fail.
            let _ = writeln!(
                volumes,
                "- name: {name}\n  hostPath:\n    path: {}\n    type: {kind}",
                source.display()
            );
            let _ = writeln!(
                mounts,
                "- name: {name}\n  mountPath: {}\n  readOnly: {}",
                binding.target().display(),
                binding.is_read_only()
            );
        }
        volumes + &mounts
    }

    /// The `mounts` of a config.json of the OCI.
    #[must_use]
    pub fn oci(&self) -> Vec<oci::Mount> {
        let mount = |binding| oci::mount(binding, &self.views);
        self.bindings.iter().map(mount).collect()
    }

    /// A line for each binding, of its source, its target and whether nobody writes to it.
    fn lines(&self, line: impl Fn(&str, &str, bool) -> String) -> String {
        let each = |binding: &Binding| {
            let source = binding.source(&self.views).display().to_string();
            let target = binding.target().display().to_string();
            line(&source, &target, binding.is_read_only()) + "\n"
        };
        self.bindings.iter().map(each).collect()
    }
}

/// A DNS label, which the name of a volume must be.
fn volume_name(path: &Path) -> String {
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() {
            c.to_ascii_lowercase()
        } else {
            '-'
        }
    };
    let path: String = path.to_string_lossy().chars().map(plain).collect();
    format!("lxcfs-{path}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::attach::Part;

    fn mounts() -> Mounts {
        let binding = |path: &str, part, is_directory| Binding {
            path: path.into(),
            part,
            is_directory,
            is_for_mounts: true,
        };
        let bindings = vec![
            binding("proc/meminfo", Part::Mem, false),
            binding("proc/pressure", Part::Psi, true),
        ];
        Mounts::new(bindings, Path::new("/views")).unwrap()
    }

    #[test]
    fn each_format_has_its_own_syntax() {
        let mounts = mounts();
        assert_eq!(
            mounts.engine_arguments(),
            "--mount type=bind,source=/views/proc/meminfo,target=/proc/meminfo,readonly\n\
             --mount type=bind,source=/views/proc/pressure,target=/proc/pressure\n"
        );
        assert_eq!(
            mounts.lxc(),
            "lxc.mount.entry = /views/proc/meminfo proc/meminfo none bind,ro,optional 0 0\n\
             lxc.mount.entry = /views/proc/pressure proc/pressure none bind,optional 0 0\n"
        );
        assert_eq!(
            mounts.nspawn(),
            "--bind-ro=/views\n\
             --bind-ro=/views/proc/meminfo:/proc/meminfo\n\
             --bind-ro=/views/proc/pressure:/proc/pressure\n"
        );
        assert_eq!(
            mounts.systemd(),
            "[Service]\n\
             ProcSubset=all\n\
             BindReadOnlyPaths=-/views/proc/meminfo:/proc/meminfo\n\
             BindPaths=-/views/proc/pressure:/proc/pressure\n"
        );
        assert_eq!(
            mounts.kubernetes(),
            "volumes:\n\
             - name: lxcfs-proc-meminfo\n  hostPath:\n    path: /views/proc/meminfo\n    type: File\n\
             - name: lxcfs-proc-pressure\n  hostPath:\n    path: /views/proc/pressure\n    type: Directory\n\
             volumeMounts:\n\
             - name: lxcfs-proc-meminfo\n  mountPath: /proc/meminfo\n  readOnly: true\n\
             - name: lxcfs-proc-pressure\n  mountPath: /proc/pressure\n  readOnly: false\n"
        );
        assert_eq!(
            serde_json::to_value(mounts.oci()).unwrap()[0],
            json!({
                "destination": "/proc/meminfo",
                "type": "bind",
                "source": "/views/proc/meminfo",
                "options": ["ro", "nosuid", "nodev", "noexec", "bind"],
            })
        );
    }

    #[test]
    fn a_path_that_would_fall_apart_is_refused() {
        for bad in [
            "views",
            "/my views",
            "/a,b",
            "/a:b",
            "/a\nb",
            "/50%",
            "/a*",
            "",
        ] {
            let error = Mounts::new(Vec::new(), Path::new(bad)).unwrap_err();
            assert_eq!(error.to_string().lines().count(), 1, "{bad:?}");
        }
        for good in [
            "/",
            "/var/lib/lxcfs",
            "/run/a-b_c.d+e@1",
            "/Ansichten/f\u{fc}r",
        ] {
            Mounts::new(Vec::new(), Path::new(good)).unwrap();
        }
    }

    #[test]
    fn names_of_volumes_are_labels() {
        assert_eq!(
            volume_name(Path::new("sys/block/cciss!c0d0")),
            "lxcfs-sys-block-cciss-c0d0"
        );
    }
}

//! `/proc/PID/cgroup` (man: cgroups(7)).

/// One line: the cgroup of a process in one hierarchy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Membership<'a> {
    /// Comma-separated controllers of a v1 hierarchy (`name=systemd` for a named
    /// one); empty for cgroup v2.
    pub controllers: &'a str,
    /// Path below the root of the reading thread's cgroup namespace. Starts with
    /// `/..` for a process outside of it.
    pub path: &'a str,
}

impl Membership<'_> {
    /// Whether this is the cgroup v2 hierarchy.
    #[must_use]
    pub fn is_v2(&self) -> bool {
        self.controllers.is_empty()
    }
}

/// The memberships listed in `text`; lines of another form are dropped. A path may
/// hold colons and spaces but, by the kernel's rule for names, no newline.
pub fn memberships(text: &str) -> impl Iterator<Item = Membership<'_>> {
    text.lines().filter_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        path.starts_with('/').then(|| Membership {
            controllers,
            // Appended by the kernel when the directory has been removed already.
            path: path.strip_suffix(" (deleted)").unwrap_or(path),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_v1_hybrid_and_v2_lines() {
        let text =
            "9:name=systemd:/\n4:cpu,cpuacct:/docker/a:b c\n0::/system.slice/x.scope (deleted)\n";
        let found: Vec<_> = memberships(text).map(|m| (m.controllers, m.path)).collect();
        assert_eq!(
            found,
            [
                ("name=systemd", "/"),
                ("cpu,cpuacct", "/docker/a:b c"),
                ("", "/system.slice/x.scope")
            ]
        );
    }

    #[test]
    fn drops_garbage() {
        assert_eq!(
            memberships("\n\nabc\n1:cpu\n2:cpu:relative\n::\n").count(),
            0
        );
    }
}

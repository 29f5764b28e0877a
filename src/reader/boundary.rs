//! The boundary cgroup: which cgroup stands for the container of a reader.
//!
//! Pure rules on the texts of `/proc/PID/cgroup`; see "Who is asking" in
//! docs/ARCHITECTURE.md.

/// The cgroup that a systemd inside the container moves itself to.
const INIT_SCOPE: &str = "/init.scope";

/// The root of a cgroup namespace: what the path seen from outside has more than the
/// one seen from inside. `None` for a process outside of its namespace's root, whose
/// inner path starts with `/..`.
pub(super) fn namespace_root<'a>(outer: &'a str, inner: &str) -> Option<&'a str> {
    if inner.starts_with("/..") {
        return None;
    }
    let root = outer.strip_suffix(inner.trim_end_matches('/'))?;
    Some(if root.is_empty() { "/" } else { root })
}

/// The boundary that the init of a pid namespace stands for.
pub(crate) fn of_init(path: &str) -> &str {
    match path.strip_suffix(INIT_SCOPE) {
        Some("") => "/",
        Some(parent) => parent,
        None => path,
    }
}

/// Whether `path` is `boundary` or lies below it.
pub(crate) fn is_within(path: &str, boundary: &str) -> bool {
    boundary == "/"
        || path
            .strip_prefix(boundary)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The boundary of a reader in another pid namespace: that of the namespace's init,
/// unless the reader's own cgroup lies elsewhere (pods share a pid namespace).
pub(super) fn of_reader<'a>(reader: &'a str, init: &'a str) -> &'a str {
    let boundary = of_init(init);
    if is_within(reader, boundary) {
        boundary
    } else {
        reader
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_of_a_namespace_is_what_the_outer_path_has_more() {
        assert_eq!(namespace_root("/docker/abc", "/"), Some("/docker/abc"));
        assert_eq!(
            namespace_root("/docker/abc/sub/leaf", "/sub/leaf"),
            Some("/docker/abc")
        );
        assert_eq!(namespace_root("/sub", "/sub"), Some("/"));
        assert_eq!(namespace_root("/", "/"), Some("/"));
        assert_eq!(namespace_root("/lxc/c", "/../other"), None);
        assert_eq!(namespace_root("/lxc/c", "/unrelated"), None);
    }

    #[test]
    fn the_init_scope_of_systemd_is_no_boundary() {
        assert_eq!(of_init("/lxc/c1/init.scope"), "/lxc/c1");
        assert_eq!(of_init("/init.scope"), "/");
        assert_eq!(of_init("/lxc/my-init.scope"), "/lxc/my-init.scope");
    }

    #[test]
    fn a_reader_elsewhere_than_the_init_stands_for_itself() {
        assert_eq!(of_reader("/pod/app", "/pod/pause"), "/pod/app");
        assert_eq!(of_reader("/docker/a/sub", "/docker/a"), "/docker/a");
        assert_eq!(of_reader("/docker/ab", "/docker/a"), "/docker/ab");
        assert_eq!(
            of_reader("/lxc/c/user.slice/x", "/lxc/c/init.scope"),
            "/lxc/c"
        );
    }
}

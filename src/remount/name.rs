//! A name for people, from the cgroup of a container's process.

use crate::parse::pid_cgroup::memberships;

/// Digits of a container's id that engines print.
const SHORT_ID: usize = 12;
/// All of them.
const WHOLE_ID: usize = 64;

/// What LXC puts before or above the name of a container.
const LXC: [&str; 3] = ["lxc.payload.", "lxc.payload/", "lxc/"];

/// The innermost container that `/proc/PID/cgroup` names: LXC's name of it, or the first
/// digits of the id that Docker, podman, containerd and CRI-O give.
#[must_use]
pub fn container(cgroups: &str) -> Option<String> {
    memberships(cgroups).find_map(|membership| innermost(membership.path))
}

fn innermost(path: &str) -> Option<String> {
    let id = path.match_indices('/').rev().find_map(|(at, _)| {
        let rest = path.get(at + 1..)?;
        lxc_name(rest).or_else(|| short_id(rest))
    })?;
    // A cgroup's name is its maker's, who may be up to no good with a terminal.
    Some(id.escape_debug().to_string())
}

fn lxc_name(rest: &str) -> Option<&str> {
    let rest = LXC
        .into_iter()
        .find_map(|prefix| rest.strip_prefix(prefix))?;
    rest.split('/').next().filter(|name| !name.is_empty())
}

fn short_id(rest: &str) -> Option<&str> {
    let component = rest.split('/').next()?;
    let stem = component.strip_suffix(".scope").unwrap_or(component);
    let id = stem.rsplit('-').next()?;
    let is_id = id.len() == WHOLE_ID && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    id.get(..SHORT_ID).filter(|_| is_id)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "3f2a6b1c9d8e7f60514233241506f7e8d9cabbacbdcedfe0f1021324354657ab";

    fn named(path: &str) -> Option<String> {
        container(&format!("5:memory:{path}\n0::/\n"))
    }

    #[test]
    fn engines_are_known_by_their_ids() {
        for path in [
            format!("/docker/{ID}"),
            format!("/system.slice/docker-{ID}.scope"),
            format!("/machine.slice/libpod-{ID}.scope/container"),
            format!("/kubepods.slice/pod1.slice/cri-containerd-{ID}.scope"),
            format!("/kubepods/besteffort/pod1/{ID}/init.scope"),
        ] {
            assert_eq!(named(&path).as_deref(), Some("3f2a6b1c9d8e"), "{path}");
        }
    }

    #[test]
    fn lxc_containers_have_names() {
        for path in [
            "/lxc/web",
            "/lxc.payload.web",
            "/a/lxc.payload.web/init.scope",
            "/lxc.payload/web",
        ] {
            assert_eq!(named(path).as_deref(), Some("web"), "{path}");
        }
        assert_eq!(
            named(&format!("/lxc/web/docker/{ID}")).as_deref(),
            Some("3f2a6b1c9d8e")
        );
    }

    #[test]
    fn the_rest_has_none() {
        for path in [
            "/",
            "/system.slice/ssh.service",
            "/docker/3f2a",
            "/lxc/",
            "/user.slice/-.scope",
        ] {
            assert_eq!(named(path), None, "{path}");
        }
        assert_eq!(container(""), None);
    }

    #[test]
    fn a_name_cannot_steer_a_terminal() {
        assert_eq!(named("/lxc/a\u{1b}[2Jb").as_deref(), Some("a\\u{1b}[2Jb"));
    }
}

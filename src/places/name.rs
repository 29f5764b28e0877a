//! A name for people, from the cgroup of a container's process.

use super::makers::Makers;
use crate::parse::pid_cgroup::memberships;

/// Digits of a container's id that engines print.
const SHORT_ID: usize = 12;
/// All of them.
const WHOLE_ID: usize = 64;

/// What LXC puts before or above the name of a container.
const LXC: [&str; 3] = ["lxc.payload.", "lxc.payload/", "lxc/"];

/// What systemd calls the unit of a machine (man: systemd-machined.service(8)), and that of
/// systemd-nspawn as a service.
const MACHINE: [(&str, &str); 2] = [("machine-", ".scope"), ("systemd-nspawn@", ".service")];

/// The cgroup of the processes of a machine in a unit that may have any name.
const PAYLOAD: &str = "payload";

/// The innermost container that `/proc/PID/cgroup` names: LXC's or systemd's name of it, or
/// the id that Docker, podman, containerd and CRI-O give.
#[must_use]
pub fn whole(cgroups: &str) -> Option<String> {
    memberships(cgroups).find_map(|membership| innermost(membership.path))
}

/// The same, and whether only root can have given that name, by what `makers` find: such a one
/// counts more.
#[must_use]
pub fn vouched(cgroups: &str, makers: &Makers) -> Option<(String, bool)> {
    let named = memberships(cgroups).filter_map(|membership| {
        let (name, parent) = innermost_in(membership.path)?;
        Some((name, makers.is_roots(&membership, parent)))
    });
    named.reduce(|first, next| if next.1 && !first.1 { next } else { first })
}

/// The same for people: ids have the first digits only.
#[must_use]
pub fn container(cgroups: &str) -> Option<String> {
    whole(cgroups).map(|name| short(&name).to_owned())
}

/// The first digits of an id; any other name as it is.
#[must_use]
pub fn short(name: &str) -> &str {
    match name.get(..SHORT_ID) {
        Some(digits) if is_id(name) => digits,
        _ => name,
    }
}

/// Whether this is the id of a container, and no name.
#[must_use]
pub fn is_id(name: &str) -> bool {
    name.len() == WHOLE_ID && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Whether `word` is an id, or as much of one as engines print.
#[must_use]
pub fn is_id_as_printed(word: &str) -> bool {
    (SHORT_ID..=WHOLE_ID).contains(&word.len()) && word.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn innermost(path: &str) -> Option<String> {
    innermost_in(path).map(|(name, _)| name)
}

/// The name, and the cgroup in which the one with that name is.
fn innermost_in(path: &str) -> Option<(String, &str)> {
    let (name, parent) = path.match_indices('/').rev().find_map(|(at, _)| {
        let rest = path.get(at + 1..)?;
        let name = lxc_name(rest)
            .or_else(|| id(rest))
            .map(str::to_owned)
            .or_else(|| machine(rest))?;
        // Some names stand below a directory of LXC's.
        let directory = LXC
            .into_iter()
            .filter_map(|prefix| prefix.strip_suffix('/'))
            .find(|directory| rest.split('/').next() == Some(directory));
        let parent = path.get(..at + directory.map_or(0, |name| name.len() + 1))?;
        Some((name, parent))
    })?;
    // A cgroup's name is its maker's, who may be up to no good with a terminal.
    Some((name.escape_debug().to_string(), parent))
}

fn lxc_name(rest: &str) -> Option<&str> {
    let rest = LXC
        .into_iter()
        .find_map(|prefix| rest.strip_prefix(prefix))?;
    rest.split('/').next().filter(|name| !name.is_empty())
}

fn id(rest: &str) -> Option<&str> {
    let component = rest.split('/').next()?;
    let stem = component.strip_suffix(".scope").unwrap_or(component);
    stem.rsplit('-').next().filter(|id| is_id(id))
}

fn machine(rest: &str) -> Option<String> {
    let mut components = rest.split('/');
    let unit = components.next()?;
    let known = MACHINE
        .into_iter()
        .find_map(|(before, after)| unit.strip_prefix(before)?.strip_suffix(after));
    let is_machine = components.next() == Some(PAYLOAD);
    let name = known.or_else(|| unit.strip_suffix(".scope").filter(|_| is_machine))?;
    let name = unescaped(name);
    (!name.is_empty()).then_some(name)
}

/// Undoes the `\\xNN` that stands for other characters in names of units (man:
/// systemd-escape(1)).
fn unescaped(name: &str) -> String {
    let mut parts = name.split("\\x");
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let code = part
            .get(..2)
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match (code, part.get(2..)) {
            (Some(code), Some(rest)) if code.is_ascii() => {
                plain.push(char::from(code));
                plain.push_str(rest);
            }
            _ => {
                plain.push_str("\\x");
                plain.push_str(part);
            }
        }
    }
    plain
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
    fn the_cgroup_that_holds_the_named_one_is_told() {
        for (path, parent) in [
            ("/lxc.payload.web", ""),
            ("/lxc/web/init.scope", "/lxc"),
            ("/a/lxc.payload/web", "/a/lxc.payload"),
            ("/a/b/machine-x.scope/payload", "/a/b"),
        ] {
            assert_eq!(innermost_in(path).unwrap().1, parent, "{path}");
        }
        let path = format!("/a/docker-{ID}.scope");
        assert_eq!(innermost_in(&path).unwrap().1, "/a");
    }

    #[test]
    fn machines_of_systemd_have_names() {
        for (path, name) in [
            ("/machine.slice/machine-deb\\x2d13.scope/payload", "deb-13"),
            (
                "/machine.slice/systemd-nspawn@web.service/payload/init.scope",
                "web",
            ),
            ("/machine.slice/web.scope/payload/system.slice", "web"),
            ("/machine.slice/machine-a\\xzz.scope", "a\\\\xzz"),
        ] {
            assert_eq!(named(path).as_deref(), Some(name), "{path}");
        }
        let inner =
            format!("/machine.slice/machine-web.scope/payload/system.slice/docker-{ID}.scope");
        assert_eq!(named(&inner).as_deref(), Some("3f2a6b1c9d8e"));
    }

    #[test]
    fn an_id_is_whole_or_as_much_of_it_as_engines_print() {
        assert_eq!(whole(&format!("0::/docker/{ID}")).as_deref(), Some(ID));
        assert_eq!((short(ID), short("web")), ("3f2a6b1c9d8e", "web"));
        assert!(is_id_as_printed(ID) && is_id_as_printed("3f2a6b1c9d8e"));
        assert!(!is_id_as_printed("3f2a") && !is_id_as_printed("not-hexadecimal"));
    }

    #[test]
    fn the_rest_has_none() {
        for path in [
            "/",
            "/system.slice/ssh.service",
            "/docker/3f2a",
            "/lxc/",
            "/user.slice/-.scope",
            "/machine.slice/machine-.scope",
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

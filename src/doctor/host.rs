//! The kernel and what it accounts.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::utsname::uname;

use super::Line;
use crate::host::is_since;
use crate::host::process::Proc;
use crate::parse::pid_cgroup::memberships;
use crate::session::terms::{ROOM, Timeouts};

const FUSE: &str = "/dev/fuse";
const PRESSURE: &str = "/proc/pressure";
const V2_ROOTS: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
const SELINUX: &str = "/sys/fs/selinux";
const BOOLEAN: &str = "virt_sandbox_use_fusefs";

const CONTAINER_FILES: [&str; 4] = [
    "/run/systemd/container",
    "/run/host/container-manager",
    "/run/.containerenv",
    "/.dockerenv",
];

/// Controllers by their v1 names and their v2 names, and what containers are shown without.
const CONTROLLERS: [(&str, &str, &str); 5] = [
    (
        "memory",
        "memory",
        "the size of the host's memory, all of it free",
    ),
    (
        "cpu",
        "cpu",
        "all CPUs of their cpuset, whatever their quota",
    ),
    ("cpuset", "cpuset", "all CPUs, if no quota says otherwise"),
    ("blkio", "io", "disks without figures"),
    ("pids", "pids", "a load average that takes longer to count"),
];

/// What the kernel has, and what it lets this host have.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// Why `/dev/fuse` cannot be opened; `None` if it can.
    pub fuse: Option<Errno>,
    /// Whether this host is itself a container.
    pub in_container: bool,
    /// Whether `/proc/filesystems` has FUSE.
    pub knows_fuse: bool,
    /// As uname(1) prints it.
    pub release: String,
    /// How long a server may take to answer before the kernel aborts its connection.
    pub request_timeout: Option<Duration>,
    /// Whether there is `/proc/pressure`.
    pub has_pressure: bool,
    /// v1 hierarchies, by their controllers.
    pub v1: Vec<String>,
    /// Where the v2 hierarchy is mounted.
    pub v2_root: PathBuf,
    /// Its controllers; `None` if it is not mounted.
    pub v2: Option<Vec<String>>,
    /// Those that its root hands on to the cgroups below it.
    pub handed_on: Vec<String>,
    /// Whether swap is accounted; `None` if no cgroup tells.
    pub swap_accounted: Option<bool>,
    /// Whether SELinux lets containers use FUSE; `None` where it enforces nothing.
    pub selinux: Option<bool>,
}

/// Looks at the kernel.
pub fn gather(proc: &Proc) -> Facts {
    let fuse = File::options().read(true).write(true).open(FUSE).err();
    let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let name = uname().ok();
    let release = name.as_ref().and_then(|name| name.release().to_str());
    let root = V2_ROOTS
        .into_iter()
        .map(Path::new)
        .find(|root| root.join("cgroup.controllers").exists());
    let words = |file: &str| -> Option<Vec<String>> {
        let text = fs::read_to_string(root?.join(file)).ok()?;
        Some(text.split_ascii_whitespace().map(str::to_owned).collect())
    };
    Facts {
        fuse: fuse.map(|error| Errno::from_raw(error.raw_os_error().unwrap_or(0))),
        in_container: in_container(proc),
        knows_fuse: text("/proc/filesystems").contains("fuse"),
        release: release.unwrap_or_default().to_owned(),
        request_timeout: Timeouts::now().effective(),
        has_pressure: Path::new(PRESSURE).exists(),
        v1: v1_controllers(&text("/proc/self/cgroup")),
        v2_root: root.unwrap_or(Path::new("")).to_owned(),
        v2: words("cgroup.controllers"),
        handed_on: words("cgroup.subtree_control").unwrap_or_default(),
        swap_accounted: swap_accounted(root),
        selinux: selinux(),
    }
}

/// Whether one of the files of engines is there, or the variable by which they tell the first
/// process (<https://systemd.io/CONTAINER_INTERFACE>).
fn in_container(proc: &Proc) -> bool {
    let environment = || proc.read(1, "environ").unwrap_or_default();
    CONTAINER_FILES.iter().any(|file| Path::new(file).exists())
        || environment()
            .split('\0')
            .any(|variable| variable.starts_with("container="))
}

fn v1_controllers(cgroups: &str) -> Vec<String> {
    let named = memberships(cgroups).filter(|line| !line.is_v2());
    let all = named.flat_map(|line| line.controllers.split(','));
    all.filter(|name| !name.starts_with("name="))
        .map(str::to_owned)
        .collect()
}

/// The root of the v2 hierarchy has no file about it, but every cgroup below with memory.
fn swap_accounted(root: Option<&Path>) -> Option<bool> {
    let v1 = Path::new("/sys/fs/cgroup/memory");
    if v1.join("memory.limit_in_bytes").exists() {
        return Some(v1.join("memory.memsw.limit_in_bytes").exists());
    }
    let mut below = fs::read_dir(root?)
        .ok()?
        .flatten()
        .map(|entry| entry.path());
    let with_memory = below.find(|path| path.join("memory.max").exists())?;
    Some(with_memory.join("memory.swap.max").exists())
}

/// `None` if SELinux is off or does not enforce.
fn selinux() -> Option<bool> {
    let read = |file: String| fs::read_to_string(Path::new(SELINUX).join(file)).ok();
    let enforces = read("enforce".to_owned())?.trim() == "1";
    let boolean = read(format!("booleans/{BOOLEAN}")).unwrap_or_default();
    enforces.then(|| boolean.starts_with('1'))
}

/// What there is to say of these facts.
pub fn lines(facts: &Facts) -> Vec<Line> {
    let mut lines = vec![fuse(facts), kernel(&facts.release), pressure(facts)];
    lines.extend(facts.request_timeout.and_then(request_timeout));
    lines.extend(layout(facts));
    lines.extend(swap(facts));
    lines.extend(facts.selinux.map(of_selinux));
    lines
}

fn fuse(facts: &Facts) -> Line {
    match facts.fuse {
        None => Line::ok("FUSE can be used"),
        Some(errno) if facts.in_container => Line::note(format!(
            "this container cannot use /dev/fuse ({}), so it has the views of the host's lxcfs only",
            errno.desc()
        )),
        Some(_) if !facts.knows_fuse => {
            Line::mend("the kernel module fuse is not loaded").by("modprobe fuse")
        }
        Some(Errno::ENOENT) => {
            Line::mend("there is no /dev/fuse").by("mknod -m 666 /dev/fuse c 10 229")
        }
        Some(errno) => Line::mend(format!("/dev/fuse cannot be opened: {errno}")),
    }
}

/// What older kernels lack, the most grievous first.
const SINCE: [((u32, u32), &str); 3] = [
    (
        (5, 12),
        "containers must be restarted to get or repair views, as attach and remount need Linux 5.12",
    ),
    (
        (6, 9),
        "what is being read when the server crashes fails once, which Linux 6.9 prevents",
    ),
    (
        (6, 12),
        "mounts with an id map, as pods with hostUsers: false have, need Linux 6.12",
    ),
];

fn kernel(release: &str) -> Line {
    let lacks = SINCE.iter().filter(|(since, _)| !is_since(release, *since));
    let lacks: Vec<_> = lacks.map(|(_, what)| *what).collect();
    if lacks.is_empty() {
        Line::ok(format!("Linux {release} has all that lxcfs uses"))
    } else {
        Line::note(format!("Linux {release}: {}", lacks.join("; ")))
    }
}

/// A default that is too short does not matter: more is asked for.
fn request_timeout(timeout: Duration) -> Option<Line> {
    let (seconds, room) = (timeout.as_secs(), ROOM.as_secs());
    (timeout < ROOM).then(|| {
        Line::mend(format!(
            "the kernel aborts a connection whose server has not answered for {seconds} s, which a busy host can need; {room} s are enough, for what is mounted from then on"
        ))
        .by(format!("sysctl -w fs.fuse.max_request_timeout={room}"))
    })
}

fn pressure(facts: &Facts) -> Line {
    if !facts.has_pressure {
        Line::note(
            "the kernel accounts no pressure, so containers have no /proc/pressure; psi=1 on its command line may help",
        )
    } else if facts.v2.is_none() {
        Line::note("pressure of containers is accounted by cgroup v2 only, so theirs is 0")
    } else {
        Line::ok("pressure is accounted")
    }
}

fn layout(facts: &Facts) -> Vec<Line> {
    let v2 = facts.v2.clone().unwrap_or_default();
    let has = |list: &[String], name: &str| list.iter().any(|known| known == name);
    let kind = match (facts.v1.is_empty(), facts.v2.is_some()) {
        (true, true) => "cgroup v2",
        (true, false) => {
            return vec![
                Line::mend("no cgroup file system is mounted")
                    .by("mount -t cgroup2 none /sys/fs/cgroup"),
            ];
        }
        (false, true) => "cgroup v1, with v2 beside it",
        (false, false) => "cgroup v1",
    };
    let missing =
        |(v1, v2_name, _): &&(&str, &str, &str)| !has(&facts.v1, v1) && !has(&v2, v2_name);
    let mut lines = vec![Line::ok(kind)];
    for (_, name, shown) in CONTROLLERS.iter().filter(missing) {
        lines.push(Line::note(format!(
            "the controller {name} is missing, so containers are shown {shown}"
        )));
    }
    for (_, name, shown) in CONTROLLERS
        .iter()
        .filter(|(_, name, _)| has(&v2, name) && !has(&facts.handed_on, name))
    {
        let text = format!(
            "the controller {name} is not handed on to containers, which are shown {shown}"
        );
        let file = facts.v2_root.join("cgroup.subtree_control");
        let command = format!("echo +{name} > {}", file.display());
        lines.push(Line::note(text).by(command));
    }
    lines
}

fn swap(facts: &Facts) -> Option<Line> {
    (facts.swap_accounted == Some(false)).then(|| {
        Line::note("swap is not accounted, so containers are shown none; swapaccount=1 on the kernel's command line changes that")
    })
}

fn of_selinux(allows: bool) -> Line {
    if allows {
        Line::ok("SELinux lets containers read the views")
    } else {
        Line::mend("SELinux lets no container read the views")
            .by(format!("setsebool -P {BOOLEAN} 1"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Verdict;

    fn names(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    fn modern() -> Facts {
        Facts {
            knows_fuse: true,
            release: "6.12.5".to_owned(),
            has_pressure: true,
            v2: Some(names("cpuset cpu io memory pids")),
            handed_on: names("cpuset cpu io memory pids"),
            swap_accounted: Some(true),
            ..Facts::default()
        }
    }

    fn said(facts: &Facts) -> Vec<(Verdict, String)> {
        let lines = lines(facts).into_iter();
        lines
            .filter(|line| line.verdict != Verdict::Ok)
            .map(|line| (line.verdict, line.command.unwrap_or(line.text)))
            .collect()
    }

    #[test]
    fn nothing_is_wrong_with_a_modern_host() {
        assert_eq!(said(&modern()), []);
        let v1 = Facts {
            v1: names("cpuset cpu cpuacct blkio memory pids"),
            v2: Some(Vec::new()),
            handed_on: Vec::new(),
            ..modern()
        };
        assert_eq!(said(&v1), []);
    }

    #[test]
    fn without_fuse_the_module_or_the_device_is_missing() {
        let fuse = |errno, knows_fuse| {
            let facts = Facts {
                fuse: Some(errno),
                knows_fuse,
                ..modern()
            };
            said(&facts)
        };
        let mend = |command: &str| vec![(Verdict::Mend, command.to_owned())];
        assert_eq!(fuse(Errno::ENOENT, false), mend("modprobe fuse"));
        assert_eq!(
            fuse(Errno::ENOENT, true),
            mend("mknod -m 666 /dev/fuse c 10 229")
        );
        let [(Verdict::Mend, text)] = &fuse(Errno::EPERM, true)[..] else {
            panic!("not to be mended");
        };
        assert!(text.contains("EPERM"), "{text}");
    }

    #[test]
    fn an_old_kernel_is_said_to_lack_what_it_lacks() {
        assert!(kernel("5.10.0").text.contains("5.12"));
        assert!(kernel("6.8.0").text.contains("6.9"));
        let text = kernel("6.11.2").text;
        assert!(text.contains("6.12") && !text.contains("6.9"), "{text}");
    }

    #[test]
    fn a_timeout_of_requests_that_is_too_short_is_named() {
        let timeout = |seconds| Facts {
            request_timeout: Some(Duration::from_secs(seconds)),
            ..modern()
        };
        assert_eq!(said(&timeout(60)), []);
        let command = "sysctl -w fs.fuse.max_request_timeout=60".to_owned();
        assert_eq!(said(&timeout(15)), [(Verdict::Mend, command)]);
    }

    #[test]
    fn what_is_not_accounted_is_named_with_what_shows_instead() {
        let facts = Facts {
            v2: Some(names("cpu memory pids")),
            handed_on: names("memory pids"),
            has_pressure: false,
            swap_accounted: Some(false),
            ..modern()
        };
        let said: Vec<_> = said(&facts);
        assert!(said.iter().all(|(verdict, _)| *verdict == Verdict::Note));
        let texts: Vec<_> = said.iter().map(|(_, text)| text.as_str()).collect();
        for part in [
            "psi=1",
            "controller cpuset is missing",
            "controller io is missing",
            "echo +cpu >",
            "swapaccount",
        ] {
            assert!(
                texts.iter().any(|text| text.contains(part)),
                "{part}: {texts:?}"
            );
        }
    }

    #[test]
    fn selinux_that_enforces_must_allow_fuse() {
        let facts = |selinux| Facts {
            selinux,
            ..modern()
        };
        assert_eq!(said(&facts(Some(true))), []);
        let mend = (Verdict::Mend, format!("setsebool -P {BOOLEAN} 1"));
        assert_eq!(said(&facts(Some(false))), [mend]);
    }

    #[test]
    fn controllers_of_v1_come_from_memberships() {
        let text = "12:cpu,cpuacct:/\n3:memory:/a\n1:name=systemd:/\n0::/\n";
        assert_eq!(v1_controllers(text), ["cpu", "cpuacct", "memory"]);
    }
}

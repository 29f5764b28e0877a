//! The cheapest container: namespaces and cgroups made by hand, no engine. Also how to act inside any container.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::{Cgroup, Daemon, Ran, children, parent, patience, run_within, wait_for};

/// What a container may use; `None` leaves it unlimited.
#[derive(Debug, Clone, Default)]
pub struct Limits<'a> {
    pub memory_bytes: Option<u64>,
    pub cpus: Option<f64>,
    pub cpuset: Option<&'a str>,
}

/// A running container of any maker, as seen from the host.
#[derive(Debug, Clone)]
pub struct Inside {
    /// Host pid of the container's init.
    pub init: i32,
    pub cgroup: Cgroup,
}

impl Inside {
    /// A command that runs in the container's cgroup, pid and cgroup namespaces, but with the host's file systems: what
    /// it reads below a daemon's mount point is what the container reads.
    pub fn command(&self, argv: &[&str]) -> Command {
        self.enter(&["--pid", "--cgroup"], argv)
    }

    /// A command that runs in the container's file systems too.
    pub fn command_in_rootfs(&self, argv: &[&str]) -> Command {
        self.enter(&["--pid", "--cgroup", "--mount"], argv)
    }

    /// A command that runs in the container as its own processes do, in its time too; nothing that started it stays in
    /// the container's cgroup.
    pub fn command_alone(&self, argv: &[&str]) -> Command {
        let time = if Path::new("/proc/self/ns/time").exists() {
            "--time"
        } else {
            ""
        };
        // Entering a pid namespace takes a child, and only that one joins the cgroup.
        let script = format!(
            "{}exec nsenter --target {} --cgroup --mount {time} -- \"$@\"",
            self.cgroup.enter_script(),
            self.init
        );
        let mut command = Command::new("nsenter");
        command
            .args(["--target", &self.init.to_string(), "--pid", "--"])
            .args(["sh", "-ec", &script, "enter"])
            .args(argv);
        command
    }

    fn enter(&self, namespaces: &[&str], argv: &[&str]) -> Command {
        let mut command = Command::new("sh");
        let script = format!(
            "{}exec nsenter --target {} \"$@\"",
            self.cgroup.enter_script(),
            self.init
        );
        command
            .args(["-ec", &script, "enter"])
            .args(namespaces)
            .arg("--")
            .args(argv);
        command
    }

    /// Reads a file of the daemon as a process of this container.
    #[track_caller]
    pub fn read(&self, daemon: &Daemon, below: &str) -> String {
        self.run(&["cat", &daemon.arg(below)]).ok()
    }

    #[track_caller]
    pub fn run(&self, argv: &[&str]) -> Ran {
        run_within(&mut self.command(argv), patience(20))
    }

    /// Processes in the container's cgroup beside its init and what started that.
    pub fn guests(&self) -> Vec<i32> {
        let starter = parent(self.init);
        let is_guest = |pid: &i32| *pid != self.init && Some(*pid) != starter;
        self.cgroup
            .processes()
            .into_iter()
            .filter(is_guest)
            .collect()
    }

    /// Starts a command in the container and leaves it running.
    #[track_caller]
    pub fn spawn(&self, argv: &[&str]) -> Child {
        let mut command = self.command(argv);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command.spawn().expect("starting a command in a container")
    }
}

/// A container made with `unshare`: its own cgroups, pid namespace and cgroup namespace. Removed when dropped.
#[derive(Debug)]
pub struct Cell {
    inside: Inside,
    unshare: Child,
}

impl std::ops::Deref for Cell {
    type Target = Inside;

    fn deref(&self) -> &Inside {
        &self.inside
    }
}

impl Cell {
    #[track_caller]
    pub fn start(limits: &Limits) -> Self {
        Self::in_cgroup(Cgroup::create(), limits)
    }

    /// A container in a cgroup that is removed with it.
    #[track_caller]
    pub fn in_cgroup(cgroup: Cgroup, limits: &Limits) -> Self {
        let init = [Path::new("sleep"), Path::new("100000")];
        Self::launch(cgroup, limits, &init, true)
    }

    /// A container whose init is the given command, with or without a cgroup namespace of its own.
    #[track_caller]
    pub fn with_init(limits: &Limits, init: &[&Path], cgroup_namespace: bool) -> Self {
        Self::launch(Cgroup::create(), limits, init, cgroup_namespace)
    }

    #[track_caller]
    fn launch(cgroup: Cgroup, limits: &Limits, init: &[&Path], cgroup_namespace: bool) -> Self {
        if let Some(bytes) = limits.memory_bytes {
            cgroup.set_memory_limit_bytes(bytes);
        }
        if let Some(cpus) = limits.cpus {
            cgroup.set_cpus(cpus);
        }
        if let Some(list) = limits.cpuset {
            cgroup.set_cpuset(list);
        }
        let namespaces = if cgroup_namespace {
            "--pid --cgroup"
        } else {
            "--pid"
        };
        let script = format!(
            "{}exec unshare --fork {namespaces} --kill-child=KILL -- \"$@\"",
            cgroup.enter_script()
        );
        #[allow(clippy::zombie_processes, reason = "dropping the cell waits for it")]
        let mut unshare = Command::new("sh")
            .args(["-ec", &script, "start"])
            .args(init)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("starting unshare");
        let outer = i32::try_from(unshare.id()).expect("a pid");
        let executable =
            |pid: i32| std::fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
        let init = wait_for(patience(10), || {
            // The child is the container's init once it has become another program than unshare.
            let child = children(outer).first().copied()?;
            (!executable(child).ends_with("unshare") && executable(outer).ends_with("unshare"))
                .then_some(child)
        });
        let Some(init) = init else {
            let _ = unshare.kill();
            cgroup.remove();
            panic!("no init in the container");
        };
        Self {
            inside: Inside { init, cgroup },
            unshare,
        }
    }

    pub fn inside(&self) -> &Inside {
        &self.inside
    }
}

impl Drop for Cell {
    fn drop(&mut self) {
        self.inside.cgroup.freeze(false);
        let _ = self.unshare.kill();
        let _ = self.unshare.wait();
        self.inside.cgroup.remove();
    }
}

/// A program with this file name that sleeps, for inits with awkward names.
pub fn sleeper_named(dir: &Path, name: &str) -> PathBuf {
    let path = dir.join(name);
    std::fs::copy("/bin/sleep", &path).expect("copying sleep");
    path
}

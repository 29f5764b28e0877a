//! Whether this process stands where it can see what it is to tell of: other processes, their
//! namespaces and their cgroups.

use std::io;

use nix::sched::{CloneFlags, setns};
use nix::unistd::{getegid, getpid};

use super::mounts::own_lines;
use super::process::{Namespace, Proc};
use crate::parse::pid_cgroup::memberships;

/// The init of the pid namespace: on a host the host's.
const INIT: i32 = 1;

/// On a host a process that the kernel has made, in the namespaces that it starts with.
const FIRST_KERNEL_THREAD: i32 = 2;

/// man: capabilities(7).
const CAP_SYS_PTRACE: u32 = 19;

/// The kernel's number of the pid namespace that it starts with (include/linux/proc_ns.h).
const FIRST_PID_NAMESPACE: u64 = 0xEFFF_FFFC;

/// Whether `/proc` is the one of this process's pid namespace. In another one, the numbers of
/// readers are those of other processes.
///
/// # Errors
/// One sentence about what is there instead.
pub fn check_proc(proc: &Proc) -> io::Result<()> {
    let own = getpid().to_string();
    match proc.read_link("self") {
        Ok(link) if link.as_os_str() == own.as_str() => Ok(()),
        Ok(_) => Err(io::Error::other(
            "/proc belongs to another pid namespace than lxcfs; mount a proc of its own there",
        )),
        Err(errno) => Err(io::Error::other(format!(
            "cannot read /proc/self: {errno}; mount a proc that shows the processes of lxcfs"
        ))),
    }
}

/// Has this thread, and those that it starts, see cgroups as the host's processes do, if it sees
/// them from within: an engine may have put this process into a cgroup namespace of its own.
/// Where that is not allowed nothing changes.
pub fn leave_cgroup_namespace(proc: &Proc) {
    let seen = proc.read(INIT, "cgroup").unwrap_or_default();
    if !memberships(&seen).any(|line| line.path.starts_with("/..")) {
        return;
    }
    let candidates = [INIT, FIRST_KERNEL_THREAD];
    let known = if sees_host(proc) { 2 } else { 1 };
    let enter = |pid: &i32| {
        let namespace = proc.hold_namespace(*pid, Namespace::Cgroup)?;
        setns(namespace, CloneFlags::CLONE_NEWCGROUP)
    };
    let mut entered = candidates.iter().take(known).map(enter);
    if !entered.any(|entered| entered.is_ok()) {
        log::debug!("cannot leave the cgroup namespace of this process");
    }
}

/// Whether the pid namespace is the one that the kernel starts with.
fn sees_host(proc: &Proc) -> bool {
    proc.namespace(getpid().as_raw(), Namespace::Pid) == Some(FIRST_PID_NAMESPACE)
}

/// The texts of `/proc/PID/cgroup` of processes whose cgroups are to be found: this one, and the
/// init of a host whose processes are all seen.
pub fn memberships_to_find(proc: &Proc) -> Vec<String> {
    let init = sees_host(proc).then_some(INIT);
    let pids = std::iter::once(getpid().as_raw()).chain(init);
    let texts = pids.map(|pid| proc.read(pid, "cgroup"));
    texts.filter_map(Result::ok).collect()
}

/// What this process cannot see, a sentence for each.
#[must_use]
pub fn limits(proc: &Proc) -> Vec<&'static str> {
    let own = getpid().as_raw();
    if may_look(own, proc) {
        return Vec::new();
    }
    let mut limits = vec![
        "lxcfs lacks CAP_SYS_PTRACE: processes of containers that may do more than lxcfs are shown \
         the figures of their own cgroup, whatever their namespaces",
    ];
    let mounts = own_lines(proc, "proc").unwrap_or_default();
    if hides_processes(&mounts, getegid().as_raw()) {
        limits.push(
            "the option hidepid of /proc hides processes of others from lxcfs, which lacks \
             CAP_SYS_PTRACE: they read errors",
        );
    }
    limits
}

/// Whether the process may look at all others in its user namespace.
#[must_use]
pub fn may_look(pid: i32, proc: &Proc) -> bool {
    proc.has_capability(pid, CAP_SYS_PTRACE)
}

/// Whether what is mounted at `/proc` has the option `hidepid`, unless for a group in which
/// this process is: by default that of root.
fn hides_processes(mountinfo: &str, own_group: u32) -> bool {
    let is_proc = |line: &&str| line.contains(" / /proc ") && line.contains(" - proc ");
    let line = mountinfo.lines().rfind(is_proc).unwrap_or_default();
    let option = |name| {
        let mut options = line.split([' ', ',']);
        options.find_map(|option| option.strip_prefix(name))
    };
    let group = option("gid=").unwrap_or("0");
    match option("hidepid=") {
        None | Some("0" | "off") => false,
        Some("4" | "ptraceable") => true,
        Some(_) => group != own_group.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_are_hidden_by_the_option_of_the_topmost_proc() {
        let hides = |text: &str| hides_processes(text, 0);
        let line = |options: &str| format!("23 1 0:22 / /proc rw,nosuid - proc proc {options}\n");
        assert!(!hides(&line("rw")));
        assert!(!hides(&line("rw,hidepid=off,gid=4")));
        assert!(hides(&line("rw,gid=4,hidepid=invisible")));
        assert!(!hides(&line("rw,hidepid=2")));
        assert!(hides(&line("rw,hidepid=ptraceable")));
        assert!(!hides(&(line("rw,hidepid=4") + &line("rw"))));
        assert!(!hides("24 1 0:22 / /mnt rw - proc proc rw,hidepid=4\n"));
    }
}

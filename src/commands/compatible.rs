//! Options of LXCFS that are accepted and change nothing.

use crate::cli::DaemonArgs;

/// Says which of them were given, and why they have no effect.
pub(super) fn report(args: &DaemonArgs) {
    let given = [
        (
            args.foreground,
            "--foreground",
            "the daemon always stays in the foreground",
        ),
        (
            args.enable_loadavg,
            "--enable-loadavg",
            "load averages are the container's by default",
        ),
        (
            args.enable_cfs,
            "--enable-cfs",
            "--cpu-view=quota is the default",
        ),
        (
            args.enable_pidfd,
            "--enable-pidfd",
            "readers are always identified safely",
        ),
        (
            args.enable_cgroup,
            "--enable-cgroup",
            "the kernel's cgroup namespaces replace it",
        ),
        (
            args.single_threaded,
            "-s",
            "several readers are always served at once",
        ),
    ];
    for (_, option, reason) in given.into_iter().filter(|(given, ..)| *given) {
        log::info!("{option} has no effect: {reason}");
    }
}

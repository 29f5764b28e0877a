//! How old each thing that is remembered can be when a reader is shown it, or is told apart by it.
//! docs/SEMANTICS.md, "How old a figure can be", has the same table for users, and a test compares
//! the two.

use super::Validity;

const MSEC: u64 = 1_000_000;
const SEC: u64 = 1_000 * MSEC;

/// Declares the validities, and a table of them.
macro_rules! validities {
    ($($(#[$doc:meta])* $name:ident = $validity:expr, $words:literal;)*) => {
        $($(#[$doc])* pub const $name: Validity = $validity;)*

        /// All of them, in the words of docs/SEMANTICS.md.
        pub const ALL: &[(&str, Validity)] = &[$(($words, $name)),*];
    };
}

validities! {
    /// A text that another reader of the same container has got: half the resolution of its times.
    TEXT = Validity::within_epoch(5 * MSEC), "the text of a file, for another reader of the container";

    /// The CPUs that a container is shown. They follow from its limits and from the CPUs online.
    CPUS_SHOWN = Validity::within_epoch(u64::MAX), "the CPUs that a container is shown, by its limits";

    /// The CPUs online: not to be noticed, and far longer than reading them takes.
    CPUS_ONLINE = Validity::for_nsec(10 * MSEC), "the CPUs online";

    /// After a CPU has come or gone cpusets may be from before for so long: the kernel brings them up
    /// to date later, in a work queue (kernel/cgroup/cpuset.c).
    CPUSETS_SETTLE = Validity::for_nsec(SEC), "cpusets, after a CPU has come or gone";

    /// The host's own figures, of which parts are shown or shares apportioned.
    HOST_FIGURES = Validity::for_nsec(100 * MSEC), "figures of the host";

    /// What hardly ever changes on the host: its CPUs' models and frequencies, its nodes.
    HOST_FACTS = Validity::for_nsec(SEC), "facts of the host: models and frequencies of CPUs, nodes";

    /// The rows of the host's tables of interrupts, which are megabytes on large machines.
    HOST_INTERRUPTS = Validity::for_nsec(10 * SEC), "rows of the host's tables of interrupts";

    /// The states of the threads of a container that has more than a few.
    THREAD_STATES = Validity::for_nsec(200 * MSEC), "what threads do, where there are more than 32";

    /// The list of the threads of a container that has few, while their number is the same. The
    /// kernel itself moves none but those of a cpuset that has lost its last CPU (v1).
    THREAD_LIST = Validity::within_epoch(10 * SEC), "which threads there are, where there are at most 8";

    /// The disks behind the mounts of a container.
    BACKING_DISKS = Validity::for_nsec(30 * SEC), "the disks behind the mounts of a container";

    /// The container of readers with the same cgroups and namespaces. What it follows from besides,
    /// such as the cgroup of its init, hardly ever changes; within an epoch nobody is moved.
    CONTAINER = Validity::longer_within_epoch(5 * SEC, 300 * SEC), "the container of readers with the same cgroups and namespaces";

    /// The namespaces of a thread that reads again and again. One that enters others is shown the
    /// figures of its former container for as long as this.
    NAMESPACES = Validity::for_nsec(2 * MSEC), "the namespaces of a thread that reads again and again";

    /// The cgroups of such a thread. The kernel itself moves threads when the last CPU of a cpuset is
    /// switched off.
    MEMBERSHIPS = Validity::within_epoch(2 * SEC), "the cgroups of such a thread";
}

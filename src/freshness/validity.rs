//! How old each thing that is remembered can be when a reader is shown it, or is told apart by it.
//! docs/SEMANTICS.md, "How old a figure can be", has the same table for users, and a test compares
//! the two.

use super::Validity;

const MSEC: u64 = 1_000_000;
const SEC: u64 = 1_000 * MSEC;

/// A text that another reader of the same container has got: half the resolution of its times.
pub const TEXT: Validity = Validity::within_epoch(5 * MSEC);

/// The CPUs that a container is shown. They follow from its limits and from the CPUs online.
pub const CPUS_SHOWN: Validity = Validity::within_epoch(u64::MAX);

/// The CPUs online: not to be noticed, and far longer than reading them takes.
pub const CPUS_ONLINE: Validity = Validity::for_nsec(10 * MSEC);

/// After a CPU has come or gone cpusets may be from before for so long: the kernel brings them up
/// to date later, in a work queue (kernel/cgroup/cpuset.c).
pub const CPUSETS_SETTLE: Validity = Validity::for_nsec(SEC);

/// The host's own figures, of which parts are shown or shares apportioned.
pub const HOST_FIGURES: Validity = Validity::for_nsec(100 * MSEC);

/// What hardly ever changes on the host: its CPUs' models and frequencies, its nodes.
pub const HOST_FACTS: Validity = Validity::for_nsec(SEC);

/// The rows of the host's tables of interrupts, which are megabytes on large machines.
pub const HOST_INTERRUPTS: Validity = Validity::for_nsec(10 * SEC);

/// The states of the threads of a container that has more than a few.
pub const THREAD_STATES: Validity = Validity::for_nsec(200 * MSEC);

/// The list of the threads of a container that has few, while their number is the same. The
/// kernel itself moves none but those of a cpuset that has lost its last CPU (v1).
pub const THREAD_LIST: Validity = Validity::within_epoch(10 * SEC);

/// The disks behind the mounts of a container.
pub const BACKING_DISKS: Validity = Validity::for_nsec(30 * SEC);

/// The container of readers with the same cgroups and namespaces. What it follows from besides,
/// such as the cgroup of its init, hardly ever changes; within an epoch nobody is moved.
pub const CONTAINER: Validity = Validity::longer_within_epoch(5 * SEC, 300 * SEC);

/// The namespaces of a thread that reads again and again. One that enters others is shown the
/// figures of its former container for as long as this.
pub const NAMESPACES: Validity = Validity::for_nsec(2 * MSEC);

/// The cgroups of such a thread. The kernel itself moves threads when the last CPU of a cpuset is
/// switched off.
pub const MEMBERSHIPS: Validity = Validity::within_epoch(2 * SEC);

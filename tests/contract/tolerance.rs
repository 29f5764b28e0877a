//! How far figures may be apart that are read one after the other.

/// Each time column of a CPU is rounded to a tick of 10 ms on its own, and four of them are ever used.
pub const ROUNDING_SECONDS: f64 = 0.04;

/// A text serves all who read the file within 5 ms; the rest is a tick of the clock it was made with.
pub const AGE_SECONDS: f64 = 0.015;

/// `/proc/stat` counts whole ticks, `/proc/uptime` hundredths.
pub const TICK_SECONDS: f64 = 0.01;

/// The kernel tells of throttled time and of a running thread's CPU time at its own ticks and at the end of a period of
/// 100 ms, for each CPU.
pub const ACCOUNTING_SECONDS: f64 = 0.11;

/// The kernel charges memory in batches of 64 pages for each CPU, and each file is read at another instant.
pub const MEMORY_KB: u64 = 1024;

/// `memory.stat` lags behind the usage: its figures of several lists are taken one after the other.
pub const LISTS_KB: u64 = 8;

/// What the host has is read at another instant, and is in use by others.
pub const HOST_KB: u64 = 262_144;

/// Threads start and end between the look at `/proc` and the read of a figure.
pub const THREADS: u64 = 1;

/// The state of a thread changes within microseconds.
pub const RUNNING: u64 = 2;

/// `btime` is a whole second.
pub const BTIME_SECONDS: f64 = 1.1;

/// The time that engines take from making a container's namespaces to starting its first process.
pub const START_SECONDS: f64 = 1.0;

/// No machine of today does more of anything a second, kB of I/O or interrupts, for one small container.
pub const SANE_PER_SECOND: f64 = 1e6;

/// Slab pages are estimated by object size.
pub const SLAB_SHARE: f64 = 0.1;

/// The longest time that half of the reads may take.
pub const LATENCY_SECONDS: f64 = 0.02;

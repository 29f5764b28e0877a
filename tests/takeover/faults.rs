//! Faults on demand, which only a debug build of the daemon has.

/// Variable of the daemon's environment.
pub const FAULT: &str = "LXCFS_TEST_FAULT";

/// Whether the daemon under test is the debug build that cargo made for these tests.
pub fn are_there() -> bool {
    std::env::var_os("LXCFS_BIN").is_none()
}

//! Memory of this process.

/// Has the allocator return to the kernel what is free by now, which it else keeps wherever
/// something lies behind it.
pub fn give_back() {
    // SAFETY: the call has no condition, and no memory that is in use is touched.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}

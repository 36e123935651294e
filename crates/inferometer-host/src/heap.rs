//! Settings of the C library's allocator that make memory peaks comparable.

/// On glibc, makes every thread of this process allocate from one arena: [`give_back_freed`] cannot
/// return what remains free in other threads' arenas. Call it before any thread starts.
pub fn use_one_arena() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        const M_ARENA_MAX: std::ffi::c_int = -8;
        unsafe extern "C" {
            /// mallopt(3)
            fn mallopt(parameter: std::ffi::c_int, value: std::ffi::c_int) -> std::ffi::c_int;
        }
        // SAFETY: glibc has this function with this signature; it takes the allocator's own locks.
        // A refusal changes nothing.
        unsafe { mallopt(M_ARENA_MAX, 1) };
    }
}

/// On glibc, returns this process's freed memory to the system.
///
/// Peak memory is measured from a reset that starts at the process's current size, so freed memory
/// that the allocator keeps would appear in every later peak. The call takes milliseconds and makes
/// later allocations fault their pages in: never call it inside timed work.
pub fn give_back_freed() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        unsafe extern "C" {
            /// malloc_trim(3): releases free memory of every arena except `pad` bytes at the top of
            /// the heap.
            fn malloc_trim(pad: usize) -> std::ffi::c_int;
        }
        // SAFETY: glibc has this function with this signature; it takes the allocator's own locks
        // and touches only free memory. The result (whether it released anything) is not needed.
        unsafe { malloc_trim(0) };
    }
}

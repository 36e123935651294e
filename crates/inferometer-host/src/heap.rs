//! What a host asks of the C library's allocator, so that peaks of memory can be compared.

/// Has every thread of this process allocate from one arena, with glibc: [`give_back_freed`] cannot reach what threads
/// with arenas of their own have freed at the end of them. To be called before any thread is started.
pub fn use_one_arena() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        const M_ARENA_MAX: std::ffi::c_int = -8;
        unsafe extern "C" {
            /// mallopt(3)
            fn mallopt(parameter: std::ffi::c_int, value: std::ffi::c_int) -> std::ffi::c_int;
        }
        // SAFETY: glibc has this function with this signature; it takes the allocator's own locks. A refusal leaves
        // things as they are.
        unsafe { mallopt(M_ARENA_MAX, 1) };
    }
}

/// Gives this process's freed memory back to the system, where the allocator keeps it and can be asked to: with glibc.
///
/// A reset mark begins at what the process holds, so freed memory that the allocator keeps would show in every later
/// peak. It takes milliseconds and makes the next allocations fault their pages in: never inside timed work.
pub fn give_back_freed() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        unsafe extern "C" {
            /// malloc_trim(3): releases free memory of every arena, but for `pad` bytes at the top of the heap.
            fn malloc_trim(pad: usize) -> std::ffi::c_int;
        }
        // SAFETY: glibc has this function with this signature; it takes the allocator's own locks and touches only
        // memory that nobody holds. Its answer (whether any was released) is of no use here.
        unsafe { malloc_trim(0) };
    }
}

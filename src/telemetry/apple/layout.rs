//! Offsets of figures in the structures that the macOS kernel fills in.
//!
//! In bytes, from the published headers of the kernel (xnu: `osfmk/mach/vm_statistics.h`,
//! `bsd/sys/resource.h`, `bsd/sys/proc_info.h`). On macOS the compiler checks them against the
//! structures of the `libc` crate, field by field, so that no figure is read from a neighbouring
//! field.

/// The four-byte number at `offset`; `None` when the kernel filled in less.
pub(super) fn word(bytes: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(offset..offset + 4)?.try_into().ok()?))
}

/// The eight-byte number at `offset`; `None` when the kernel filled in less.
pub(super) fn long(bytes: &[u8], offset: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(bytes.get(offset..offset + 8)?.try_into().ok()?))
}

/// `struct vm_statistics64`: page counts of four bytes, and counts of events since boot of eight
/// bytes.
pub(super) mod vm_statistics64 {
    /// Length in integers up to the compressor's fields: HOST_VM_INFO64_REV1_COUNT. A kernel fills
    /// in as much of the structure as the caller's count allows, and complains of a count above its
    /// own.
    #[cfg(any(test, target_os = "macos"))]
    pub const WORDS: usize = 38;
    pub const FREE_COUNT: usize = 0;
    pub const INACTIVE_COUNT: usize = 8;
    pub const WIRE_COUNT: usize = 12;
    #[cfg(test)]
    pub const FAULTS: usize = 48;
    pub const PURGEABLE_COUNT: usize = 88;
    pub const SWAPINS: usize = 112;
    pub const SWAPOUTS: usize = 120;
    pub const COMPRESSOR_PAGE_COUNT: usize = 128;
}

/// `struct rusage_info_v4`: sixteen bytes of identity, then eight-byte numbers. Times are in the
/// kernel's ticks.
pub(super) mod rusage_info_v4 {
    pub const USER_TIME: usize = 16;
    pub const SYSTEM_TIME: usize = 24;
    pub const WIRED_SIZE: usize = 56;
    pub const RESIDENT_SIZE: usize = 64;
    pub const PHYS_FOOTPRINT: usize = 72;
    pub const INSTRUCTIONS: usize = 248;
    pub const CYCLES: usize = 256;
    pub const INTERVAL_MAX_PHYS_FOOTPRINT: usize = 280;
    pub const RUNNABLE_TIME: usize = 288;
}

/// `struct proc_taskinfo`: six eight-byte numbers, then twelve four-byte ones.
pub(super) mod proc_taskinfo {
    pub const FAULTS: usize = 52;
    pub const PAGEINS: usize = 56;
    pub const SWITCHES: usize = 80;
    pub const THREADNUM: usize = 84;
    pub const NUMRUNNING: usize = 88;
}

#[cfg(target_os = "macos")]
const _: () = {
    use std::mem::offset_of;

    macro_rules! stands_at {
        ($structure:ident: $($field:ident $offset:ident)*) => {
            $(assert!(offset_of!(libc::$structure, $field) == $structure::$offset);)*
        };
    }
    assert!(vm_statistics64::WORDS <= libc::HOST_VM_INFO64_COUNT as usize);
    stands_at!(vm_statistics64: free_count FREE_COUNT inactive_count INACTIVE_COUNT wire_count WIRE_COUNT purgeable_count PURGEABLE_COUNT swapins SWAPINS swapouts SWAPOUTS
        compressor_page_count COMPRESSOR_PAGE_COUNT);
    stands_at!(rusage_info_v4: ri_user_time USER_TIME ri_system_time SYSTEM_TIME ri_wired_size WIRED_SIZE
        ri_resident_size RESIDENT_SIZE ri_phys_footprint PHYS_FOOTPRINT ri_instructions INSTRUCTIONS ri_cycles CYCLES
        ri_interval_max_phys_footprint INTERVAL_MAX_PHYS_FOOTPRINT ri_runnable_time RUNNABLE_TIME);
    stands_at!(proc_taskinfo: pti_faults FAULTS pti_pageins PAGEINS pti_csw SWITCHES pti_threadnum THREADNUM
        pti_numrunning NUMRUNNING);
};

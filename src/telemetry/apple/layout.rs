//! Where a figure stands in the structures that macOS' kernel fills in.
//!
//! Offsets in bytes, from the headers that the kernel is published with (xnu: `osfmk/mach/vm_statistics.h`,
//! `bsd/sys/resource.h`, `bsd/sys/proc_info.h`). On macOS the compiler holds them against the structures of the `libc`
//! crate, field by field, so that no figure can be taken from its neighbour: a column too far, wired memory is page
//! faults.

/// A number of four bytes at `offset`; `None` when the kernel filled in less.
pub(super) fn word(bytes: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(offset..offset + 4)?.try_into().ok()?))
}

/// A number of eight bytes at `offset`; `None` when the kernel filled in less.
pub(super) fn long(bytes: &[u8], offset: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(bytes.get(offset..offset + 8)?.try_into().ok()?))
}

/// `struct vm_statistics64`: counts of pages, of four bytes, and of events since boot, of eight.
pub(super) mod vm_statistics64 {
    pub const WIRE_COUNT: usize = 12;
    #[cfg(test)]
    pub const FAULTS: usize = 48;
    pub const PURGEABLE_COUNT: usize = 88;
    pub const SWAPINS: usize = 112;
    pub const SWAPOUTS: usize = 120;
    pub const COMPRESSOR_PAGE_COUNT: usize = 128;
}

/// `struct rusage_info_v4`: sixteen bytes of identity, then numbers of eight bytes. Times are in the kernel's ticks.
pub(super) mod rusage_info_v4 {
    pub const USER_TIME: usize = 16;
    pub const SYSTEM_TIME: usize = 24;
    pub const WIRED_SIZE: usize = 56;
    pub const RESIDENT_SIZE: usize = 64;
    pub const PHYS_FOOTPRINT: usize = 72;
    pub const INSTRUCTIONS: usize = 248;
    pub const CYCLES: usize = 256;
}

/// `struct proc_taskinfo`: six numbers of eight bytes, then twelve of four.
pub(super) mod proc_taskinfo {
    pub const FAULTS: usize = 52;
    pub const PAGEINS: usize = 56;
    pub const SWITCHES: usize = 80;
    pub const THREADNUM: usize = 84;
}

#[cfg(target_os = "macos")]
const _: () = {
    use std::mem::offset_of;

    macro_rules! stands_at {
        ($structure:ident: $($field:ident $offset:ident)*) => {
            $(assert!(offset_of!(libc::$structure, $field) == $structure::$offset);)*
        };
    }
    stands_at!(vm_statistics64: wire_count WIRE_COUNT purgeable_count PURGEABLE_COUNT swapins SWAPINS swapouts SWAPOUTS
        compressor_page_count COMPRESSOR_PAGE_COUNT);
    stands_at!(rusage_info_v4: ri_user_time USER_TIME ri_system_time SYSTEM_TIME ri_wired_size WIRED_SIZE
        ri_resident_size RESIDENT_SIZE ri_phys_footprint PHYS_FOOTPRINT ri_instructions INSTRUCTIONS ri_cycles CYCLES);
    stands_at!(proc_taskinfo: pti_faults FAULTS pti_pageins PAGEINS pti_csw SWITCHES pti_threadnum THREADNUM);
};

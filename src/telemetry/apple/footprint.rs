//! The footprint's high-water mark over an interval: `proc_reset_footprint_interval` sets it to the
//! current footprint, and `ri_interval_max_phys_footprint` holds the highest one since.
//!
//! Both are in XNU (`libsyscall/wrappers/libproc/libproc.c`, `bsd/kern/kern_resource.c`). The
//! function has no public header, and a kernel may keep no such mark: then the field is zero.

use super::process::Usage;

/// Resets the mark of a process and checks that the kernel keeps one. `call` resets, `usage` reads
/// the bytes of `struct rusage_info_v4`.
///
/// # Errors
/// Why there is no mark.
pub(super) fn reset(
    pid: u32,
    call: impl FnOnce(u32) -> Result<(), String>,
    usage: impl FnOnce(u32) -> Result<Vec<u8>, String>,
) -> Result<(), String> {
    call(pid)?;
    let usage = Usage::of(&usage(pid)?).ok_or("this kernel does not fill in the footprint")?;
    match usage.interval_peak_bytes {
        None => Err("this kernel keeps no high-water mark of the footprint over an interval".to_owned()),
        // Reset a moment ago, it is the current footprint. The highest of the process's life in its
        // place would pass for the peak of every request.
        Some(mark) if mark > usage.footprint_bytes.saturating_mul(2).saturating_add(NOISE_BYTES) => Err(format!(
            "the high-water mark of the footprint was not reset: it is {mark} bytes, the footprint {}",
            usage.footprint_bytes
        )),
        Some(_) => Ok(()),
    }
}

/// What a process may allocate between the reset and the reading after it.
const NOISE_BYTES: u64 = 64 << 20;

#[cfg(test)]
mod tests {
    use super::super::process::tests::usage_of;
    use super::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn a_mark_counts_only_if_the_kernel_keeps_and_resets_it() {
        let with = |footprint, mark| reset(1, |_| Ok(()), |_| Ok(usage_of(footprint, mark)));
        assert_eq!(with(GIB, GIB), Ok(()));
        assert_eq!(with(GIB, GIB + NOISE_BYTES), Ok(()), "it grew while it was read");
        assert!(with(GIB, 0).unwrap_err().contains("keeps no"));
        assert!(with(GIB, 9 * GIB).unwrap_err().contains("was not reset"));
        let refused = reset(1, |_| Err("no such function".to_owned()), |_| panic!("nothing to read"));
        assert_eq!(refused.unwrap_err(), "no such function");
        assert!(reset(1, |_| Ok(()), |_| Err("ended".to_owned())).is_err());
        assert!(reset(1, |_| Ok(()), |_| Ok(vec![0; 40])).is_err());
    }
}

//! Memory of the whole machine, from `host_statistics64`.

use super::layout::{long, vm_statistics64 as at, word};

/// Current pages, and pages swapped since boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pages {
    /// Free pages, read ahead or not, and pages that nobody used of late.
    pub available: u64,
    /// Pages that cannot be paged out: the kernel's, and those held by a GPU or a `wired_limit`.
    pub wired: u64,
    /// Pages that hold compressed memory; the memory compressed in them is larger.
    pub compressor: u64,
    /// Pages that the system may take from their owner.
    pub purgeable: u64,
    pub swapped_in: u64,
    pub swapped_out: u64,
}

impl Pages {
    /// Reads the bytes of `struct vm_statistics64`; `None` when the kernel filled in less than the
    /// compressor's field (before OS X 10.9).
    pub fn of(bytes: &[u8]) -> Option<Self> {
        Some(Self {
            available: u64::from(word(bytes, at::FREE_COUNT)?) + u64::from(word(bytes, at::INACTIVE_COUNT)?),
            wired: word(bytes, at::WIRE_COUNT)?.into(),
            compressor: word(bytes, at::COMPRESSOR_PAGE_COUNT)?.into(),
            purgeable: word(bytes, at::PURGEABLE_COUNT)?.into(),
            swapped_in: long(bytes, at::SWAPINS)?,
            swapped_out: long(bytes, at::SWAPOUTS)?,
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    const PAGE: u64 = 16384;

    /// `struct vm_statistics64` in the header's order, with `vm_stat`'s names.
    pub fn recorded(wired: u32) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut words = |values: &[u32]| values.iter().for_each(|v| bytes.extend(v.to_ne_bytes()));
        // free, active, inactive, wired
        words(&[101_001, 1_502_002, 1_403_003, wired]);
        let longs = |values: &[u64]| values.iter().flat_map(|v| v.to_ne_bytes()).collect::<Vec<u8>>();
        // zero fill, reactivations, pageins, pageouts, faults, copy on write, lookups, hits, purges
        bytes.extend(longs(&[9_000_001, 9_000_002, 9_000_003, 9_000_004, 709_047, 9_000_006, 7, 8, 9_000_009]));
        let mut words = |values: &[u32]| values.iter().for_each(|v| bytes.extend(v.to_ne_bytes()));
        // purgeable, speculative
        words(&[20_001, 30_001]);
        // decompressions, compressions, swapins, swapouts
        bytes.extend(longs(&[8_000_001, 8_000_002, 640_001, 650_001]));
        let mut words = |values: &[u32]| values.iter().for_each(|v| bytes.extend(v.to_ne_bytes()));
        // compressor, throttled, external, internal
        words(&[40_001, 0, 50_001, 60_001]);
        // uncompressed pages in the compressor, swapped
        bytes.extend(longs(&[120_001, 3]));
        bytes
    }

    /// The same after a number of page faults.
    pub fn recorded_after(wired: u32, faults: u64) -> Vec<u8> {
        let mut bytes = recorded(wired);
        bytes[at::FAULTS..at::FAULTS + 8].copy_from_slice(&faults.to_ne_bytes());
        bytes
    }

    #[test]
    fn each_figure_comes_from_its_own_field() {
        let pages = Pages {
            available: 101_001 + 1_403_003,
            wired: 12_345,
            compressor: 40_001,
            purgeable: 20_001,
            swapped_in: 640_001,
            swapped_out: 650_001,
        };
        assert_eq!(Pages::of(&recorded(12_345)), Some(pages));
    }

    #[test]
    fn a_kernel_that_fills_in_less_gives_nothing() {
        let bytes = recorded(1);
        assert!(at::WORDS * size_of::<i32>() >= at::COMPRESSOR_PAGE_COUNT + 4, "what the kernel is asked for");
        assert!(Pages::of(&bytes[..at::COMPRESSOR_PAGE_COUNT + 4]).is_some());
        assert_eq!(Pages::of(&bytes[..at::COMPRESSOR_PAGE_COUNT]), None);
        assert_eq!(Pages::of(&[]), None);
    }

    /// Wired memory of an M2 Max with 96 GiB during generation. The figures as first published had
    /// page faults under this name, two columns further.
    #[test]
    fn recorded_wired_memory_is_wired_pages_and_never_faults() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/crates/inferometer-stats/tests/data/m2max-gpt-oss-20b");
        let mut samples = 0;
        for run in 1..=3 {
            let text = fs_err::read_to_string(format!("{folder}/run{run}_wired.csv")).unwrap();
            for line in text.lines().skip(1) {
                let bytes: u64 = line.split_once(',').unwrap().1.parse().unwrap();
                assert_eq!(bytes % PAGE, 0, "whole pages of 16 KiB: {line}");
                let statistics = recorded(u32::try_from(bytes / PAGE).unwrap());
                assert_eq!(Pages::of(&statistics).unwrap().wired * PAGE, bytes);
                // Wired memory is part of the machine's memory; a count of faults since boot would
                // not be bounded by it.
                assert!(bytes > 2 << 30 && bytes < 96 << 30, "{line}");
                samples += 1;
            }
        }
        assert!(samples > 900, "{samples}");
        let faults = long(&recorded(5), at::FAULTS).unwrap();
        assert_ne!(Pages::of(&recorded(5)).unwrap().wired, faults);
    }
}

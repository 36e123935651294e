//! A counting allocator: how many allocations Rust code of this process makes, and of how many
//! bytes.
//!
//! A program opts in by making [`Counting`] its global allocator; without that, [`Count::begin`]
//! returns `None`. While nothing counts, an allocation costs one relaxed load and one branch on top
//! of the system allocator (`cargo bench --bench micro -- alloc`).

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

static COUNTING: AtomicBool = AtomicBool::new(false);
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static BYTES: AtomicU64 = AtomicU64::new(0);

/// The system allocator, counting while a [`Count`] lives.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counting;

impl Counting {
    #[inline]
    fn note(size: usize) {
        if COUNTING.load(Ordering::Relaxed) {
            ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
            BYTES.fetch_add(size as u64, Ordering::Relaxed);
        }
    }
}

// SAFETY: every call goes to the system allocator unchanged; counting touches atomics alone.
unsafe impl GlobalAlloc for Counting {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::note(layout.size());
        // SAFETY: the caller upholds `alloc`'s contract.
        unsafe { System.alloc(layout) }
    }

    // `GlobalAlloc`'s default would write zeros over memory that the system returns zeroed.
    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        Self::note(layout.size());
        // SAFETY: the caller upholds `alloc_zeroed`'s contract.
        unsafe { System.alloc_zeroed(layout) }
    }

    #[inline]
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller upholds `dealloc`'s contract.
        unsafe { System.dealloc(pointer, layout) }
    }

    #[inline]
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        Self::note(size);
        // SAFETY: the caller upholds `realloc`'s contract.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// Totals so far, over all threads. A reallocation counts as one allocation of its new size.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub allocations: u64,
    pub bytes: u64,
}

impl std::ops::Sub for Counts {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            allocations: self.allocations.saturating_sub(before.allocations),
            bytes: self.bytes.saturating_sub(before.bytes),
        }
    }
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, more: Self) {
        self.allocations += more.allocations;
        self.bytes += more.bytes;
    }
}

/// Counting is on while this value lives. Only one may exist at a time: the counts are
/// process-wide.
#[derive(Debug)]
pub struct Count(());

impl Count {
    /// Switches counting on; `None` where [`Counting`] is not the program's allocator.
    #[must_use]
    pub fn begin() -> Option<Self> {
        COUNTING.store(true, Ordering::Relaxed);
        let count = Self(());
        let before = count.now();
        // The only reliable test: an allocation must be counted.
        drop(std::hint::black_box(Box::new(0_u8)));
        (count.now() != before).then_some(count)
    }

    /// The totals so far; only differences are meaningful. Never allocates.
    #[inline]
    #[must_use]
    pub fn now(&self) -> Counts {
        Counts { allocations: ALLOCATIONS.load(Ordering::Relaxed), bytes: BYTES.load(Ordering::Relaxed) }
    }
}

impl Drop for Count {
    fn drop(&mut self) {
        COUNTING.store(false, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Unit tests run on the default allocator; `tests/counted_alloc.rs` runs on this one.
    #[test]
    fn without_the_allocator_nothing_is_counted() {
        assert!(Count::begin().is_none());
        assert!(!COUNTING.load(Ordering::Relaxed));
    }
}

//! A counting allocator: how often, and for how many bytes, Rust code of this process asks for memory.
//!
//! The library imposes it on nobody. A program that wants counts makes it its global allocator, as `main.rs` does; where it
//! is none, [`Count::begin`] gives nothing. While nobody counts, an allocation costs one relaxed load and a branch that is
//! never taken on top of the system's allocator (`cargo bench --bench micro -- alloc`).

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

static COUNTING: AtomicBool = AtomicBool::new(false);
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static BYTES: AtomicU64 = AtomicU64::new(0);

/// The system's allocator, which counts while a [`Count`] lives.
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

    // The default would write zeros over memory that the system gives zeroed.
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

/// What was counted up to a moment, over all threads. A reallocation counts as an allocation of its new size.
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

/// Counting is on while this lives. One at a time: counts are the process's.
#[derive(Debug)]
pub struct Count(());

impl Count {
    /// Switches counting on; `None` where [`Counting`] is not the program's allocator.
    #[must_use]
    pub fn begin() -> Option<Self> {
        COUNTING.store(true, Ordering::Relaxed);
        let count = Self(());
        let before = count.now();
        // Asked in the one way that cannot be wrong: an allocation must show.
        drop(std::hint::black_box(Box::new(0_u8)));
        (count.now() != before).then_some(count)
    }

    /// Only differences mean something. Never allocates.
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

    /// The library's own tests run on the usual allocator; `tests/counted_alloc.rs` runs on this one.
    #[test]
    fn without_the_allocator_nothing_is_counted() {
        assert!(Count::begin().is_none());
        assert!(!COUNTING.load(Ordering::Relaxed));
    }
}

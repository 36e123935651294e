//! A counting allocator: how many allocations Rust code of this process makes, and of how many
//! bytes; and a limit to what a single thread may hold.
//!
//! A program opts in by making [`Counting`] its global allocator; without that, [`Count::begin`]
//! returns `None` and limits are not enforced. While nothing counts and no thread is limited, an
//! allocation costs one relaxed load and one branch on top of the system allocator
//! (`cargo bench --bench micro -- alloc`).

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::thread::Thread;
use std::time::Duration;

/// What is watched: [`COUNTING`], plus [`LIMITED`] for each limited thread.
static WATCHED: AtomicU32 = AtomicU32::new(0);
const COUNTING: u32 = 1;
const LIMITED: u32 = 2;
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static BYTES: AtomicU64 = AtomicU64::new(0);

/// The system allocator, counting while a [`Count`] lives.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counting;

impl Counting {
    /// Before `size` bytes are taken, in place of `given_back` bytes.
    #[inline]
    fn note(size: usize, given_back: usize) {
        let watched = WATCHED.load(Ordering::Relaxed);
        if watched == 0 {
            return;
        }
        if watched & COUNTING != 0 {
            ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
            BYTES.fetch_add(size as u64, Ordering::Relaxed);
        }
        if watched >= LIMITED {
            take(size as i64 - given_back as i64);
        }
    }
}

// SAFETY: every call goes to the system allocator unchanged; counting touches atomics alone.
unsafe impl GlobalAlloc for Counting {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::note(layout.size(), 0);
        // SAFETY: the caller upholds `alloc`'s contract.
        unsafe { System.alloc(layout) }
    }

    // `GlobalAlloc`'s default would write zeros over memory that the system returns zeroed.
    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        Self::note(layout.size(), 0);
        // SAFETY: the caller upholds `alloc_zeroed`'s contract.
        unsafe { System.alloc_zeroed(layout) }
    }

    #[inline]
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        if WATCHED.load(Ordering::Relaxed) >= LIMITED {
            take(-(layout.size() as i64));
        }
        // SAFETY: the caller upholds `dealloc`'s contract.
        unsafe { System.dealloc(pointer, layout) }
    }

    #[inline]
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        Self::note(size, layout.size());
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
        WATCHED.fetch_or(COUNTING, Ordering::Relaxed);
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
        WATCHED.fetch_and(!COUNTING, Ordering::Relaxed);
    }
}

/// What one thread may still take, and whom to tell when that is not enough.
#[derive(Debug)]
pub(crate) struct Budget {
    left: AtomicI64,
    used_up: AtomicBool,
    waiting: Thread,
}

thread_local! {
    /// Budget of this thread; null = no limit.
    static BUDGET: Cell<*const Budget> = const { Cell::new(ptr::null()) };
}

impl Budget {
    /// So many bytes; the calling thread is the one to be told.
    pub(crate) fn new(bytes: u64) -> Self {
        let left = AtomicI64::new(i64::try_from(bytes).unwrap_or(i64::MAX));
        Self { left, used_up: AtomicBool::new(false), waiting: std::thread::current() }
    }

    /// Whether its thread asked for more and was stopped for ever.
    pub(crate) fn is_used_up(&self) -> bool {
        self.used_up.load(Ordering::Acquire)
    }

    /// Whatever its thread asks for next is too much.
    pub(crate) fn revoke(&self) {
        self.left.store(i64::MIN / 2, Ordering::Relaxed);
    }

    /// Limits this thread while the value returned lives.
    pub(crate) fn begin(self: Arc<Self>) -> Limited {
        BUDGET.set(Arc::as_ptr(&self));
        WATCHED.fetch_add(LIMITED, Ordering::Relaxed);
        Limited(self)
    }
}

/// This thread is limited while the value lives.
pub(crate) struct Limited(Arc<Budget>);

impl Drop for Limited {
    fn drop(&mut self) {
        WATCHED.fetch_sub(LIMITED, Ordering::Relaxed);
        BUDGET.set(ptr::null());
        self.0.waiting.unpark();
    }
}

/// Takes from this thread's budget, where it has one.
fn take(bytes: i64) {
    // SAFETY: `Limited` keeps the budget alive until it has taken the pointer back.
    if let Some(budget) = unsafe { BUDGET.get().as_ref() }
        && budget.left.fetch_sub(bytes, Ordering::Relaxed) < bytes
        && bytes > 0
    {
        stop(budget);
    }
}

/// Ends this thread's work without returning. An allocator must not unwind, and one that returns
/// null ends the process; what the thread holds stays taken.
#[cold]
fn stop(budget: &Budget) -> ! {
    WATCHED.fetch_sub(LIMITED, Ordering::Relaxed);
    budget.used_up.store(true, Ordering::Release);
    budget.waiting.unpark();
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Unit tests run on the default allocator; `tests/counted_alloc.rs` runs on this one.
    #[test]
    fn without_the_allocator_nothing_is_counted() {
        assert!(Count::begin().is_none());
        assert_eq!(WATCHED.load(Ordering::Relaxed) & COUNTING, 0);
    }
}

//! Buffers that ask for huge pages.
//!
//! A processor looks up each page of memory that it reads. Weights and caches are read from end to
//! end for every token: with pages of 2 MiB instead of 4 KiB there are fewer look-ups to wait for,
//! and memory is prefetched across what would be page boundaries. Linux gives huge pages to regions
//! that ask for them. macOS has no such request.
//!
//! A matrix of a small model is smaller than a huge page. Buffers therefore share chunks of memory,
//! which are freed when no buffer uses them any more.

use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError};

/// Size of a huge page on x86-64, and on aarch64 with pages of 4 KiB.
const HUGE: usize = 2 << 20;
/// Buffers up to half of this share a chunk. Memory that is never written is never mapped.
const CHUNK: usize = 32 << 20;
/// Buffers begin at multiples of this many bytes, a line of the processor's caches.
const ALIGNED: usize = 64;

/// A type of which zeroed memory is a value.
///
/// # Safety
/// All bit patterns are values, and the alignment is at most 64.
pub unsafe trait Plain: Copy + Send + Sync {}
// SAFETY: numbers.
unsafe impl Plain for u8 {}
// SAFETY: as above.
unsafe impl Plain for f32 {}

/// A fixed number of values, zeroed at first.
pub struct Pages<T> {
    first: NonNull<T>,
    len: usize,
    /// Keeps the memory.
    _chunk: Arc<Chunk>,
    _values: PhantomData<T>,
}

// SAFETY: like a `Box<[T]>`, it alone refers to its values.
unsafe impl<T: Send> Send for Pages<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for Pages<T> {}

impl<T: Plain> Pages<T> {
    /// Zeros. Aborts if there is no memory, as `Vec` does.
    #[must_use]
    pub fn zeroed(len: usize) -> Self {
        const { assert!(align_of::<T>() <= ALIGNED) };
        let bytes = len.checked_mul(size_of::<T>()).expect("a length that fits the address space");
        let (chunk, first) = place(bytes.next_multiple_of(ALIGNED));
        Self { first: first.cast(), len, _chunk: chunk, _values: PhantomData }
    }
}

impl<T> Deref for Pages<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: `place` gave this part of the chunk to this buffer alone, zeroed and aligned.
        unsafe { std::slice::from_raw_parts(self.first.as_ptr(), self.len) }
    }
}

impl<T> DerefMut for Pages<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts_mut(self.first.as_ptr(), self.len) }
    }
}

/// Memory for several buffers.
struct Chunk {
    first: NonNull<u8>,
    layout: std::alloc::Layout,
}

// SAFETY: it only frees the memory.
unsafe impl Send for Chunk {}
// SAFETY: as above.
unsafe impl Sync for Chunk {}

impl Chunk {
    fn new(bytes: usize) -> Self {
        let layout = std::alloc::Layout::from_size_align(bytes.next_multiple_of(HUGE), HUGE).expect("a size that fits");
        // SAFETY: the size is not 0.
        let Some(first) = NonNull::new(unsafe { std::alloc::alloc(layout) }) else {
            std::alloc::handle_alloc_error(layout)
        };
        ask(first, layout.size());
        Self { first, layout }
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout, and no buffer is left.
        unsafe { std::alloc::dealloc(self.first.as_ptr(), self.layout) };
    }
}

/// The chunk that small buffers are taken from, and how much of it is taken.
static CURRENT: Mutex<Option<(std::sync::Weak<Chunk>, usize)>> = Mutex::new(None);

/// Zeroed memory of this size, a multiple of [`ALIGNED`], that no other buffer has.
fn place(bytes: usize) -> (Arc<Chunk>, NonNull<u8>) {
    let (chunk, at) = if bytes > CHUNK / 2 {
        (Arc::new(Chunk::new(bytes)), 0)
    } else {
        let mut current = CURRENT.lock().unwrap_or_else(PoisonError::into_inner);
        let found = current.as_ref().and_then(|(chunk, taken)| Some((chunk.upgrade()?, *taken)));
        let (chunk, at) =
            found.filter(|(_, taken)| taken + bytes <= CHUNK).unwrap_or_else(|| (Arc::new(Chunk::new(CHUNK)), 0));
        *current = Some((Arc::downgrade(&chunk), at + bytes));
        (chunk, at)
    };
    // SAFETY: `at + bytes` is at most the chunk's size.
    let first = unsafe { chunk.first.add(at) };
    // SAFETY: this part of the chunk belongs to nobody yet.
    unsafe { first.write_bytes(0, bytes) };
    (chunk, first)
}

/// Asks for huge pages. Refusal is no error: the memory then has small pages.
fn ask(first: NonNull<u8>, bytes: usize) {
    #[cfg(target_os = "linux")]
    // SAFETY: the advice changes no values, and the region is our own.
    let _ = unsafe { rustix::mm::madvise(first.as_ptr().cast(), bytes, rustix::mm::Advice::LinuxHugepage) };
    #[cfg(not(target_os = "linux"))]
    let _ = (first, bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_zeroed_aligned_and_apart() {
        let mut all: Vec<Pages<f32>> = [1, 1000, CHUNK / 4, CHUNK / 16, 0, 7].map(Pages::zeroed).into();
        for (at, buffer) in all.iter_mut().enumerate() {
            assert_eq!(buffer.as_ptr() as usize % ALIGNED, 0);
            assert!(buffer.iter().all(|x| *x == 0.0));
            buffer.fill(at as f32 + 1.0);
        }
        for (at, buffer) in all.iter().enumerate() {
            assert!(buffer.iter().all(|x| *x == at as f32 + 1.0));
        }
        // Memory that was used before is zeroed again.
        drop(all);
        assert!(Pages::<f32>::zeroed(CHUNK / 16).iter().all(|x| *x == 0.0));
    }
}

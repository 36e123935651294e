//! The cost of the counting allocator: not measurable while it is off, as in every timed pass.

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;

use criterion::{BenchmarkId, Criterion};
use inferometer_host::alloc::Counting;

fn once(allocator: &impl GlobalAlloc, layout: Layout) {
    // SAFETY: the layout is not empty, and the memory is freed with the layout that it was
    // allocated with.
    unsafe {
        let memory = black_box(allocator.alloc(black_box(layout)));
        allocator.dealloc(memory, layout);
    }
}

/// Allocating and freeing 64 bytes, with the system's allocator and with ours.
pub fn allocator(c: &mut Criterion) {
    let layout = Layout::from_size_align(64, 8).expect("a small layout");
    let mut group = c.benchmark_group("alloc");
    group.bench_function(BenchmarkId::from_parameter("system"), |b| b.iter(|| once(&System, layout)));
    group.bench_function(BenchmarkId::from_parameter("counting, off"), |b| b.iter(|| once(&Counting, layout)));
    group.finish();
}

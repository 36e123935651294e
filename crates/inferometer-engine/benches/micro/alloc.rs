//! What the counting allocator costs: nothing to be seen while it is off, which it is in every timed pass.

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;

use criterion::{BenchmarkId, Criterion};
use inferometer_host::alloc::Counting;

fn once(allocator: &impl GlobalAlloc, layout: Layout) {
    // SAFETY: the layout is not empty, and the memory is given back as it was taken.
    unsafe {
        let memory = black_box(allocator.alloc(black_box(layout)));
        allocator.dealloc(memory, layout);
    }
}

/// Taking and giving back of 64 bytes, by the system's allocator and through ours.
pub fn allocator(c: &mut Criterion) {
    let layout = Layout::from_size_align(64, 8).expect("a small layout");
    let mut group = c.benchmark_group("alloc");
    group.bench_function(BenchmarkId::from_parameter("system"), |b| b.iter(|| once(&System, layout)));
    group.bench_function(BenchmarkId::from_parameter("counting, off"), |b| b.iter(|| once(&Counting, layout)));
    group.finish();
}

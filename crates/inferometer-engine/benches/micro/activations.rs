//! Operations on activations, in the shapes of Qwen3 0.6B: normalization, rotation, softmax,
//! attention.

use std::cell::LazyCell;

use criterion::{BenchmarkId, Criterion, Throughput};
use inferometer_engine::transformer::backend::{Backend, HeadShape, LayerCache};
use inferometer_engine::transformer::rope::{Rotation, Scaling};

use crate::subject::Subject;

const HIDDEN: usize = 1024;
const SHAPE: HeadShape = HeadShape { heads: 16, kv_heads: 8, head_dim: 128 };
const THETA: f64 = 1e6;
/// Positions of a forward pass: a decoded token, a prefill chunk.
const COUNTS: [usize; 2] = [1, 512];

/// Normalization of [T, 1024]; an element is a position.
pub fn rms_norm<B: Backend>(c: &mut Criterion, on: &Subject<B>) {
    let mut group = c.benchmark_group("rms norm");
    for count in COUNTS {
        let case = LazyCell::new(|| {
            let mut backend = (on.backend)();
            let norm = backend.norm(on.scale(HIDDEN), 1e-6, false).expect("a scale");
            let x = on.activations(&mut backend, count, HIDDEN);
            (backend, norm, x)
        });
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(BenchmarkId::new(on.name, count), |b| {
            let (backend, norm, x) = &*case;
            b.iter(|| (on.compute)(&backend.rms_norm(x, norm).expect("a normalization")));
        });
    }
    group.finish();
}

/// Queries, keys and values of `count` positions, already computed.
fn heads<B: Backend>(on: &Subject<B>, backend: &mut B, count: usize) -> [B::Tensor; 3] {
    let width = (SHAPE.heads + 2 * SHAPE.kv_heads) * SHAPE.head_dim;
    let x = on.activations(backend, count, width);
    let parts = backend.split_heads(&x, SHAPE).expect("the width fits");
    parts.iter().for_each(on.compute);
    parts
}

/// Rotation of the queries of T positions after 1000 others; an element is a position.
pub fn rope<B: Backend>(c: &mut Criterion, on: &Subject<B>) {
    let mut group = c.benchmark_group("rope");
    for count in COUNTS {
        let case = LazyCell::new(|| {
            let mut backend = (on.backend)();
            let [queries, ..] = heads(on, &mut backend, count);
            let rotation = Rotation::new(SHAPE.head_dim, THETA, &Scaling::None);
            let rotation = backend.rotation(&rotation).expect("a rotation");
            let positions = backend.positions(&rotation, 1000, count).expect("positions");
            (backend, queries, rotation, positions)
        });
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(BenchmarkId::new(on.name, count), |b| {
            let (backend, queries, rotation, positions) = &*case;
            b.iter(|| (on.compute)(&backend.rotate(queries, rotation, positions).expect("a rotation")));
        });
    }
    group.finish();
}

/// One query over n positions (the bytes are those of their keys and values), and the last chunk of
/// 512 queries of n positions (an element is a query).
pub fn attention<B: Backend>(c: &mut Criterion, on: &Subject<B>) {
    let entry = 2 * (SHAPE.kv_heads * SHAPE.head_dim) as u64 * on.activation_bytes;
    let scale = (SHAPE.head_dim as f64).powf(-0.5);
    let one = [128, 512, 2048, 8192].map(|n| (1, n, Throughput::Bytes(n as u64 * entry)));
    let chunk = [512, 2048].map(|n| (512, n, Throughput::Elements(512)));
    for (name, cases) in [("attention, one query", &one[..]), ("attention, chunk of 512", &chunk[..])] {
        let mut group = c.benchmark_group(name);
        for (count, context, throughput) in cases {
            let case = LazyCell::new(|| {
                let mut backend = (on.backend)();
                let [queries, ..] = heads(on, &mut backend, *count);
                let [_, keys, values] = heads(on, &mut backend, *context);
                let mut cache = backend.cache(SHAPE.kv_heads, SHAPE.head_dim, None).expect("a cache");
                // Leaves room for more, as in a generation. MLX does not copy an append that fills
                // its cache completely: the cache then is a strided view of the projection, which
                // makes attention many times slower.
                cache.reserve(context + 1).expect("memory for the cache");
                backend.append(&mut cache, &keys, &values).expect("entries of the cache");
                backend.settle(std::iter::once(&cache)).expect("entries of the cache");
                (backend, queries, cache)
            });
            group.throughput(throughput.clone());
            group.bench_function(BenchmarkId::new(on.name, context), |b| {
                let (backend, queries, cache) = &*case;
                b.iter(|| (on.compute)(&backend.attend(queries, cache, scale, None).expect("attention")));
            });
        }
        group.finish();
    }
}

/// Lengths of rows for softmax.
pub const ROWS: [usize; 4] = [128, 512, 2048, 8192];

pub fn row(n: usize) -> Vec<f32> {
    (0..n).map(|i| (i as f32 * 0.37).sin()).collect()
}

/// One row, computed by the function that candle's attention uses.
pub fn softmax_on_candle(c: &mut Criterion) {
    let mut group = c.benchmark_group("softmax");
    for n in ROWS {
        // In place: the result is a row like any other, and the time does not depend on the values.
        let mut row = row(n);
        group.throughput(Throughput::Elements(n as u64));
        group.bench_function(BenchmarkId::new("candle f32", n), |b| {
            b.iter(|| inferometer_engine::transformer::candle::softmax_row(&mut row, n, 1.0, f32::NEG_INFINITY));
        });
    }
    group.finish();
}

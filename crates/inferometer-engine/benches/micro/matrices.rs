//! Products and embedding.

use std::cell::LazyCell;

use criterion::{BenchmarkId, Criterion, Throughput};
use inferometer_engine::transformer::backend::Backend;

use crate::subject::Subject;

const SIZES: [usize; 6] = [128, 256, 512, 1024, 2048, 4096];

/// n rows times a matrix [n, n]; an element is one multiplication or addition.
pub fn product<B: Backend>(c: &mut Criterion, on: &Subject<B>) {
    let mut group = c.benchmark_group("product, square");
    for n in SIZES.into_iter().filter(|n| *n <= on.rows) {
        group.throughput(Throughput::Elements(2 * (n as u64).pow(3)));
        multiply(&mut group, on, n, n);
    }
    group.finish();
}

/// One row times a matrix [n, n]; the bytes are those of the matrix in memory.
pub fn product_of_one_row<B: Backend>(c: &mut Criterion, on: &Subject<B>) {
    let mut group = c.benchmark_group("product, one row");
    for n in SIZES {
        group.throughput(Throughput::Bytes(on.matrix_bytes(n * n)));
        multiply(&mut group, on, 1, n);
    }
    group.finish();
}

type Group<'a> = criterion::BenchmarkGroup<'a, criterion::measurement::WallTime>;

fn multiply<B: Backend>(group: &mut Group<'_>, on: &Subject<B>, rows: usize, n: usize) {
    let case = LazyCell::new(|| {
        let mut backend = (on.backend)();
        let matrix = backend.linear(vec![on.matrix(n, n)]).expect("a matrix");
        let x = on.activations(&mut backend, rows, n);
        (backend, matrix, x)
    });
    group.bench_function(BenchmarkId::new(on.name, n), |b| {
        let (backend, matrix, x) = &*case;
        b.iter(|| (on.compute)(&backend.apply(x, matrix).expect("a product")));
    });
}

/// Rows of a table [8192, 1024]; an element is a token.
pub fn embedding<B: Backend>(c: &mut Criterion, on: &Subject<B>) {
    const VOCABULARY: usize = 8192;
    let mut group = c.benchmark_group("embedding");
    let case = LazyCell::new(|| {
        let mut backend = (on.backend)();
        let table = backend.embedding(on.matrix(VOCABULARY, 1024)).expect("a table");
        (backend, table)
    });
    for count in [1u32, 512] {
        let ids: Vec<u32> = (0..count).map(|at| at * 7919 % VOCABULARY as u32).collect();
        group.throughput(Throughput::Elements(count.into()));
        group.bench_function(BenchmarkId::new(on.name, count), |b| {
            let (backend, table) = &*case;
            let ids = backend.ids(&ids).expect("ids");
            b.iter(|| (on.compute)(&backend.embed(table, &ids).expect("rows")));
        });
    }
    group.finish();
}

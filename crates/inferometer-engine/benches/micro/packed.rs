//! Products with matrices in GGML's types, and with floating-point ones: the engine's own beside
//! candle's.

use std::cell::LazyCell;

use candle_core::quantized::{GgmlDType, QMatMul, QTensor};
use candle_core::{Device, Module, Tensor};
use criterion::{BenchmarkId, Criterion, Throughput};
use half::{bf16, f16};
use inferometer_engine::transformer::candle::packed::{Packed, fits};
use inferometer_engine::transformer::candle::plain::{Plain16, one_row};
use inferometer_engine::transformer::candle::threads;

/// Columns and inputs of the matrices of SmolLM2 135M; the last is its table of embeddings.
const SHAPES: [(usize, usize); 4] = [(576, 576), (1536, 576), (576, 1536), (49152, 576)];
/// For types with blocks of 256.
const SHAPES_OF_256: [(usize, usize); 2] = [(1024, 1024), (4096, 1024)];
const KINDS: [GgmlDType; 8] = [
    GgmlDType::Q4_0,
    GgmlDType::Q4_1,
    GgmlDType::Q5_0,
    GgmlDType::Q5_1,
    GgmlDType::Q8_0,
    GgmlDType::Q4K,
    GgmlDType::Q5K,
    GgmlDType::Q6K,
];

fn random(rows: usize, columns: usize) -> Tensor {
    Tensor::rand(-1f32, 1.0, (rows, columns), &Device::Cpu).expect("a tensor")
}

/// 1 and 512 rows times a matrix; an element is a multiplication or an addition.
pub fn quantized(c: &mut Criterion) {
    threads::set(None).expect("nothing else has set the number of threads");
    for kind in KINDS {
        let shapes = if kind.block_size() == BLOCK { SHAPES.as_slice() } else { &SHAPES_OF_256 };
        for (columns, inputs) in shapes.iter().copied().filter(|(columns, inputs)| fits(kind, *columns, *inputs)) {
            let mut group = c.benchmark_group(format!("product, {kind:?} [{columns}, {inputs}]"));
            let case = LazyCell::new(|| {
                let stored = QTensor::quantize(&random(columns, inputs), kind).expect("a quantized matrix");
                let own = Packed::new(&stored).expect("a packed matrix");
                (own, QMatMul::from_qtensor(stored).expect("a matrix"))
            });
            // Of a table only the last position is multiplied.
            for rows in [1, 512].into_iter().filter(|rows| *rows == 1 || columns < 10_000) {
                let x = random(rows, inputs);
                let values = x.flatten_all().and_then(|x| x.to_vec1()).expect("values");
                group.throughput(Throughput::Elements(2 * (rows * columns * inputs) as u64));
                group.bench_function(BenchmarkId::new("own", rows), |b| b.iter(|| case.0.product(&values)));
                group.bench_function(BenchmarkId::new("candle's", rows), |b| {
                    b.iter(|| case.1.forward(&x).expect("a product"));
                });
            }
            group.finish();
        }
    }
}

/// Values of a block of the types that are not K types.
const BLOCK: usize = 32;

/// One row times a matrix [n, n]; an element is a multiplication or an addition.
pub fn plain(c: &mut Criterion) {
    threads::set(None).expect("nothing else has set the number of threads");
    for n in [1024, 4096] {
        let mut group = c.benchmark_group(format!("one row, floating-point [{n}, {n}]"));
        group.throughput(Throughput::Elements(2 * (n * n) as u64));
        let matrix = LazyCell::new(|| random(n, n));
        let values = || matrix.flatten_all().and_then(|x| x.to_vec1::<f32>()).expect("values");
        let x = random(1, n);
        group.bench_function("candle's f32", |b| {
            let matrix = matrix.t().expect("a transposed view");
            b.iter(|| x.matmul(&matrix).expect("a product"));
        });
        group.bench_function("own f32", |b| {
            let matrix = &*matrix;
            b.iter(|| one_row(&x, matrix).expect("a product"));
        });
        group.bench_function("own f16", |b| {
            let matrix = Plain16::f16(n, values().into_iter().map(f16::from_f32).collect()).expect("a matrix");
            b.iter(|| matrix.product(&x).expect("a product"));
        });
        group.bench_function("own bf16", |b| {
            let matrix = Plain16::bf16(n, values().into_iter().map(bf16::from_f32).collect()).expect("a matrix");
            b.iter(|| matrix.product(&x).expect("a product"));
        });
        group.finish();
    }
}

//! Benchmarks of MLX: its subjects and its softmax.

use criterion::{BenchmarkId, Criterion, Throughput};
use inferometer_engine::transformer::mlx::MlxBackend;
use inferometer_protocol::{Quantization, Settings, Value};
use mlx_rs::Dtype;
use safetensors::Dtype as Stores;

use crate::activations::{ROWS, row};
use crate::subject::{Stored, Subject};
use crate::{activated, chosen, held};

pub fn all(c: &mut Criterion) {
    held(c, &f32());
    held(c, &bf16());
    held(c, &four_bits());
    softmax(c);
    activated(c, &f32());
    activated(c, &bf16());
    chosen(c, &f32());
}

/// Turns off compiling of element-wise parts, which runs a C++ compiler on a CPU.
fn uncompiled() -> (String, Value) {
    ("compile".to_owned(), false.into())
}

fn f32() -> Subject<MlxBackend> {
    Subject {
        name: "mlx f32",
        backend: || MlxBackend::new(Some(Dtype::Float32), false),
        compute: |x| x.eval().expect("MLX computes"),
        stored: Stored { dtype: Stores::F32, quantization: None },
        bytes_of_64: 256,
        activation_bytes: 4,
        rows: 4096,
        prompt: 2048,
        engine: "mlx",
        toggles: Settings::from([("dtype".to_owned(), "f32".into()), uncompiled()]),
    }
}

fn bf16() -> Subject<MlxBackend> {
    Subject {
        name: "mlx bf16",
        backend: || MlxBackend::new(None, false),
        stored: Stored { dtype: Stores::BF16, quantization: None },
        bytes_of_64: 128,
        activation_bytes: 2,
        // On a CPU, MLX multiplies in narrow formats with plain loops.
        rows: if MlxBackend::on_gpu() { 4096 } else { 256 },
        prompt: if MlxBackend::on_gpu() { 2048 } else { 32 },
        toggles: Settings::from([uncompiled()]),
        ..f32()
    }
}

fn four_bits() -> Subject<MlxBackend> {
    let quantization = Quantization::new(4, 64);
    Subject {
        name: "mlx 4-bit",
        stored: Stored { quantization, ..bf16().stored },
        // Scale and bias of a group of 64 are bf16.
        bytes_of_64: 64 / 2 + 4,
        prompt: if MlxBackend::on_gpu() { 2048 } else { 1 },
        ..bf16()
    }
}

/// One row, computed by MLX's own operation. The softmax inside its attention cannot be called
/// alone.
fn softmax(c: &mut Criterion) {
    let mut group = c.benchmark_group("softmax");
    for n in ROWS {
        let row = mlx_rs::Array::from_slice(&row(n), &[1, n as i32]);
        group.throughput(Throughput::Elements(n as u64));
        group.bench_function(BenchmarkId::new("mlx f32", n), |b| {
            b.iter(|| mlx_rs::ops::softmax_axis(&row, -1, true).and_then(|x| x.eval()).expect("MLX computes"));
        });
    }
    group.finish();
}

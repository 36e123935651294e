//! Micro-benchmarks on each tensor backend of this build: products, normalization, rotation,
//! attention, sampling, forward passes, tokenizer, a whole generation.
//!
//! A lazy backend computes nothing until it is forced to. Every measured closure therefore computes
//! its value and waits for it, and each figure includes the cost of that synchronization.
//!
//! See `docs/explanation/benchmarks.md` for how to run them and read the results.

#[cfg(all(feature = "metal", not(feature = "mlx"), target_os = "macos", target_arch = "aarch64"))]
extern crate inferometer_metal as mlx_rs;

mod activations;
mod alloc;
mod matrices;
mod model;
#[cfg(any(feature = "mlx", all(feature = "metal", target_os = "macos", target_arch = "aarch64")))]
mod on_mlx;
mod packed;
mod sampling;
mod subject;
mod text;

use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use inferometer_engine::transformer::backend::Backend;
use subject::Subject;

/// Benchmarks that depend on the format of weights in memory.
fn held<B: Backend>(c: &mut Criterion, on: &Subject<B>) {
    matrices::product(c, on);
    matrices::product_of_one_row(c, on);
    matrices::embedding(c, on);
    model::passes(c, on);
    model::generate(c, on);
}

/// Benchmarks that depend only on the format of activations.
fn activated<B: Backend>(c: &mut Criterion, on: &Subject<B>) {
    activations::rms_norm(c, on);
    activations::rope(c, on);
    activations::attention(c, on);
}

/// Benchmarks that depend only on the library.
fn chosen<B: Backend<Tensor: Clone>>(c: &mut Criterion, on: &Subject<B>) {
    sampling::samplers(c, on);
    sampling::penalty(c, on);
}

fn candle(c: &mut Criterion) {
    held(c, &subject::candle_f32());
    held(c, &subject::candle_q8_0());
    packed::quantized(c);
    packed::plain(c);
    activations::softmax_on_candle(c);
    activated(c, &subject::candle_f32());
    chosen(c, &subject::candle_f32());
}

fn mlx(c: &mut Criterion) {
    #[cfg(any(feature = "mlx", all(feature = "metal", target_os = "macos", target_arch = "aarch64")))]
    on_mlx::all(c);
    let _ = c;
}

fn tokenizer(c: &mut Criterion) {
    text::tokenizer(c);
}

criterion_group! {
    name = benches;
    // Few samples, because there are many benchmarks: all take some minutes. Command-line options
    // can ask for more.
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .sample_size(10);
    targets = alloc::allocator, tokenizer, candle, mlx
}
criterion_main!(benches);

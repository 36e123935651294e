//! What single parts cost, on each tensor backend of this build: products, normalization, rotation, attention, choice of
//! a token, forward passes, tokenizer, a whole generation.
//!
//! A lazy backend computes nothing until it is made to: every measured closure ends with the value computed and the host
//! having waited for it. What that hand-over costs is part of each of its figures.
//!
//! `docs/explanation/benchmarks.md` says how to run and read them.

mod activations;
mod alloc;
mod matrices;
mod model;
#[cfg(any(feature = "mlx", all(target_os = "macos", target_arch = "aarch64")))]
mod on_mlx;
mod sampling;
mod subject;
mod text;

use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use inferometer_engine::transformer::backend::Backend;
use subject::Subject;

/// What depends on how weights are held.
fn held<B: Backend>(c: &mut Criterion, on: &Subject<B>) {
    matrices::product(c, on);
    matrices::product_of_one_row(c, on);
    matrices::embedding(c, on);
    model::passes(c, on);
    model::generate(c, on);
}

/// What depends on the format of activations alone.
fn activated<B: Backend>(c: &mut Criterion, on: &Subject<B>) {
    activations::rms_norm(c, on);
    activations::rope(c, on);
    activations::attention(c, on);
}

/// What depends on the library alone.
fn chosen<B: Backend<Tensor: Clone>>(c: &mut Criterion, on: &Subject<B>) {
    sampling::samplers(c, on);
    sampling::penalty(c, on);
}

fn candle(c: &mut Criterion) {
    held(c, &subject::candle_f32());
    held(c, &subject::candle_q8_0());
    activations::softmax_on_candle(c);
    activated(c, &subject::candle_f32());
    chosen(c, &subject::candle_f32());
}

fn mlx(c: &mut Criterion) {
    #[cfg(any(feature = "mlx", all(target_os = "macos", target_arch = "aarch64")))]
    on_mlx::all(c);
    let _ = c;
}

fn tokenizer(c: &mut Criterion) {
    text::tokenizer(c);
}

criterion_group! {
    name = benches;
    // There are many: all of them should take some minutes. The options of the command line ask for more.
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .sample_size(10);
    targets = alloc::allocator, tokenizer, candle, mlx
}
criterion_main!(benches);

//! From logits to a token on the host: each sampler, and the repetition penalty by length of the
//! history.

use std::cell::LazyCell;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};
use inferometer_engine::transformer::backend::{Backend, TokenSampler};
use inferometer_engine::transformer::quantized::Weight;
use inferometer_engine::transformer::sampler::{Order, SamplingPlan};
use inferometer_engine::transformer::weights::HostTensor;
use inferometer_host::rng::seeded;
use inferometer_protocol::Sampling;
use rand::Rng;
use safetensors::Dtype;

use crate::subject::Subject;

/// Each sampler on vocabularies of two sizes; an element is a logit.
pub fn samplers<B: Backend<Tensor: Clone>>(c: &mut Criterion, on: &Subject<B>) {
    let warm = Sampling { temperature: 0.8, seed: 1, ..Sampling::default() };
    let samplers = [
        ("greedy", Sampling::default()),
        ("temperature", warm.clone()),
        ("top-k 40", Sampling { top_k: 40, ..warm.clone() }),
        ("top-p 0.9", Sampling { top_p: 0.9, ..warm.clone() }),
        ("min-p 0.05", Sampling { min_p: 0.05, ..warm }),
    ];
    for (name, sampling) in samplers {
        let mut group = c.benchmark_group(format!("sampler, {name}"));
        for vocabulary in [32_768, 151_936] {
            let logits = LazyCell::new(|| logits(on, vocabulary));
            let choice = SamplingPlan {
                sampling: sampling.clone(),
                order: Order::default(),
                factor: 1.0,
                context_size: 0,
                cap: 0,
            };
            group.throughput(Throughput::Elements(vocabulary as u64));
            group.bench_function(BenchmarkId::new(on.name, vocabulary), |b| {
                let (backend, logits) = &*logits;
                b.iter_batched(
                    || ready(backend, logits, &choice, &[]),
                    |sampler| choose(backend, logits, sampler),
                    BatchSize::PerIteration,
                );
            });
        }
        group.finish();
    }
}

/// A greedy choice from 32,768 logits, penalized over the whole history and over its last 768
/// tokens.
pub fn penalty<B: Backend<Tensor: Clone>>(c: &mut Criterion, on: &Subject<B>) {
    const VOCABULARY: u32 = 32_768;
    let mut rng = seeded(1, "benchmark history");
    let history: Vec<u32> = (0..32_768).map(|_| rng.next_u32() % VOCABULARY).collect();
    for (name, cap) in [("penalty, no cap", 0), ("penalty, cap of 768", 768)] {
        let mut group = c.benchmark_group(name);
        let logits = LazyCell::new(|| logits(on, VOCABULARY as usize));
        for length in [128, 512, 2048, 8192, 32_768] {
            let choice = SamplingPlan {
                sampling: Sampling::default(),
                order: Order::default(),
                factor: 1.1,
                context_size: 0,
                cap,
            };
            group.bench_function(BenchmarkId::new(on.name, length), |b| {
                let (backend, logits) = &*logits;
                b.iter_batched(
                    || ready(backend, logits, &choice, &history[..length]),
                    |sampler| choose(backend, logits, sampler),
                    BatchSize::PerIteration,
                );
            });
        }
        group.finish();
    }
}

/// Logits [1, vocabulary], normally distributed with a deviation of 3: top-p 0.9 keeps some
/// hundreds of them.
fn logits<B: Backend>(on: &Subject<B>, vocabulary: usize) -> (B, B::Tensor) {
    let mut rng = seeded(1, "benchmark logits");
    let mut uniform = || f64::from(rng.next_u32()) / f64::from(u32::MAX);
    let normal = |_| {
        let (radius, angle) = ((-2.0 * (1.0 - uniform()).max(1e-12).ln()).sqrt(), uniform() * std::f64::consts::TAU);
        (3.0 * radius * angle.cos()) as f32
    };
    let bytes = (0..vocabulary).map(normal).flat_map(f32::to_le_bytes).collect();
    let table = HostTensor { name: "logits".to_owned(), shape: vec![1, vocabulary], dtype: Dtype::F32, bytes };
    let mut backend = (on.backend)();
    let table = backend.embedding(Weight::Plain(table)).expect("a table of one row");
    let row = backend.ids(&[0]).and_then(|ids| backend.embed(&table, &ids)).expect("its row");
    (on.compute)(&row);
    (backend, row)
}

/// A sampler after its first choice, which allocates the memory that further choices reuse.
fn ready<B: Backend<Tensor: Clone>>(
    backend: &B,
    logits: &B::Tensor,
    choice: &SamplingPlan,
    history: &[u32],
) -> B::Sampler {
    let mut sampler = backend.sampler(choice, history, 2).expect("a sampler");
    next(backend, logits, &mut sampler);
    sampler
}

/// One more choice, read by the host. The sampler is returned so that its drop is not measured.
fn choose<B: Backend<Tensor: Clone>>(backend: &B, logits: &B::Tensor, mut sampler: B::Sampler) -> (u32, B::Sampler) {
    (next(backend, logits, &mut sampler), sampler)
}

fn next<B: Backend<Tensor: Clone>>(backend: &B, logits: &B::Tensor, sampler: &mut B::Sampler) -> u32 {
    sampler.penalize(logits.clone()).expect("penalized logits");
    let ids = sampler.choose(None).expect("a choice");
    backend.submit(&ids).expect("work to do");
    backend.wait(&ids).expect("a token")
}

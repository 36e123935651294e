//! Breaks the engine on purpose, in one place at a time, and checks that the tokens change.
//! Otherwise the tests of equal tokens would prove nothing.

use candle_core::Tensor;

use crate::transformer::backend::{Backend, HeadShape, Held, LayerCache, Routing};
use crate::transformer::candle::{CandleBackend, Format, Ids, threads};
use crate::transformer::config::Config;
use crate::transformer::experts::ExpertWeights;
use crate::transformer::model::Model;
use crate::transformer::plan::Activation;
use crate::transformer::quantized::Weight;
use crate::transformer::rope::Rotation;
use crate::transformer::sampler::SamplingPlan;
use crate::transformer::session::{Text, TransformerSession};
use crate::transformer::testing::{config, folder, prompt, request, run, with_toggle};
use crate::transformer::weights::{HostTensor, WeightFolder};
use inferometer_host::Result;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    None,
    /// Queries and keys are not rotated.
    NoRope,
    /// Positions are one too high for a single token, that is in decode.
    RopeOffset,
    /// Queries of one forward pass also see later positions.
    NoMask,
    /// Each append overwrites the last held position.
    CacheOffset,
}

/// candle with one fault.
struct Broken {
    inner: CandleBackend,
    fault: Fault,
}

type Linear = <CandleBackend as Backend>::Linear;
type Norm = <CandleBackend as Backend>::Norm;
type Positions = <CandleBackend as Backend>::Positions;
type Cache = <CandleBackend as Backend>::Cache;

impl Backend for Broken {
    type Tensor = Tensor;
    type Linear = Linear;
    type Embedding = Linear;
    type Norm = Norm;
    type Vector = Vec<f32>;
    type Experts = <CandleBackend as Backend>::Experts;
    type Rotation = Rotation;
    type Positions = Positions;
    type Cache = Cache;
    type Ids = Ids;
    type Sampler = <CandleBackend as Backend>::Sampler;

    const LAZY: bool = false;

    fn positions(&self, frequencies: &Rotation, start: usize, count: usize) -> Result<Positions> {
        let still = Rotation { frequencies: vec![0.0; frequencies.frequencies.len()], ..frequencies.clone() };
        match self.fault {
            Fault::NoRope => self.inner.positions(&still, start, count),
            Fault::RopeOffset if count == 1 => self.inner.positions(frequencies, start + 1, count),
            _ => self.inner.positions(frequencies, start, count),
        }
    }

    fn append(&self, cache: &mut Cache, keys: &Tensor, values: &Tensor) -> Result<()> {
        // Only if there is something to overwrite, and so that queries still have their own
        // positions.
        if self.fault == Fault::CacheOffset && cache.len() > 1 {
            cache.truncate(cache.seen() - 1);
        }
        self.inner.append(cache, keys, values)
    }

    fn attend(&self, queries: &Tensor, cache: &Cache, scale: f64, sinks: Option<&Vec<f32>>) -> Result<Tensor> {
        if self.fault != Fault::NoMask {
            return self.inner.attend(queries, cache, scale, sinks);
        }
        // A single query sees the whole cache.
        let one = |at| self.inner.attend(&queries.narrow(0, at, 1).unwrap(), cache, scale, sinks);
        let alone = (0..queries.dim(0).unwrap()).map(one);
        Ok(Tensor::cat(&alone.collect::<Result<Vec<_>>>()?, 0).unwrap())
    }

    fn linear(&mut self, parts: Vec<Weight>) -> Result<Linear> {
        self.inner.linear(parts)
    }
    fn embedding(&mut self, table: Weight) -> Result<Linear> {
        self.inner.embedding(table)
    }
    fn tied(&self, table: &Linear) -> Result<Linear> {
        self.inner.tied(table)
    }
    fn norm(&mut self, scale: HostTensor, eps: f64, plus_one: bool) -> Result<Norm> {
        self.inner.norm(scale, eps, plus_one)
    }
    fn vector(&mut self, parts: Vec<HostTensor>) -> Result<Vec<f32>> {
        self.inner.vector(parts)
    }
    fn experts(&mut self, weights: ExpertWeights) -> Result<Self::Experts> {
        self.inner.experts(weights)
    }
    fn rotation(&self, rotation: &Rotation) -> Result<Rotation> {
        self.inner.rotation(rotation)
    }
    fn cache(&self, kv_heads: usize, head_dim: usize, window: Option<usize>) -> Result<Cache> {
        self.inner.cache(kv_heads, head_dim, window)
    }
    fn held(&self) -> &Held {
        self.inner.held()
    }
    fn ids(&self, ids: &[u32]) -> Result<Ids> {
        self.inner.ids(ids)
    }
    fn embed(&self, table: &Linear, ids: &Ids) -> Result<Tensor> {
        self.inner.embed(table, ids)
    }
    fn rms_norm(&self, x: &Tensor, norm: &Norm) -> Result<Tensor> {
        self.inner.rms_norm(x, norm)
    }
    fn apply(&self, x: &Tensor, matrix: &Linear) -> Result<Tensor> {
        self.inner.apply(x, matrix)
    }
    fn split_heads(&self, x: &Tensor, shape: HeadShape) -> Result<[Tensor; 3]> {
        self.inner.split_heads(x, shape)
    }
    fn rotate(&self, x: &Tensor, frequencies: &Rotation, positions: &Positions) -> Result<Tensor> {
        self.inner.rotate(x, frequencies, positions)
    }
    fn gate(&self, x: &Tensor, activation: Activation) -> Result<Tensor> {
        self.inner.gate(x, activation)
    }
    fn mix(&self, x: &Tensor, logits: &Tensor, experts: &Self::Experts, routing: Routing) -> Result<Tensor> {
        self.inner.mix(x, logits, experts, routing)
    }
    fn add_vector(&self, x: &Tensor, vector: &Vec<f32>) -> Result<Tensor> {
        self.inner.add_vector(x, vector)
    }
    fn scale(&self, x: &Tensor, factor: f64) -> Result<Tensor> {
        self.inner.scale(x, factor)
    }
    fn add(&self, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        self.inner.add(a, b)
    }
    fn last(&self, x: &Tensor) -> Result<Tensor> {
        self.inner.last(x)
    }
    fn row(&self, x: &Tensor, at: usize) -> Result<Tensor> {
        self.inner.row(x, at)
    }
    fn sampler(&self, choice: &SamplingPlan, history: &[u32], generated: usize) -> Result<Self::Sampler> {
        self.inner.sampler(choice, history, generated)
    }
    fn submit(&self, ids: &Ids) -> Result<()> {
        self.inner.submit(ids)
    }
    fn wait(&self, ids: &Ids) -> Result<u32> {
        self.inner.wait(ids)
    }
    fn settle<'a>(&self, caches: impl Iterator<Item = &'a Cache>) -> Result<()> {
        self.inner.settle(caches)
    }
    fn read(&self, x: &Tensor, into: &mut Vec<f32>) -> Result<()> {
        self.inner.read(x, into)
    }
}

fn tokens(arch: &str, fault: Fault) -> Vec<u32> {
    let dir = folder(&config(arch));
    let config = Config::from_folder(dir.path()).unwrap();
    let weights = WeightFolder::open(dir.path(), &config).unwrap();
    let backend = Broken { inner: CandleBackend::new(Format::F32, threads::set(None).unwrap()), fault };
    let model = Model::load(backend, config, &weights, None).unwrap();
    let text = Text { tokenizer: None, template: Err(String::new()) };
    let receipt = crate::transformer::receipt("faulty", "cpu", &text, &crate::transformer::Library::Candle.honours());
    let mut session = TransformerSession::new(model, text, receipt);
    // Two chunks, so that one chunk finds a filled cache.
    let request = with_toggle(request(prompt(24), 32), "prefill_chunk_size", 16i64);
    run(&mut session, &request).unwrap().0
}

#[test]
fn every_fault_changes_the_tokens() {
    for arch in ["llama", "qwen3"] {
        let sound = tokens(arch, Fault::None);
        assert_eq!(sound, tokens(arch, Fault::None));
        for fault in [Fault::NoRope, Fault::RopeOffset, Fault::NoMask, Fault::CacheOffset] {
            assert_ne!(sound, tokens(arch, fault), "{arch}: {fault:?} goes unnoticed");
        }
    }
}

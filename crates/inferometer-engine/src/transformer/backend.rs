//! The operations that a tensor library must implement to run the transformer.
//!
//! The operations are coarse on purpose: a backend is free to fuse, quantize, choose layouts and
//! delay work. Shapes are given in brackets; T is the number of positions in this forward pass.
//! Generic code uses no types of a library.
//!
//! A *lazy* backend only records what to compute. Work starts at [`Backend::submit`] or
//! [`Backend::settle`]. The host waits for it only in [`Backend::wait`], [`Backend::settle`] and
//! [`Backend::read`].

use std::collections::BTreeSet;

use super::experts::ExpertWeights;
use super::extent::Extent;
use super::plan::Activation;
use super::quantized::Weight;
use super::rope::Rotation;
use super::sampler::SamplingPlan;
use super::weights::HostTensor;
use inferometer_host::{MemoryProbe, Result};
use inferometer_protocol::EngineMemory;

/// A tensor library with a device.
pub trait Backend {
    /// Activations.
    type Tensor;
    /// A matrix [out, in] in the best layout for products.
    type Linear;
    /// The embedding table [vocabulary, hidden].
    type Embedding;
    /// Scale of an RMS normalization.
    type Norm;
    /// A bias, or attention sinks.
    type Vector;
    /// The feed-forward blocks of a layer that routes positions to some of them.
    type Experts;
    /// Frequencies of the rotary embedding; made once for each model.
    type Rotation;
    /// Input of the rotation for T consecutive positions; made once for each forward pass, used by
    /// every layer.
    type Positions;
    /// Keys and values of one layer.
    type Cache: LayerCache;
    /// Token ids, T of them, on the device.
    type Ids;
    /// Chooses ids from logits, on the device.
    type Sampler: TokenSampler<Tensor = Self::Tensor, Ids = Self::Ids>;

    /// Whether work can be submitted now and waited for later.
    const LAZY: bool;

    /// Whether [`Backend::memory`] is that of all models in this process: the library has one
    /// allocator for all of them.
    const MEMORY_OF_PROCESS: bool = false;

    /// Whether submitting returns before the work is done, so that submitting a step before reading
    /// the last one saves time.
    fn runs_ahead(&self) -> bool {
        Self::LAZY
    }

    /// Loads a matrix. Several parts [out_i, in] are stacked to one, [sum of out_i, in], so that
    /// one product computes all.
    ///
    /// # Errors
    /// When the library cannot hold it.
    fn linear(&mut self, parts: Vec<Weight>) -> Result<Self::Linear>;
    fn embedding(&mut self, table: Weight) -> Result<Self::Embedding>;
    /// The embedding as output projection, sharing its memory.
    fn tied(&self, table: &Self::Embedding) -> Result<Self::Linear>;
    /// Scale `[n]` of a normalization that adds `eps` under the root; with `plus_one`, the scale is
    /// one plus that.
    fn norm(&mut self, scale: HostTensor, eps: f64, plus_one: bool) -> Result<Self::Norm>;
    /// Vectors, one after the other.
    fn vector(&mut self, parts: Vec<HostTensor>) -> Result<Self::Vector>;
    fn experts(&mut self, weights: ExpertWeights) -> Result<Self::Experts>;
    fn rotation(&self, rotation: &Rotation) -> Result<Self::Rotation>;
    /// An empty cache for keys and values of `kv_heads` heads of `head_dim`; with a window,
    /// attention sees only the last `window` positions.
    fn cache(&self, kv_heads: usize, head_dim: usize, window: Option<usize>) -> Result<Self::Cache>;
    /// Facts about the weights loaded so far.
    fn held(&self) -> &Held;

    fn ids(&self, ids: &[u32]) -> Result<Self::Ids>;
    /// Rows of the table: [T, hidden]. Ids are below the vocabulary's size.
    fn embed(&self, table: &Self::Embedding, ids: &Self::Ids) -> Result<Self::Tensor>;
    /// RMS normalization over the last dimension, any shape.
    fn rms_norm(&self, x: &Self::Tensor, norm: &Self::Norm) -> Result<Self::Tensor>;
    /// x [T, in] times the matrix transposed: [T, out].
    fn apply(&self, x: &Self::Tensor, matrix: &Self::Linear) -> Result<Self::Tensor>;
    /// Splits x [T, (heads + 2 * kv_heads) * head_dim] into queries, keys and values, each by head
    /// in the backend's own layout with head_dim last.
    fn split_heads(&self, x: &Self::Tensor, shape: HeadShape) -> Result<[Self::Tensor; 3]>;
    /// The input of the rotation for positions `start .. start + count`.
    fn positions(&self, rotation: &Self::Rotation, start: usize, count: usize) -> Result<Self::Positions>;
    /// Rotary embedding of queries or keys.
    fn rotate(&self, x: &Self::Tensor, rotation: &Self::Rotation, positions: &Self::Positions) -> Result<Self::Tensor>;
    /// Appends keys and values of T positions to the cache.
    fn append(&self, cache: &mut Self::Cache, keys: &Self::Tensor, values: &Self::Tensor) -> Result<()>;
    /// Causal attention of queries over the cache, whose last T entries are the queries' own
    /// positions. Each query sees at most the cache's window. Scores are multiplied by `scale`, the
    /// softmax is in f32 and includes the head's sink if there are any. Returns [T, heads *
    /// head_dim].
    fn attend(
        &self,
        queries: &Self::Tensor,
        cache: &Self::Cache,
        scale: f64,
        sinks: Option<&Self::Vector>,
    ) -> Result<Self::Tensor>;
    /// The activation of x [T, 2 * n], gate in the first n columns and up in the others: [T, n].
    fn gate(&self, x: &Self::Tensor, activation: Activation) -> Result<Self::Tensor>;
    /// The weighted sum of each position's experts: x [T, hidden], router logits [T, experts].
    fn mix(
        &self,
        x: &Self::Tensor,
        logits: &Self::Tensor,
        experts: &Self::Experts,
        routing: Routing,
    ) -> Result<Self::Tensor>;
    fn add(&self, a: &Self::Tensor, b: &Self::Tensor) -> Result<Self::Tensor>;
    /// Adds a vector `[n]` to each row of x, `[T, n]`.
    fn add_vector(&self, x: &Self::Tensor, vector: &Self::Vector) -> Result<Self::Tensor>;
    fn scale(&self, x: &Self::Tensor, factor: f64) -> Result<Self::Tensor>;
    /// The last position of x [T, n]: [1, n].
    fn last(&self, x: &Self::Tensor) -> Result<Self::Tensor>;
    /// The position at that index of x [T, n]: [1, n].
    fn row(&self, x: &Self::Tensor, at: usize) -> Result<Self::Tensor>;

    /// A sampler for one request with the prompt `history` and at most `generated` further tokens.
    fn sampler(&self, choice: &SamplingPlan, history: &[u32], generated: usize) -> Result<Self::Sampler>;

    /// Starts to compute ids and everything they depend on; does not wait.
    fn submit(&self, ids: &Self::Ids) -> Result<()>;
    /// Waits for the one id that was chosen, forced or not.
    ///
    /// # Errors
    /// When the computation fails, or no logit was a number.
    fn wait(&self, ids: &Self::Ids) -> Result<u32>;
    /// Computes a tensor and waits for it if the backend is lazy, so that a span contains the work
    /// of its operation.
    ///
    /// # Errors
    /// When the computation fails.
    fn finish(&self, x: &Self::Tensor) -> Result<()> {
        let _ = x;
        Ok(())
    }
    /// Computes the content of these caches and waits for it: the end of a prefill chunk.
    fn settle<'a>(&self, caches: impl Iterator<Item = &'a Self::Cache>) -> Result<()>
    where
        Self::Cache: 'a;
    /// Waits for a tensor's values and copies them to the host.
    fn read(&self, x: &Self::Tensor, into: &mut Vec<f32>) -> Result<()>;

    /// Figures of the library's allocator, or of what the backend holds itself; unknown ones are
    /// absent.
    fn memory(&self) -> EngineMemory {
        EngineMemory::default()
    }
    /// Reads [`Backend::memory`] from any thread, if the library allows that while it computes.
    /// Made after the weights are loaded.
    fn memory_probe(&self) -> Option<MemoryProbe> {
        None
    }
    /// Resets the peak of [`Backend::memory`].
    fn reset_peak(&self) -> Result<()> {
        Ok(())
    }
    /// Frees the memory that the allocator keeps for later use; `false` if the allocator keeps
    /// none.
    fn clear_allocator(&self) -> Result<bool> {
        Ok(false)
    }
}

/// Number and width of heads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadShape {
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
}

/// How positions choose their experts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Routing {
    /// Experts of a position: those with the largest router logits.
    pub per_token: usize,
    /// Their weights are a softmax over their logits alone; else over all.
    pub normalized: bool,
    pub activation: Activation,
}

/// Chooses the tokens of one request, one after another. Each choice is appended to the history of
/// the penalty.
pub trait TokenSampler {
    type Tensor;
    type Ids;

    /// Takes the logits [1, vocabulary] of the next choice and penalizes the tokens in the window.
    fn penalize(&mut self, logits: Self::Tensor) -> Result<()>;
    /// Computes the penalized logits and waits for them, as [`Backend::finish`] does.
    ///
    /// # Errors
    /// When the computation fails.
    fn finish(&self) -> Result<()> {
        Ok(())
    }
    /// Best minus second best of the penalized logits, as in [`super::sampler::gap`]. Call it
    /// before the choice; it waits.
    ///
    /// # Errors
    /// When the computation fails, or no logit is a number.
    fn gap(&self) -> Result<f32>;
    /// The next token. With `forced` the choice is still made, but generation continues with this
    /// token.
    fn choose(&mut self, forced: Option<u32>) -> Result<Self::Ids>;
    /// Number of tokens in the window of the last penalty.
    fn window(&self) -> usize;
}

/// Keys and values of one layer. Its length is measured on itself, not counted separately.
pub trait LayerCache {
    /// Which positions it holds.
    fn extent(&self) -> &Extent;
    fn extent_mut(&mut self) -> &mut Extent;
    /// Positions appended so far, including dropped ones; the number of the next position.
    fn seen(&self) -> usize {
        self.extent().seen()
    }
    /// Positions that attention sees.
    fn len(&self) -> usize {
        self.extent().len()
    }
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Whether, after [`LayerCache::truncate`] to `seen` positions, the cache still has all
    /// positions that attention needs.
    fn can_truncate(&self, seen: usize) -> bool {
        self.extent().can_truncate(seen)
    }
    /// Removes all positions from `seen` on but keeps the memory. Does nothing if there are fewer.
    fn truncate(&mut self, seen: usize) {
        self.extent_mut().truncate(seen);
    }
    /// Makes room for `len` positions in total, so that appends up to that length allocate nothing
    /// if the library writes in place.
    ///
    /// # Errors
    /// When there is not enough memory.
    fn reserve(&mut self, len: usize) -> Result<()>;
    /// Bytes allocated, whether used or not.
    fn bytes(&self) -> u64;
}

/// How a backend stores the weights in memory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Held {
    /// Bytes of weights in memory; shared ones count once.
    pub bytes: u64,
    /// Bytes of additional copies that the library keeps for its products.
    pub copies: u64,
    /// Formats of the matrices in memory.
    pub formats: BTreeSet<&'static str>,
    /// How the folder stores those matrices that the backend converted: from a quantized form, or
    /// from f16 or bf16.
    pub converted: BTreeSet<String>,
    /// Tensors that stayed in f32 because the chosen format does not fit them, without norms.
    pub unquantized: Vec<String>,
}

impl Held {
    /// The formats of the matrices, such as `q8_0` or `q4_1+q8_0`.
    #[must_use]
    pub fn format(&self) -> String {
        self.formats.iter().copied().collect::<Vec<_>>().join("+")
    }
}

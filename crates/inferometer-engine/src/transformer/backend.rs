//! What a tensor library must offer so that the transformer runs on it.
//!
//! The operations are coarse on purpose: a backend may fuse, quantize, lay out and delay as it likes. Shapes are given
//! in brackets; T is the number of positions in this forward pass. Generic code holds no library's types.
//!
//! A *lazy* backend only notes down what is to be computed. Work starts at [`Backend::submit`] or [`Backend::settle`],
//! and the host waits for it in [`Backend::wait`], [`Backend::settle`] and [`Backend::read`] alone.

use std::collections::BTreeSet;

use super::extent::Extent;
use super::quantized::Weight;
use super::sampler::SamplingPlan;
use super::weights::HostTensor;
use inferometer_host::{MemoryProbe, Result};
use inferometer_protocol::EngineMemory;

/// A tensor library with a device.
pub trait Backend {
    /// Activations.
    type Tensor;
    /// A matrix [out, in] in whatever form products like best.
    type Linear;
    /// The embedding table [vocabulary, hidden].
    type Embedding;
    /// Scale of an RMS normalization.
    type Norm;
    /// Frequencies of the rotary embedding; made once a model.
    type Rotation;
    /// What rotation needs to know of T consecutive positions; made once a forward pass, used by every layer.
    type Positions;
    /// Keys and values of one layer.
    type Cache: LayerCache;
    /// Token ids, T of them, on the device.
    type Ids;
    /// From logits to ids, on the device.
    type Sampler: TokenSampler<Tensor = Self::Tensor, Ids = Self::Ids>;

    /// Whether work can be submitted and waited for later.
    const LAZY: bool;

    /// Whether submitting returns before the work is done, so that it is well to submit a step before the last one is read.
    fn runs_ahead(&self) -> bool {
        Self::LAZY
    }

    /// Takes a matrix; several parts [out_i, in] are stacked to one, [sum of out_i, in], so that one product serves all.
    ///
    /// # Errors
    /// When the library cannot hold it.
    fn linear(&mut self, parts: Vec<Weight>) -> Result<Self::Linear>;
    fn embedding(&mut self, table: Weight) -> Result<Self::Embedding>;
    /// The embedding as output projection, sharing its memory.
    fn tied(&self, table: &Self::Embedding) -> Result<Self::Linear>;
    /// Scale `[n]` of a normalization that adds `eps` under the root.
    fn norm(&mut self, scale: HostTensor, eps: f64) -> Result<Self::Norm>;
    /// `frequencies` in radians per position, one for each pair of a head; `theta` where they are its plain powers.
    fn rotation(&self, frequencies: &[f64], theta: Option<f64>) -> Result<Self::Rotation>;
    /// An empty cache for keys and values of `kv_heads` heads of `head_dim`; with a window it gives attention the last
    /// so many positions only.
    fn cache(&self, kv_heads: usize, head_dim: usize, window: Option<usize>) -> Result<Self::Cache>;
    /// What is known of the weights taken so far.
    fn held(&self) -> &Held;

    fn ids(&self, ids: &[u32]) -> Result<Self::Ids>;
    /// Rows of the table: [T, hidden]. Ids are below the vocabulary's size.
    fn embed(&self, table: &Self::Embedding, ids: &Self::Ids) -> Result<Self::Tensor>;
    /// RMS normalization over the last dimension, any shape.
    fn rms_norm(&self, x: &Self::Tensor, norm: &Self::Norm) -> Result<Self::Tensor>;
    /// x [T, in] times the matrix transposed: [T, out].
    fn apply(&self, x: &Self::Tensor, matrix: &Self::Linear) -> Result<Self::Tensor>;
    /// x [T, (heads + 2 * kv_heads) * head_dim] as queries, keys and values, each by head in the backend's own layout
    /// with head_dim last.
    fn split_heads(&self, x: &Self::Tensor, shape: HeadShape) -> Result<[Self::Tensor; 3]>;
    /// For positions `start .. start + count`.
    fn positions(&self, rotation: &Self::Rotation, start: usize, count: usize) -> Result<Self::Positions>;
    /// Rotary embedding of queries or keys; a pair is (i, i + head_dim / 2).
    fn rotate(&self, x: &Self::Tensor, rotation: &Self::Rotation, positions: &Self::Positions) -> Result<Self::Tensor>;
    /// Puts keys and values of T positions behind what the cache holds.
    fn append(&self, cache: &mut Self::Cache, keys: &Self::Tensor, values: &Self::Tensor) -> Result<()>;
    /// Causal attention of queries over the cache, whose last T entries are the queries' own positions; each looks at
    /// the cache's window at most. Scores are scaled by `head_dim^-1/2`, the softmax is in f32. Gives
    /// [T, heads * head_dim].
    fn attend(&self, queries: &Self::Tensor, cache: &Self::Cache) -> Result<Self::Tensor>;
    /// silu(gate) * up of x [T, 2 * n], gate in the first n columns: [T, n].
    fn gate(&self, x: &Self::Tensor) -> Result<Self::Tensor>;
    fn add(&self, a: &Self::Tensor, b: &Self::Tensor) -> Result<Self::Tensor>;
    /// The last position of x [T, n]: [1, n].
    fn last(&self, x: &Self::Tensor) -> Result<Self::Tensor>;

    /// For one request, over the prompt's `history`; `generated` tokens at most will follow.
    fn sampler(&self, choice: &SamplingPlan, history: &[u32], generated: usize) -> Result<Self::Sampler>;

    /// Begins to compute ids and all that they depend on; does not wait.
    fn submit(&self, ids: &Self::Ids) -> Result<()>;
    /// The one id that was chosen, forced or not, waiting for it.
    ///
    /// # Errors
    /// When the computation fails, or the logits held no number to choose.
    fn wait(&self, ids: &Self::Ids) -> Result<u32>;
    /// Computes a tensor and waits for it, where the backend is lazy: for spans that hold their operation's work.
    ///
    /// # Errors
    /// When the computation fails.
    fn finish(&self, x: &Self::Tensor) -> Result<()> {
        let _ = x;
        Ok(())
    }
    /// Computes what these caches hold, and waits for it: the end of a prefill chunk.
    fn settle<'a>(&self, caches: impl Iterator<Item = &'a Self::Cache>) -> Result<()>
    where
        Self::Cache: 'a;
    /// Copies a tensor's values to the host, waiting for them.
    fn read(&self, x: &Self::Tensor, into: &mut Vec<f32>) -> Result<()>;

    /// What the library's allocator says; nothing where it has none of its own.
    fn memory(&self) -> EngineMemory {
        EngineMemory::default()
    }
    /// Reads [`Backend::memory`] from any thread, where the library allows that while it computes.
    fn memory_probe(&self) -> Option<MemoryProbe> {
        None
    }
    /// Starts the peak of [`Backend::memory`] anew.
    fn reset_peak(&self) -> Result<()> {
        Ok(())
    }
    /// Gives back what the allocator keeps for later use; `false` where there is no such store.
    fn clear_allocator(&self) -> Result<bool> {
        Ok(false)
    }
}

/// How many heads there are and how wide they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadShape {
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
}

/// Chooses the tokens of one request, one after another. A choice joins the history that the penalty looks at.
pub trait TokenSampler {
    type Tensor;
    type Ids;

    /// Takes the logits [1, vocabulary] of the next choice and penalizes what is in the window.
    fn penalize(&mut self, logits: Self::Tensor) -> Result<()>;
    /// Computes the penalized logits and waits for them, as [`Backend::finish`] does.
    ///
    /// # Errors
    /// When the computation fails.
    fn finish(&self) -> Result<()> {
        Ok(())
    }
    /// Best minus second best of the penalized logits, as [`super::sampler::gap`] has it. Comes before the choice; waits.
    ///
    /// # Errors
    /// When the computation fails, or the logits hold no number.
    fn gap(&self) -> Result<f32>;
    /// The next token. With `forced` the choice is made all the same, and this token goes on in its place.
    fn choose(&mut self, forced: Option<u32>) -> Result<Self::Ids>;
    /// Tokens that the last penalty looked at.
    fn window(&self) -> usize;
}

/// Keys and values of one layer. Its length is a property of itself, not a count kept beside it.
pub trait LayerCache {
    /// Which positions it holds.
    fn extent(&self) -> &Extent;
    fn extent_mut(&mut self) -> &mut Extent;
    /// Positions that went in, whether still held or not; the next one has this number.
    fn seen(&self) -> usize {
        self.extent().seen()
    }
    /// Positions that attention looks at.
    fn len(&self) -> usize {
        self.extent().len()
    }
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Whether [`LayerCache::truncate`] to `seen` positions leaves what attention would then look at.
    fn can_truncate(&self, seen: usize) -> bool {
        self.extent().can_truncate(seen)
    }
    /// Forgets all positions from `seen` on; memory is kept. More than there are: nothing happens.
    fn truncate(&mut self, seen: usize) {
        self.extent_mut().truncate(seen);
    }
    /// Makes room for `len` positions in all, so that appends up to there allocate nothing where memory can be written
    /// in place.
    ///
    /// # Errors
    /// When there is no such memory.
    fn reserve(&mut self, len: usize) -> Result<()>;
    /// Bytes allocated, whether used or not.
    fn bytes(&self) -> u64;
}

/// What a backend did with the weights it was given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Held {
    /// Bytes of weights in memory, shared ones once.
    pub bytes: u64,
    /// Bytes of further copies that the library keeps for its own products.
    pub copies: u64,
    /// Formats that matrices are held in.
    pub formats: BTreeSet<&'static str>,
    /// How the folder stores those matrices that the backend converted: from a quantized form, or from f16 or bf16.
    pub converted: BTreeSet<String>,
    /// Tensors that the chosen format could not hold and that stayed in f32, norms not counted.
    pub unquantized: Vec<String>,
}

impl Held {
    /// The one format of all matrices, or "mixed".
    #[must_use]
    pub fn format(&self) -> &'static str {
        let mut formats = self.formats.iter();
        match (formats.next(), formats.next()) {
            (Some(only), None) => only,
            _ => "mixed",
        }
    }
}

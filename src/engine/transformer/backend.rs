//! What a tensor library must offer so that the transformer runs on it.
//!
//! The operations are coarse on purpose: a backend may fuse, quantize, lay out and delay as it likes. Shapes are given
//! in brackets; T is the number of positions in this forward pass. Generic code holds no library's types.

use std::collections::BTreeSet;

use super::quantized::Weight;
use super::weights::HostTensor;
use crate::engine::Result;

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
    /// What rotation needs to know of T consecutive positions; made once a forward pass, used by every layer.
    type Positions;
    /// Keys and values of one layer.
    type Cache: LayerCache;

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
    /// An empty cache for keys and values of `kv_heads` heads of `head_dim`.
    fn cache(&self, kv_heads: usize, head_dim: usize) -> Result<Self::Cache>;
    /// What is known of the weights taken so far.
    fn held(&self) -> &Held;

    /// Rows of the table: [T, hidden]. Ids are below the vocabulary's size.
    fn embed(&self, table: &Self::Embedding, ids: &[u32]) -> Result<Self::Tensor>;
    /// RMS normalization over the last dimension, any shape.
    fn rms_norm(&self, x: &Self::Tensor, norm: &Self::Norm) -> Result<Self::Tensor>;
    /// x [T, in] times the matrix transposed: [T, out].
    fn apply(&self, x: &Self::Tensor, matrix: &Self::Linear) -> Result<Self::Tensor>;
    /// Columns `first .. first + heads * head_dim` of x [T, *] as heads: [T, heads, head_dim].
    fn heads(&self, x: &Self::Tensor, first: usize, heads: usize, head_dim: usize) -> Result<Self::Tensor>;
    /// For positions `start .. start + count`; `frequencies` in radians per position, one for each pair.
    fn positions(&self, frequencies: &[f64], start: usize, count: usize) -> Result<Self::Positions>;
    /// Rotary embedding of x [T, heads, head_dim]; a pair is (i, i + head_dim / 2).
    fn rotate(&self, x: &Self::Tensor, positions: &Self::Positions) -> Result<Self::Tensor>;
    /// Puts keys and values [T, kv_heads, head_dim] behind what the cache holds.
    fn append(&self, cache: &mut Self::Cache, keys: &Self::Tensor, values: &Self::Tensor) -> Result<()>;
    /// Causal attention of queries [T, heads, head_dim] over the cache, whose last T entries are the queries' own
    /// positions. Scores are scaled by `head_dim^-1/2`, the softmax is in f32. Gives [T, heads * head_dim].
    fn attend(&self, queries: &Self::Tensor, cache: &Self::Cache) -> Result<Self::Tensor>;
    /// silu(gate) * up of x [T, 2 * n], gate in the first n columns: [T, n].
    fn gate(&self, x: &Self::Tensor) -> Result<Self::Tensor>;
    fn add(&self, a: &Self::Tensor, b: &Self::Tensor) -> Result<Self::Tensor>;
    /// The last position of x [T, n]: [1, n].
    fn last(&self, x: &Self::Tensor) -> Result<Self::Tensor>;
    /// Waits until x is computed, where the library is lazy.
    fn finish(&self, x: &Self::Tensor) -> Result<()>;
    /// Copies a tensor's values to the host, waiting for them where the library is lazy.
    fn read(&self, x: &Self::Tensor, into: &mut Vec<f32>) -> Result<()>;
}

/// Keys and values of one layer. Its length is a property of itself, not a count kept beside it.
pub trait LayerCache {
    /// Positions held.
    fn len(&self) -> usize;
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Forgets all positions from `len` on; memory is kept. Longer than it is: nothing happens.
    fn truncate(&mut self, len: usize);
    /// Makes room for `len` positions in all, so that appends up to there allocate nothing.
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
    /// How the folder stores those matrices that the backend had to convert from a quantized form.
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

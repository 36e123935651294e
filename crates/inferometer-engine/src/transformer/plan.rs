//! What a model computes and in which tensors its weights are.
//!
//! An architecture (see [`super::arch`]) turns a configuration into a plan; [`super::model`] runs
//! it. Tensor names are those of Hugging Face folders, without `.weight`.

use super::rope::Rotation;

/// A decoder-only transformer.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    pub hidden: usize,
    pub vocabulary: usize,
    /// The embedding table [vocabulary, hidden].
    pub embedding: String,
    /// Embeddings are multiplied by this.
    pub embedding_scale: Option<f64>,
    pub layers: Vec<Layer>,
    /// The normalization before the output projection.
    pub norm: Norm,
    /// The output projection [vocabulary, hidden].
    pub head: String,
    /// The output projection is the embedding itself.
    pub tied: bool,
    /// Rotary embeddings that layers refer to by their index.
    pub rotations: Vec<Rotation>,
}

/// x + mixer(norm(x)), then x + `feed_forward(norm(x))`.
#[derive(Debug, Clone, PartialEq)]
pub struct Layer {
    pub input_norm: Norm,
    pub attention: Attention,
    /// Normalizes what attention adds.
    pub attention_norm: Option<Norm>,
    pub feed_forward_norm: Norm,
    pub feed_forward: FeedForward,
    /// Normalizes what the feed-forward block adds.
    pub added_norm: Option<Norm>,
}

/// An RMS normalization.
#[derive(Debug, Clone, PartialEq)]
pub struct Norm {
    /// Tensor `[width]`.
    pub name: String,
    pub width: usize,
    /// Added under the root.
    pub eps: f64,
    /// The scale is one plus the tensor.
    pub plus_one: bool,
}

/// Grouped-query attention.
#[derive(Debug, Clone, PartialEq)]
pub struct Attention {
    /// Query heads.
    pub heads: usize,
    /// Key/value heads; divides `heads`.
    pub kv_heads: usize,
    /// Even.
    pub head_dim: usize,
    /// Queries, keys and values, stacked.
    pub qkv: Matrix,
    /// Normalizes each query head.
    pub q_norm: Option<Norm>,
    /// Normalizes each key head.
    pub k_norm: Option<Norm>,
    /// Index of its rotary embedding; `None`: positions are not encoded.
    pub rotation: Option<usize>,
    /// Scores are multiplied by this.
    pub scale: f64,
    /// Most positions that a query sees, itself included; `None`: all.
    pub window: Option<usize>,
    /// Tensor `[heads]` of attention sinks: a score for each head that takes part in the softmax
    /// and has no value.
    pub sinks: Option<String>,
    pub output: Matrix,
}

/// A matrix [sum of the parts' rows, columns] and its bias.
#[derive(Debug, Clone, PartialEq)]
pub struct Matrix {
    pub parts: Vec<Part>,
    pub columns: usize,
    /// Each part has a tensor `NAME.bias`, `[rows]`.
    pub bias: bool,
}

/// Rows of a matrix in a tensor of their own.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    pub name: String,
    pub rows: usize,
}

#[derive(Debug, Clone, PartialEq)]
pub enum FeedForward {
    Dense(Dense),
    Experts(Experts),
}

/// down(activation(gate, up)).
#[derive(Debug, Clone, PartialEq)]
pub struct Dense {
    /// Gate and up, stacked.
    pub gate_up: Matrix,
    pub activation: Activation,
    pub down: Matrix,
}

/// A mixture of experts: for each position, the feed-forward blocks with the largest router
/// logits, weighted.
#[derive(Debug, Clone, PartialEq)]
pub struct Experts {
    pub count: usize,
    /// Experts that compute a position.
    pub per_token: usize,
    /// Router logits `[count]`.
    pub router: Matrix,
    /// The weights are a softmax over the chosen experts alone; else over all of them.
    pub normalized: bool,
    pub activation: Activation,
    pub intermediate: usize,
    /// Folder-dependent names: see [`Stacks`].
    pub stacks: Stacks,
    /// Every expert's matrices have biases.
    pub bias: bool,
}

/// Where the matrices of a layer's experts are. What tensors there are decides.
#[derive(Debug, Clone, PartialEq)]
pub struct Stacks {
    /// Stacked tensors [count, rows, columns]: `PREFIX.gate_proj`, `PREFIX.up_proj`,
    /// `PREFIX.down_proj`, as `mlx_lm` stores them.
    pub stacked: String,
    /// Single tensors: `PREFIX.E.gate_proj` and so on for each expert E.
    pub single: Option<String>,
    /// MXFP4 tensors of gpt-oss: `PREFIX.gate_up_proj_blocks` and so on, rows of gate and up
    /// alternating.
    pub alternating: Option<String>,
}

/// How gate and up become one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Activation {
    /// silu(gate) * up.
    Silu,
    /// gelu(gate) * up, with the approximation by tanh.
    GeluTanh,
    /// gate * sigmoid(1.702 * gate) * (up + 1), both clamped at 7 (gpt-oss).
    ClampedSwiglu,
}

impl Norm {
    #[must_use]
    pub fn new(name: impl Into<String>, width: usize, eps: f64) -> Self {
        Self { name: name.into(), width, eps, plus_one: false }
    }
}

impl Matrix {
    /// One tensor.
    #[must_use]
    pub fn one(name: impl Into<String>, rows: usize, columns: usize) -> Self {
        Self { parts: vec![Part { name: name.into(), rows }], columns, bias: false }
    }

    #[must_use]
    pub fn with_bias(self, bias: bool) -> Self {
        Self { bias, ..self }
    }

    #[must_use]
    pub fn rows(&self) -> usize {
        self.parts.iter().map(|part| part.rows).sum()
    }
}

impl Layer {
    /// Every matrix but those of experts.
    pub fn matrices(&self) -> impl Iterator<Item = &Matrix> {
        let feed_forward: Vec<&Matrix> = match &self.feed_forward {
            FeedForward::Dense(dense) => vec![&dense.gate_up, &dense.down],
            FeedForward::Experts(experts) => vec![&experts.router],
        };
        [&self.attention.qkv, &self.attention.output].into_iter().chain(feed_forward)
    }
}

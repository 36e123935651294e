//! The architectures: each turns the fields of its `config.json` into a plan.
//!
//! To add one, write a file with a [`Family`] and list it in [`FAMILIES`].

mod gemma3;
mod gpt_oss;
mod llama;
mod mistral;
mod phi3;
mod qwen2;
mod qwen3;
mod qwen3_moe;
mod smollm3;

use super::config::fields::{Fields, most};
use super::plan::{Activation, Attention, Dense, FeedForward, Layer, Matrix, Norm, Part, Plan};
use super::rope::Rotation;
use inferometer_host::Result;
use inferometer_protocol::Architecture;

/// An architecture's configuration.
pub struct Family {
    pub architecture: Architecture,
    /// Values of `model_type`.
    pub model_types: &'static [&'static str],
    /// The class that `architectures` names.
    pub class: &'static str,
    pub plan: fn(&Fields<'_>) -> Result<(Shape, Plan)>,
}

pub const FAMILIES: [&Family; 9] = [
    &llama::FAMILY,
    &mistral::FAMILY,
    &qwen2::FAMILY,
    &qwen3::FAMILY,
    &qwen3_moe::FAMILY,
    &smollm3::FAMILY,
    &phi3::FAMILY,
    &gemma3::FAMILY,
    &gpt_oss::FAMILY,
];

/// The sizes that every architecture has.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shape {
    pub hidden: usize,
    /// Inner width of a feed-forward block; of one expert, if there are experts.
    pub intermediate: usize,
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key/value heads; divides `heads`.
    pub kv_heads: usize,
    /// Even.
    pub head_dim: usize,
    pub vocabulary: usize,
    /// Added under the root in RMS normalization.
    pub norm_eps: f64,
    /// Longest context, in tokens.
    pub context: usize,
    /// The output projection is the embedding itself.
    pub tied: bool,
}

/// Defaults of an architecture for fields that its files may leave out.
#[derive(Default)]
struct Usual {
    head_dim: Option<usize>,
    tied: bool,
}

impl Shape {
    fn read(fields: &Fields<'_>, usual: &Usual) -> Result<Self> {
        let heads = fields.size("num_attention_heads", most::HEADS)?;
        let hidden = fields.size("hidden_size", most::HIDDEN)?;
        let kv_heads = fields.size_or("num_key_value_heads", most::HEADS, heads)?;
        let head_dim = match (fields.get("head_dim"), usual.head_dim) {
            (Some(_), _) => fields.size("head_dim", most::HEAD_DIM)?,
            (None, Some(usual)) => usual,
            (None, None) if hidden.is_multiple_of(heads) => hidden / heads,
            (None, None) => {
                return Err(fields.wrong(format!(
                    "head_dim is absent and hidden_size {hidden} is no multiple of num_attention_heads {heads}"
                )));
            }
        };
        if !heads.is_multiple_of(kv_heads) {
            return Err(
                fields.wrong(format!("num_attention_heads {heads} is no multiple of num_key_value_heads {kv_heads}"))
            );
        }
        if heads * head_dim > most::HEADS_WIDTH {
            return Err(fields.wrong(format!(
                "num_attention_heads {heads} times head_dim {head_dim} is above {}, which no model has",
                most::HEADS_WIDTH
            )));
        }
        if !head_dim.is_multiple_of(2) {
            return Err(fields.wrong(format!("head_dim {head_dim} is odd; rotary embedding needs pairs")));
        }
        Ok(Self {
            hidden,
            intermediate: fields.size("intermediate_size", most::INTERMEDIATE)?,
            layers: fields.size("num_hidden_layers", most::LAYERS)?,
            heads,
            kv_heads,
            head_dim,
            vocabulary: fields.size("vocab_size", most::VOCABULARY)?,
            norm_eps: fields.positive("rms_norm_eps")?,
            context: fields.size("max_position_embeddings", most::CONTEXT)?,
            tied: fields.flag("tie_word_embeddings")?.unwrap_or(usual.tied),
        })
    }

    /// A plan of these layers with the usual names.
    fn plan(&self, rotations: Vec<Rotation>, layers: Vec<Layer>) -> Plan {
        Plan {
            hidden: self.hidden,
            vocabulary: self.vocabulary,
            embedding: "model.embed_tokens".to_owned(),
            embedding_scale: None,
            layers,
            norm: self.norm("model.norm"),
            head: "lm_head".to_owned(),
            tied: self.tied,
            rotations,
        }
    }

    /// Llama's layer, which the others vary: attention with separate projections, the first rotary
    /// embedding and no biases; a dense block with silu.
    fn layer(&self, at: usize) -> Layer {
        let Self { hidden, heads, kv_heads, head_dim, intermediate, .. } = *self;
        let name = |part: &str| in_layer(at, part);
        let stacked = |parts: &[(&str, usize)]| Matrix {
            parts: parts.iter().map(|(part, rows)| Part { name: name(part), rows: *rows }).collect(),
            columns: hidden,
            bias: false,
        };
        let (queries, keys) = (heads * head_dim, kv_heads * head_dim);
        let attention = Attention {
            heads,
            kv_heads,
            head_dim,
            qkv: stacked(&[("self_attn.q_proj", queries), ("self_attn.k_proj", keys), ("self_attn.v_proj", keys)]),
            q_norm: None,
            k_norm: None,
            rotation: Some(0),
            scale: (head_dim as f64).powf(-0.5),
            window: None,
            sinks: None,
            output: Matrix::one(name("self_attn.o_proj"), hidden, queries),
        };
        Layer {
            input_norm: self.norm(name("input_layernorm")),
            attention,
            attention_norm: None,
            feed_forward_norm: self.norm(name("post_attention_layernorm")),
            feed_forward: FeedForward::Dense(Dense {
                gate_up: stacked(&[("mlp.gate_proj", intermediate), ("mlp.up_proj", intermediate)]),
                activation: Activation::Silu,
                down: Matrix::one(name("mlp.down_proj"), hidden, intermediate),
            }),
            added_norm: None,
        }
    }

    fn norm(&self, name: impl Into<String>) -> Norm {
        Norm::new(name, self.hidden, self.norm_eps)
    }

    /// The normalization of each query or key head.
    fn head_norm(&self, at: usize, part: &str) -> Option<Norm> {
        Some(Norm::new(in_layer(at, part), self.head_dim, self.norm_eps))
    }
}

impl Layer {
    fn with_qkv_bias(mut self) -> Self {
        self.attention.qkv.bias = true;
        self
    }

    /// That sees so many positions.
    fn with_window(mut self, window: Option<usize>) -> Self {
        self.attention.window = window;
        self
    }
}

fn in_layer(at: usize, part: &str) -> String {
    format!("model.layers.{at}.{part}")
}

/// Refuses activations but silu.
fn silu_only(fields: &Fields<'_>) -> Result<()> {
    fields.only("hidden_act", &"silu".into())
}

/// The sliding window of Qwen's files, which no released model switches on.
fn no_sliding(fields: &Fields<'_>, layers: usize) -> Result<()> {
    if fields.flag("use_sliding_window")? == Some(true) {
        return Err(fields.unsupported("use_sliding_window = true"));
    }
    match fields.windows(layers, |_| false)?.iter().flatten().next() {
        Some(_) => Err(fields.unsupported("layer_types with \"sliding_attention\"")),
        None => Ok(()),
    }
}

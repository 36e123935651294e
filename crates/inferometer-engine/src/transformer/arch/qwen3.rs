//! Qwen3 (Qwen team, "Qwen3 Technical Report", 2025): Llama with a normalization of each query and
//! key head.
//!
//! Source: `Qwen3Config` of the `transformers` library.

use super::{Family, Shape, Usual, no_sliding, silu_only};
use crate::transformer::config::fields::Fields;
use crate::transformer::plan::{Layer, Plan};
use inferometer_host::Result;
use inferometer_protocol::Architecture;

pub const FAMILY: Family =
    Family { architecture: Architecture::Qwen3, model_types: &["qwen3"], class: "Qwen3ForCausalLM", plan };

fn plan(fields: &Fields<'_>) -> Result<(Shape, Plan)> {
    let shape = shape(fields)?;
    let layers = (0..shape.layers).map(|at| layer(&shape, at)).collect();
    Ok((shape, shape.plan(vec![fields.rotation(shape.head_dim, shape.context)?], layers)))
}

/// The fields that Qwen3's dense models and those with experts share.
pub fn shape(fields: &Fields<'_>) -> Result<Shape> {
    silu_only(fields)?;
    fields.only("attention_bias", &false.into())?;
    fields.only("partial_rotary_factor", &1.0.into())?;
    let shape = Shape::read(fields, &Usual { head_dim: Some(128), ..Usual::default() })?;
    no_sliding(fields, shape.layers)?;
    Ok(shape)
}

pub fn layer(shape: &Shape, at: usize) -> Layer {
    let mut layer = shape.layer(at);
    layer.attention.q_norm = shape.head_norm(at, "self_attn.q_norm");
    layer.attention.k_norm = shape.head_norm(at, "self_attn.k_norm");
    layer
}

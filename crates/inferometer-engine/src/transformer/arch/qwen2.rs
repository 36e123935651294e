//! Qwen2 and Qwen2.5 (Qwen team, 2024): Llama with biases on queries, keys and values.
//!
//! Source: `Qwen2Config` of the `transformers` library.

use super::{Family, Shape, Usual, no_sliding, silu_only};
use crate::transformer::config::fields::Fields;
use crate::transformer::plan::Plan;
use inferometer_host::Result;
use inferometer_protocol::Architecture;

pub const FAMILY: Family =
    Family { architecture: Architecture::Qwen2, model_types: &["qwen2"], class: "Qwen2ForCausalLM", plan };

fn plan(fields: &Fields<'_>) -> Result<(Shape, Plan)> {
    silu_only(fields)?;
    let shape = Shape::read(fields, &Usual::default())?;
    no_sliding(fields, shape.layers)?;
    let layers = (0..shape.layers).map(|at| shape.layer(at).with_qkv_bias()).collect();
    Ok((shape, shape.plan(vec![fields.rotation(shape.head_dim, shape.context)?], layers)))
}

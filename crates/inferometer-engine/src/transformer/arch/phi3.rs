//! Phi-3 and Phi-4 (Abdin et al., 2024): Llama with queries, keys and values in one tensor, gate
//! and up in another, and optionally heads that are rotated in part.
//!
//! Source: `Phi3Config` of the `transformers` library.

use super::{Family, Shape, Usual, in_layer, silu_only};
use crate::transformer::config::fields::Fields;
use crate::transformer::plan::{FeedForward, Matrix, Plan};
use inferometer_host::Result;
use inferometer_protocol::Architecture;

pub const FAMILY: Family =
    Family { architecture: Architecture::Phi3, model_types: &["phi3"], class: "Phi3ForCausalLM", plan };

fn plan(fields: &Fields<'_>) -> Result<(Shape, Plan)> {
    silu_only(fields)?;
    fields.only("attention_bias", &false.into())?;
    let shape = Shape::read(fields, &Usual::default())?;
    let part = fields.positive_or("partial_rotary_factor", 1.0)?;
    let dims = (shape.head_dim as f64 * part) as usize;
    if part > 1.0 || dims == 0 || !dims.is_multiple_of(2) {
        return Err(fields.wrong(format!(
            "partial_rotary_factor {part} of head_dim {} gives {dims} components; rotary embedding needs pairs",
            shape.head_dim
        )));
    }
    let slides = fields.get("sliding_window").is_some();
    let windows = fields.windows(shape.layers, |_| slides)?;
    let layers = windows.into_iter().enumerate().map(|(at, window)| {
        let mut layer = shape.layer(at).with_window(window.filter(|window| *window < shape.context));
        let rows = layer.attention.qkv.rows();
        layer.attention.qkv = Matrix::one(in_layer(at, "self_attn.qkv_proj"), rows, shape.hidden);
        if let FeedForward::Dense(dense) = &mut layer.feed_forward {
            dense.gate_up = Matrix::one(in_layer(at, "mlp.gate_up_proj"), 2 * shape.intermediate, shape.hidden);
        }
        layer
    });
    Ok((shape, shape.plan(vec![fields.rotation(dims, shape.context)?], layers.collect())))
}

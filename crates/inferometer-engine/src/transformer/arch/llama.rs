//! Llama (Touvron et al., 2023) and the many models of its shape, such as SmolLM2.
//!
//! Source: `LlamaConfig` of the `transformers` library.

use super::{Family, Shape, Usual, silu_only};
use crate::transformer::config::fields::Fields;
use crate::transformer::plan::{FeedForward, Layer, Plan};
use inferometer_host::Result;
use inferometer_protocol::Architecture;

pub const FAMILY: Family =
    Family { architecture: Architecture::Llama, model_types: &["llama"], class: "LlamaForCausalLM", plan };

fn plan(fields: &Fields<'_>) -> Result<(Shape, Plan)> {
    silu_only(fields)?;
    fields.only("partial_rotary_factor", &1.0.into())?;
    let shape = Shape::read(fields, &Usual::default())?;
    let attention_bias = fields.flag("attention_bias")?.unwrap_or(false);
    let mlp_bias = fields.flag("mlp_bias")?.unwrap_or(false);
    let windows = fields.windows(shape.layers, |_| false)?;
    let layer = |(at, window)| biased(shape.layer(at).with_window(window), attention_bias, mlp_bias);
    let layers = windows.into_iter().enumerate().map(layer).collect();
    Ok((shape, shape.plan(vec![fields.rotation(shape.head_dim, shape.context)?], layers)))
}

fn biased(mut layer: Layer, attention: bool, mlp: bool) -> Layer {
    layer.attention.qkv.bias = attention;
    layer.attention.output.bias = attention;
    if let FeedForward::Dense(dense) = &mut layer.feed_forward {
        dense.gate_up.bias = mlp;
        dense.down.bias = mlp;
    }
    layer
}

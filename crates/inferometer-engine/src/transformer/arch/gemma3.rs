//! The text model of Gemma 3 (Gemma team, 2025): normalizations before and after each block, scaled
//! embeddings, gelu, and layers with a sliding window and a rotary base of their own.
//!
//! Source: `Gemma3TextConfig` of the `transformers` library.

use super::{Family, Shape, Usual, in_layer};
use crate::transformer::config::fields::{Fields, most};
use crate::transformer::plan::{Activation, FeedForward, Layer, Norm, Plan};
use crate::transformer::rope::{Rotation, Scaling};
use inferometer_host::Result;
use inferometer_protocol::Architecture;

pub const FAMILY: Family =
    Family { architecture: Architecture::Gemma3, model_types: &["gemma3_text"], class: "Gemma3ForCausalLM", plan };

/// Indices of the two rotary embeddings.
const GLOBAL: usize = 0;
const LOCAL: usize = 1;

fn plan(fields: &Fields<'_>) -> Result<(Shape, Plan)> {
    fields.only("hidden_activation", &"gelu_pytorch_tanh".into())?;
    fields.only("attention_bias", &false.into())?;
    fields.only("use_bidirectional_attention", &false.into())?;
    for name in ["attn_logit_softcapping", "final_logit_softcapping"] {
        if let Some(value) = fields.get(name) {
            return Err(fields.unsupported(format!("{name} = {value}")));
        }
    }
    let shape = Shape::read(fields, &Usual { head_dim: Some(256), tied: true })?;
    let every = fields.size_or("sliding_window_pattern", most::LAYERS, 6)?;
    let windows = fields.windows(shape.layers, |at| !(at + 1).is_multiple_of(every))?;
    let scale = fields.positive_or("query_pre_attn_scalar", 256.0)?.powf(-0.5);
    let layers = windows.into_iter().enumerate().map(|(at, window)| layer(&shape, at, window, scale)).collect();
    let mut plan = shape.plan(rotations(fields, &shape)?, layers);
    plan.embedding_scale = Some((shape.hidden as f64).sqrt());
    plan.norm.plus_one = true;
    Ok((shape, plan))
}

/// Of the layers that see all positions, and of those with a window. Newer files have the
/// parameters of each under its layer type.
fn rotations(fields: &Fields<'_>, shape: &Shape) -> Result<Vec<Rotation>> {
    let newer = fields.inside("rope_parameters").filter(|each| each.get("full_attention").is_some());
    if let Some(each) = newer {
        let of = |kind: &str| {
            let json = serde_json::json!({"rope_parameters": each.get(kind)});
            Fields { json: &json, ..*fields }.rotation(shape.head_dim, shape.context)
        };
        return Ok(vec![of("full_attention")?, of("sliding_attention")?]);
    }
    let mut global = fields.json.clone();
    if fields.get("rope_theta").is_none() {
        global["rope_theta"] = 1_000_000.0.into();
    }
    let local = fields.positive_or("rope_local_base_freq", 10_000.0)?;
    Ok(vec![
        Fields { json: &global, ..*fields }.rotation(shape.head_dim, shape.context)?,
        Rotation::new(shape.head_dim, local, &Scaling::None),
    ])
}

fn layer(shape: &Shape, at: usize, window: Option<usize>, scale: f64) -> Layer {
    let plus_one = |part: &str, width| Norm { plus_one: true, ..Norm::new(in_layer(at, part), width, shape.norm_eps) };
    let around = |part: &str| plus_one(part, shape.hidden);
    let mut layer = shape.layer(at).with_window(window);
    layer.input_norm = around("input_layernorm");
    layer.attention_norm = Some(around("post_attention_layernorm"));
    layer.feed_forward_norm = around("pre_feedforward_layernorm");
    layer.added_norm = Some(around("post_feedforward_layernorm"));
    layer.attention.q_norm = Some(plus_one("self_attn.q_norm", shape.head_dim));
    layer.attention.k_norm = Some(plus_one("self_attn.k_norm", shape.head_dim));
    layer.attention.rotation = Some(if window.is_some() { LOCAL } else { GLOBAL });
    layer.attention.scale = scale;
    if let FeedForward::Dense(dense) = &mut layer.feed_forward {
        dense.activation = Activation::GeluTanh;
    }
    layer
}

//! gpt-oss (OpenAI, "gpt-oss-120b & gpt-oss-20b Model Card", 2025): experts, attention sinks, every
//! other layer with a sliding window, YaRN, biases everywhere.
//!
//! Source: `GptOssConfig` of the `transformers` library.

use super::{Family, Shape, Usual, in_layer, silu_only};
use crate::transformer::config::fields::{Fields, most};
use crate::transformer::plan::{Activation, Experts, FeedForward, Layer, Matrix, Plan, Stacks};
use inferometer_host::Result;
use inferometer_protocol::Architecture;

pub const FAMILY: Family =
    Family { architecture: Architecture::GptOss, model_types: &["gpt_oss"], class: "GptOssForCausalLM", plan };

fn plan(fields: &Fields<'_>) -> Result<(Shape, Plan)> {
    silu_only(fields)?;
    fields.only("attention_bias", &true.into())?;
    fields.only("swiglu_limit", &7.0.into())?;
    let shape = Shape::read(fields, &Usual { head_dim: Some(64), ..Usual::default() })?;
    let count = fields.size("num_local_experts", most::EXPERTS)?;
    let per_token = match fields.get("num_experts_per_tok") {
        Some(_) => fields.size("num_experts_per_tok", count)?,
        None => fields.size_or("experts_per_token", count, 4.min(count))?,
    };
    let windows = fields.windows(shape.layers, |at| at.is_multiple_of(2))?;
    let layers = windows.into_iter().enumerate();
    let layers = layers.map(|(at, window)| layer(&shape, at, window, (count, per_token))).collect();
    Ok((shape, shape.plan(vec![fields.rotation(shape.head_dim, shape.context)?], layers)))
}

fn layer(shape: &Shape, at: usize, window: Option<usize>, (count, per_token): (usize, usize)) -> Layer {
    let mut layer = shape.layer(at).with_window(window).with_qkv_bias();
    layer.attention.output.bias = true;
    layer.attention.sinks = Some(in_layer(at, "self_attn.sinks"));
    let experts = in_layer(at, "mlp.experts");
    layer.feed_forward = FeedForward::Experts(Experts {
        count,
        per_token,
        router: Matrix::one(in_layer(at, "mlp.router"), count, shape.hidden).with_bias(true),
        normalized: true,
        activation: Activation::ClampedSwiglu,
        intermediate: shape.intermediate,
        stacks: Stacks { stacked: experts.clone(), single: None, alternating: Some(experts) },
        bias: true,
    });
    layer
}

//! SmolLM3 (Hugging Face, 2025): Llama with some layers that do not encode positions.
//!
//! Source: `SmolLM3Config` of the `transformers` library.

use super::{Family, Shape, Usual, no_sliding, silu_only};
use crate::transformer::config::fields::{Fields, most};
use crate::transformer::plan::Plan;
use inferometer_host::Result;
use inferometer_protocol::Architecture;

pub const FAMILY: Family =
    Family { architecture: Architecture::SmolLm3, model_types: &["smollm3"], class: "SmolLM3ForCausalLM", plan };

fn plan(fields: &Fields<'_>) -> Result<(Shape, Plan)> {
    silu_only(fields)?;
    fields.only("attention_bias", &false.into())?;
    fields.only("mlp_bias", &false.into())?;
    let shape = Shape::read(fields, &Usual { tied: true, ..Usual::default() })?;
    no_sliding(fields, shape.layers)?;
    let rotated = rotated(fields, shape.layers)?;
    let layers = rotated.into_iter().enumerate().map(|(at, rotated)| {
        let mut layer = shape.layer(at);
        layer.attention.rotation = rotated.then_some(0);
        layer
    });
    Ok((shape, shape.plan(vec![fields.rotation(shape.head_dim, shape.context)?], layers.collect())))
}

/// Which layers encode positions. (In `no_rope_layers`, 1 means that a layer does.)
fn rotated(fields: &Fields<'_>, layers: usize) -> Result<Vec<bool>> {
    let Some(listed) = fields.numbers("no_rope_layers")? else {
        let every = fields.size_or("no_rope_layer_interval", most::LAYERS, 4)?;
        return Ok((0..layers).map(|at| !(at + 1).is_multiple_of(every)).collect());
    };
    if listed.len() != layers {
        return Err(fields.wrong(format!("no_rope_layers has {} entries for {layers} layers", listed.len())));
    }
    Ok(listed.into_iter().map(|rotated| rotated != 0.0).collect())
}

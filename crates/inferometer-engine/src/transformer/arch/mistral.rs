//! Mistral (Jiang et al., 2023): Llama with a sliding window.
//!
//! Source: `MistralConfig` of the `transformers` library.

use super::{Family, Shape, Usual, silu_only};
use crate::transformer::config::fields::Fields;
use crate::transformer::plan::Plan;
use inferometer_host::Result;
use inferometer_protocol::Architecture;

pub const FAMILY: Family =
    Family { architecture: Architecture::Mistral, model_types: &["mistral"], class: "MistralForCausalLM", plan };

fn plan(fields: &Fields<'_>) -> Result<(Shape, Plan)> {
    silu_only(fields)?;
    let shape = Shape::read(fields, &Usual::default())?;
    // Null switches the window off; a file without the field has the default of `MistralConfig`.
    let mut json = fields.json.clone();
    if json.get("sliding_window").is_none() {
        json["sliding_window"] = 4096.into();
    }
    let windows = Fields { json: &json, ..*fields }.windows(shape.layers, |_| !json["sliding_window"].is_null())?;
    let layers = windows.into_iter().enumerate().map(|(at, window)| shape.layer(at).with_window(window)).collect();
    Ok((shape, shape.plan(vec![fields.rotation(shape.head_dim, shape.context)?], layers)))
}

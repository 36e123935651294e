//! Qwen3 with experts (Qwen team, "Qwen3 Technical Report", 2025).
//!
//! Source: `Qwen3MoeConfig` of the `transformers` library.

use super::{Family, Shape, in_layer, qwen3};
use crate::transformer::config::fields::{Fields, most};
use crate::transformer::plan::{Activation, Experts, FeedForward, Matrix, Plan, Stacks};
use inferometer_host::Result;
use inferometer_protocol::Architecture;

pub const FAMILY: Family =
    Family { architecture: Architecture::Qwen3Moe, model_types: &["qwen3_moe"], class: "Qwen3MoeForCausalLM", plan };

fn plan(fields: &Fields<'_>) -> Result<(Shape, Plan)> {
    let mut shape = qwen3::shape(fields)?;
    let count = fields.size("num_experts", most::EXPERTS)?;
    let per_token = fields.size("num_experts_per_tok", count)?;
    let intermediate = fields.size("moe_intermediate_size", most::INTERMEDIATE)?;
    let normalized = fields.flag("norm_topk_prob")?.unwrap_or(false);
    let every = fields.size_or("decoder_sparse_step", most::LAYERS, 1)?;
    let dense: Vec<f64> = fields.numbers("mlp_only_layers")?.unwrap_or_default();
    let layers = (0..shape.layers).map(|at| {
        let mut layer = qwen3::layer(&shape, at);
        if (at + 1).is_multiple_of(every) && !dense.contains(&(at as f64)) {
            let prefix = in_layer(at, "mlp");
            layer.feed_forward = FeedForward::Experts(Experts {
                count,
                per_token,
                router: Matrix::one(format!("{prefix}.gate"), count, shape.hidden),
                normalized,
                activation: Activation::Silu,
                intermediate,
                stacks: Stacks {
                    stacked: format!("{prefix}.switch_mlp"),
                    single: Some(format!("{prefix}.experts")),
                    alternating: None,
                },
                bias: false,
            });
        }
        layer
    });
    let plan = shape.plan(vec![fields.rotation(shape.head_dim, shape.context)?], layers.collect());
    shape.intermediate = intermediate;
    Ok((shape, plan))
}

//! Names of tensors in GGUF files for the names of a plan.

/// Modules outside of the layers.
const WHOLE: [(&str, &str); 3] =
    [("model.embed_tokens", "token_embd"), ("model.norm", "output_norm"), ("lm_head", "output")];

/// Modules of a layer.
const IN_LAYER: [(&str, &str); 22] = [
    ("input_layernorm", "attn_norm"),
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.qkv_proj", "attn_qkv"),
    ("self_attn.o_proj", "attn_output"),
    ("self_attn.q_norm", "attn_q_norm"),
    ("self_attn.k_norm", "attn_k_norm"),
    ("pre_feedforward_layernorm", "ffn_norm"),
    ("post_feedforward_layernorm", "post_ffw_norm"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.gate_up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
    ("mlp.gate", "ffn_gate_inp"),
    ("mlp.router", "ffn_gate_inp"),
    ("mlp.switch_mlp.gate_proj", "ffn_gate_exps"),
    ("mlp.switch_mlp.up_proj", "ffn_up_exps"),
    ("mlp.switch_mlp.down_proj", "ffn_down_exps"),
    ("mlp.experts.gate_proj", "ffn_gate_exps"),
    ("mlp.experts.up_proj", "ffn_up_exps"),
    ("mlp.experts.down_proj", "ffn_down_exps"),
];

/// The name of a tensor, such as `blk.0.attn_q.weight` for
/// `model.layers.0.self_attn.q_proj.weight`. With `sandwich`, blocks are normalized before and
/// after, and the norm after attention has another name.
#[must_use]
pub fn of(name: &str, sandwich: bool) -> String {
    let (module, suffix) = match name.rsplit_once('.') {
        Some((module, suffix @ ("weight" | "bias"))) => (module, suffix),
        _ => (name, "weight"),
    };
    if let Some((_, there)) = WHOLE.into_iter().find(|(here, _)| *here == module) {
        return format!("{there}.{suffix}");
    }
    let in_layer = module.strip_prefix("model.layers.").and_then(|rest| rest.split_once('.'));
    let Some((layer, part)) = in_layer else { return name.to_owned() };
    let there = match part {
        "post_attention_layernorm" if sandwich => "post_attention_norm",
        "post_attention_layernorm" => "ffn_norm",
        "self_attn.sinks" => "attn_sinks",
        part => IN_LAYER.into_iter().find(|(here, _)| *here == part).map_or(part, |(_, there)| there),
    };
    format!("blk.{layer}.{there}.{suffix}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_gguf_package() {
        for (here, sandwich, there) in [
            ("model.embed_tokens.weight", false, "token_embd.weight"),
            ("model.layers.12.self_attn.q_proj.bias", false, "blk.12.attn_q.bias"),
            ("model.layers.0.post_attention_layernorm.weight", false, "blk.0.ffn_norm.weight"),
            ("model.layers.0.post_attention_layernorm.weight", true, "blk.0.post_attention_norm.weight"),
            ("model.layers.3.self_attn.sinks", true, "blk.3.attn_sinks.weight"),
            ("model.layers.3.mlp.experts.down_proj.bias", true, "blk.3.ffn_down_exps.bias"),
        ] {
            assert_eq!(of(here, sandwich), there);
        }
    }
}

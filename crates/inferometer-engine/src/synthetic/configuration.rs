//! The `config.json` of synthetic models: the fields that published models of each family have.

use serde_json::{Value, json};

use super::preset::Preset;
use crate::transformer::arch::FAMILIES;
use inferometer_protocol::Architecture::{Gemma3, GptOss, Llama, Mistral, Phi3, Qwen2, Qwen3, Qwen3Moe, SmolLm3};

/// Without the weights' dtype.
#[must_use]
pub fn of(preset: &Preset) -> Value {
    let special = preset.special();
    let family = FAMILIES.into_iter().find(|family| family.architecture == preset.arch);
    let family = family.expect("a test finds every architecture");
    let common = json!({
        "architectures": [family.class],
        "model_type": family.model_types[0],
        "vocab_size": preset.vocabulary,
        "hidden_size": preset.hidden,
        "num_hidden_layers": preset.layers,
        "num_attention_heads": preset.heads,
        "num_key_value_heads": preset.kv_heads,
        "head_dim": preset.head_dim,
        "intermediate_size": preset.intermediate,
        "hidden_act": "silu",
        "rope_scaling": Value::Null,
        "max_position_embeddings": preset.context,
        "attention_bias": false,
        "attention_dropout": 0.0,
        "tie_word_embeddings": preset.tied,
        "bos_token_id": special.begin.unwrap_or(special.end_of_text),
        "eos_token_id": special.message_end,
        "initializer_range": 0.02,
        "use_cache": true,
    });
    let mut config = common;
    let Value::Object(own) = own(preset) else { unreachable!("an object is written below") };
    for (key, value) in own {
        config[key] = value;
    }
    config
}

/// The fields that a family has besides, or in another way.
fn own(preset: &Preset) -> Value {
    let (experts, per_token) = preset.experts.unwrap_or_default();
    let tiny = preset.name == "tiny";
    match preset.arch {
        Llama => json!({
            "mlp_bias": false,
            "rms_norm_eps": 1e-5,
            "rope_theta": 500_000.0,
            // The scaling that extends Llama 3.1 and 3.2 from 8k to 128k tokens of context.
            "rope_scaling": if preset.name == "135m" { Value::Null } else { json!({
                "rope_type": "llama3",
                "factor": 32.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 8192,
            }) },
        }),
        Mistral => json!({
            "rms_norm_eps": 1e-5,
            "rope_theta": 10_000.0,
            "sliding_window": if tiny { 64 } else { 4096 },
        }),
        Qwen2 => json!({
            "rms_norm_eps": 1e-6,
            "rope_theta": 1_000_000.0,
            "use_sliding_window": false,
            "sliding_window": Value::Null,
            "max_window_layers": preset.layers,
        }),
        Qwen3 => json!({
            "rms_norm_eps": 1e-6,
            "rope_theta": 1_000_000.0,
            "use_sliding_window": false,
            "sliding_window": Value::Null,
            "max_window_layers": preset.layers,
        }),
        Qwen3Moe => json!({
            "rms_norm_eps": 1e-6,
            "rope_theta": 1_000_000.0,
            "use_sliding_window": false,
            "sliding_window": Value::Null,
            "max_window_layers": preset.layers,
            "intermediate_size": 8 * preset.intermediate,
            "moe_intermediate_size": preset.intermediate,
            "num_experts": experts,
            "num_experts_per_tok": per_token,
            "norm_topk_prob": true,
            "decoder_sparse_step": 1,
            "mlp_only_layers": [],
        }),
        SmolLm3 => json!({
            "mlp_bias": false,
            "rms_norm_eps": 1e-6,
            "rope_theta": 5_000_000.0,
            "use_sliding_window": false,
            "sliding_window": Value::Null,
            "no_rope_layer_interval": 4,
            "no_rope_layers": (1..=preset.layers).map(|layer| u32::from(!layer.is_multiple_of(4))).collect::<Vec<_>>(),
        }),
        Phi3 => json!({
            "rms_norm_eps": 1e-5,
            "rope_theta": 10_000.0,
            "partial_rotary_factor": 0.75,
            "original_max_position_embeddings": 4096,
            "rope_scaling": long_rope(preset.head_dim * 3 / 8),
            "sliding_window": 2 * preset.context,
        }),
        Gemma3 => json!({
            "hidden_act": Value::Null,
            "hidden_activation": "gelu_pytorch_tanh",
            "rms_norm_eps": 1e-6,
            "rope_theta": 1_000_000.0,
            "rope_local_base_freq": 10_000.0,
            "query_pre_attn_scalar": preset.head_dim,
            "sliding_window": if tiny { 64 } else { 512 },
            "sliding_window_pattern": if tiny { 3 } else { 6 },
            "attn_logit_softcapping": Value::Null,
            "final_logit_softcapping": Value::Null,
        }),
        GptOss => json!({
            "attention_bias": true,
            "rms_norm_eps": 1e-5,
            "rope_theta": 150_000.0,
            "rope_scaling": {
                "rope_type": "yarn",
                "factor": 32.0,
                "beta_fast": 32.0,
                "beta_slow": 1.0,
                "original_max_position_embeddings": 4096,
                "truncate": false,
            },
            "sliding_window": if tiny { 64 } else { 128 },
            "layer_types": (0..preset.layers).map(|at| ["sliding_attention", "full_attention"][at as usize % 2])
                .collect::<Vec<_>>(),
            "num_local_experts": experts,
            "num_experts_per_tok": per_token,
            "swiglu_limit": 7.0,
        }),
    }
}

/// Factors that rise from 1 to 32 and so extend the context from 4k to 128k tokens.
fn long_rope(pairs: u32) -> Value {
    let long: Vec<f64> = (0..pairs).map(|pair| 1.0 + 31.0 * f64::from(pair) / f64::from(pairs - 1)).collect();
    json!({"type": "longrope", "long_factor": long, "short_factor": vec![1.0; pairs as usize]})
}

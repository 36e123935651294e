//! The smallest model, for the targets that read its weights: one layer, every dimension 2.

use std::path::Path;
use std::sync::LazyLock;

use inferometer_engine::transformer::config::Config;

/// Its tensors and their shapes, all F32.
pub const TENSORS: [(&str, &[usize]); 11] = [
    ("model.norm.weight", &[2]),
    ("model.embed_tokens.weight", &[2, 2]),
    ("model.layers.0.input_layernorm.weight", &[2]),
    ("model.layers.0.post_attention_layernorm.weight", &[2]),
    ("model.layers.0.self_attn.q_proj.weight", &[2, 2]),
    ("model.layers.0.self_attn.k_proj.weight", &[2, 2]),
    ("model.layers.0.self_attn.v_proj.weight", &[2, 2]),
    ("model.layers.0.self_attn.o_proj.weight", &[2, 2]),
    ("model.layers.0.mlp.gate_proj.weight", &[2, 2]),
    ("model.layers.0.mlp.up_proj.weight", &[2, 2]),
    ("model.layers.0.mlp.down_proj.weight", &[2, 2]),
];

pub static CONFIG: LazyLock<Config> = LazyLock::new(|| {
    let json = serde_json::json!({
        "model_type": "llama", "hidden_size": 2, "intermediate_size": 2, "num_hidden_layers": 1,
        "num_attention_heads": 1, "num_key_value_heads": 1, "head_dim": 2, "vocab_size": 2,
        "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "max_position_embeddings": 64, "tie_word_embeddings": true,
    });
    Config::from_json(&json, Path::new("config.json")).expect("a model")
});

/// Bytes of these tensors.
pub fn bytes(tensors: &[(&str, &[usize])]) -> usize {
    tensors.iter().map(|(_, shape)| 4 * shape.iter().product::<usize>()).sum()
}

/// Their entries in a header, with commas between; the first one's bytes begin at `from`.
pub fn entries(tensors: &[(&str, &[usize])], mut from: usize) -> String {
    let entry = |one: &(&str, &[usize])| {
        let (name, shape) = one;
        let to = from + bytes(std::slice::from_ref(one));
        let entry = format!(r#""{name}":{{"dtype":"F32","shape":{shape:?},"data_offsets":[{from},{to}]}}"#);
        from = to;
        entry
    };
    tensors.iter().map(entry).collect::<Vec<_>>().join(",")
}

/// A file with this header, and zeros for tensors.
pub fn file(header: &[u8], bytes: usize) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes()[..], header, &vec![0; bytes]].concat()
}

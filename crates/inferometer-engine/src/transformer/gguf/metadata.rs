//! The metadata of a GGUF file, written as the `config.json` of the same model.

use serde_json::{Value as Json, json};

use crate::gguf::{Gguf, Metadata};
use crate::transformer::config::Config;
use crate::transformer::plan::{Norm, Plan};
use inferometer_host::Result;
use inferometer_protocol::{Architecture, EngineError};

/// `general.architecture` and the `model_type` of the same models.
const ARCHITECTURES: [(&str, &str); 8] = [
    ("llama", "llama"),
    ("qwen2", "qwen2"),
    ("qwen3", "qwen3"),
    ("qwen3moe", "qwen3_moe"),
    ("smollm3", "smollm3"),
    ("phi3", "phi3"),
    ("gemma3", "gemma3_text"),
    ("gpt-oss", "gpt_oss"),
];

/// Keys below the architecture's prefix and the fields that mean the same.
pub(super) const COUNTS: [(&str, &str); 10] = [
    ("embedding_length", "hidden_size"),
    ("feed_forward_length", "intermediate_size"),
    ("block_count", "num_hidden_layers"),
    ("attention.head_count", "num_attention_heads"),
    ("attention.head_count_kv", "num_key_value_heads"),
    ("attention.key_length", "head_dim"),
    ("context_length", "max_position_embeddings"),
    ("attention.sliding_window", "sliding_window"),
    ("expert_count", "num_experts"),
    ("expert_used_count", "num_experts_per_tok"),
];

/// The configuration of the model in that file.
///
/// # Errors
/// When this engine does not support the model; the message names file and key.
pub fn config(gguf: &Gguf) -> Result<Config> {
    let metadata = gguf.metadata();
    let found = metadata.text("general.architecture")?.ok_or_else(|| metadata.missing("general.architecture"))?;
    let Some((prefix, model_type)) = ARCHITECTURES.into_iter().find(|(name, _)| *name == found) else {
        let known = ARCHITECTURES.map(|(name, _)| name).join(", ");
        let problem = format!("{found:?} is not supported; this engine has {known}");
        return Err(metadata.wrong("general.architecture", problem));
    };
    let reader = Reader { gguf, metadata, prefix };
    let json = reader.json(model_type)?;
    let mut config = Config::from_json(&json, gguf.path())?;
    if config.architecture == Architecture::Gemma3 {
        // The file's norms have the one added.
        norms(&mut config.plan).for_each(|norm| norm.plus_one = false);
    }
    Ok(config)
}

fn norms(plan: &mut Plan) -> impl Iterator<Item = &mut Norm> {
    let layers = plan.layers.iter_mut().flat_map(|layer| {
        [Some(&mut layer.input_norm), layer.attention.q_norm.as_mut(), layer.attention.k_norm.as_mut()]
            .into_iter()
            .chain([layer.attention_norm.as_mut(), Some(&mut layer.feed_forward_norm), layer.added_norm.as_mut()])
            .flatten()
    });
    layers.chain([&mut plan.norm])
}

struct Reader<'a> {
    gguf: &'a Gguf,
    metadata: &'a Metadata,
    prefix: &'a str,
}

impl Reader<'_> {
    fn key(&self, key: &str) -> String {
        format!("{}.{key}", self.prefix)
    }

    fn count(&self, key: &str) -> Result<Option<u64>> {
        self.metadata.count(&self.key(key))
    }

    fn float(&self, key: &str) -> Result<Option<f64>> {
        self.metadata.float(&self.key(key))
    }

    /// The fields of `config.json`.
    fn json(&self, model_type: &str) -> Result<Json> {
        let mut json = json!({"model_type": model_type, "sliding_window": null});
        for (key, field) in COUNTS {
            if let Some(count) = self.count(key)? {
                json[field] = count.into();
            }
        }
        let floats = [("attention.layer_norm_rms_epsilon", "rms_norm_eps"), ("rope.freq_base", "rope_theta")];
        for (key, field) in floats {
            if let Some(number) = self.float(key)? {
                json[field] = number.into();
            }
        }
        json["vocab_size"] = self.rows("token_embd.weight")?.into();
        json["tie_word_embeddings"] = (!self.gguf.has("output.weight")).into();
        json["rope_scaling"] = self.rope()?;
        match self.prefix {
            "llama" | "smollm3" => json["attention_bias"] = self.gguf.has("blk.0.attn_q.bias").into(),
            "qwen3moe" => {
                json["norm_topk_prob"] = true.into();
                if let Some(count) = self.count("expert_feed_forward_length")? {
                    json["moe_intermediate_size"] = count.into();
                    json["intermediate_size"] = count.into();
                }
            }
            "gpt-oss" => {
                json["num_local_experts"] = json["num_experts"].take();
                if let Some(count) = self.count("expert_feed_forward_length")? {
                    json["intermediate_size"] = count.into();
                }
            }
            "gemma3" => {
                json["query_pre_attn_scalar"] = self.query_scale(&json)?.into();
                json["hidden_activation"] = "gelu_pytorch_tanh".into();
                if let Some(base) = self.float("rope.freq_base_swa")? {
                    json["rope_local_base_freq"] = base.into();
                }
            }
            _ => {}
        }
        if self.prefix == "phi3"
            && let (Some(rotated), Some(width)) =
                (self.count("rope.dimension_count")?, json["head_dim"].as_u64().or(self.head_dim(&json)))
        {
            json["partial_rotary_factor"] = (rotated as f64 / width as f64).into();
        }
        if self.prefix == "llama" && self.count("expert_count")?.is_some_and(|count| count > 0) {
            return Err(self
                .metadata
                .wrong(&self.key("expert_count"), "Llama with experts is not supported by this engine"));
        }
        Ok(json)
    }

    fn head_dim(&self, json: &Json) -> Option<u64> {
        json["hidden_size"].as_u64()?.checked_div(json["num_attention_heads"].as_u64()?)
    }

    /// Gemma 3 27B scales by the width of the hidden state over the heads, smaller ones by that of
    /// a head. `llama.cpp` tells them apart by the number of layers, too.
    fn query_scale(&self, json: &Json) -> Result<u64> {
        let large = json["num_hidden_layers"] == 62;
        let width = if large { self.head_dim(json) } else { json["head_dim"].as_u64() };
        width.filter(|width| *width > 0).ok_or_else(|| self.metadata.missing(&self.key("attention.key_length")))
    }

    fn rows(&self, tensor: &str) -> Result<u64> {
        let shape = &self.gguf.tensor(tensor)?.info.shape;
        Ok(shape.first().copied().unwrap_or(0) as u64)
    }

    /// Scaling by tensors with a factor for each pair, or by keys.
    fn rope(&self) -> Result<Json> {
        let original = self.count("rope.scaling.original_context_length")?;
        let factors = ["rope_freqs.weight", "rope_factors_long.weight"].into_iter().find(|name| self.gguf.has(name));
        if let Some(name) = factors {
            let stored = self.gguf.tensor(name)?;
            let factors = stored
                .floats()
                .ok_or_else(|| EngineError::model(format!("{}: tensor {name} must be F32", stored.path.display())))?;
            let magnitude = match name {
                "rope_freqs.weight" => Some(1.0),
                _ => self.float("rope.scaling.attn_factor")?,
            };
            return Ok(json!({
                "rope_type": "longrope",
                "long_factor": factors,
                "attention_factor": magnitude,
                "original_max_position_embeddings": original.or(self.count("context_length")?),
            }));
        }
        let kind = self.metadata.text(&self.key("rope.scaling.type"))?;
        Ok(match kind {
            None | Some("none") => Json::Null,
            Some(kind) => json!({
                "rope_type": kind,
                "factor": self.float("rope.scaling.factor")?,
                "original_max_position_embeddings": original,
            }),
        })
    }
}

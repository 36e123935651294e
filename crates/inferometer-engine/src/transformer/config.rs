//! Reads a Hugging Face `config.json`, checks it and turns it into a plan.
//!
//! A field that asks for arithmetic that this engine does not have is refused. Fields that concern
//! only training are ignored.

pub mod fields;

use std::path::Path;

use serde_json::Value as Json;

use super::arch::{FAMILIES, Family, Shape};
use super::plan::Plan;
use super::stored::Stored;
use crate::folder;
use fields::Fields;
use inferometer_host::Result;
use inferometer_protocol::bounded::read_limited;
use inferometer_protocol::{Architecture, EngineError};

/// Longest `config.json` or `generation_config.json` that is read: real ones have a few kilobytes.
pub const LONGEST: u64 = 1 << 20;

/// A model's configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    pub architecture: Architecture,
    pub shape: Shape,
    pub plan: Plan,
    /// How the folder quantizes its matrices; `None`: they are floating-point numbers.
    pub stored: Option<Stored>,
    /// Random weights, made by this program.
    pub synthetic: bool,
    /// End-of-sequence tokens, from `generation_config.json` if it names any, else from
    /// `config.json`.
    pub eos: Vec<u32>,
}

impl Config {
    /// Reads `config.json` (and `generation_config.json`, if there is one) of a model's folder.
    ///
    /// # Errors
    /// When a file cannot be read or is not JSON, or this engine does not support the model; the
    /// message names file and field.
    pub fn from_folder(folder: &Path) -> Result<Self> {
        if let Some(fault) = folder::fault(folder) {
            return Err(EngineError::model(fault));
        }
        let path = folder.join("config.json");
        let json: Json = read_json(&path, LONGEST)?;
        let generation = folder.join("generation_config.json");
        let eos = if generation.exists() {
            let json: Json = read_json(&generation, LONGEST)?;
            eos_ids(json.get("eos_token_id"), &generation)?
        } else {
            Vec::new()
        };
        Self::checked(&json, eos, &path)
    }

    /// What `config`, the content of a `config.json`, describes. Messages name `path`.
    ///
    /// # Errors
    /// When this engine does not support the model.
    pub fn from_json(config: &Json, path: &Path) -> Result<Self> {
        Self::checked(config, Vec::new(), path)
    }

    fn checked(json: &Json, generation_eos: Vec<u32>, path: &Path) -> Result<Self> {
        let fields = Fields { json, path };
        let family = family(&fields)?;
        let (shape, plan) = (family.plan)(&fields)?;
        let eos = if generation_eos.is_empty() { eos_ids(json.get("eos_token_id"), path)? } else { generation_eos };
        Ok(Self {
            architecture: family.architecture,
            shape,
            stored: stored(&fields, &plan)?,
            plan,
            synthetic: fields.get(crate::synthetic::MARKER).is_some(),
            eos,
        })
    }
}

fn family(fields: &Fields<'_>) -> Result<&'static Family> {
    if !fields.json.is_object() {
        return Err(fields.wrong("not the JSON that was expected: an object"));
    }
    let Some(name) = fields.text("model_type")? else {
        return Err(fields.wrong("model_type is absent; is this a Hugging Face model folder?"));
    };
    let known = || FAMILIES.iter().flat_map(|family| family.model_types).copied().collect::<Vec<_>>().join(", ");
    let family = FAMILIES
        .into_iter()
        .find(|family| family.model_types.contains(&name))
        .ok_or_else(|| fields.wrong(format!("model_type {name:?} is not supported; this engine has {}", known())))?;
    match fields.texts("architectures")?.as_deref() {
        None | Some([]) => Ok(family),
        Some([one]) if *one == family.class => Ok(family),
        Some(other) => Err(fields.unsupported(format!("architectures {other:?} with model_type {name:?}"))),
    }
}

/// MLX's folders have the same value under both keys; MLX's loader reads the first.
fn stored(fields: &Fields<'_>, plan: &Plan) -> Result<Option<Stored>> {
    let key = ["quantization", "quantization_config"].into_iter().find(|key| fields.get(key).is_some());
    let read = |key: &str| Stored::from_json(key, &fields.json[key], plan).map_err(|problem| fields.wrong(problem));
    Ok(key.map(read).transpose()?.flatten())
}

/// One id, a list of ids, null or absent.
fn eos_ids(value: Option<&Json>, path: &Path) -> Result<Vec<u32>> {
    let wrong =
        || EngineError::model(format!("{}: eos_token_id is neither a token id nor a list of them", path.display()));
    let id = |v: &Json| v.as_u64().and_then(|n| u32::try_from(n).ok()).ok_or_else(wrong);
    match value {
        None | Some(Json::Null) => Ok(Vec::new()),
        Some(Json::Array(items)) => items.iter().map(id).collect(),
        Some(one) => Ok(vec![id(one)?]),
    }
}

/// Reads a JSON file of at most `longest` bytes.
pub(crate) fn read_json<T: serde::de::DeserializeOwned>(path: &Path, longest: u64) -> Result<T> {
    // The error names the path itself.
    let bytes = read_limited(path, longest).map_err(|e| EngineError::model(e.to_string()))?;
    serde_json::from_slice(&bytes)
        .map_err(|e| EngineError::model(format!("{}: not the JSON that was expected: {e}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn base() -> Json {
        json!({"model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
               "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 512, "rms_norm_eps": 1e-5,
               "max_position_embeddings": 1024})
    }

    fn with(changes: Json) -> Result<Config> {
        let mut json = base();
        for (key, value) in changes.as_object().unwrap() {
            json[key] = value.clone();
        }
        Config::from_json(&json, Path::new("m/config.json"))
    }

    #[test]
    fn defaults_are_those_of_the_family() {
        let llama = with(json!({})).unwrap();
        assert_eq!((llama.shape.head_dim, llama.shape.tied, llama.synthetic), (16, false, false));
        assert_eq!(llama.plan.rotations[0].theta, Some(10_000.0));
        assert_eq!(with(json!({"model_type": "qwen3"})).unwrap().shape.head_dim, 128);
        assert_eq!(with(json!({"num_key_value_heads": null})).unwrap().shape.kv_heads, 4);
        assert!(with(json!({"inferometer_synthetic": {"seed": 1}})).unwrap().synthetic);
        assert_eq!(with(json!({"eos_token_id": [1, 2]})).unwrap().eos, [1, 2]);
        assert_eq!(with(json!({"eos_token_id": 7})).unwrap().eos, [7]);
    }

    #[test]
    fn rope_is_read_from_both_styles() {
        let scaling = json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                             "original_max_position_embeddings": 8192});
        let old = with(json!({"rope_theta": 500000.0, "rope_scaling": scaling})).unwrap();
        let mut parameters = scaling.clone();
        parameters["rope_theta"] = json!(500000.0);
        let new = with(json!({"rope_parameters": parameters})).unwrap();
        assert_eq!(old, new);
        assert_eq!(old.plan.rotations[0].theta, None);
        assert_ne!(old, with(json!({"rope_theta": 500000.0})).unwrap());
        assert_eq!(with(json!({"rope_scaling": {"type": "default"}})).unwrap(), with(json!({})).unwrap());
    }

    #[test]
    fn what_this_engine_lacks_is_refused_by_name() {
        for (change, word) in [
            (json!({"model_type": "mamba"}), "mamba"),
            (json!({"model_type": null}), "model_type"),
            (json!({"architectures": ["LlamaForSequenceClassification"]}), "LlamaForSequenceClassification"),
            (json!({"hidden_act": "gelu"}), "gelu"),
            (json!({"attention_bias": 1}), "attention_bias"),
            (json!({"model_type": "qwen3", "attention_bias": true}), "attention_bias"),
            (json!({"model_type": "qwen2", "use_sliding_window": true}), "use_sliding_window"),
            (json!({"layer_types": ["full_attention", "sliding_attention"]}), "sliding_window is absent"),
            (json!({"layer_types": ["full_attention", "linear_attention"]}), "linear_attention"),
            (json!({"layer_types": ["full_attention"]}), "layer_types has 1 entries for 2 layers"),
            (json!({"quantization": {"bits": 4}}), "quantization.group_size is absent"),
            (json!({"rope_scaling": {"rope_type": "dynamic"}}), "dynamic"),
            (json!({"rope_scaling": {"rope_type": "yarn"}}), "factor of the yarn rope scaling"),
            (json!({"rope_scaling": {"rope_type": "yarn", "factor": 2.0, "mscale": 1.0}}), "mscale of the yarn"),
            (json!({"model_type": "phi3", "rope_scaling": {"type": "longrope"}}), "long_factor of the longrope"),
            (json!({"model_type": "phi3", "partial_rotary_factor": 0.2}), "partial_rotary_factor"),
            (json!({"model_type": "gemma3_text", "final_logit_softcapping": 30.0}), "final_logit_softcapping"),
            (json!({"model_type": "smollm3", "no_rope_layers": [1]}), "no_rope_layers"),
            (json!({"model_type": "qwen3_moe", "num_experts": 4, "num_experts_per_tok": 5}), "num_experts_per_tok"),
            (json!({"model_type": "gpt_oss", "num_local_experts": 4, "swiglu_limit": 1.0}), "swiglu_limit"),
            (json!({"rope_scaling": {"rope_type": "llama3"}}), "factor"),
            (json!({"partial_rotary_factor": 0.5}), "partial_rotary_factor"),
            (json!({"hidden_size": 0}), "hidden_size"),
            (json!({"hidden_size": 66}), "head_dim"),
            (json!({"num_key_value_heads": 3}), "num_key_value_heads"),
            (json!({"head_dim": 15}), "odd"),
            (json!({"vocab_size": 1u64 << 40}), "vocab_size"),
            (json!({"num_hidden_layers": 1025}), "num_hidden_layers is 1025; it must be from 1 to 1024"),
            (json!({"num_attention_heads": 1 << 13}), "num_attention_heads"),
            (json!({"head_dim": 1 << 13}), "head_dim"),
            (json!({"num_attention_heads": 4096, "head_dim": 128}), "num_attention_heads 4096 times head_dim 128"),
            (json!({"hidden_size": 1 << 20}), "hidden_size"),
            (json!({"intermediate_size": 1 << 21}), "intermediate_size"),
            (json!({"rms_norm_eps": 0.0}), "rms_norm_eps"),
            (json!({"eos_token_id": "end"}), "eos_token_id"),
        ] {
            let error = with(change).unwrap_err().message;
            assert!(error.contains(word) && error.contains("config.json"), "{word}: {error}");
        }
    }

    #[test]
    fn a_configuration_too_long_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        fs_err::write(dir.path().join("config.json"), vec![b' '; LONGEST as usize + 1]).unwrap();
        let error = Config::from_folder(dir.path()).unwrap_err().message;
        assert!(error.contains("config.json") && error.contains("1048576 bytes"), "{error}");
    }
}

//! Reads a Hugging Face `config.json`, checks it and reduces it to what the forward pass needs.
//!
//! Sources: `LlamaConfig`, `Qwen3Config` and the RoPE utilities of the `transformers` library. A
//! field that asks for arithmetic that this engine does not have is refused. Fields that concern
//! only training are ignored.

use std::path::Path;

use serde::Deserialize;
use serde_json::Value as Json;

use super::rope::RopeScaling;
use super::stored::Stored;
use crate::folder;
use inferometer_host::Result;
use inferometer_protocol::bounded::read_limited;
use inferometer_protocol::{Architecture, EngineError};

/// Longest `config.json` or `generation_config.json` that is read: real ones have a few kilobytes.
pub const LONGEST: u64 = 1 << 20;

/// Upper limits of each size: many times those of real models, but small enough that lists of
/// tensors stay short and products do not overflow.
mod most {
    pub const LAYERS: usize = 1 << 10;
    pub const HEADS: usize = 1 << 12;
    pub const HEAD_DIM: usize = 1 << 12;
    /// Width of all heads together.
    pub const HEADS_WIDTH: usize = 1 << 18;
    pub const HIDDEN: usize = 1 << 18;
    pub const INTERMEDIATE: usize = 1 << 20;
    pub const VOCABULARY: usize = 1 << 22;
    pub const CONTEXT: usize = 1 << 28;
}

/// The shape of a decoder-only transformer.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    pub architecture: Architecture,
    pub hidden: usize,
    /// Inner width of the feed-forward block.
    pub intermediate: usize,
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key/value heads; divides `heads`.
    pub kv_heads: usize,
    /// Even.
    pub head_dim: usize,
    pub vocabulary: usize,
    /// Added under the root in RMS normalization.
    pub norm_eps: f64,
    pub rope_theta: f64,
    pub rope_scaling: Option<RopeScaling>,
    /// Longest context, in tokens.
    pub context: usize,
    /// The output projection is the embedding itself.
    pub tied: bool,
    /// How the folder quantizes its matrices; `None`: they are floating-point numbers.
    pub stored: Option<Stored>,
    /// Random weights, made by this program.
    pub synthetic: bool,
    /// End-of-sequence tokens, from `generation_config.json` if it names any, else from
    /// `config.json`.
    pub eos: Vec<u32>,
}

/// The fields of `config.json` that are read. Absent and null mean the same.
#[derive(Debug, Deserialize)]
struct Raw {
    model_type: Option<String>,
    architectures: Option<Vec<String>>,
    hidden_size: Option<usize>,
    intermediate_size: Option<usize>,
    num_hidden_layers: Option<usize>,
    num_attention_heads: Option<usize>,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    vocab_size: Option<usize>,
    rms_norm_eps: Option<f64>,
    rope_theta: Option<f64>,
    rope_scaling: Option<Json>,
    rope_parameters: Option<Json>,
    max_position_embeddings: Option<usize>,
    tie_word_embeddings: Option<bool>,
    hidden_act: Option<String>,
    attention_bias: Option<bool>,
    mlp_bias: Option<bool>,
    use_sliding_window: Option<bool>,
    layer_types: Option<Vec<String>>,
    partial_rotary_factor: Option<f64>,
    quantization: Option<Json>,
    quantization_config: Option<Json>,
    eos_token_id: Option<Json>,
    inferometer_synthetic: Option<Json>,
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
        let raw: Raw = read_json(&path, LONGEST)?;
        let generation = folder.join("generation_config.json");
        let eos = if generation.exists() {
            let json: Json = read_json(&generation, LONGEST)?;
            eos_ids(json.get("eos_token_id"), &generation)?
        } else {
            Vec::new()
        };
        Self::checked(raw, eos, &path)
    }

    /// The shape that `config`, the content of a `config.json`, describes. Messages name `path`.
    ///
    /// # Errors
    /// When this engine does not support the model.
    pub fn from_json(config: Json, path: &Path) -> Result<Self> {
        let raw = serde_json::from_value(config)
            .map_err(|e| EngineError::model(format!("{}: not the JSON that was expected: {e}", path.display())))?;
        Self::checked(raw, Vec::new(), path)
    }

    fn checked(raw: Raw, generation_eos: Vec<u32>, path: &Path) -> Result<Self> {
        let field = Field { path };
        let architecture = field.architecture(&raw)?;
        field.refuse_what_we_lack(&raw)?;
        let heads = field.size("num_attention_heads", raw.num_attention_heads, most::HEADS)?;
        let hidden = field.size("hidden_size", raw.hidden_size, most::HIDDEN)?;
        let kv_heads =
            raw.num_key_value_heads.map_or(Ok(heads), |n| field.size("num_key_value_heads", Some(n), most::HEADS))?;
        let head_dim = match raw.head_dim {
            Some(n) => field.size("head_dim", Some(n), most::HEAD_DIM)?,
            None if architecture == Architecture::Qwen3 => 128,
            None if hidden.is_multiple_of(heads) => hidden / heads,
            None => {
                return Err(field.wrong(format!(
                    "head_dim is absent and hidden_size {hidden} is no multiple of num_attention_heads {heads}"
                )));
            }
        };
        if !heads.is_multiple_of(kv_heads) {
            return Err(
                field.wrong(format!("num_attention_heads {heads} is no multiple of num_key_value_heads {kv_heads}"))
            );
        }
        if heads * head_dim > most::HEADS_WIDTH {
            return Err(field.wrong(format!(
                "num_attention_heads {heads} times head_dim {head_dim} is above {}, which no model has",
                most::HEADS_WIDTH
            )));
        }
        if !head_dim.is_multiple_of(2) {
            return Err(field.wrong(format!("head_dim {head_dim} is odd; rotary embedding needs pairs")));
        }
        let layers = field.size("num_hidden_layers", raw.num_hidden_layers, most::LAYERS)?;
        let vocabulary = field.size("vocab_size", raw.vocab_size, most::VOCABULARY)?;
        let (rope_theta, rope_scaling) = field.rope(&raw)?;
        let eos = if generation_eos.is_empty() { eos_ids(raw.eos_token_id.as_ref(), path)? } else { generation_eos };
        Ok(Self {
            architecture,
            hidden,
            stored: field.stored(&raw, layers)?,
            intermediate: field.size("intermediate_size", raw.intermediate_size, most::INTERMEDIATE)?,
            layers,
            heads,
            kv_heads,
            head_dim,
            vocabulary,
            norm_eps: field.positive("rms_norm_eps", raw.rms_norm_eps)?,
            rope_theta,
            rope_scaling,
            context: field.size("max_position_embeddings", raw.max_position_embeddings, most::CONTEXT)?,
            tied: raw.tie_word_embeddings.unwrap_or(false),
            synthetic: raw.inferometer_synthetic.is_some_and(|v| !v.is_null()),
            eos,
        })
    }

    /// Whether each head of queries and keys is normalized.
    #[must_use]
    pub fn normalizes_heads(&self) -> bool {
        self.architecture == Architecture::Qwen3
    }
}

/// Checks single fields; every message names the file.
struct Field<'a> {
    path: &'a Path,
}

impl Field<'_> {
    fn wrong(&self, problem: impl std::fmt::Display) -> EngineError {
        EngineError::model(format!("{}: {problem}", self.path.display()))
    }

    fn unsupported(&self, what: impl std::fmt::Display) -> EngineError {
        self.wrong(format!("{what} is not supported by this engine"))
    }

    fn architecture(&self, raw: &Raw) -> Result<Architecture> {
        let Some(name) = &raw.model_type else {
            return Err(self.wrong("model_type is absent; is this a Hugging Face model folder?"));
        };
        let known = Architecture::ALL.map(Architecture::name).join(", ");
        let architecture = Architecture::from_name(name)
            .ok_or_else(|| self.wrong(format!("model_type {name:?} is not supported; this engine has {known}")))?;
        let class = match architecture {
            Architecture::Llama => "LlamaForCausalLM",
            Architecture::Qwen3 => "Qwen3ForCausalLM",
        };
        match raw.architectures.as_deref() {
            None | Some([]) => Ok(architecture),
            Some([one]) if one == class => Ok(architecture),
            Some(other) => Err(self.unsupported(format!("architectures {other:?} with model_type {name:?}"))),
        }
    }

    fn refuse_what_we_lack(&self, raw: &Raw) -> Result<()> {
        for (name, set) in [
            ("attention_bias", raw.attention_bias),
            ("mlp_bias", raw.mlp_bias),
            ("use_sliding_window", raw.use_sliding_window),
        ] {
            if set == Some(true) {
                return Err(self.unsupported(format!("{name} = true")));
            }
        }
        if let Some(act) = &raw.hidden_act
            && act != "silu"
        {
            return Err(self.unsupported(format!("hidden_act {act:?}")));
        }
        if let Some(kind) = raw.layer_types.iter().flatten().find(|kind| *kind != "full_attention") {
            return Err(self.unsupported(format!("layer_types with {kind:?}")));
        }
        match raw.partial_rotary_factor {
            Some(factor) if factor != 1.0 => Err(self.unsupported(format!("partial_rotary_factor {factor}"))),
            _ => Ok(()),
        }
    }

    /// MLX's folders have the same value under both keys; MLX's loader reads the first.
    fn stored(&self, raw: &Raw, layers: usize) -> Result<Option<Stored>> {
        let keys = [("quantization", &raw.quantization), ("quantization_config", &raw.quantization_config)];
        let set = keys.into_iter().find_map(|(key, set)| Some((key, set.as_ref().filter(|json| !json.is_null())?)));
        set.map(|(key, json)| Stored::from_json(key, json, layers).map_err(|problem| self.wrong(problem))).transpose()
    }

    /// A size of at least one and at most `most`.
    fn size(&self, name: &str, value: Option<usize>, most: usize) -> Result<usize> {
        match value {
            None => Err(self.wrong(format!("{name} is absent"))),
            Some(n) if n == 0 || n > most => {
                Err(self.wrong(format!("{name} is {n}; it must be from 1 to {most}, beyond which no model goes")))
            }
            Some(n) => Ok(n),
        }
    }

    fn positive(&self, name: &str, value: Option<f64>) -> Result<f64> {
        match value {
            None => Err(self.wrong(format!("{name} is absent"))),
            Some(x) if x.is_finite() && x > 0.0 => Ok(x),
            Some(x) => Err(self.wrong(format!("{name} is {x}; it must be above zero"))),
        }
    }

    /// Base and scaling, from `rope_parameters` (newer files) or `rope_theta` and `rope_scaling`.
    fn rope(&self, raw: &Raw) -> Result<(f64, Option<RopeScaling>)> {
        let inside = raw.rope_parameters.as_ref().filter(|v| !v.is_null());
        let theta = inside.and_then(|p| p.get("rope_theta")).and_then(Json::as_f64).or(raw.rope_theta);
        let theta = theta.unwrap_or(10_000.0);
        let theta = self.positive("rope_theta", Some(theta))?;
        let Some(scaling) = inside.or(raw.rope_scaling.as_ref().filter(|v| !v.is_null())) else {
            return Ok((theta, None));
        };
        let kind = ["rope_type", "type"].iter().find_map(|key| scaling.get(key)).map_or(Some("default"), Json::as_str);
        match kind {
            Some("default") => Ok((theta, None)),
            Some("llama3") => {
                let number = |name: &str| {
                    self.positive(
                        &format!("{name} of the llama3 rope scaling"),
                        scaling.get(name).and_then(Json::as_f64),
                    )
                };
                let found = RopeScaling {
                    factor: number("factor")?,
                    low_freq_factor: number("low_freq_factor")?,
                    high_freq_factor: number("high_freq_factor")?,
                    original_context: number("original_max_position_embeddings")?,
                };
                if found.high_freq_factor <= found.low_freq_factor {
                    return Err(self.wrong("high_freq_factor of the llama3 rope scaling must be above low_freq_factor"));
                }
                Ok((theta, Some(found)))
            }
            other => Err(self.unsupported(format!("rope scaling {:?}", other.unwrap_or("of a kind that is no text")))),
        }
    }
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
        Config::checked(serde_json::from_value(json).unwrap(), Vec::new(), Path::new("m/config.json"))
    }

    #[test]
    fn defaults_are_those_of_the_family() {
        let llama = with(json!({})).unwrap();
        assert_eq!((llama.head_dim, llama.rope_theta, llama.tied, llama.synthetic), (16, 10_000.0, false, false));
        assert_eq!(with(json!({"model_type": "qwen3"})).unwrap().head_dim, 128);
        assert_eq!(with(json!({"num_key_value_heads": null})).unwrap().kv_heads, 4);
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
        assert_eq!(old.rope_scaling.unwrap().original_context, 8192.0);
        assert_eq!(with(json!({"rope_scaling": {"type": "default"}})).unwrap().rope_scaling, None);
    }

    #[test]
    fn what_this_engine_lacks_is_refused_by_name() {
        for (change, word) in [
            (json!({"model_type": "gemma3"}), "gemma3"),
            (json!({"model_type": null}), "model_type"),
            (json!({"architectures": ["LlamaForSequenceClassification"]}), "LlamaForSequenceClassification"),
            (json!({"hidden_act": "gelu"}), "gelu"),
            (json!({"attention_bias": true}), "attention_bias"),
            (json!({"mlp_bias": true}), "mlp_bias"),
            (json!({"use_sliding_window": true}), "use_sliding_window"),
            (json!({"layer_types": ["full_attention", "sliding_attention"]}), "sliding_attention"),
            (json!({"quantization": {"bits": 4}}), "quantization.group_size is absent"),
            (json!({"rope_scaling": {"rope_type": "yarn"}}), "yarn"),
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

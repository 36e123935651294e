//! Which model a scenario means, and what a loaded model turned out to be.

use std::fmt;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Model families that the project's own transformer engine and the synthetic models know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Architecture {
    Llama,
    Qwen3,
}

impl Architecture {
    pub const ALL: [Architecture; 2] = [Architecture::Llama, Architecture::Qwen3];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Architecture::Llama => "llama",
            Architecture::Qwen3 => "qwen3",
        }
    }

    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|a| a.name() == name)
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The model that a scenario or command line names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ModelSpec {
    /// A Hugging Face folder (config.json, safetensors, tokenizer.json), or whatever the engine takes.
    Path(PathBuf),
    /// Made on first use from a seed, and kept in the cache folder by its hash.
    Synthetic { arch: Architecture, preset: String, seed: u64 },
}

/// What the engine loaded.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ModelIdentity {
    /// Folder or file name, without the path before it.
    pub name: String,
    pub path: String,
    pub architecture: Option<String>,
    pub parameters: Option<u64>,
    /// Bytes of weights held in memory after loading (after quantization).
    pub weight_bytes: Option<u64>,
    /// How the weights are held, such as `q8_0` or `f32`.
    pub weight_format: Option<String>,
    /// SHA-256 in hex over config.json and each weight file's length, header and sampled content.
    pub fingerprint: Option<String>,
    pub vocabulary: Option<u32>,
    /// Longest context the model was made for, in tokens.
    pub context_length: Option<u32>,
    /// Random weights: speed and memory mean something, text does not.
    pub synthetic: bool,
}

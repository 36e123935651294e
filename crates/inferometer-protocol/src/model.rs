//! Models as a scenario names them, and as an engine loaded them.

use std::fmt;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Model families that the project's transformer engine and the synthetic models support.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Architecture {
    Llama,
    Mistral,
    Qwen2,
    Qwen3,
    Qwen3Moe,
    #[serde(rename = "smollm3")]
    SmolLm3,
    Phi3,
    Gemma3,
    GptOss,
}

impl Architecture {
    pub const ALL: [Architecture; 9] = [
        Architecture::Llama,
        Architecture::Mistral,
        Architecture::Qwen2,
        Architecture::Qwen3,
        Architecture::Qwen3Moe,
        Architecture::SmolLm3,
        Architecture::Phi3,
        Architecture::Gemma3,
        Architecture::GptOss,
    ];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Architecture::Llama => "llama",
            Architecture::Mistral => "mistral",
            Architecture::Qwen2 => "qwen2",
            Architecture::Qwen3 => "qwen3",
            Architecture::Qwen3Moe => "qwen3_moe",
            Architecture::SmolLm3 => "smollm3",
            Architecture::Phi3 => "phi3",
            Architecture::Gemma3 => "gemma3",
            Architecture::GptOss => "gpt_oss",
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

/// A floating-point format that weights are stored in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    F32,
    F16,
    Bf16,
}

impl Precision {
    pub const ALL: [Precision; 3] = [Precision::F32, Precision::F16, Precision::Bf16];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Precision::F32 => "f32",
            Precision::F16 => "f16",
            Precision::Bf16 => "bf16",
        }
    }

    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|p| p.name() == name)
    }

    /// Bytes of one value.
    #[must_use]
    pub fn bytes(self) -> u64 {
        match self {
            Precision::F32 => 4,
            Precision::F16 | Precision::Bf16 => 2,
        }
    }
}

/// Quantization of a matrix in MLX's affine format. Only supported sizes can be constructed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "Sizes")]
pub struct Quantization {
    bits: u32,
    group_size: usize,
}

/// A [`Quantization`] with unchecked sizes.
#[derive(Deserialize, JsonSchema)]
struct Sizes {
    bits: u32,
    group_size: usize,
}

impl TryFrom<Sizes> for Quantization {
    type Error = String;

    fn try_from(sizes: Sizes) -> Result<Self, String> {
        let Sizes { bits, group_size } = sizes;
        Self::new(bits, group_size).ok_or_else(|| {
            format!(
                "unsupported quantization: {bits} bits in groups of {group_size}; bits must be one of {:?}, groups one of {:?}",
                Self::BITS,
                Self::GROUP_SIZES
            )
        })
    }
}

impl Quantization {
    pub const BITS: [u32; 6] = [2, 3, 4, 5, 6, 8];
    pub const GROUP_SIZES: [usize; 3] = [32, 64, 128];
    /// MLX's default group size.
    pub const USUAL_GROUP: usize = 64;

    /// `None` for sizes that are not in [`Quantization::BITS`] and [`Quantization::GROUP_SIZES`].
    #[must_use]
    pub fn new(bits: u32, group_size: usize) -> Option<Self> {
        (Self::BITS.contains(&bits) && Self::GROUP_SIZES.contains(&group_size)).then_some(Self { bits, group_size })
    }

    /// Bits per value.
    #[must_use]
    pub fn bits(self) -> u32 {
        self.bits
    }

    /// Number of values that share a scale and a bias: 32, 64 or 128.
    #[must_use]
    pub fn group_size(self) -> usize {
        self.group_size
    }

    /// Number of 32-bit words that hold `columns` values; `columns` is a multiple of the group
    /// size.
    #[must_use]
    pub fn words(self, columns: usize) -> usize {
        columns * self.bits as usize / 32
    }

    /// Number of groups in `columns` values; `columns` is a multiple of the group size.
    #[must_use]
    pub fn groups(self, columns: usize) -> usize {
        columns / self.group_size
    }
}

impl fmt::Display for Quantization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MLX affine, {} bits, groups of {}", self.bits, self.group_size)
    }
}

/// The model that a scenario or command line names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ModelSpec {
    /// A Hugging Face folder (config.json, safetensors, tokenizer.json), or any path that the
    /// engine accepts.
    Path(PathBuf),
    /// Generated from a seed on first use, and kept in the cache folder under its hash.
    Synthetic {
        arch: Architecture,
        preset: String,
        seed: u64,
        /// Storage format of the weights; `None`: the preset's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        dtype: Option<Precision>,
        /// `None`: not quantized.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        quantization: Option<Quantization>,
    },
    /// The model that a server has; there is no copy of it on this machine.
    Served,
}

/// The model that the engine loaded.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ModelIdentity {
    /// Folder or file name, without its parent path.
    pub name: String,
    pub path: String,
    pub architecture: Option<String>,
    pub parameters: Option<u64>,
    /// Bytes of weights in memory after loading (after quantization).
    pub weight_bytes: Option<u64>,
    /// Format of the weights in memory, such as `q8_0` or `f32`.
    pub weight_format: Option<String>,
    /// SHA-256 in hex over config.json and each weight file's length, header and sampled content.
    pub fingerprint: Option<String>,
    pub vocabulary: Option<u32>,
    /// Longest context that the model supports, in tokens.
    pub context_length: Option<u32>,
    /// Whether the weights are random: speed and memory are realistic, text is not.
    pub synthetic: bool,
}

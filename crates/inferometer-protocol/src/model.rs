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

/// How finely a matrix is quantized in MLX's affine format. Only sizes that this program knows can be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "Sizes")]
pub struct Quantization {
    bits: u32,
    group_size: usize,
}

/// A [`Quantization`] of any sizes.
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
                "{bits} bits in groups of {group_size} are not known; bits are one of {:?}, groups one of {:?}",
                Self::BITS,
                Self::GROUP_SIZES
            )
        })
    }
}

impl Quantization {
    pub const BITS: [u32; 2] = [4, 8];
    pub const GROUP_SIZES: [usize; 3] = [32, 64, 128];
    /// What MLX takes where nothing is said.
    pub const USUAL_GROUP: usize = 64;

    /// `None` for sizes that are not among [`Quantization::BITS`] and [`Quantization::GROUP_SIZES`].
    #[must_use]
    pub fn new(bits: u32, group_size: usize) -> Option<Self> {
        (Self::BITS.contains(&bits) && Self::GROUP_SIZES.contains(&group_size)).then_some(Self { bits, group_size })
    }

    /// Bits of one value: 4 or 8.
    #[must_use]
    pub fn bits(self) -> u32 {
        self.bits
    }

    /// Values that share a scale and a bias: 32, 64 or 128.
    #[must_use]
    pub fn group_size(self) -> usize {
        self.group_size
    }

    /// 32-bit words that hold `columns` values, a multiple of the group size.
    #[must_use]
    pub fn words(self, columns: usize) -> usize {
        columns * self.bits as usize / 32
    }

    /// Groups of `columns` values, a multiple of the group size.
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
    /// A Hugging Face folder (config.json, safetensors, tokenizer.json), or whatever the engine takes.
    Path(PathBuf),
    /// Made on first use from a seed, and kept in the cache folder by its hash.
    Synthetic {
        arch: Architecture,
        preset: String,
        seed: u64,
        /// How its weights are stored; `None`: as the preset says.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        dtype: Option<Precision>,
        /// `None`: not quantized.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        quantization: Option<Quantization>,
    },
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

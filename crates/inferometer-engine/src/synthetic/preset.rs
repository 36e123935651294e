//! The shapes of synthetic models.

use serde_json::{Value, json};

use inferometer_host::Result;
use inferometer_protocol::Architecture;
use inferometer_protocol::Architecture::{Gemma3, GptOss, Llama, Mistral, Phi3, Qwen2, Qwen3, Qwen3Moe, SmolLm3};
use inferometer_protocol::Precision;

use super::configuration;

/// One shape. The larger ones are those of published models, so that speed and memory are
/// realistic.
#[derive(Debug, PartialEq)]
pub struct Preset {
    pub arch: Architecture,
    pub name: &'static str,
    /// Which published model has this shape, or what the shape is for.
    pub meaning: &'static str,
    pub hidden: u32,
    pub layers: u32,
    pub heads: u32,
    pub kv_heads: u32,
    pub head_dim: u32,
    /// Inner width of a feed-forward block; of one expert, if there are experts.
    pub intermediate: u32,
    pub vocabulary: u32,
    /// Whether the output projection is the embedding.
    pub tied: bool,
    /// Longest context, in tokens.
    pub context: u32,
    /// The default format of the weights on disk.
    pub precision: Precision,
    /// Experts of a layer, and how many of them compute a position.
    pub experts: Option<(u32, u32)>,
}

/// Hidden size, layers, query heads, key/value heads, width of a head, inner width, vocabulary.
type Sizes = [u32; 7];

const TIED: bool = true;
const UNTIED: bool = false;

/// A preset in bf16, as models are published.
const fn preset(
    arch: Architecture,
    name: &'static str,
    meaning: &'static str,
    sizes: Sizes,
    tied: bool,
    context: u32,
) -> Preset {
    let [hidden, layers, heads, kv_heads, head_dim, intermediate, vocabulary] = sizes;
    Preset {
        arch,
        name,
        meaning,
        hidden,
        layers,
        heads,
        kv_heads,
        head_dim,
        intermediate,
        vocabulary,
        tied,
        context,
        precision: Precision::Bf16,
        experts: None,
    }
}

impl Preset {
    /// For tests: small, in f32.
    const fn tiny(arch: Architecture, sizes: Sizes, tied: bool, context: u32) -> Self {
        Self { precision: Precision::F32, ..preset(arch, "tiny", "tests", sizes, tied, context) }
    }

    const fn with_experts(self, count: u32, per_token: u32) -> Self {
        Self { experts: Some((count, per_token)), ..self }
    }
}

/// Every preset, by architecture and then by size.
pub const PRESETS: &[Preset] = &[
    Preset::tiny(Llama, [128, 4, 4, 2, 32, 384, 2048], UNTIED, 131_072),
    preset(Llama, "small", "quick start", [512, 16, 8, 4, 64, 1536, 32_768], TIED, 131_072),
    preset(Llama, "135m", "shape of SmolLM2 135M", [576, 30, 9, 3, 64, 1536, 49_152], TIED, 8192),
    preset(Llama, "1b", "shape of Llama 3.2 1B", [2048, 16, 32, 8, 64, 8192, 128_256], TIED, 131_072),
    preset(Llama, "3b", "shape of Llama 3.2 3B", [3072, 28, 24, 8, 128, 8192, 128_256], TIED, 131_072),
    Preset::tiny(Mistral, [128, 4, 4, 2, 32, 384, 2048], UNTIED, 32_768),
    preset(Mistral, "7b", "shape of Mistral 7B v0.1", [4096, 32, 32, 8, 128, 14_336, 32_000], UNTIED, 32_768),
    Preset::tiny(Qwen2, [128, 4, 4, 2, 32, 384, 2048], TIED, 32_768),
    preset(Qwen2, "0.5b", "shape of Qwen2.5 0.5B", [896, 24, 14, 2, 64, 4864, 151_936], TIED, 32_768),
    preset(Qwen2, "1.5b", "shape of Qwen2.5 1.5B", [1536, 28, 12, 2, 128, 8960, 151_936], TIED, 131_072),
    Preset::tiny(Qwen3, [128, 4, 4, 2, 64, 384, 2048], TIED, 40_960),
    preset(Qwen3, "small", "quick start", [512, 16, 8, 4, 64, 1536, 32_768], TIED, 40_960),
    preset(Qwen3, "0.6b", "shape of Qwen3 0.6B", [1024, 28, 16, 8, 128, 3072, 151_936], TIED, 40_960),
    preset(Qwen3, "1.7b", "shape of Qwen3 1.7B", [2048, 28, 16, 8, 128, 6144, 151_936], TIED, 40_960),
    preset(Qwen3, "4b", "shape of Qwen3 4B", [2560, 36, 32, 8, 128, 9728, 151_936], TIED, 40_960),
    Preset::tiny(Qwen3Moe, [128, 4, 4, 2, 64, 128, 2048], UNTIED, 40_960).with_experts(8, 2),
    preset(Qwen3Moe, "30b-a3b", "shape of Qwen3 30B A3B", [2048, 48, 32, 4, 128, 768, 151_936], UNTIED, 40_960)
        .with_experts(128, 8),
    Preset::tiny(SmolLm3, [128, 4, 4, 2, 32, 384, 2048], TIED, 65_536),
    preset(SmolLm3, "3b", "shape of SmolLM3 3B", [2048, 36, 16, 4, 128, 11_008, 128_256], TIED, 65_536),
    Preset::tiny(Phi3, [128, 4, 4, 2, 32, 384, 2048], TIED, 131_072),
    preset(Phi3, "mini", "shape of Phi-4-mini", [3072, 32, 24, 8, 128, 8192, 200_064], TIED, 131_072),
    Preset::tiny(Gemma3, [256, 6, 4, 1, 64, 384, 2048], TIED, 32_768),
    preset(Gemma3, "270m", "shape of Gemma 3 270M", [640, 18, 4, 1, 256, 2048, 262_144], TIED, 32_768),
    preset(Gemma3, "1b", "shape of Gemma 3 1B", [1152, 26, 4, 1, 256, 6912, 262_144], TIED, 32_768),
    Preset::tiny(GptOss, [128, 4, 4, 2, 32, 128, 2048], UNTIED, 131_072).with_experts(8, 2),
    preset(GptOss, "20b", "shape of gpt-oss 20B", [2880, 24, 64, 8, 64, 2880, 201_088], UNTIED, 131_072)
        .with_experts(32, 4),
];

/// Its name in PyTorch.
#[must_use]
pub fn torch_name(precision: Precision) -> &'static str {
    match precision {
        Precision::F32 => "float32",
        Precision::F16 => "float16",
        Precision::Bf16 => "bfloat16",
    }
}

/// The preset of that name, if the architecture has it.
#[must_use]
pub fn find(arch: Architecture, name: &str) -> Option<&'static Preset> {
    PRESETS.iter().find(|p| p.arch == arch && p.name == name)
}

/// Names of an architecture's presets, smallest first.
#[must_use]
pub fn names(arch: Architecture) -> Vec<&'static str> {
    PRESETS.iter().filter(|p| p.arch == arch).map(|p| p.name).collect()
}

/// Ids of the special tokens: the last ones of the vocabulary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Special {
    /// Begins a text, in families whose tokenizer adds it.
    pub begin: Option<u32>,
    pub end_of_text: u32,
    pub message_start: u32,
    pub message_end: u32,
}

impl Special {
    /// The number of special tokens.
    #[must_use]
    pub fn count(self) -> usize {
        3 + usize::from(self.begin.is_some())
    }
}

/// The size of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Weight {
    pub parameters: u64,
    /// Bytes of weights on disk.
    pub disk_bytes: u64,
    /// Bytes in memory once quantized to Q8_0: blocks of 32 weights with an f16 scale; norms stay
    /// f32.
    pub q8_0_bytes: u64,
}

impl Preset {
    /// The ids of its special tokens.
    #[must_use]
    pub fn special(&self) -> Special {
        let last = self.vocabulary - 1;
        Special {
            begin: matches!(self.arch, Llama | Mistral | Gemma3).then_some(last - 3),
            end_of_text: last - 2,
            message_start: last - 1,
            message_end: last,
        }
    }

    /// The size of a model of this shape.
    ///
    /// # Errors
    /// When the engine refuses the preset's configuration, which would be a defect.
    pub fn weight(&self) -> Result<Weight> {
        let tensors = super::weights::tensors(self, self.precision, &self.config(0), 0)?;
        let elements = |one_dimensional: bool| {
            tensors.iter().filter(|t| (t.shape.len() == 1) == one_dimensional).map(|t| t.elements() as u64).sum::<u64>()
        };
        let (vectors, matrices) = (elements(true), elements(false));
        Ok(Weight {
            parameters: vectors + matrices,
            disk_bytes: (vectors + matrices) * self.precision.bytes(),
            q8_0_bytes: matrices / 32 * 34 + vectors * 4,
        })
    }

    /// `config.json` for Hugging Face and mlx-lm, marked as synthetic, for weights in the preset's
    /// own format.
    #[must_use]
    pub fn config(&self, seed: u64) -> Value {
        let mut config = configuration::of(self);
        config["torch_dtype"] = json!(torch_name(self.precision));
        config[super::MARKER] = json!({
            "arch": self.arch.name(),
            "preset": self.name,
            "seed": seed,
            "generator_version": super::GENERATOR_VERSION,
        });
        config
    }

    /// `generation_config.json`: where a generation ends.
    #[must_use]
    pub fn generation_config(&self) -> Value {
        let special = self.special();
        json!({
            "bos_token_id": special.begin.unwrap_or(special.end_of_text),
            "eos_token_id": [special.message_end, special.end_of_text],
            "pad_token_id": special.end_of_text,
        })
    }
}

//! The shapes of synthetic models, and their `config.json`.

use serde_json::{Value, json};

use inferometer_host::Result;
use inferometer_protocol::Architecture;
use inferometer_protocol::Architecture::{Llama, Qwen3};
use inferometer_protocol::Precision;

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
    pub intermediate: u32,
    pub vocabulary: u32,
    /// Whether the output projection is the embedding.
    pub tied: bool,
    /// Longest context, in tokens.
    pub context: u32,
    /// The default format of the weights on disk.
    pub precision: Precision,
}

/// Every preset, by architecture and then by size.
pub const PRESETS: &[Preset] = &[
    Preset {
        arch: Llama,
        name: "tiny",
        meaning: "tests",
        hidden: 128,
        layers: 4,
        heads: 4,
        kv_heads: 2,
        head_dim: 32,
        intermediate: 384,
        vocabulary: 2048,
        tied: false,
        context: 131_072,
        precision: Precision::F32,
    },
    Preset {
        arch: Llama,
        name: "small",
        meaning: "quick start",
        hidden: 512,
        layers: 16,
        heads: 8,
        kv_heads: 4,
        head_dim: 64,
        intermediate: 1536,
        vocabulary: 32_768,
        tied: true,
        context: 131_072,
        precision: Precision::Bf16,
    },
    Preset {
        arch: Llama,
        name: "1b",
        meaning: "shape of Llama 3.2 1B",
        hidden: 2048,
        layers: 16,
        heads: 32,
        kv_heads: 8,
        head_dim: 64,
        intermediate: 8192,
        vocabulary: 128_256,
        tied: true,
        context: 131_072,
        precision: Precision::Bf16,
    },
    Preset {
        arch: Llama,
        name: "3b",
        meaning: "shape of Llama 3.2 3B",
        hidden: 3072,
        layers: 28,
        heads: 24,
        kv_heads: 8,
        head_dim: 128,
        intermediate: 8192,
        vocabulary: 128_256,
        tied: true,
        context: 131_072,
        precision: Precision::Bf16,
    },
    Preset {
        arch: Qwen3,
        name: "tiny",
        meaning: "tests",
        hidden: 128,
        layers: 4,
        heads: 4,
        kv_heads: 2,
        head_dim: 64,
        intermediate: 384,
        vocabulary: 2048,
        tied: true,
        context: 40_960,
        precision: Precision::F32,
    },
    Preset {
        arch: Qwen3,
        name: "small",
        meaning: "quick start",
        hidden: 512,
        layers: 16,
        heads: 8,
        kv_heads: 4,
        head_dim: 64,
        intermediate: 1536,
        vocabulary: 32_768,
        tied: true,
        context: 40_960,
        precision: Precision::Bf16,
    },
    Preset {
        arch: Qwen3,
        name: "0.6b",
        meaning: "shape of Qwen3 0.6B",
        hidden: 1024,
        layers: 28,
        heads: 16,
        kv_heads: 8,
        head_dim: 128,
        intermediate: 3072,
        vocabulary: 151_936,
        tied: true,
        context: 40_960,
        precision: Precision::Bf16,
    },
    Preset {
        arch: Qwen3,
        name: "1.7b",
        meaning: "shape of Qwen3 1.7B",
        hidden: 2048,
        layers: 28,
        heads: 16,
        kv_heads: 8,
        head_dim: 128,
        intermediate: 6144,
        vocabulary: 151_936,
        tied: true,
        context: 40_960,
        precision: Precision::Bf16,
    },
    Preset {
        arch: Qwen3,
        name: "4b",
        meaning: "shape of Qwen3 4B",
        hidden: 2560,
        layers: 36,
        heads: 32,
        kv_heads: 8,
        head_dim: 128,
        intermediate: 9728,
        vocabulary: 151_936,
        tied: true,
        context: 40_960,
        precision: Precision::Bf16,
    },
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
    /// Begins a text (Llama only).
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
            begin: (self.arch == Llama).then_some(last - 3),
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
        let tensors = super::weights::tensors(self, self.precision, self.config(0), 0)?;
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
        let special = self.special();
        let mut config = json!({
            "architectures": [match self.arch { Llama => "LlamaForCausalLM", Qwen3 => "Qwen3ForCausalLM" }],
            "model_type": self.arch.name(),
            "vocab_size": self.vocabulary,
            "hidden_size": self.hidden,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head_dim,
            "intermediate_size": self.intermediate,
            "hidden_act": "silu",
            "rms_norm_eps": match self.arch { Llama => 1e-5, Qwen3 => 1e-6 },
            "rope_theta": match self.arch { Llama => 500_000.0, Qwen3 => 1_000_000.0 },
            "rope_scaling": match self.arch {
                // The scaling that extends Llama 3.1 and 3.2 from 8k to 128k tokens of context.
                Llama => json!({
                    "rope_type": "llama3",
                    "factor": 32.0,
                    "low_freq_factor": 1.0,
                    "high_freq_factor": 4.0,
                    "original_max_position_embeddings": 8192,
                }),
                Qwen3 => Value::Null,
            },
            "max_position_embeddings": self.context,
            "attention_bias": false,
            "attention_dropout": 0.0,
            "tie_word_embeddings": self.tied,
            "bos_token_id": special.begin.unwrap_or(special.end_of_text),
            "eos_token_id": special.message_end,
            "initializer_range": 0.02,
            "torch_dtype": torch_name(self.precision),
            "use_cache": true,
        });
        match self.arch {
            Llama => config["mlp_bias"] = json!(false),
            Qwen3 => {
                config["use_sliding_window"] = json!(false);
                config["sliding_window"] = Value::Null;
                config["max_window_layers"] = json!(self.layers);
            }
        }
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

//! One generation: what is asked and what comes back.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Settings;

/// What the engine is to continue.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Prompt {
    /// Token ids of the model's own vocabulary; nothing is added in front.
    Tokens(Vec<u32>),
    /// Text that the engine tokenizes itself (its time is part of `ttft`); special tokens as the
    /// tokenizer adds them.
    Text(String),
    /// Messages that the engine renders with the model's chat template, generation prompt included.
    Messages(Vec<Message>),
}

/// One message of a chat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Message {
    /// `system`, `user` or `assistant`.
    pub role: String,
    pub content: String,
}

/// How the next token is chosen. Temperature 0 is greedy: the highest logit, the lowest id among
/// equals.
///
/// Order of operations: repetition penalty, then (unless greedy) temperature, top-k, top-p, min-p,
/// draw.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Sampling {
    pub seed: u64,
    pub temperature: f64,
    /// Keep the K most likely tokens; 0 = all.
    pub top_k: u32,
    /// Keep the smallest set of most likely tokens whose probabilities sum to at least P; 1 = all.
    pub top_p: f64,
    /// Drop tokens less likely than P times the most likely one; 0 = none.
    pub min_p: f64,
    pub repetition_penalty: f64,
    /// The penalty looks at the last N tokens; 0 = the whole history.
    pub repetition_context_size: u64,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            seed: 0,
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            repetition_context_size: 20,
        }
    }
}

/// One generation to run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Request {
    pub prompt: Prompt,
    #[serde(default)]
    pub sampling: Sampling,
    /// Toggles of request scope, by name.
    #[serde(default)]
    pub toggles: Settings,
    /// Most tokens to generate, at least 1.
    pub max_tokens: u32,
    /// Go on past the model's end-of-sequence tokens.
    #[serde(default)]
    pub ignore_eos: bool,
    /// Conversation whose KV cache the request continues; without it the engine's one default cache
    /// is used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conversation: Option<String>,
    /// Decode along these ids instead of sampling: the work of sampling is done, its choice is
    /// replaced. Generation ends with the last of them, or at `max_tokens`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forced_tokens: Option<Vec<u32>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// An end-of-sequence token was generated (it is the last token reported).
    Stop,
    /// `max_tokens` were generated, or the forced tokens ran out.
    Length,
    Cancelled,
    Error,
}

impl FinishReason {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            FinishReason::Stop => "stop",
            FinishReason::Length => "length",
            FinishReason::Cancelled => "cancelled",
            FinishReason::Error => "error",
        }
    }
}

/// What an engine is doing. The first four are phases of a request; the others are spans inside
/// them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    Load,
    Tokenize,
    Prefill,
    Decode,
    PrefillChunk,
    CacheClear,
    Forward,
    Penalty,
    Sample,
    /// Turning one token into text, as a server does that sends each as it comes.
    Detokenize,
    /// The host waits for the device, on a lazy backend.
    Wait,
    /// The KV cache is dropped before a request begins; the harness itself records it.
    Reset,
}

impl Phase {
    pub const ALL: [Phase; 12] = [
        Phase::Load,
        Phase::Tokenize,
        Phase::Prefill,
        Phase::Decode,
        Phase::PrefillChunk,
        Phase::CacheClear,
        Phase::Forward,
        Phase::Penalty,
        Phase::Sample,
        Phase::Detokenize,
        Phase::Wait,
        Phase::Reset,
    ];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Phase::Load => "load",
            Phase::Tokenize => "tokenize",
            Phase::Prefill => "prefill",
            Phase::Decode => "decode",
            Phase::PrefillChunk => "prefill_chunk",
            Phase::CacheClear => "cache_clear",
            Phase::Forward => "forward",
            Phase::Penalty => "penalty",
            Phase::Sample => "sample",
            Phase::Detokenize => "detokenize",
            Phase::Wait => "wait",
            Phase::Reset => "reset",
        }
    }

    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|p| p.name() == name)
    }

    /// Whether the timed pass records it. Spans of single operations belong to the profiled pass.
    #[must_use]
    pub fn in_timed_pass(self) -> bool {
        !matches!(self, Phase::Forward | Phase::Penalty | Phase::Sample | Phase::Detokenize | Phase::Wait)
    }
}

/// A stretch of time on the host's monotonic clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Span {
    pub phase: Phase,
    /// Which one of its phase within the request, from 0.
    #[serde(default)]
    pub index: u32,
    pub start_ns: u64,
    pub end_ns: u64,
}

/// What an engine would have generated at one position had no token been forced, and how sure it
/// was.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Choice {
    pub token: u32,
    /// Best logit minus second best, after the repetition penalty and before the temperature; equal
    /// ones give 0. Finite, never below 0; the largest f32 where there is no second logit.
    pub gap: f32,
}

/// What the engine itself says about its memory. Absent where it does not know.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct EngineMemory {
    pub active_bytes: Option<u64>,
    pub cache_bytes: Option<u64>,
    /// Highest `active` since the last request began.
    pub peak_bytes: Option<u64>,
    /// Bytes held by KV caches (allocated, not only used).
    pub kv_cache_bytes: Option<u64>,
}

/// What the engine said of its memory at one moment, on the host's monotonic clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MemorySample {
    pub t_ns: u64,
    #[serde(flatten)]
    pub memory: EngineMemory,
}

/// What a session returns beside the tokens, which went to the sink.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Completion {
    pub finish_reason: FinishReason,
    /// Tokens of the whole prompt.
    pub prompt_tokens: u32,
    /// Of these, taken from the KV cache of an earlier request.
    pub reused_tokens: u32,
    /// Of these, computed now. `prompt_tokens = reused_tokens + prefill_tokens`.
    pub prefill_tokens: u32,
    /// Length of the KV cache after the request, measured on the cache itself.
    pub cache_tokens: Option<u32>,
    /// What was really in force; names in [`super::effective`].
    pub effective: Settings,
}

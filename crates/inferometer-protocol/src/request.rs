//! One generation: its request and its result.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Chat, Message, Sampling, Settings};

/// The input that the engine continues.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "Input", into = "Input")]
pub enum Prompt {
    /// Token ids of the model's vocabulary; nothing is prepended.
    Tokens(Vec<u32>),
    /// Text that the engine tokenizes itself (the time is part of `ttft`), with the special tokens
    /// that the tokenizer adds.
    Text(String),
    /// Messages that the engine renders with the model's chat template, including the generation
    /// prompt.
    Messages(Chat),
}

/// [`Prompt`] on the wire: an object with exactly one of `tokens`, `text` and `messages`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
struct Input {
    /// Token ids of the model's vocabulary; nothing is prepended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tokens: Option<Vec<u32>>,
    /// Text that the engine tokenizes itself, with the special tokens that the tokenizer adds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    /// Messages that the engine renders with the model's chat template, including the generation
    /// prompt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    messages: Option<Vec<Message>>,
    /// With `messages`: JSON Schemas of the functions that the model may call. Only for engines
    /// with the capability `tools`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tools: Option<Vec<serde_json::Value>>,
    /// With `messages`: further variables of the template, such as `enable_thinking`. Only for
    /// engines with the capability `tools`.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    template_arguments: serde_json::Map<String, serde_json::Value>,
}

impl From<Prompt> for Input {
    fn from(prompt: Prompt) -> Self {
        match prompt {
            Prompt::Tokens(tokens) => Self { tokens: Some(tokens), ..Self::default() },
            Prompt::Text(text) => Self { text: Some(text), ..Self::default() },
            Prompt::Messages(Chat { messages, tools, template_arguments }) => {
                Self { messages: Some(messages), tools, template_arguments, ..Self::default() }
            }
        }
    }
}

impl TryFrom<Input> for Prompt {
    type Error = String;

    fn try_from(input: Input) -> Result<Self, String> {
        let chatty = input.tools.is_some() || !input.template_arguments.is_empty();
        match (input.tokens, input.text, input.messages) {
            (_, _, None) if chatty => Err("`tools` and `template_arguments` need `messages`".to_owned()),
            (Some(tokens), None, None) => Ok(Prompt::Tokens(tokens)),
            (None, Some(text), None) => Ok(Prompt::Text(text)),
            (None, None, Some(messages)) => {
                let chat = Chat { messages, tools: input.tools, template_arguments: input.template_arguments };
                chat.check()?;
                Ok(Prompt::Messages(chat))
            }
            _ => Err("a prompt must have exactly one of `tokens`, `text` and `messages`".to_owned()),
        }
    }
}

/// One generation to run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Request {
    pub prompt: Prompt,
    #[serde(default)]
    pub sampling: Sampling,
    /// Request-scope toggles by name.
    #[serde(default)]
    pub toggles: Settings,
    /// Most tokens to generate, at least 1.
    pub max_tokens: u32,
    /// Continue past the model's end-of-sequence tokens.
    #[serde(default)]
    pub ignore_eos: bool,
    /// Conversation whose KV cache the request continues; without it the engine's default cache is
    /// used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conversation: Option<String>,
    /// Decode these ids instead of sampling: the sampling work is done, but its choice is replaced.
    /// Generation ends with the last id, or at `max_tokens`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forced_tokens: Option<Vec<u32>>,
}

/// End tokens with which a model calls a tool: `<|call|>` of Harmony (GPT-OSS) and `<|eom_id|>`
/// (end of message) of Llama 3.1.
const TOOL_CALL_TOKENS: [&str; 2] = ["<|call|>", "<|eom_id|>"];

/// Why a generation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// An end-of-sequence token was generated (the last token reported).
    Stop,
    /// `max_tokens` were generated, or the forced tokens were used up.
    Length,
    Cancelled,
    Error,
    /// An end-of-sequence token was generated that says that the model calls a tool, such as
    /// `<|call|>` (the last token reported).
    ToolCall,
}

impl FinishReason {
    pub const ALL: [FinishReason; 5] = [
        FinishReason::Stop,
        FinishReason::Length,
        FinishReason::Cancelled,
        FinishReason::Error,
        FinishReason::ToolCall,
    ];

    /// Why a generation ended with an end-of-sequence token of this text.
    #[must_use]
    pub fn of_end_token(text: &str) -> Self {
        if TOOL_CALL_TOKENS.contains(&text) { FinishReason::ToolCall } else { FinishReason::Stop }
    }

    /// Whether an end-of-sequence token ended it.
    #[must_use]
    pub fn is_stop(self) -> bool {
        matches!(self, FinishReason::Stop | FinishReason::ToolCall)
    }

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            FinishReason::Stop => "stop",
            FinishReason::Length => "length",
            FinishReason::Cancelled => "cancelled",
            FinishReason::Error => "error",
            FinishReason::ToolCall => "tool_call",
        }
    }
}

/// An activity of the engine. The first four are phases of a request; the others are spans inside
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
    /// Decoding one token to text, as a streaming server does.
    Detokenize,
    /// The host waits for the device (lazy backend).
    Wait,
    /// The KV cache is dropped before a request; recorded by the harness.
    Reset,
    /// The tokens of the next pass are drafted (speculative decoding).
    Draft,
}

impl Phase {
    pub const ALL: [Phase; 13] = [
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
        Phase::Draft,
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
            Phase::Draft => "draft",
        }
    }

    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|p| p.name() == name)
    }

    /// Whether the timed pass records it. Spans of single operations are recorded in the profiling
    /// pass only.
    #[must_use]
    pub fn in_timed_pass(self) -> bool {
        !matches!(
            self,
            Phase::Forward | Phase::Penalty | Phase::Sample | Phase::Detokenize | Phase::Wait | Phase::Draft
        )
    }
}

/// A stretch of time on the host's monotonic clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Span {
    pub phase: Phase,
    /// Index within its phase and request, from 0.
    #[serde(default)]
    pub index: u32,
    pub start_ns: u64,
    pub end_ns: u64,
}

/// What an engine would have generated at a position without forced tokens, and by what margin.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Choice {
    pub token: u32,
    /// Best logit minus second best, after the repetition penalty and before the temperature; 0 for
    /// equal logits. Finite and never negative; the largest f32 if there is no second logit.
    pub gap: f32,
}

/// How likely the model found a generated or forced token, from the logits themselves: before the
/// repetition penalty, the temperature and every filter. Natural logarithms.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TokenLogprob {
    /// Logarithm of the token's probability: from -700 to 0. A token that is less likely is
    /// reported as -700.
    pub logprob: f32,
    /// The most likely tokens with the logarithms of their probabilities, the most likely first: as
    /// many as the request asks for, or the whole vocabulary if it has fewer. The same range.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub top: Vec<(u32, f32)>,
}

/// The least logarithm of a probability that is reported: what is less likely is reported as this.
/// Down to here a perplexity is a number in 64 bits. Logits of models differ by some tens.
pub const LEAST_LOGPROB: f64 = -700.0;

/// Probabilities come from sums over the vocabulary in 32-bit floats.
const ROUNDING: f64 = 1e-3;

impl TokenLogprob {
    /// Checks that these can be probabilities of token `token` and of others.
    ///
    /// # Errors
    /// What cannot be.
    pub fn check(&self, token: u32) -> Result<(), String> {
        let possible = |value: f32| f64::from(value) >= LEAST_LOGPROB && f64::from(value) <= ROUNDING;
        if let Some(value) =
            std::iter::once(self.logprob).chain(self.top.iter().map(|top| top.1)).find(|v| !possible(*v))
        {
            return Err(format!("{value} is no logarithm of a probability: it must be between {LEAST_LOGPROB} and 0"));
        }
        if self.top.windows(2).any(|pair| pair[0].1 < pair[1].1) {
            return Err("`top` is not sorted, the most likely token first".to_owned());
        }
        let mass: f64 = self.top.iter().map(|top| f64::from(top.1).exp()).sum();
        if mass > 1.0 + ROUNDING {
            return Err(format!("the probabilities in `top` sum to {mass}, more than 1"));
        }
        let ids: std::collections::BTreeSet<u32> = self.top.iter().map(|top| top.0).collect();
        if ids.len() != self.top.len() {
            return Err("`top` names a token twice".to_owned());
        }
        let near = |a: f32, b: f32| f64::from(a - b).abs() <= ROUNDING * f64::from(a.abs()).max(1.0);
        match (self.top.iter().find(|top| top.0 == token), self.top.last()) {
            (Some(top), _) if !near(top.1, self.logprob) => {
                Err(format!("`logprob` of token {token} is {}, but `top` has {}", self.logprob, top.1))
            }
            (None, Some(last)) if self.logprob > last.1 && !near(last.1, self.logprob) => {
                Err(format!("token {token} with `logprob` {} is missing from `top`", self.logprob))
            }
            _ => Ok(()),
        }
    }
}

/// Memory as the engine reports it. Unknown values are absent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct EngineMemory {
    pub active_bytes: Option<u64>,
    pub cache_bytes: Option<u64>,
    /// Highest `active` since the last request began.
    pub peak_bytes: Option<u64>,
    /// Bytes allocated for KV caches, used or not.
    pub kv_cache_bytes: Option<u64>,
}

/// The engine's memory at one moment, on the host's monotonic clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MemorySample {
    pub t_ns: u64,
    #[serde(flatten)]
    pub memory: EngineMemory,
}

/// The result of a generation, apart from the tokens, which went to the sink.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Completion {
    pub finish_reason: FinishReason,
    /// Number of tokens in the whole prompt.
    pub prompt_tokens: u32,
    /// Of these, tokens taken from the KV cache of an earlier request.
    pub reused_tokens: u32,
    /// Of these, tokens computed now. `prompt_tokens = reused_tokens + prefill_tokens`.
    pub prefill_tokens: u32,
    /// Length of the KV cache after the request, read from the cache itself.
    pub cache_tokens: Option<u32>,
    /// The settings in force; for names see [`super::effective`].
    pub effective: Settings,
    /// What speculative decoding did; absent if the request did not ask for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speculation: Option<Speculation>,
    /// For an engine that drives a server: what the server's answer shows beside the tokens (since
    /// 1.7).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub served: Option<Served>,
}

/// What a server's streamed answer shows beside the tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Served {
    /// When the first byte of the answer could be read.
    pub first_byte_ns: u64,
    /// When the first text that a user sees could be read: tokens of a model's reasoning come
    /// before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_visible_ns: Option<u64>,
    /// How many tokens were generated, if they are not one for each entry of `tokens`: a server
    /// sends pieces of text, and says at the end how many tokens they were. The token times of such
    /// a request are inexact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generated_tokens: Option<u32>,
}

/// Counts of speculative decoding: tokens are drafted, and one forward pass over them gives the
/// model's own choice at each of their positions. Drafted tokens are accepted while they equal the
/// choice; the choice after them is one more token.
///
/// Tokens of one pass become readable together and share a stamp. The first token of a generation
/// belongs to the prefill and counts nowhere here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Speculation {
    /// Forward passes of the model after the first token, with drafted tokens or without. A
    /// pass whose tokens were not sent does not count.
    pub passes: u32,
    /// Of these, passes over drafted tokens.
    pub verify_passes: u32,
    /// Drafted tokens that such passes verified.
    pub drafted_tokens: u32,
    /// Of these, tokens that were accepted and generated.
    pub accepted_tokens: u32,
}

impl Speculation {
    /// Why these counts cannot be those of `generated` tokens; `None` if they can.
    #[must_use]
    pub fn impossible(&self, generated: usize) -> Option<String> {
        let Self { passes, verify_passes, drafted_tokens, accepted_tokens } = *self;
        // A pass over drafted tokens has at least one, and all that it has are counted, even if it
        // ends the generation early.
        let without_pass = drafted_tokens > 0 && verify_passes == 0;
        if accepted_tokens > drafted_tokens || verify_passes > passes || verify_passes > drafted_tokens || without_pass
        {
            return Some(format!(
                "speculative decoding reports {accepted_tokens} accepted of {drafted_tokens} drafted tokens in \
                 {verify_passes} of {passes} passes, which cannot be"
            ));
        }
        // Each pass gives one token more than it accepts, except the last, which may end with an
        // accepted one.
        let after_first = (generated as u64).saturating_sub(1);
        let most = u64::from(passes) + u64::from(accepted_tokens);
        let fits = most == after_first || most == after_first + 1 && accepted_tokens > 0;
        (!fits).then(|| {
            format!(
                "speculative decoding reports {passes} passes and {accepted_tokens} accepted tokens, but \
                 {after_first} tokens came after the first"
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_prompt_is_one_of_three_kinds() {
        let read = |json| serde_json::from_value::<Prompt>(json).map_err(|e| e.to_string());
        for json in [
            json!({"tokens": [1, 2]}),
            json!({"text": "hi"}),
            json!({"messages": [{"role": "user", "content": "hi"}]}),
            json!({"messages": [], "tools": [], "template_arguments": {"enable_thinking": false}}),
        ] {
            assert_eq!(serde_json::to_value(read(json.clone()).unwrap()).unwrap(), json);
        }
        for (json, told) in [
            (json!({}), "exactly one of"),
            (json!({"text": "a", "tokens": [1]}), "exactly one of"),
            (json!({"text": "a", "tools": []}), "need `messages`"),
            (json!({"messages": [], "tools": [3]}), "`tools` must be"),
        ] {
            let error = read(json).unwrap_err();
            assert!(error.contains(told), "{error}");
        }
    }

    #[test]
    fn what_cannot_be_probabilities_is_refused() {
        let of = |logprob: f32, top: &[(u32, f32)]| TokenLogprob { logprob, top: top.to_vec() }.check(7);
        assert_eq!(of(-3.0, &[]), Ok(()));
        assert_eq!(of(-3.0, &[(1, -0.2), (2, -2.0)]), Ok(()), "an unlikely token is not in `top`");
        assert_eq!(of(-2.0, &[(1, -0.2), (7, -2.0)]), Ok(()));
        assert_eq!(of(LEAST_LOGPROB as f32, &[(1, 0.0), (7, LEAST_LOGPROB as f32)]), Ok(()));
        for (logprob, top, told) in [
            (0.5, vec![], "0.5 is no logarithm of a probability: it must be between -700 and 0"),
            (f32::NAN, vec![], "NaN is no logarithm"),
            (-700.5, vec![], "between -700 and 0"),
            (-3.0, vec![(1, 0.0), (2, f32::NEG_INFINITY)], "-inf is no logarithm"),
            (-3.0, vec![(1, -2.0), (2, -0.2)], "not sorted"),
            (-3.0, vec![(1, -0.2), (2, -0.2)], "sum to 1.6"),
            (-3.0, vec![(1, -1.0), (1, -2.0)], "twice"),
            (-3.0, vec![(1, -0.2), (7, -2.0)], "`top` has -2"),
            (-0.1, vec![(1, -3.0)], "missing from `top`"),
        ] {
            let error = of(logprob, &top).unwrap_err();
            assert!(error.contains(told), "{error}");
        }
    }

    #[test]
    fn a_call_is_known_by_the_text_of_its_end_token() {
        for (text, reason) in
            [("<|call|>", "tool_call"), ("<|return|>", "stop"), ("<|eom_id|>", "tool_call"), ("", "stop")]
        {
            assert_eq!(FinishReason::of_end_token(text).name(), reason);
        }
        for reason in FinishReason::ALL {
            assert_eq!(serde_json::to_value(reason).unwrap(), reason.name());
        }
    }

    #[test]
    fn counts_of_speculation_must_fit_the_tokens() {
        let counts = |passes, verify_passes, drafted_tokens, accepted_tokens| Speculation {
            passes,
            verify_passes,
            drafted_tokens,
            accepted_tokens,
        };
        assert_eq!(counts(5, 2, 5, 5).impossible(11), None);
        assert_eq!(counts(5, 2, 5, 5).impossible(10), None, "the last one was accepted");
        assert_eq!(counts(0, 0, 0, 0).impossible(1), None);
        assert_eq!(counts(0, 0, 0, 0).impossible(0), None, "cancelled in the prefill");
        for (wrong, generated) in [
            (counts(5, 2, 5, 5), 12),
            (counts(10, 0, 0, 0), 10),
            (counts(5, 2, 4, 5), 11),
            (counts(5, 6, 9, 5), 11),
            (counts(5, 2, 1, 1), 7),
            (counts(0, 0, 5, 5), 6),
            (counts(5, 0, 3, 0), 6),
        ] {
            assert!(wrong.impossible(generated).is_some(), "{wrong:?} {generated}");
        }
    }
}

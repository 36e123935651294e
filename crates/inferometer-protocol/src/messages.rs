//! The engine protocol, version 1: one JSON object per line over the host's stdin and stdout.
//!
//! `docs/reference/protocol.md` describes it for authors of adapters;
//! `docs/reference/protocol.schema.json` is generated from these types.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Choice, Completion, EngineError, EngineMemory, EngineSpec, MemorySample, PhaseAllocations, Profile, Receipt,
    Request, Settings, Span, SpanTiming, TokenLogprob,
};

/// Version of the protocol. Another major version is refused; a newer minor version only adds
/// fields and messages.
pub const VERSION: Version = Version { major: 1, minor: 8 };

/// Longest line that either side may send, newline included.
pub const MAX_LINE_BYTES: usize = 64 << 20;

/// Most tokens that one request may ask for; their ids and stamps fit on a line.
pub const MAX_TOKENS: u32 = 1 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Version {
    pub major: u32,
    pub minor: u32,
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// The JSON Schema of both directions (draft 2020-12): `$defs` has `to_host` and `from_host`; a
/// line is one of them.
#[must_use]
pub fn schema() -> serde_json::Value {
    let mut generator = schemars::generate::SchemaSettings::draft2020_12().into_generator();
    // Named explicitly: the generator would distinguish the two envelopes only by a number.
    let to_host = <Envelope<ToHost>>::json_schema(&mut generator);
    let from_host = <Envelope<FromHost>>::json_schema(&mut generator);
    let mut definitions = generator.take_definitions(true);
    definitions.insert("to_host".to_owned(), to_host.to_value());
    definitions.insert("from_host".to_owned(), from_host.to_value());
    serde_json::json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": format!("Inferometer engine protocol {VERSION}"),
        "description": "One line of the host's standard input (to_host) or standard output (from_host).",
        "anyOf": [{ "$ref": "#/$defs/to_host" }, { "$ref": "#/$defs/from_host" }],
        "$defs": definitions,
    })
}

/// A message with the id that links an answer to its request. The harness chooses increasing ids.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Envelope<T> {
    pub id: u64,
    #[serde(flatten)]
    pub body: T,
}

/// Harness to host. The host answers every message with exactly one message of the same id, not
/// counting `progress`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ToHost {
    /// First message. Answered by `hello`.
    Hello { protocol: Version, harness: String },
    /// Answered by `pong`.
    Ping,
    /// Load a model. Answered by `ready`.
    Open(Open),
    /// Run one generation. Answered by `result`, with any number of `progress` before it. With
    /// `concurrent`, others may be running, and answers come in any order.
    Generate(Box<Generate>),
    /// Cut or repeat a text until it has exactly `tokens` tokens as a prompt, for a harness that
    /// has not the model's tokenizer. Answered by `fitted`.
    Fit { text: String, tokens: u32 },
    /// Drop the KV cache (of every conversation). Answered by `done`.
    Reset,
    /// Clear the allocator's cache. Answered by `done`.
    ClearCache,
    /// Answered by `memory`.
    Memory,
    /// Start the host's sampling profiler; it runs during the next `generate`. Answered by `done`.
    ProfileStart { frequency_hz: u32 },
    /// Stop the profiler. Answered by `profile`, with everything sampled since the start.
    ProfileStop,
    /// Stop the generation with id `request` as soon as possible; it still sends its `result`, with
    /// finish reason `cancelled`. Answered by `done` at once, also when nothing is running.
    Cancel { request: u64 },
    /// Unload the model; `open` may follow. Answered by `done` when its memory is free.
    Unload,
    /// Unload and exit. Answered by `done`.
    Close,
}

impl ToHost {
    /// The values of `type` that this version knows.
    pub const TYPES: [&'static str; 13] = [
        "hello",
        "ping",
        "open",
        "generate",
        "fit",
        "reset",
        "clear_cache",
        "memory",
        "profile_start",
        "profile_stop",
        "cancel",
        "unload",
        "close",
    ];
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Open {
    pub engine: EngineSpec,
    /// The model's folder or file. Absent for engines that have their own model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Load-scope toggles.
    #[serde(default)]
    pub toggles: Settings,
    /// Interval at which the host samples the engine's memory during a generation, if the engine
    /// supports this; the samples come with the result. Absent or 0 = never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_interval_ms: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Generate {
    #[serde(flatten)]
    pub request: Request,
    #[serde(flatten)]
    pub instrumentation: Instrumentation,
    /// Run it beside others, in a session of its own.
    #[serde(default, skip_serializing_if = "is_false")]
    pub concurrent: bool,
}

/// What a host does besides generating. The default is that of a timed pass: nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "Flags", into = "Flags")]
pub struct Instrumentation {
    /// How closely the generation is observed.
    pub detail: Detail,
    /// Whether the host reports, for each token, the engine's own choice and how sure it was. Never
    /// in a timed pass: reading the logits costs time.
    pub choices: bool,
    /// Whether the host reports how likely the model found each token, and with how many of the
    /// most likely tokens. Never in a timed pass: reading the logits costs time.
    pub logprobs: Option<u32>,
    /// Whether `progress` is sent, at most ten times a second. Off in measured passes, which it
    /// would disturb.
    pub progress: bool,
    /// Whether each token is sent as soon as it is readable, so that the harness can compare the
    /// arrivals with the stamps. Never in a timed pass: writing costs time.
    pub stream: bool,
}

/// How closely a generation is observed. The tokens are the same at every level.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Detail {
    /// Spans of phases only: the engine does nothing that it would not do for a user.
    #[default]
    Timed,
    /// Spans of single operations too, and each token is turned into text.
    Operations,
    /// As `Operations`, and a lazy backend finishes every operation within its span.
    ForcedSync,
}

/// [`Instrumentation`] on the wire.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
struct Flags {
    /// Send `progress` at most ten times a second. Off in measured passes, which it would disturb.
    #[serde(default)]
    progress: bool,
    /// Record spans of single operations too (the profiled pass).
    #[serde(default)]
    operation_spans: bool,
    /// On a lazy backend, finish every operation within its span. Only with `operation_spans`.
    #[serde(default, skip_serializing_if = "is_false")]
    forced_sync: bool,
    /// Report for every token the engine's own choice and how sure it was. Never in a timed pass:
    /// reading the logits costs time.
    #[serde(default)]
    choices: bool,
    /// Report the logarithm of every token's probability, and those of this many of the most likely
    /// tokens (0: none of these). Absent: report nothing. The harness asks for this only if the
    /// receipt has the capability `logprobs`, and never in a timed pass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    top_logprobs: Option<u32>,
    /// Send a `token` message for every token at the moment it becomes readable. The harness asks
    /// for this in warm-ups, and only if the receipt has the capability `stream`: it compares the
    /// arrivals with `token_ns`.
    #[serde(default, skip_serializing_if = "is_false")]
    stream: bool,
}

impl From<Instrumentation> for Flags {
    fn from(Instrumentation { detail, choices, logprobs, progress, stream }: Instrumentation) -> Self {
        let operation_spans = detail != Detail::Timed;
        let forced_sync = detail == Detail::ForcedSync;
        Self { progress, operation_spans, forced_sync, choices, top_logprobs: logprobs, stream }
    }
}

impl TryFrom<Flags> for Instrumentation {
    type Error = &'static str;

    fn try_from(flags: Flags) -> Result<Self, Self::Error> {
        let detail = match (flags.operation_spans, flags.forced_sync) {
            (false, false) => Detail::Timed,
            (true, false) => Detail::Operations,
            (true, true) => Detail::ForcedSync,
            (false, true) => return Err("`forced_sync` is for the profiled pass: send `operation_spans` with it"),
        };
        let Flags { choices, top_logprobs: logprobs, progress, stream, .. } = flags;
        Ok(Self { detail, choices, logprobs, progress, stream })
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for this signature")]
fn is_false(value: &bool) -> bool {
    !value
}

/// Host to harness.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum FromHost {
    Hello {
        protocol: Version,
        /// Name and version of the program.
        host: String,
    },
    Pong {
        /// Name of the clock that every stamp of this host is read from.
        clock: String,
        now_ns: u64,
    },
    Ready(Box<Ready>),
    Progress {
        generated_tokens: u32,
    },
    /// One token, as soon as it is readable; before the `result`, with the id of its `generate`.
    Token {
        /// Position in the generation, from 0.
        index: u32,
        /// Token id; the same as in the result.
        token: u32,
    },
    Result(Box<Generated>),
    /// The text that `fit` asked for.
    Fitted {
        text: String,
    },
    Memory(EngineMemory),
    Profile(Box<Profile>),
    Done,
    Error(EngineError),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Ready {
    #[serde(flatten)]
    pub receipt: Receipt,
    /// Time from the accepted `open` to the first possible request, on the host's clock.
    pub load_ns: u64,
}

/// One generation as the host recorded it. All times on the host's clock.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Generated {
    /// Generated ids, in order.
    pub tokens: Vec<u32>,
    /// When each token became readable on the host: one stamp per token, in non-decreasing order.
    pub token_ns: Vec<u64>,
    /// When the host had read the request.
    pub accepted_ns: u64,
    /// When the generation ended, before its text was decoded and the reply was built.
    pub finished_ns: u64,
    #[serde(default)]
    pub spans: Vec<Span>,
    /// Spans that did not fit the preallocated buffer.
    #[serde(default)]
    pub spans_dropped: u64,
    /// How the spans of single operations were timed; absent without such spans.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub span_timing: Option<SpanTiming>,
    /// Allocations of each phase, with `operation_spans`, if the host counts them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allocations: Vec<PhaseAllocations>,
    /// The engine's memory during the request, if `open` asked for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub memory_samples: Vec<MemorySample>,
    /// One for each token, if they were asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub choices: Option<Vec<Choice>>,
    /// One for each token, if they were asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logprobs: Option<Vec<TokenLogprob>>,
    /// The generated text, if the host detokenizes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    #[serde(flatten)]
    pub completion: Completion,
    #[serde(default)]
    pub memory: EngineMemory,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instrumentation_travels_as_flags() {
        for (detail, flags) in [
            (Detail::Timed, r#"{"progress":false,"operation_spans":false,"choices":true}"#),
            (Detail::Operations, r#"{"progress":false,"operation_spans":true,"choices":true}"#),
            (Detail::ForcedSync, r#"{"progress":false,"operation_spans":true,"forced_sync":true,"choices":true}"#),
        ] {
            let instrumentation = Instrumentation { detail, choices: true, ..Instrumentation::default() };
            assert_eq!(serde_json::to_string(&instrumentation).unwrap(), flags);
            assert_eq!(serde_json::from_str::<Instrumentation>(flags).unwrap(), instrumentation);
        }
        assert_eq!(serde_json::from_str::<Instrumentation>("{}").unwrap(), Instrumentation::default());
        let error = serde_json::from_str::<Instrumentation>(r#"{"forced_sync":true}"#).unwrap_err().to_string();
        assert!(error.contains("send `operation_spans` with it"), "{error}");
    }
}

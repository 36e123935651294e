//! What a server streams back: pieces of text, ids, counts and the reason of the end.

use inferometer_host::Result;
use inferometer_host::protocol::{EngineError, FinishReason};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::http;
use crate::request::Api;

/// The end of a stream of the OpenAI API.
const DONE: &str = "[DONE]";

/// One event.
#[derive(Debug, Default, PartialEq)]
pub struct Piece {
    /// Text that a user sees.
    pub visible: String,
    /// Text of another channel: reasoning, or the arguments of a tool call.
    pub hidden: String,
    /// Ids of its tokens, if the server tells them.
    pub ids: Vec<u32>,
    pub finish: Option<FinishReason>,
    pub usage: Usage,
    /// No event follows.
    pub last: bool,
}

/// Counts of a request, as far as the server tells them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    pub prompt_tokens: Option<u32>,
    /// Of these, tokens that were not computed again.
    pub cached_tokens: Option<u32>,
    pub completion_tokens: Option<u32>,
}

impl Usage {
    pub fn merge(&mut self, later: Self) {
        self.prompt_tokens = later.prompt_tokens.or(self.prompt_tokens);
        self.cached_tokens = later.cached_tokens.or(self.cached_tokens);
        self.completion_tokens = later.completion_tokens.or(self.completion_tokens);
    }
}

impl Piece {
    /// Whether it has something that was generated.
    pub fn has_tokens(&self) -> bool {
        !(self.visible.is_empty() && self.hidden.is_empty() && self.ids.is_empty())
    }

    /// An id for a piece of text whose tokens are not known: equal texts have equal ids, on every
    /// machine.
    pub fn id_of_text(&self) -> u32 {
        let mut hash = Sha256::new();
        hash.update(&self.visible);
        if !self.hidden.is_empty() {
            // The same text in another channel is another output.
            hash.update([0]);
            hash.update(&self.hidden);
        }
        let digest = hash.finalize();
        u32::from_le_bytes([digest[0], digest[1], digest[2], digest[3]])
    }

    /// Reads the data of an event.
    ///
    /// # Errors
    /// When it is no JSON of the API, or the server reports an error.
    pub fn of(api: Api, data: &str) -> Result<Self> {
        if data == DONE {
            return Ok(Self { last: true, ..Self::default() });
        }
        let broken = |error: serde_json::Error| {
            let start: String = data.chars().take(200).collect();
            EngineError::server(format!("the server's stream has an event that is not of the API ({error}): {start:?}"))
        };
        let reported = |error: serde_json::Value| {
            let told = http::message(&serde_json::json!({ "error": error }));
            EngineError::server(format!(
                "the server reports an error in its stream: {}",
                told.unwrap_or_else(|| "without a message".to_owned())
            ))
        };
        match api {
            Api::Native => {
                let event: NativeEvent = serde_json::from_str(data).map_err(broken)?;
                event.error.map_or(Ok(()), |error| Err(reported(error)))?;
                Ok(native(event.rest))
            }
            Api::Completions | Api::Chat => {
                let event: Event = serde_json::from_str(data).map_err(broken)?;
                event.error.map_or(Ok(()), |error| Err(reported(error)))?;
                streamed(event.choices, event.usage, event.timings)
            }
        }
    }
}

#[derive(Deserialize)]
struct Event {
    #[serde(default)]
    error: Option<serde_json::Value>,
    #[serde(default)]
    choices: Vec<Choice>,
    #[serde(default)]
    usage: Option<UsageInfo>,
    /// llama-server's.
    #[serde(default)]
    timings: Option<Timings>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default)]
    text: Option<String>,
    #[serde(default)]
    delta: Option<Delta>,
    #[serde(default)]
    token_ids: Option<Vec<u32>>,
    #[serde(default)]
    finish_reason: Option<String>,
}

#[derive(Default, Deserialize)]
struct Delta {
    #[serde(default)]
    content: Option<String>,
    #[serde(default)]
    reasoning_content: Option<String>,
    #[serde(default)]
    reasoning: Option<String>,
    #[serde(default)]
    tool_calls: Option<Vec<serde_json::Value>>,
}

#[derive(Deserialize)]
struct UsageInfo {
    #[serde(default)]
    prompt_tokens: Option<u32>,
    #[serde(default)]
    completion_tokens: Option<u32>,
    #[serde(default)]
    prompt_tokens_details: Option<Details>,
}

#[derive(Deserialize)]
struct Details {
    #[serde(default)]
    cached_tokens: Option<u32>,
}

#[derive(Deserialize)]
struct Timings {
    #[serde(default)]
    cache_n: Option<u32>,
}

fn streamed(choices: Vec<Choice>, usage: Option<UsageInfo>, timings: Option<Timings>) -> Result<Piece> {
    let mut piece = Piece::default();
    if let Some(usage) = usage {
        let cached = usage.prompt_tokens_details.and_then(|details| details.cached_tokens);
        piece.usage = Usage {
            prompt_tokens: usage.prompt_tokens,
            cached_tokens: cached,
            completion_tokens: usage.completion_tokens,
        };
    }
    piece.usage.cached_tokens = timings.and_then(|timings| timings.cache_n).or(piece.usage.cached_tokens);
    if choices.len() > 1 {
        return Err(EngineError::server("the server streams several answers to one request"));
    }
    let Some(choice) = choices.into_iter().next() else { return Ok(piece) };
    let delta = choice.delta.unwrap_or_default();
    piece.visible = choice.text.or(delta.content).unwrap_or_default();
    piece.hidden = delta.reasoning_content.or(delta.reasoning).unwrap_or_default();
    for call in delta.tool_calls.into_iter().flatten() {
        for part in ["name", "arguments"] {
            piece.hidden.push_str(call["function"][part].as_str().unwrap_or_default());
        }
    }
    piece.ids = choice.token_ids.unwrap_or_default();
    piece.finish = choice.finish_reason.as_deref().filter(|reason| !reason.is_empty()).map(finish).transpose()?;
    Ok(piece)
}

fn finish(reason: &str) -> Result<FinishReason> {
    match reason {
        "stop" | "eos" => Ok(FinishReason::Stop),
        "length" => Ok(FinishReason::Length),
        "tool_calls" | "function_call" => Ok(FinishReason::ToolCall),
        other => {
            let other: String = other.chars().take(100).collect();
            Err(EngineError::server(format!("the server ended the answer for the reason {other:?}")))
        }
    }
}

#[derive(Deserialize)]
struct NativeEvent {
    #[serde(default)]
    error: Option<serde_json::Value>,
    #[serde(flatten)]
    rest: Native,
}

/// An event of llama-server's `/completion`.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Native {
    content: String,
    tokens: Vec<u32>,
    stop: bool,
    stop_type: String,
    tokens_evaluated: Option<u32>,
    tokens_predicted: Option<u32>,
    timings: Option<Timings>,
}

fn native(event: Native) -> Piece {
    let finish = event.stop.then_some(match event.stop_type.as_str() {
        "limit" => FinishReason::Length,
        _ => FinishReason::Stop,
    });
    Piece {
        visible: event.content,
        hidden: String::new(),
        ids: event.tokens,
        finish,
        usage: Usage {
            prompt_tokens: event.tokens_evaluated.filter(|_| event.stop),
            cached_tokens: event.timings.and_then(|timings| timings.cache_n),
            completion_tokens: event.tokens_predicted.filter(|_| event.stop),
        },
        last: event.stop,
    }
}

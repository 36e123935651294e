//! Whether an iteration is valid: the engine's outcome, and checks of its reply.
//!
//! A crash, time-out, no tokens or a wrong finish reason are outcomes of the engine (`failed`).
//! Figures that contradict the request, or effective settings that differ from the requested ones,
//! make the measurement `invalid` (docs/explanation/method.md#metrics).

use std::ops::RangeInclusive;

use super::bounds;
use crate::record::{Cause, Fault};
use crate::spec::Cell;
use inferometer_protocol::effective;
use inferometer_protocol::effective::{EFFECTIVE_PENALTY, EFFECTIVE_WINDOW, is_effective, same};
use inferometer_protocol::messages::Generated;
use inferometer_protocol::sampling::SEED;
use inferometer_protocol::toggle;
use inferometer_protocol::toggle::{
    KV_CACHE, KV_REUSE, REPETITION_CONTEXT_SIZE, REPETITION_PENALTY, REPETITION_WINDOW_CAP, Scope,
};
use inferometer_protocol::{FinishReason, Prompt, Receipt, Request, Settings, Shape, Value};

/// What the cell requests and the engine does not support, as phrases; empty if it supports
/// everything.
///
/// Every toggle that is set counts as requested, except a repetition penalty of 1. A sampling field
/// counts where it matters (see [`inferometer_protocol::Sampling::undeclared`]).
#[must_use]
pub fn not_honoured(cell: &Cell, prompt: &Prompt, receipt: &Receipt) -> Vec<String> {
    let can = receipt.capabilities;
    let (takes, form) = match prompt {
        Prompt::Tokens(_) => (can.tokens, "prompts as token ids (an exact length)"),
        Prompt::Text(_) => (can.text, "prompts as text"),
        Prompt::Messages(chat) if can.messages && !chat.is_plain() => (
            can.tools,
            "chats with tools, tool calls, lists as content, reasoning or template arguments (capability `tools`)",
        ),
        Prompt::Messages(_) => (can.messages, "prompts as chat messages"),
    };
    let mut asked = unhonoured_toggles(cell, receipt);
    asked.extend(undeclared_sampling(cell, receipt));
    if !takes {
        asked.push(form.to_owned());
    }
    asked
}

fn unhonoured_toggles(cell: &Cell, receipt: &Receipt) -> Vec<String> {
    let off = |name: &str, value: &Value| name == REPETITION_PENALTY && value.as_float() == Some(1.0);
    let honours = |toggle: &str| receipt.toggles.iter().any(|name| name == toggle);
    let used = cell.toggles.iter().filter(|(name, value)| !off(name, value) && !honours(name));
    used.map(|(name, value)| refusal(name, value, receipt, None)).collect()
}

/// The sampling fields that matter in this cell and that the engine does not declare.
fn undeclared_sampling(cell: &Cell, receipt: &Receipt) -> Vec<String> {
    let missing = cell.sampling.undeclared(|field| receipt.samples_with(field));
    // A toggle that is set was looked at as such.
    let missing = missing.into_iter().filter(|(name, _)| !cell.toggles.contains_key(*name));
    let undeclared = |name| match name {
        SEED => "a temperature above 0 needs it, and its receipt's `sampling` does not list it",
        REPETITION_CONTEXT_SIZE => "a penalty needs it, and its receipt's `sampling` does not list it",
        _ => "its receipt's `sampling` does not list it",
    };
    missing.map(|(name, value)| refusal(name, &value, receipt, Some(undeclared(name)))).collect()
}

/// A setting that is not honoured, with the engine's own reason if it gives one.
fn refusal(name: &str, value: &Value, receipt: &Receipt, otherwise: Option<&str>) -> String {
    match receipt.not_honoured.get(name).map(String::as_str).or(otherwise) {
        Some(reason) => format!("{name} = {value} ({reason})"),
        None => format!("{name} = {value}"),
    }
}

fn penalty(cell: &Cell) -> f64 {
    cell.toggles.get(REPETITION_PENALTY).and_then(Value::as_float).unwrap_or(cell.sampling.repetition_penalty)
}

/// Effective settings of a request: from the reply, and from the receipt's load-time settings where
/// the reply has none.
#[must_use]
pub fn effective(generated: &Generated, receipt: &Receipt) -> Settings {
    let mut settings = generated.completion.effective.clone();
    for (name, value) in &receipt.settings {
        if is_effective(name) {
            settings.entry(name.clone()).or_insert_with(|| value.clone());
        }
    }
    settings
}

/// What a reply is checked against.
#[derive(Debug, Clone)]
pub struct Asked<'a> {
    pub cell: &'a Cell,
    pub request: &'a Request,
    /// Whether the engine's own choices were requested; never in a timed pass.
    pub choices: bool,
    /// Turn of a conversation, from 0; the cache is reset before the first turn.
    pub turn: u32,
    /// Effective settings that may differ from the requested ones.
    pub allowed: &'a [String],
    /// Tokens of a text by the model's own tokenizer, one special token more or less; `None` if it
    /// has none.
    pub counted: Option<RangeInclusive<u32>>,
}

/// The fault of a request that was answered; `None` if it is valid.
///
/// `stamps`: result of the harness's check of the host's stamps; `built_in`: whether this binary
/// hosts the engine.
#[must_use]
pub fn judge(
    asked: &Asked<'_>,
    generated: &Generated,
    receipt: &Receipt,
    built_in: bool,
    stamps: Result<(), Fault>,
) -> Option<Fault> {
    let fault = |cause| move |reason| Fault::new(cause, reason);
    outcome(asked.request, generated)
        .map(fault(Cause::Outcome))
        .or_else(|| stamps.err())
        .or_else(|| counts(asked, generated).map(fault(Cause::Counts)))
        .or_else(|| generated.completion.speculation?.impossible(generated.tokens.len()).map(fault(Cause::Counts)))
        .or_else(|| bounds::impossible(&asked.request.prompt, generated, receipt))
        .or_else(|| choices(asked.choices, generated).err().map(fault(Cause::Choices)))
        .or_else(|| reuse(asked, generated, receipt).map(fault(Cause::Reuse)))
        .or_else(|| cache(asked.request, generated, receipt, built_in).map(fault(Cause::CacheLength)))
        .or_else(|| mismatch(asked.cell, generated, receipt, asked.allowed).map(fault(Cause::Settings)))
}

/// Why the engine's outcome is a failure.
fn outcome(request: &Request, generated: &Generated) -> Option<String> {
    let finish = generated.completion.finish_reason;
    // As the server counts them, if there is one that sends pieces of several tokens.
    let counted = generated.completion.served.and_then(|served| served.generated_tokens);
    let tokens = counted.map_or(generated.tokens.len(), |count| count as usize);
    match finish {
        FinishReason::Error => Some("the engine finished with an error".to_owned()),
        FinishReason::Cancelled => Some("the engine reports `cancelled`, but the request was not cancelled".to_owned()),
        _ if tokens == 0 => Some("no token was generated".to_owned()),
        FinishReason::Stop | FinishReason::ToolCall if request.ignore_eos => {
            Some(format!("stopped after {tokens} tokens although `ignore_eos` is set"))
        }
        FinishReason::Length if tokens != request.max_tokens as usize && request.forced_tokens.is_none() => {
            Some(format!("finish reason `length` after {tokens} tokens of {}", request.max_tokens))
        }
        FinishReason::Stop | FinishReason::ToolCall | FinishReason::Length => None,
    }
}

/// Why the reply's token counts are impossible.
fn counts(asked: &Asked<'_>, generated: &Generated) -> Option<String> {
    let request = asked.request;
    let done = &generated.completion;
    let sum = u64::from(done.reused_tokens) + u64::from(done.prefill_tokens);
    if sum != u64::from(done.prompt_tokens) {
        return Some(format!(
            "the engine counts {} prompt tokens, but {} reused and {} computed",
            done.prompt_tokens, done.reused_tokens, done.prefill_tokens
        ));
    }
    if let Some(forced) = &request.forced_tokens {
        let wanted = &forced[..forced.len().min(request.max_tokens as usize)];
        if generated.tokens != wanted {
            let at = wanted.iter().zip(&generated.tokens).take_while(|(a, b)| a == b).count();
            let (count, tokens) = (wanted.len(), generated.tokens.len());
            return Some(format!(
                "{count} tokens were forced, but the {tokens} generated tokens differ from token {at} on"
            ));
        }
    }
    match &request.prompt {
        Prompt::Tokens(ids) if ids.len() != done.prompt_tokens as usize => {
            Some(format!("{} prompt tokens were sent, but the engine counts {}", ids.len(), done.prompt_tokens))
        }
        Prompt::Text(_) if asked.counted.as_ref().is_some_and(|known| !known.contains(&done.prompt_tokens)) => {
            let known = asked.counted.clone().unwrap_or(0..=0);
            Some(format!(
                "the model's tokenizer makes {} tokens of the prompt, but the engine counts {}",
                known.start() + 1,
                done.prompt_tokens
            ))
        }
        _ => None,
    }
}

/// Checks the engine's own choices in a reply: if requested, one per token, each gap a number from
/// 0 up; if not requested, none, because they cost time.
///
/// # Errors
/// What is wrong.
pub fn choices(asked: bool, generated: &Generated) -> Result<(), String> {
    let choices = match (&generated.choices, asked) {
        (None, false) => return Ok(()),
        (None, true) => return Err("the engine did not report its own choices".to_owned()),
        (Some(_), false) => return Err("the engine reported its own choices without a request".to_owned()),
        (Some(choices), true) => choices,
    };
    let tokens = generated.tokens.len();
    if choices.len() != tokens {
        return Err(format!("{} choices for {tokens} tokens", choices.len()));
    }
    match choices.iter().position(|choice| !(choice.gap.is_finite() && choice.gap >= 0.0)) {
        None => Ok(()),
        Some(at) => Err(format!("the gap between the two best logits of token {at} is {}", choices[at].gap)),
    }
}

/// Why tokens cannot have been reused: the cache was empty, or reuse was switched off.
fn reuse(asked: &Asked<'_>, generated: &Generated, receipt: &Receipt) -> Option<String> {
    let reused = generated.completion.reused_tokens;
    // Under load other requests may have filled the cache since the reset.
    let reset = asked.turn == 0 && asked.cell.level.is_none() && receipt.capabilities.reset;
    let although = if reset {
        "the cache had been reset"
    } else if asked.request.toggles.get(KV_REUSE).and_then(Value::as_text) == Some("none") {
        "`kv_reuse` is none"
    } else {
        return None;
    };
    (reused > 0).then(|| format!("{reused} tokens were reused although {although}"))
}

/// Why the reported length of the KV cache is impossible.
fn cache(request: &Request, generated: &Generated, receipt: &Receipt, built_in: bool) -> Option<String> {
    let done = &generated.completion;
    let held = u64::from(done.cache_tokens?);
    let most = match effective(generated, receipt).get(KV_CACHE).or(request.toggles.get(KV_CACHE)) {
        Some(kind) => most_held(kind)?,
        None => u64::MAX,
    };
    // The last generated token is not run through the model. Other engines may run it.
    let tokens = u64::from(done.prompt_tokens) + generated.tokens.len() as u64;
    let expected = most.min(tokens.saturating_sub(1));
    let right = held == expected || !built_in && held == most.min(tokens);
    (!right).then(|| {
        format!(
            "the cache holds {held} tokens after {} prompt tokens and {} generated tokens, expected {expected}",
            done.prompt_tokens,
            generated.tokens.len(),
        )
    })
}

/// Most tokens that a cache of this kind can hold; `None` for kinds that the project does not
/// define.
fn most_held(kind: &Value) -> Option<u64> {
    match kind.as_text()?.split_once(':') {
        None if kind.as_text() == Some("full") => Some(u64::MAX),
        Some(("rotating", most)) => most.parse().ok(),
        _ => None,
    }
}

/// Which effective settings differ from the requested ones.
fn mismatch(cell: &Cell, generated: &Generated, receipt: &Receipt, allowed: &[String]) -> Option<String> {
    let reported = effective(generated, receipt);
    let differing: Vec<String> = expected(cell, generated, receipt)
        .into_iter()
        .filter(|(name, _)| !allowed.contains(name))
        .filter_map(|(name, want)| match reported.get(&name) {
            Some(got) if same(got, &want) => None,
            Some(got) => Some(format!("{name} is {got}, expected {want}")),
            None if asked(cell, &name) => Some(format!("{name} is not reported, expected {want}")),
            None => None,
        })
        .collect();
    (!differing.is_empty()).then(|| format!("effective settings differ: {}", differing.join("; ")))
}

/// The settings that should be in force, as far as the engine supports them.
fn expected(cell: &Cell, generated: &Generated, receipt: &Receipt) -> Settings {
    let done = &generated.completion;
    let shape = Shape {
        prompt_tokens: done.prompt_tokens,
        reused_tokens: done.reused_tokens,
        generated_tokens: u32::try_from(generated.tokens.len()).unwrap_or(u32::MAX),
    };
    let honoured: Vec<&str> = receipt.honoured().collect();
    effective::expected(&cell.sampling, &cell.toggles, shape, &honoured)
}

/// Whether the scenario requested what this effective setting shows, so that it must be reported.
fn asked(cell: &Cell, effective: &str) -> bool {
    match effective {
        EFFECTIVE_PENALTY => penalty(cell) != 1.0,
        EFFECTIVE_WINDOW => {
            penalty(cell) != 1.0
                && [REPETITION_CONTEXT_SIZE, REPETITION_WINDOW_CAP].iter().any(|t| cell.toggles.contains_key(*t))
        }
        name => cell.toggles.contains_key(name),
    }
}

/// The cell's toggles that are sent with each request.
#[must_use]
pub fn request_toggles(cell: &Cell) -> Settings {
    cell.toggles
        .iter()
        .filter(|(name, _)| toggle::find(name).is_none_or(|spec| spec.scope == Scope::Request))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

#[cfg(test)]
mod tests;

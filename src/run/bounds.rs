//! Physical bounds: what no text, model and machine can do is not measured but wrong. Each bound is
//! far above what exists, so that it never judges a quick engine.

use std::time::Duration;

use crate::record::{Cause, Fault};
use inferometer_protocol::messages::Generated;
use inferometer_protocol::{Phase, Prompt, Receipt, TokenTiming};

/// A chat template may add this many tokens to a conversation, and to each of its messages: default
/// system prompts of models have up to a few hundred.
const TEMPLATE_TOKENS: u64 = 4096;
const MESSAGE_TOKENS: u64 = 64;
/// A template may write tools and calls with so many bytes for each byte of their JSON.
const LAYOUT: u64 = 4;
/// Special tokens that a tokenizer may add to a text.
const SPECIAL_TOKENS: u64 = 16;

/// Bytes that a processor or accelerator can read in a second: five times the fastest memory of a
/// single accelerator in 2026 (8 TB/s), or what caches give a model that fits in them.
const MEMORY_BYTES_PER_S: f64 = 40e12;
const CACHE_BYTES_PER_S: f64 = 400e12;
/// A model of up to so many bytes may be read from caches.
const CACHED_BYTES: f64 = 512e6;
/// Operations in a second: five times the fastest accelerator of 2026 in its narrowest format.
const OPERATIONS_PER_S: f64 = 100e15;
/// Mixture-of-experts models read and compute a part of their weights for each token; speculative
/// decoding makes several tokens in one pass.
const SPARSE: f64 = 64.0;

/// The first figure of a reply that is impossible.
#[must_use]
pub fn impossible(prompt: &Prompt, g: &Generated, receipt: &Receipt) -> Option<Fault> {
    let reason = too_many_tokens(prompt, g).or_else(|| outside(g, receipt)).or_else(|| too_fast(g, receipt))?;
    Some(Fault::new(Cause::Impossible, reason))
}

/// No tokenizer makes more than one token of a byte.
fn too_many_tokens(prompt: &Prompt, g: &Generated) -> Option<String> {
    let (bytes, more) = match prompt {
        Prompt::Tokens(_) => return None,
        Prompt::Text(text) => (text.len() as u64, SPECIAL_TOKENS),
        // A template may write tools in any layout, with blanks and escapes.
        Prompt::Messages(chat) if !chat.is_plain() => {
            let bytes = serde_json::to_vec(chat).expect("a chat is plain data").len() as u64;
            let parts = chat.messages.len() + chat.tools.as_ref().map_or(0, Vec::len);
            (bytes * LAYOUT, TEMPLATE_TOKENS + MESSAGE_TOKENS * parts as u64)
        }
        Prompt::Messages(chat) => (
            chat.messages.iter().map(|message| (message.role().len() + message.text().len()) as u64).sum(),
            TEMPLATE_TOKENS + MESSAGE_TOKENS * chat.messages.len() as u64,
        ),
    };
    let counted = u64::from(g.completion.prompt_tokens);
    (counted > bytes + more).then(|| {
        format!(
            "the engine counts {counted} prompt tokens, but the prompt has at most {bytes} bytes without the template's \
             own: at most {} tokens are possible",
            bytes + more
        )
    })
}

/// A token is an id of the vocabulary.
fn outside(g: &Generated, receipt: &Receipt) -> Option<String> {
    let vocabulary = receipt.model.vocabulary?;
    let at = g.tokens.iter().position(|id| *id >= vocabulary)?;
    Some(format!("token {at} of the output is outside the engine's vocabulary of {vocabulary}"))
}

fn too_fast(g: &Generated, receipt: &Receipt) -> Option<String> {
    let model = &receipt.model;
    let decode = g.token_ns.last()?.checked_sub(*g.token_ns.first()?)?;
    // Tokens that come together have no rate.
    let exact = receipt.token_timing == TokenTiming::Exact;
    let decoded = rate(g.token_ns.len() as u64 - 1, decode).filter(|_| exact);
    if let (Some(rate), Some(bytes)) = (decoded, model.weight_bytes) {
        let bytes = bytes as f64;
        let bandwidth = if bytes > CACHED_BYTES { MEMORY_BYTES_PER_S } else { CACHE_BYTES_PER_S };
        let most = bandwidth * SPARSE / bytes;
        if rate > most {
            return Some(format!(
                "the engine reports {rate:.0} decoded tokens per second of a model of {:.0} MB; no memory is fast enough \
                 for more than {most:.0}",
                bytes / 1e6
            ));
        }
    }
    let spans = || g.spans.iter().filter(|span| span.phase == Phase::Prefill);
    let prefill = spans().fold(0, |sum: u64, span| sum.saturating_add(span.end_ns.saturating_sub(span.start_ns)));
    // A host need not report spans.
    let prefilled = spans().next().and_then(|_| rate(u64::from(g.completion.prefill_tokens), prefill));
    if let (Some(rate), Some(parameters)) = (prefilled, model.parameters) {
        // A multiplication and an addition for each weight.
        let most = OPERATIONS_PER_S * SPARSE / (2.0 * parameters as f64);
        if rate > most {
            return Some(format!(
                "the engine reports a prefill of {rate:.0} tokens per second with {:.0} million parameters; no processor \
                 computes more than {most:.0}",
                parameters as f64 / 1e6
            ));
        }
    }
    None
}

/// Units per second; `None` if nothing was done. Work in no time is infinitely fast.
fn rate(units: u64, ns: u64) -> Option<f64> {
    (units > 0).then(|| units as f64 / Duration::from_nanos(ns).as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::measure::tests::reply;
    use inferometer_protocol::{Chat, Message, ModelIdentity};

    fn receipt(weight_bytes: u64, parameters: u64) -> Receipt {
        let model =
            ModelIdentity { weight_bytes: Some(weight_bytes), parameters: Some(parameters), ..Default::default() };
        Receipt {
            model,
            ..serde_json::from_str(r#"{"engine": "x", "version": "1", "token_timing": "exact"}"#).unwrap()
        }
    }

    #[test]
    fn a_prompt_has_no_more_tokens_than_bytes() {
        let mut g = reply(&[13, 15], true);
        let found = |prompt: &Prompt, g: &Generated| impossible(prompt, g, &receipt(0, 0)).map(|fault| fault.cause);
        let text = Prompt::Text("one two".to_owned());
        for (tokens, expected) in
            [(7, None), (23, None), (24, Some(Cause::Impossible)), (u32::MAX, Some(Cause::Impossible))]
        {
            g.completion.prompt_tokens = tokens;
            assert_eq!(found(&text, &g), expected, "{tokens}");
        }
        let chat = Prompt::Messages(Chat::of(vec![Message::new("user", "one two")]));
        g.completion.prompt_tokens = 300;
        assert_eq!(found(&chat, &g), None, "the template has a system prompt");
        g.completion.prompt_tokens = 1_000_000_000;
        assert_eq!(found(&chat, &g), Some(Cause::Impossible));
        let tools = Some(vec![serde_json::json!({"name": "f".repeat(1000)})]);
        let with_tools = Chat { tools, ..Chat::of(vec![Message::new("user", "one two")]) };
        let most = 4 * serde_json::to_string(&with_tools).unwrap().len() as u32 + 4096 + 2 * 64;
        for (tokens, expected) in [(most, None), (most + 1, Some(Cause::Impossible))] {
            g.completion.prompt_tokens = tokens;
            assert_eq!(found(&Prompt::Messages(with_tools.clone()), &g), expected, "{tokens} of {most}");
        }
    }

    #[test]
    fn a_token_is_in_the_vocabulary() {
        let g = reply(&[13, 15], true);
        let beyond = g.tokens.iter().max().unwrap() + 1;
        let found = |vocabulary: Option<u32>| {
            let mut receipt = receipt(0, 0);
            receipt.model.vocabulary = vocabulary;
            impossible(&Prompt::Tokens(vec![1]), &g, &receipt).map(|fault| (fault.cause, fault.reason))
        };
        assert_eq!(found(None), None);
        assert_eq!(found(Some(beyond)), None);
        let (cause, reason) = found(Some(beyond - 1)).unwrap();
        assert_eq!(cause, Cause::Impossible);
        assert!(reason.contains(&format!("outside the engine's vocabulary of {}", beyond - 1)), "{reason}");
    }

    #[test]
    fn no_rate_exceeds_memory_and_processor() {
        let tokens = Prompt::Tokens(vec![1]);
        let found = |g: &Generated, receipt: &Receipt| impossible(&tokens, g, receipt).is_some();
        // One token a millisecond.
        assert!(!found(&reply(&[13, 14, 15], true), &receipt(70_000_000_000, 70_000_000_000)));
        // All at the same nanosecond.
        assert!(found(&reply(&[13, 13, 13], true), &receipt(1_000_000, 1_000_000)));
        let mut quick = reply(&[13, 14, 15], true);
        quick.token_ns = vec![13_000_000, 13_001_000, 13_002_000];
        assert!(found(&quick, &receipt(4_000_000_000, 2_000_000_000)), "a million tokens a second of a 4 GB model");
        assert!(!found(&quick, &receipt(2_000_000, 1_000_000)), "a tiny model in a cache");
        let chunk = Receipt { token_timing: TokenTiming::Inexact, ..receipt(4_000_000_000, 2_000_000_000) };
        assert!(!found(&reply(&[13, 13, 13], true), &chunk), "tokens that come together have no rate");
        assert!(!found(&reply(&[13, 14, 15], false), &receipt(4_000_000, 2_000_000)), "spans are optional");
        let mut prefill = reply(&[13, 14, 15], true);
        prefill.completion.prefill_tokens = 1_000_000_000;
        assert!(found(&prefill, &receipt(2_000_000_000, 1_000_000_000)));
    }
}

//! Tokens with a role of their own: where they come from and which of them end a generation.
//!
//! Source: `llama_vocab::impl::load` in llama.cpp's `llama-vocab.cpp`.

use std::collections::BTreeSet;

use super::{Kind, Tokens};
use crate::gguf::Metadata;
use inferometer_protocol::EngineError;

/// Names of tokens that end a generation, whatever the file says about them.
const STOPS: [&str; 22] = [
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "</s>",
    "<|eom_id|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<|end_of_text|>",
    "<end_of_utterance>",
    "<eos>",
    "<turn|>",
    "<|tool_response>",
    "<｜end▁of▁sentence｜>",
    "[e~[",
];
/// Names of a token that ends a turn, if the file does not name one.
const ENDS_OF_TURN: [&str; 11] = [
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "<｜end▁of▁sentence｜>",
    "<end_of_utterance>",
];
const END_OF_MESSAGE: [&str; 1] = ["<|eom_id|>"];
/// Parts of code to fill in: key and names. Those that part files end a generation.
const FILLS: [(&str, bool, &[&str]); 6] = [
    (
        "tokenizer.ggml.fim_pre_token_id",
        false,
        &[
            "<|fim_prefix|>",
            "<fim-prefix>",
            "<fim_prefix>",
            "<｜fim▁begin｜>",
            "<PRE>",
            "▁<PRE>",
            "<|code_prefix|>",
            "<|prefix|>",
        ],
    ),
    (
        "tokenizer.ggml.fim_suf_token_id",
        false,
        &[
            "<|fim_suffix|>",
            "<fim-suffix>",
            "<fim_suffix>",
            "<｜fim▁hole｜>",
            "<SUF>",
            "▁<SUF>",
            "<|code_suffix|>",
            "<|suffix|>",
        ],
    ),
    (
        "tokenizer.ggml.fim_mid_token_id",
        false,
        &[
            "<|fim_middle|>",
            "<fim-middle>",
            "<fim_middle>",
            "<｜fim▁end｜>",
            "<MID>",
            "▁<MID>",
            "<|code_middle|>",
            "<|middle|>",
        ],
    ),
    ("tokenizer.ggml.fim_pad_token_id", true, &["<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]"]),
    ("tokenizer.ggml.fim_rep_token_id", true, &["<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>"]),
    ("tokenizer.ggml.fim_sep_token_id", true, &["<|file_sep|>"]),
];
/// Of GPT-OSS: they are written out as text of the user is.
const SHOWN: [&str; 4] = ["<|channel|>", "<|message|>", "<|start|>", "<|constrain|>"];

/// Tokens with a role of their own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpecialTokens {
    /// Beginning of a text (BOS).
    pub begin: Option<u32>,
    /// End of a text (EOS).
    pub end: Option<u32>,
    /// End of a turn (EOT).
    pub end_of_turn: Option<u32>,
    /// End of a message after which the turn goes on (EOM).
    pub end_of_message: Option<u32>,
    pub unknown: Option<u32>,
    pub padding: Option<u32>,
    /// Whether `begin` is put in front of a text.
    pub adds_begin: bool,
    /// Whether `end` is put behind a text.
    pub adds_end: bool,
    /// All tokens that end a generation.
    pub stop: BTreeSet<u32>,
}

/// What a kind of vocabulary takes if the file does not say.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Defaults {
    pub begin: Option<u32>,
    pub end: Option<u32>,
    pub unknown: Option<u32>,
    pub adds_begin: bool,
}

/// Reads the roles from the metadata, and finds those that only a name tells. Corrects the kinds of
/// tokens in `tokens` accordingly.
///
/// # Errors
/// When a key has another type or names no token.
pub(super) fn read(metadata: &Metadata, tokens: &mut Tokens, defaults: Defaults) -> Result<SpecialTokens, EngineError> {
    let role =
        |name: &str, default: Option<u32>| role(metadata, tokens, &format!("tokenizer.ggml.{name}_token_id"), default);
    let (begin, end) = (role("bos", defaults.begin)?, role("eos", defaults.end)?);
    let unknown = role("unknown", defaults.unknown)?;
    // Some files have -1 or 2^32-1 for "none".
    let padding = metadata.integer("tokenizer.ggml.padding_token_id")?;
    let padding = padding.and_then(|id| u32::try_from(id).ok()).filter(|id| (*id as usize) < tokens.len());
    let named = |names: &[&str]| names.iter().find_map(|name| tokens.id(name));
    let end_of_turn = role("eot", None)?.or_else(|| named(&ENDS_OF_TURN));
    let end_of_message = role("eom", None)?.or_else(|| named(&END_OF_MESSAGE));
    let mut stop: BTreeSet<u32> = STOPS.iter().filter_map(|name| tokens.id(name)).collect();
    let mut control = stop.clone();
    for (key, stops, names) in FILLS {
        let given = self::role(metadata, tokens, key, None)?;
        let found = given.or_else(|| named(names));
        control.extend(found.filter(|_| given.is_none()));
        stop.extend(found.filter(|_| stops));
    }
    stop.extend([end, end_of_turn, end_of_message].into_iter().flatten());
    // In GPT-OSS and Solar `<|end|>` ends a message, not the generation.
    let has = |name: &str| tokens.id(name).is_some();
    let call = has("<|call|>") || has("<|calls|>");
    let goes_on = tokens.id("<|end|>").filter(|_| call && (has("<|return|>") || has("<|flush|>")));
    let shown: Vec<u32> = SHOWN.iter().filter_map(|name| tokens.id(name)).chain(goes_on).collect();
    stop.retain(|id| Some(*id) != goes_on);
    for id in control {
        tokens.set_kind(id, Kind::Control);
    }
    for id in shown {
        tokens.set_kind(id, Kind::UserDefined);
    }
    let adds_begin = metadata.flag("tokenizer.ggml.add_bos_token")?.unwrap_or(defaults.adds_begin);
    let adds_end = metadata.flag("tokenizer.ggml.add_eos_token")?.unwrap_or(false);
    for (adds, id, key) in [(adds_begin, begin, "bos"), (adds_end, end, "eos")] {
        if adds && id.is_none() {
            return Err(metadata.wrong(
                &format!("tokenizer.ggml.{key}_token_id"),
                "is missing, but texts are to begin or end with it",
            ));
        }
    }
    Ok(SpecialTokens { begin, end, end_of_turn, end_of_message, unknown, padding, adds_begin, adds_end, stop })
}

/// The token that `key` names.
fn role(metadata: &Metadata, tokens: &Tokens, key: &str, default: Option<u32>) -> Result<Option<u32>, EngineError> {
    let exists = |id: &u32| (*id as usize) < tokens.len();
    match metadata.count(key)? {
        None => Ok(default.filter(exists)),
        Some(id) => match u32::try_from(id).ok().filter(exists) {
            Some(id) => Ok(Some(id)),
            None => Err(metadata.wrong(key, format!("is {id}, but the vocabulary has {} tokens", tokens.len()))),
        },
    }
}

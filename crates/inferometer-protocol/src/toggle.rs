//! The engine settings that a scenario may vary. This table is the only source of their names,
//! kinds, defaults and meanings.

use super::{Kind, Value};

/// When a toggle takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// When the model is opened; cells with different values use different engine hosts.
    Load,
    /// With each request.
    Request,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ToggleSpec {
    pub name: &'static str,
    pub kind: Kind,
    pub scope: Scope,
    /// The values allowed, if they are a fixed set of texts (a `name:` ending in a colon takes a
    /// number after it).
    pub choices: &'static [&'static str],
    /// Smallest allowed number.
    pub least: f64,
    /// The default as text; empty if the engine decides.
    pub default: &'static str,
    pub meaning: &'static str,
}

const fn count(name: &'static str, scope: Scope, default: &'static str, meaning: &'static str) -> ToggleSpec {
    ToggleSpec { name, kind: Kind::Count, scope, choices: &[], least: 0.0, default, meaning }
}

const fn text(
    name: &'static str,
    scope: Scope,
    choices: &'static [&'static str],
    default: &'static str,
    meaning: &'static str,
) -> ToggleSpec {
    ToggleSpec { name, kind: Kind::Text, scope, choices, least: 0.0, default, meaning }
}

pub const REPETITION_PENALTY: &str = "repetition_penalty";
pub const REPETITION_CONTEXT_SIZE: &str = "repetition_context_size";
pub const REPETITION_WINDOW_CAP: &str = "repetition_window_cap";
pub const PREFILL_CHUNK_SIZE: &str = "prefill_chunk_size";
pub const KV_REUSE: &str = "kv_reuse";
pub const KV_CACHE: &str = "kv_cache";
pub const THREADS: &str = "threads";
pub const DTYPE: &str = "dtype";
pub const CACHE_CLEAR_CHUNKS: &str = "cache_clear_chunks";
pub const CACHE_CLEAR_TOKENS: &str = "cache_clear_tokens";
pub const MEMORY_LIMIT: &str = "memory_limit";
pub const CACHE_LIMIT: &str = "cache_limit";
pub const WIRED_LIMIT: &str = "wired_limit";
pub const COMPILE: &str = "compile";
pub const LAZY_PIPELINE: &str = "lazy_pipeline";
pub const NUM_DRAFT_TOKENS: &str = "num_draft_tokens";
pub const LOOKUP_NGRAM: &str = "lookup_ngram";
pub const DRAFT_MODEL: &str = "draft_model";
pub const KV_DTYPE: &str = "kv_dtype";
pub const SAMPLING_ORDER: &str = "sampling_order";

/// The `draft_model` that is none.
pub const NO_DRAFT_MODEL: &str = "none";
/// Most drafted tokens in a pass.
pub const MOST_DRAFT_TOKENS: u64 = 64;

/// Default upper bound on the penalty's window.
pub const DEFAULT_WINDOW_CAP: u64 = 768;
/// Default number of tokens in one prefill forward pass.
pub const DEFAULT_PREFILL_CHUNK: u64 = 2048;

/// Every toggle, in the order of columns and pages. Columns are appended, never moved.
pub const TOGGLES: &[ToggleSpec] = &[
    ToggleSpec {
        name: REPETITION_PENALTY,
        kind: Kind::Float,
        scope: Scope::Request,
        choices: &[],
        least: 0.01,
        default: "1",
        meaning: "logits of tokens in the window are divided (if positive) or multiplied (if negative) by this; 1 = off",
    },
    count(
        REPETITION_CONTEXT_SIZE,
        Scope::Request,
        "20",
        "the penalty covers the last N tokens, prompt and generated; 0 = the whole history",
    ),
    count(REPETITION_WINDOW_CAP, Scope::Request, "768", "hard upper bound on that N; 0 = none"),
    ToggleSpec {
        name: PREFILL_CHUNK_SIZE,
        kind: Kind::Count,
        scope: Scope::Request,
        choices: &[],
        least: 1.0,
        default: "2048",
        meaning: "tokens in one prefill forward pass",
    },
    count(CACHE_CLEAR_CHUNKS, Scope::Request, "", "clear the allocator's cache every N prefill chunks; 0 = never"),
    count(CACHE_CLEAR_TOKENS, Scope::Request, "", "clear the allocator's cache every N decoded tokens; 0 = never"),
    text(
        KV_REUSE,
        Scope::Request,
        &["prefix", "none"],
        "prefix",
        "whether a turn reuses the KV cache of earlier turns",
    ),
    text(KV_CACHE, Scope::Load, &["full", "rotating:"], "full", "full, or rotating:N (sliding window of N tokens)"),
    count(MEMORY_LIMIT, Scope::Load, "", "allocator's memory limit in bytes"),
    count(CACHE_LIMIT, Scope::Load, "", "allocator's cache limit in bytes"),
    count(WIRED_LIMIT, Scope::Load, "", "wired-memory limit in bytes"),
    count(THREADS, Scope::Load, "", "compute threads of the engine; 0 = the engine's own choice"),
    text(DTYPE, Scope::Load, &["f32", "f16", "bf16", "q8_0"], "", "format of the weights in memory"),
    ToggleSpec {
        name: COMPILE,
        kind: Kind::Bool,
        scope: Scope::Load,
        choices: &[],
        least: 0.0,
        default: "",
        meaning: "compile the element-wise parts of the graph",
    },
    ToggleSpec {
        name: LAZY_PIPELINE,
        kind: Kind::Bool,
        scope: Scope::Request,
        choices: &[],
        least: 0.0,
        default: "",
        meaning: "submit step n+1 before token n is read",
    },
    count(
        NUM_DRAFT_TOKENS,
        Scope::Request,
        "0",
        "speculative decoding: most tokens that are drafted and then verified in one pass; 0 = plain decoding",
    ),
    count(
        LOOKUP_NGRAM,
        Scope::Request,
        "0",
        "prompt look-up: the last N tokens are searched in prompt and output, and what followed them there is the draft; \
         0 = the draft model drafts",
    ),
    text(DRAFT_MODEL, Scope::Load, &[], "none", "path or name of the model that drafts, or none"),
    text(KV_DTYPE, Scope::Load, &["f32", "f16"], "", "format of keys and values in the KV cache"),
    text(
        SAMPLING_ORDER,
        Scope::Request,
        &["filters_first", "temperature_first"],
        "filters_first",
        "above temperature 0: top-p, min-p, top-k and then temperature (as mlx_lm), or temperature, top-k, top-p and min-p \
         (as transformers)",
    ),
];

/// The toggle of that name.
#[must_use]
pub fn find(name: &str) -> Option<&'static ToggleSpec> {
    TOGGLES.iter().find(|t| t.name == name)
}

/// Whether `text` is one of `choices`; a choice that ends in a colon takes a number above zero
/// after it.
#[must_use]
pub fn fits(choices: &[&str], text: &str) -> bool {
    choices.iter().any(|choice| match choice.strip_suffix(':') {
        // Only the canonical form, so that the requested and the effective value can be compared as
        // texts.
        Some(_) => text
            .strip_prefix(choice)
            .is_some_and(|n| n.parse::<u32>().is_ok_and(|number| number > 0 && number.to_string() == n)),
        None => *choice == text,
    })
}

/// The choices as a user writes them.
#[must_use]
pub fn written(choices: &[&str]) -> Vec<String> {
    choices.iter().map(|c| if c.ends_with(':') { format!("{c}N") } else { (*c).to_owned() }).collect()
}

impl ToggleSpec {
    /// Checks that `value` is valid for this toggle.
    ///
    /// # Errors
    /// A sentence for the user that does not name the toggle.
    pub fn check(&self, value: &Value) -> Result<(), String> {
        if !self.kind.admits(value) {
            return Err(format!("must be {}, not {value}", self.kind.words()));
        }
        if let Some(number) = value.as_float()
            && number < self.least
        {
            return Err(format!("must be at least {}, not {value}", self.least));
        }
        if let (false, Some(text)) = (self.choices.is_empty(), value.as_text())
            && !fits(self.choices, text)
        {
            return Err(format!("must be one of {}, not {text:?}", written(self.choices).join(", ")));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_checked_against_kind_choice_and_least() {
        let chunk = find(PREFILL_CHUNK_SIZE).unwrap();
        assert!(chunk.check(&Value::Int(1)).is_ok());
        assert!(chunk.check(&Value::Int(0)).unwrap_err().contains("at least 1"));
        assert!(chunk.check(&Value::Float(1.5)).unwrap_err().contains("whole number"));
        let cache = find(KV_CACHE).unwrap();
        assert!(cache.check(&"rotating:512".into()).is_ok());
        for wrong in ["rotating:0", "rotating:+4", "rotating:004", "rotating:4 "] {
            assert!(cache.check(&wrong.into()).is_err(), "{wrong}");
        }
        assert!(cache.check(&"rotating".into()).unwrap_err().contains("rotating:N"));
        let penalty = find(REPETITION_PENALTY).unwrap();
        assert!(penalty.check(&Value::Float(f64::NAN)).is_err());
        assert!(penalty.check(&Value::Int(2)).is_ok());
    }

    #[test]
    fn names_are_unique() {
        for (i, a) in TOGGLES.iter().enumerate() {
            assert!(TOGGLES[i + 1..].iter().all(|b| a.name != b.name), "{} twice", a.name);
        }
    }
}

//! Effective settings: the values in force for a request of a given shape.
//!
//! The meaning of a toggle does not depend on the engine, so its effective value can be predicted.
//! `check` uses the prediction to merge cells that would do the same work; the run driver compares
//! it with the engine's report.

use super::toggle::{
    self, DEFAULT_PREFILL_CHUNK, DEFAULT_WINDOW_CAP, DRAFT_MODEL, KV_DTYPE, KV_REUSE, LOOKUP_NGRAM, NUM_DRAFT_TOKENS,
    PREFILL_CHUNK_SIZE, REPETITION_CONTEXT_SIZE, REPETITION_PENALTY, REPETITION_WINDOW_CAP, SAMPLING_ORDER, THREADS,
};
use super::{Sampling, Settings, Value};

/// Effective: the penalty's factor; 1 = off.
pub const EFFECTIVE_PENALTY: &str = "repetition_penalty";
/// Effective: number of tokens in the penalty's window when the last token was sampled; 0 when off.
pub const EFFECTIVE_WINDOW: &str = "repetition_window";
/// Effective: tokens in the largest prefill forward pass.
pub const EFFECTIVE_CHUNK: &str = "prefill_chunk_size";

/// Names of effective settings, in the order of their columns (`effective_<name>`). Appended, never
/// moved.
pub const EFFECTIVE: &[&str] = &[
    EFFECTIVE_PENALTY,
    EFFECTIVE_WINDOW,
    EFFECTIVE_CHUNK,
    "cache_clear_chunks",
    "cache_clear_tokens",
    "kv_cache",
    "threads",
    "dtype",
    "lazy_pipeline",
    "compile",
    KV_REUSE,
    NUM_DRAFT_TOKENS,
    LOOKUP_NGRAM,
    DRAFT_MODEL,
    SAMPLING_ORDER,
    KV_DTYPE,
];

/// Toggles that are no effective settings themselves: together they give [`EFFECTIVE_WINDOW`].
const OF_WINDOW: [&str; 2] = [REPETITION_CONTEXT_SIZE, REPETITION_WINDOW_CAP];

/// Whether `name` is an effective setting, which engines report. Those without a column of their
/// own are in `effective_other`.
#[must_use]
pub fn is_effective(name: &str) -> bool {
    EFFECTIVE.contains(&name) || toggle::find(name).is_some() && !OF_WINDOW.contains(&name)
}

/// The sizes of a request that effective settings depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    pub prompt_tokens: u32,
    pub reused_tokens: u32,
    pub generated_tokens: u32,
}

/// The penalty's factor as applied to f32 logits: the shortest decimal of the nearest f32. A factor
/// that rounds to 1 is off.
#[must_use]
pub fn factor_in_force(factor: f64) -> f64 {
    // The shortest decimal, not the f32 widened to f64: 1.1 stays 1.1.
    (factor as f32).to_string().parse().expect("a float's own text is one")
}

/// Number of history tokens in the penalty's window: `history` bounded by the context size and the
/// cap (0 = no bound).
#[must_use]
pub fn window(context_size: u64, cap: u64, history: u64) -> u64 {
    let bound = |n: u64| if n == 0 { u64::MAX } else { n };
    history.min(bound(context_size)).min(bound(cap))
}

/// Effective values of the request-scope settings that depend on the request alone.
///
/// Load-scope settings and settings that an engine may choose itself are not predicted.
#[must_use]
pub fn predict(sampling: &Sampling, toggles: &Settings, shape: Shape) -> Settings {
    let count = |name: &str, default: u64| toggles.get(name).and_then(Value::as_count).unwrap_or(default);
    let penalty = toggles.get(REPETITION_PENALTY).and_then(Value::as_float).unwrap_or(sampling.repetition_penalty);
    let penalty = factor_in_force(penalty);
    let history = u64::from(shape.prompt_tokens) + u64::from(shape.generated_tokens).saturating_sub(1);
    let window = if penalty == 1.0 {
        0
    } else {
        window(
            count(REPETITION_CONTEXT_SIZE, sampling.repetition_context_size),
            count(REPETITION_WINDOW_CAP, DEFAULT_WINDOW_CAP),
            history,
        )
    };
    let prefill = u64::from(shape.prompt_tokens.saturating_sub(shape.reused_tokens));
    let chunk = count(PREFILL_CHUNK_SIZE, DEFAULT_PREFILL_CHUNK).min(prefill);
    Settings::from([
        (EFFECTIVE_PENALTY.to_owned(), penalty.into()),
        (EFFECTIVE_WINDOW.to_owned(), window.into()),
        (EFFECTIVE_CHUNK.to_owned(), chunk.into()),
    ])
}

/// The settings that must be in force in an engine that honours the toggles `honoured`: [`predict`]
/// for those that it honours, and every other effective setting as requested.
///
/// The plan uses this to merge cells; the driver and the summary use it to check the engine's
/// report.
#[must_use]
pub fn expected<T: AsRef<str>>(sampling: &Sampling, toggles: &Settings, shape: Shape, honoured: &[T]) -> Settings {
    let honours = |toggle: &str| honoured.iter().any(|name| name.as_ref() == toggle);
    let mut asked = toggles.clone();
    if !honours(REPETITION_WINDOW_CAP) {
        // An engine without this toggle has no cap.
        asked.insert(REPETITION_WINDOW_CAP.to_owned(), Value::Int(0));
    }
    let mut expected = predict(sampling, &asked, shape);
    for (name, toggle) in [
        (EFFECTIVE_PENALTY, REPETITION_PENALTY),
        (EFFECTIVE_WINDOW, REPETITION_PENALTY),
        (EFFECTIVE_CHUNK, PREFILL_CHUNK_SIZE),
    ] {
        if !honours(toggle) {
            expected.remove(name);
        }
    }
    for (name, value) in toggles {
        // With `threads = 0` the engine chooses, so any value is right.
        let own_choice = name == THREADS && value.as_count() == Some(0);
        if is_effective(name) && !expected.contains_key(name) && !own_choice {
            expected.insert(name.clone(), value.clone());
        }
    }
    // Without drafts, nothing is looked up.
    let drafts = |value: &Value| value.as_count() != Some(0);
    if toggles.contains_key(LOOKUP_NGRAM) && !toggles.get(NUM_DRAFT_TOKENS).is_some_and(drafts) {
        expected.insert(LOOKUP_NGRAM.to_owned(), Value::Int(0));
    }
    expected
}

/// Whether two settings are the same; a whole number equals its float.
#[must_use]
pub fn same(a: &Value, b: &Value) -> bool {
    match (a.as_float(), b.as_float()) {
        (Some(a), Some(b)) => (a - b).abs() <= 1e-6 * a.abs().max(b.abs()),
        _ => a == b,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(prompt: u32, generated: u32) -> Shape {
        Shape { prompt_tokens: prompt, reused_tokens: 0, generated_tokens: generated }
    }

    #[test]
    fn every_toggle_is_an_effective_setting_but_the_two_that_give_the_window() {
        let others = toggle::TOGGLES.iter().map(|t| t.name).filter(|name| !is_effective(name));
        assert_eq!(others.collect::<Vec<_>>(), ["repetition_context_size", "repetition_window_cap"]);
        assert!(is_effective(EFFECTIVE_WINDOW) && !is_effective("temperature"));
    }

    #[test]
    fn a_window_is_bounded_by_context_cap_and_history() {
        assert_eq!(window(0, 0, 5000), 5000);
        assert_eq!(window(0, 768, 5000), 768);
        assert_eq!(window(20, 768, 5000), 20);
        assert_eq!(window(4096, 768, 100), 100);
    }

    #[test]
    fn a_factor_counts_as_the_f32_it_is_used_as() {
        for (asked, used) in [(1.1, 1.1), (1.00000001, 1.0), (0.01, 0.01), (1.2345678901, 1.2345679), (2.0, 2.0)] {
            assert_eq!(factor_in_force(asked), used);
        }
        let sampling = Sampling { repetition_penalty: 1.00000001, repetition_context_size: 64, ..Sampling::default() };
        let off = predict(&sampling, &Settings::new(), shape(512, 64));
        assert_eq!((&off[EFFECTIVE_PENALTY], &off[EFFECTIVE_WINDOW]), (&Value::Float(1.0), &Value::Int(0)));
    }

    #[test]
    fn nothing_is_looked_up_without_drafts() {
        let ngram = |drafts: i64| {
            let asked =
                [(NUM_DRAFT_TOKENS, drafts), (LOOKUP_NGRAM, 3)].map(|(name, n)| (name.to_owned(), Value::Int(n)));
            let all =
                expected(&Sampling::default(), &Settings::from(asked), shape(9, 9), &[NUM_DRAFT_TOKENS, LOOKUP_NGRAM]);
            all[LOOKUP_NGRAM].clone()
        };
        assert_eq!((ngram(0), ngram(2)), (Value::Int(0), Value::Int(3)));
    }

    #[test]
    fn settings_that_cannot_matter_predict_alike() {
        let sampling = Sampling { repetition_penalty: 1.1, repetition_context_size: 4096, ..Sampling::default() };
        let with = |cap: i64, chunk: i64| {
            Settings::from([
                (REPETITION_WINDOW_CAP.to_owned(), Value::Int(cap)),
                (PREFILL_CHUNK_SIZE.to_owned(), Value::Int(chunk)),
            ])
        };
        let short = shape(512, 64);
        assert_eq!(predict(&sampling, &with(0, 512), short), predict(&sampling, &with(768, 2048), short));
        let long = shape(2048, 64);
        assert_ne!(predict(&sampling, &with(0, 512), long), predict(&sampling, &with(768, 512), long));
        assert_ne!(predict(&sampling, &with(0, 512), long), predict(&sampling, &with(0, 2048), long));
        let off = Sampling::default();
        assert_eq!(predict(&off, &with(0, 512), short), predict(&off, &with(768, 512), short));
        assert_eq!(predict(&off, &with(0, 512), short)[EFFECTIVE_WINDOW], Value::Int(0));
    }

    #[test]
    fn what_is_expected_follows_from_what_the_engine_honours() {
        let sampling = Sampling { repetition_penalty: 1.1, repetition_context_size: 2048, ..Sampling::default() };
        let toggles = Settings::from([("threads".to_owned(), Value::Int(0)), ("dtype".to_owned(), "f32".into())]);
        let of = |honoured: &[&str]| expected(&sampling, &toggles, shape(2048, 64), honoured);
        assert_eq!(of(&[REPETITION_PENALTY, REPETITION_WINDOW_CAP])[EFFECTIVE_WINDOW], Value::Int(768));
        assert_eq!(of(&[REPETITION_PENALTY])[EFFECTIVE_WINDOW], Value::Int(2048), "it knows no cap, so it has none");
        assert_eq!(of(&[]), Settings::from([("dtype".to_owned(), "f32".into())]), "threads = 0 leaves it the choice");
        let limited = Settings::from([("memory_limit".to_owned(), Value::Int(1 << 30))]);
        let limit = expected(&sampling, &limited, shape(64, 8), &["memory_limit"]);
        assert_eq!(limit["memory_limit"], Value::Int(1 << 30), "a limit that is asked for must be in force");
        assert!(same(&Value::Int(1), &Value::Float(1.0)) && !same(&Value::Int(1), &Value::Int(2)));
    }
}

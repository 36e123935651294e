//! Requests to a session, with tiny models.

mod choices;
mod faults;
mod not_finite;
mod speculation;

use std::sync::Arc;

use serde_json::json;

use crate::transformer::testing::{VOCABULARY, config, folder, load, open, prompt, request, run, with_toggle};
use inferometer_host::Instrumentation;
use inferometer_host::recorder::{Recorder, Shared};
use inferometer_host::{Detail, Engine, Session, SpanKey, TokenSink};
use inferometer_protocol::effective::{EFFECTIVE_CHUNK, EFFECTIVE_WINDOW};
use inferometer_protocol::{
    Chat, ErrorKind, FinishReason, Message, Phase, Prompt, Request, Sampling, Shape, SpanTiming, Value, predict,
};

fn tokens(session: &mut dyn Session, request: &Request) -> Vec<u32> {
    session.reset().unwrap();
    run(session, request).unwrap().0
}

#[test]
fn output_is_varied_depends_on_the_first_token_and_repeats() {
    for arch in ["llama", "qwen3"] {
        let dir = folder(&config(arch));
        let mut session = open(dir.path()).unwrap();
        let ids = prompt(40);
        let first = tokens(&mut *session, &request(ids.clone(), 64));
        let distinct: std::collections::BTreeSet<_> = first.iter().collect();
        assert!(distinct.len() >= 32, "{arch}: {} distinct ids", distinct.len());
        assert_eq!(first, tokens(&mut *session, &request(ids.clone(), 64)));
        let mut other = ids;
        other[0] ^= 1;
        assert_ne!(first, tokens(&mut *session, &request(other, 64)), "{arch}");
    }
}

#[test]
fn chunk_size_does_not_change_the_tokens_in_f32() {
    for arch in ["llama", "qwen3"] {
        let dir = folder(&config(arch));
        let mut session = open(dir.path()).unwrap();
        // Longer than a step of the cache, and not a multiple of any chunk.
        let whole = request(prompt(701), 48);
        let want = tokens(&mut *session, &whole);
        for chunk in [1i64, 16, 512, 700, 2048] {
            let chunked = with_toggle(whole.clone(), "prefill_chunk_size", chunk);
            assert_eq!(tokens(&mut *session, &chunked), want, "{arch}, chunks of {chunk}");
        }
    }
}

#[test]
fn a_reused_prefix_changes_nothing_and_is_reported() {
    let dir = folder(&config("qwen3"));
    let mut session = open(dir.path()).unwrap();
    let first = prompt(300);
    let (answer, _) = run(&mut *session, &request(first.clone(), 20)).unwrap();
    // The next turn: the prompt, the answer and more. The last generated token was never run.
    let mut next = first.clone();
    next.extend(&answer);
    next.extend(prompt(33));
    let (reusing, completion) = run(&mut *session, &request(next.clone(), 20)).unwrap();
    assert_eq!(completion.reused_tokens, 319);
    assert_eq!(completion.prefill_tokens, 34);
    assert_eq!(completion.cache_tokens, Some(next.len() as u32 + 19));
    let (fresh, completion) = run(&mut *session, &with_toggle(request(next.clone(), 20), "kv_reuse", "none")).unwrap();
    assert_eq!(completion.reused_tokens, 0);
    assert_eq!(reusing, fresh);
    // A branch in the middle removes what follows; a fully cached prompt still runs its last token.
    let mut branch = next[..150].to_vec();
    branch.push((next[150] + 1) % VOCABULARY);
    let (reusing, completion) = run(&mut *session, &request(branch.clone(), 20)).unwrap();
    assert_eq!(completion.reused_tokens, 150);
    assert_eq!(reusing, tokens(&mut *session, &request(branch.clone(), 20)));
    let (again, completion) = run(&mut *session, &request(branch.clone(), 20)).unwrap();
    assert_eq!((completion.reused_tokens, completion.prefill_tokens), (150, 1));
    assert_eq!(again, reusing);
    session.reset().unwrap();
    assert_eq!(run(&mut *session, &request(branch, 20)).unwrap().1.reused_tokens, 0);
}

#[test]
fn conversations_do_not_share_a_cache() {
    let dir = folder(&config("llama"));
    let mut session = open(dir.path()).unwrap();
    let of = |name: &str, ids: Vec<u32>| Request { conversation: Some(name.to_owned()), ..request(ids, 4) };
    run(&mut *session, &of("a", prompt(50))).unwrap();
    let (_, other) = run(&mut *session, &of("b", prompt(50))).unwrap();
    assert_eq!(other.reused_tokens, 0);
    let (_, same) = run(&mut *session, &of("a", prompt(50))).unwrap();
    assert_eq!(same.reused_tokens, 49);
    assert!(session.memory().kv_cache_bytes.unwrap() > 0);
    session.reset().unwrap();
    assert_eq!(run(&mut *session, &of("a", prompt(50))).unwrap().1.reused_tokens, 0);
}

#[test]
fn effective_settings_are_those_predicted() {
    let dir = folder(&config("llama"));
    let mut session = open(dir.path()).unwrap();
    for (length, generated, penalty, context, cap, chunk) in [
        (300u32, 9u32, 1.1, 20u64, 768u64, 2048u64),
        (300, 9, 1.1, 0, 0, 64),
        (300, 9, 1.1, 0, 100, 300),
        (300, 1, 1.3, 4096, 768, 299),
        (5, 40, 1.1, 20, 10, 1),
        (5, 3, 1.0, 0, 0, 16),
        (5, 3, 1.00000001, 0, 0, 16),
        (5, 3, 1.2345678901, 0, 0, 16),
    ] {
        session.reset().unwrap();
        let sampling =
            Sampling { repetition_penalty: penalty, repetition_context_size: context, ..Sampling::default() };
        let mut request = request(prompt(length as usize), generated);
        request.sampling = sampling.clone();
        let request = with_toggle(request, "repetition_window_cap", cap);
        let request = with_toggle(request, "prefill_chunk_size", chunk);
        let (_, completion) = run(&mut *session, &request).unwrap();
        let shape = Shape { prompt_tokens: length, reused_tokens: 0, generated_tokens: generated };
        for (name, value) in predict(&sampling, &request.toggles, shape) {
            assert_eq!(completion.effective[&name], value, "{name} of {request:?}");
        }
        assert_eq!(completion.cache_tokens, Some(length + generated - 1));
        assert_eq!(completion.finish_reason, FinishReason::Length);
        assert_eq!(completion.effective["dtype"], "f32".into());
    }
    for (asked, used) in [("none", "none"), ("prefix", "prefix")] {
        let asked = with_toggle(request(prompt(5), 3), "kv_reuse", asked);
        assert_eq!(run(&mut *session, &asked).unwrap().1.effective["kv_reuse"], used.into());
    }
    assert_eq!(run(&mut *session, &request(prompt(5), 3)).unwrap().1.effective["kv_reuse"], "prefix".into());
    // The toggle overrides the value in `sampling`.
    let toggled = with_toggle(request(prompt(5), 3), "repetition_penalty", 2i64);
    let effective = run(&mut *session, &toggled).unwrap().1.effective;
    assert_eq!((&effective["repetition_penalty"], &effective[EFFECTIVE_WINDOW]), (&Value::Float(2.0), &Value::Int(7)));
    assert_eq!(effective[EFFECTIVE_CHUNK], Value::Int(1), "the prompt was held but for its last token");
}

#[test]
fn the_penalty_reaches_the_tokens_and_its_window_matters() {
    let dir = folder(&config("llama"));
    let mut session = open(dir.path()).unwrap();
    let mut with = |penalty: f64, cap: i64| {
        let mut request = request(prompt(200), 32);
        request.sampling.repetition_penalty = penalty;
        request.sampling.repetition_context_size = 0;
        tokens(&mut *session, &with_toggle(request, "repetition_window_cap", cap))
    };
    let off = with(1.0, 0);
    let (narrow, wide) = (with(2.5, 4), with(2.5, 0));
    assert_ne!(off, wide);
    assert_ne!(narrow, wide);
    // With such a strong penalty on the whole history, no token is generated twice.
    let distinct: std::collections::BTreeSet<_> = with(1e6, 0).into_iter().collect();
    assert_eq!(distinct.len(), 32);
}

#[test]
fn sampling_is_seeded() {
    let dir = folder(&config("llama"));
    let mut session = open(dir.path()).unwrap();
    let mut with = |seed: u64| {
        let mut request = request(prompt(20), 24);
        request.sampling = Sampling { seed, temperature: 1.0, ..Sampling::default() };
        tokens(&mut *session, &request)
    };
    assert_eq!(with(1), with(1));
    assert_ne!(with(1), with(2));
}

#[test]
fn forced_tokens_are_decoded_along_whatever_the_model_would_say() {
    let dir = folder(&config("llama"));
    let mut session = open(dir.path()).unwrap();
    let free = tokens(&mut *session, &request(prompt(20), 12));
    let forced = |ids: Vec<u32>, max: u32| Request { forced_tokens: Some(ids), ..request(prompt(20), max) };
    let (ids, completion) = run(&mut *session, &forced(vec![1, 2, 3], 12)).unwrap();
    assert_eq!((ids, completion.finish_reason), (vec![1, 2, 3], FinishReason::Length));
    assert_eq!(completion.cache_tokens, Some(22));
    assert_eq!(run(&mut *session, &forced(vec![1, 2, 3], 2)).unwrap().0, [1, 2]);
    // Forced along its own choice, the engine ends in the same state.
    run(&mut *session, &forced(free.clone(), 12)).unwrap();
    let mut longer = prompt(20);
    longer.extend(&free);
    let (_, completion) = run(&mut *session, &request(longer, 1)).unwrap();
    assert_eq!(completion.reused_tokens, 31);
    let error = run(&mut *session, &forced(vec![VOCABULARY], 12)).unwrap_err();
    assert_eq!(error.kind, ErrorKind::BadRequest);
    assert!(error.message.contains("forced_tokens"));
    assert_eq!(run(&mut *session, &forced(vec![], 12)).unwrap_err().kind, ErrorKind::BadRequest);
}

#[test]
fn an_end_of_sequence_token_stops_unless_it_is_ignored() {
    let mut config = config("llama");
    let dir = folder(&config);
    let free = tokens(&mut *open(dir.path()).unwrap(), &request(prompt(20), 12));
    // A token that first occurs in the middle becomes the end-of-sequence token.
    let at = (3..12).find(|at| !free[..*at].contains(&free[*at])).unwrap();
    config["eos_token_id"] = json!([VOCABULARY - 1, free[at]]);
    let dir = folder(&config);
    let stopping = Request { ignore_eos: false, ..request(prompt(20), 12) };
    let mut session = open(dir.path()).unwrap();
    let (ids, completion) = run(&mut *session, &stopping).unwrap();
    assert_eq!((ids.as_slice(), completion.finish_reason), (&free[..=at], FinishReason::Stop));
    assert_eq!(completion.cache_tokens, Some(20 + at as u32));
    assert_eq!(tokens(&mut *session, &request(prompt(20), 12)), free);
    let forced = Request { forced_tokens: Some(free.clone()), ..stopping.clone() };
    assert_eq!(tokens(&mut *session, &forced), free);
    // generation_config.json overrides config.json.
    fs_err::write(dir.path().join("generation_config.json"), json!({"eos_token_id": free[0]}).to_string()).unwrap();
    let (ids, completion) = run(&mut *open(dir.path()).unwrap(), &stopping).unwrap();
    assert_eq!((ids.as_slice(), completion.finish_reason), (&free[..1], FinishReason::Stop));
}

#[test]
fn one_token_comes_from_prefill_and_decode_is_empty() {
    let dir = folder(&config("llama"));
    let mut session = open(dir.path()).unwrap();
    let mut recorder = Recorder::new(
        1,
        Instrumentation { detail: Detail::Operations, ..Instrumentation::default() },
        Arc::<Shared>::default(),
    );
    let request = with_toggle(request(prompt(20), 1), "prefill_chunk_size", 8i64);
    let completion = session.generate(&request, &mut recorder).unwrap();
    assert_eq!((recorder.tokens.len(), completion.cache_tokens), (1, Some(20)));
    let spans = |phase| recorder.spans.iter().filter(|s| s.phase == phase).collect::<Vec<_>>();
    let (prefill, decode) = (spans(Phase::Prefill), spans(Phase::Decode));
    assert_eq!((prefill.len(), decode.len(), spans(Phase::PrefillChunk).len()), (1, 1, 3));
    let (last, others) = (spans(Phase::PrefillChunk)[2], &spans(Phase::PrefillChunk)[..2]);
    assert!(others.iter().all(|chunk| prefill[0].start_ns <= chunk.start_ns && chunk.end_ns <= last.start_ns));
    // The last chunk ends when its token can be read: a lazy backend cannot tell earlier.
    assert!(last.start_ns <= recorder.token_ns[0] && recorder.token_ns[0] <= last.end_ns);
    assert!(last.end_ns <= prefill[0].end_ns);
    assert!(recorder.token_ns[0] <= prefill[0].end_ns && prefill[0].end_ns <= decode[0].start_ns);
    assert_eq!(spans(Phase::Forward).len(), 3);
    assert_eq!(spans(Phase::Sample).len(), 1);
    // This backend is not lazy, so there is no waiting, and the folder has no tokenizer.
    assert_eq!((spans(Phase::Wait).len(), spans(Phase::Detokenize).len()), (0, 0));
    assert_eq!(session.span_timing(false), Some(SpanTiming::Done));
    assert_eq!(session.span_timing(true), Some(SpanTiming::Done));
}

/// A sink that cancels after a number of checks.
struct Impatient {
    inner: Recorder,
    patience: std::cell::Cell<u32>,
}

impl TokenSink for Impatient {
    fn token(&mut self, id: u32) {
        self.inner.token(id);
    }
    fn detail(&self) -> Detail {
        self.inner.detail()
    }
    fn begin(&mut self, phase: Phase) -> SpanKey {
        self.inner.begin(phase)
    }
    fn end(&mut self, key: SpanKey) {
        self.inner.end(key);
    }
    fn cancelled(&self) -> bool {
        let left = self.patience.get();
        self.patience.set(left.saturating_sub(1));
        left == 0
    }
}

#[test]
fn cancelling_stops_between_chunks_and_between_tokens() {
    let dir = folder(&config("llama"));
    let mut session = open(dir.path()).unwrap();
    let want = tokens(&mut *session, &request(prompt(40), 10));
    let whole = with_toggle(request(prompt(40), 10), "prefill_chunk_size", 10i64);
    // Four chunks, each after a check; then one check before each further token.
    for (patience, cached, generated) in [(0, 0, 0), (1, 10, 0), (3, 30, 0), (4, 40, 1), (7, 43, 4)] {
        session.reset().unwrap();
        let inner = Recorder::new(
            10,
            Instrumentation { detail: Detail::Operations, ..Instrumentation::default() },
            Arc::<Shared>::default(),
        );
        let mut sink = Impatient { inner, patience: patience.into() };
        let completion = session.generate(&whole, &mut sink).unwrap();
        assert_eq!(completion.finish_reason, FinishReason::Cancelled);
        assert_eq!((completion.cache_tokens, sink.inner.tokens.len()), (Some(cached), generated), "{patience}");
        assert_eq!(sink.inner.tokens, want[..generated]);
        assert!(sink.inner.spans.iter().all(|s| s.end_ns >= s.start_ns));
        // After a cancelled request, the next one can continue from the cache.
        let (ids, completion) = run(&mut *session, &whole).unwrap();
        assert_eq!((ids, completion.reused_tokens), (want.clone(), cached.min(39)));
    }
}

#[test]
fn bad_requests_say_what_is_wrong() {
    let dir = folder(&config("llama"));
    let mut session = open(dir.path()).unwrap();
    let mut refused = |request: Request, kind: ErrorKind, words: &[&str]| {
        let error = run(&mut *session, &request).unwrap_err();
        assert_eq!(error.kind, kind, "{error}");
        words.iter().for_each(|word| assert!(error.message.contains(word), "{word}: {error}"));
    };
    let bad = ErrorKind::BadRequest;
    refused(request(vec![], 4), bad, &["empty"]);
    refused(request(vec![1, 2, VOCABULARY], 4), bad, &["512", "index 2"]);
    refused(request(prompt(4), 0), bad, &["max_tokens"]);
    refused(request(prompt(1000), 26), bad, &["1025", "1024", "max_position_embeddings"]);
    refused(request(prompt(4), u32::MAX), bad, &["max_position_embeddings"]);
    refused(with_toggle(request(prompt(4), 4), "prefill_chunk_size", 0i64), bad, &["prefill_chunk_size", "at least 1"]);
    refused(with_toggle(request(prompt(4), 4), "kv_reuse", "some"), bad, &["kv_reuse"]);
    let unsupported = ErrorKind::Unsupported;
    refused(with_toggle(request(prompt(4), 4), "cache_clear_tokens", 1i64), unsupported, &["cache_clear_tokens"]);
    let text = Request { prompt: Prompt::Text("hello".to_owned()), ..request(vec![], 4) };
    refused(text, unsupported, &["tokenizer.json"]);
    let messages = vec![Message::new("user", "hello")];
    refused(Request { prompt: Prompt::Messages(Chat::of(messages)), ..request(vec![], 4) }, unsupported, &[]);
    let mut cold = request(prompt(4), 4);
    cold.sampling.temperature = -1.0;
    refused(cold, bad, &["temperature"]);
    // A request can fill the context to its last position.
    assert_eq!(run(&mut *session, &request(prompt(1018), 7)).unwrap().1.cache_tokens, Some(1024));
}

#[test]
fn a_rotating_cache_holds_its_window_and_is_full_below_it() {
    let dir = folder(&config("qwen3"));
    let open_with = |kind: &str| {
        let load = load(dir.path(), &[("dtype", "f32".into()), ("kv_cache", kind.into())]);
        crate::transformer::Transformer.open(&load).unwrap()
    };
    let (mut full, mut wide, mut narrow) = (open_with("full"), open_with("rotating:512"), open_with("rotating:40"));
    let asked = with_toggle(request(prompt(400), 30), "prefill_chunk_size", 33i64);
    let (want, _) = run(&mut *full, &asked).unwrap();
    let (same, completion) = run(&mut *wide, &asked).unwrap();
    assert_eq!((same, completion.cache_tokens), (want.clone(), Some(429)));
    assert_eq!(completion.effective["kv_cache"], "rotating:512".into());
    let (other, completion) = run(&mut *narrow, &asked).unwrap();
    assert_ne!(other, want);
    assert_eq!(completion.cache_tokens, Some(40));
    // Chunks do not change the window.
    let again = with_toggle(asked.clone(), "kv_reuse", "none");
    for chunk in [1i64, 7, 400] {
        let chunked = with_toggle(again.clone(), "prefill_chunk_size", chunk);
        assert_eq!(run(&mut *narrow, &chunked).unwrap().0, other, "chunks of {chunk}");
    }
    // Dropped positions cannot be reused: a branch before the window starts again, a continuation
    // does not.
    let mut longer = prompt(400);
    longer.extend(&other);
    let (_, completion) = run(&mut *narrow, &request(longer.clone(), 5)).unwrap();
    assert_eq!((completion.reused_tokens, completion.prefill_tokens), (429, 1));
    longer.truncate(60);
    let (_, completion) = run(&mut *narrow, &request(longer, 5)).unwrap();
    assert_eq!(completion.reused_tokens, 0);
}

#[test]
fn a_call_of_a_tool_is_told_from_other_ends() {
    let dir = tempfile::tempdir().unwrap();
    let vocabulary = json!({"<unk>": 0, "<|return|>": 1, "<|call|>": 2});
    let file = json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null, "pre_tokenizer": null, "decoder": null,
        "post_processor": null, "added_tokens": [], "model": {"type": "WordLevel", "unk_token": "<unk>", "vocab": vocabulary},
    });
    fs_err::write(dir.path().join("tokenizer.json"), file.to_string()).unwrap();
    let tokenizer = crate::text::Tokenizer::from_model(dir.path()).unwrap();
    let told = super::Text { tokenizer: Some(tokenizer), template: Err(String::new()) };
    let stop = FinishReason::Stop;
    assert_eq!(told.ends(&[1, 2, 7]), [(1, stop), (2, FinishReason::ToolCall), (7, stop)], "7 has no text");
    let without = super::Text { tokenizer: None, template: Err(String::new()) };
    assert_eq!(without.ends(&[2]), [(2, stop)]);
}

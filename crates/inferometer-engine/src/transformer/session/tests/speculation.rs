//! Speculative decoding gives the tokens of plain decoding, and says how it came to them.

use serde_json::{Value as Json, json};

use super::Impatient;
use crate::transformer::testing::{
    Stored, VOCABULARY, config, folder, load, prompt, request, run, tensors, with_toggle, write_model,
};
use inferometer_host::recorder::Recorder;
use inferometer_host::{Engine, Instrumentation, Session};
use inferometer_protocol::{Completion, FinishReason, Request, Sampling, Speculation, Value};

/// Tiny models of several architectures, three of them with windows.
fn models() -> Vec<(&'static str, Json)> {
    let with = |arch: &'static str, more: Json| {
        let mut config = config(arch);
        for (key, value) in more.as_object().unwrap() {
            config[key] = value.clone();
        }
        (arch, config)
    };
    vec![
        with("llama", json!({})),
        with("qwen3", json!({})),
        with("mistral", json!({"sliding_window": 8})),
        with("gemma3_text", json!({"num_hidden_layers": 6, "sliding_window": 8, "query_pre_attn_scalar": 16})),
        with(
            "gpt_oss",
            json!({"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 8,
                   "layer_types": ["sliding_attention", "full_attention"],
                   "rope_scaling": {"rope_type": "yarn", "factor": 32.0, "original_max_position_embeddings": 64}}),
        ),
    ]
}

/// A model that is nearly the one of [`folder`]: its best token is often the same.
fn nearly(config: &Json) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let noise = tensors(config, 2);
    let mixed = |(stored, other): (Stored, Stored)| {
        let (name, dtype, shape, bytes) = stored;
        let values =
            |bytes: &[u8]| -> Vec<f32> { bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect() };
        let (values, other) = (values(&bytes), values(&other.3));
        let bytes = values.iter().zip(other).flat_map(|(a, b)| (0.998 * a + 0.002 * b).to_le_bytes()).collect();
        (name, dtype, shape, bytes)
    };
    write_model(dir.path(), config, &tensors(config, 1).into_iter().zip(noise).map(mixed).collect::<Vec<_>>());
    dir
}

fn with_draft(model: &tempfile::TempDir, draft: &tempfile::TempDir) -> Box<dyn Session> {
    let draft = draft.path().to_str().unwrap();
    let toggles = [("dtype", "f32".into()), ("draft_model", draft.into())];
    crate::transformer::Transformer.open(&load(model.path(), &toggles)).unwrap()
}

fn drafted(request: &Request, most: i64) -> Request {
    with_toggle(request.clone(), "num_draft_tokens", most)
}

fn looking_up(request: &Request, most: i64, ngram: i64) -> Request {
    with_toggle(drafted(request, most), "lookup_ngram", ngram)
}

fn fresh(session: &mut dyn Session, request: &Request) -> (Vec<u32>, Completion) {
    session.reset().unwrap();
    run(session, request).unwrap()
}

fn counts(completion: &Completion, generated: usize) -> Speculation {
    let counts = completion.speculation.expect("it speculates");
    assert_eq!(counts.impossible(generated), None);
    counts
}

/// Greedy, and drawn with a seed and a penalty.
fn samplings() -> [Sampling; 2] {
    let drawn = Sampling {
        temperature: 1.0,
        seed: 7,
        top_p: 0.9,
        repetition_penalty: 1.2,
        repetition_context_size: 30,
        ..Sampling::default()
    };
    [Sampling::default(), drawn]
}

/// Prompts shorter and longer than the windows, and a generation that uses up the caches' room
/// (steps of 256 positions).
#[test]
fn tokens_are_those_of_plain_decoding() {
    for (arch, config) in models() {
        let (model, near) = (folder(&config), nearly(&config));
        let mut session = with_draft(&model, &near);
        for sampling in samplings() {
            let (mut accepted, mut refused) = (0, 0);
            for (length, steps) in [(5, 30), (250, 40)] {
                let plain = Request { sampling: sampling.clone(), ..request(prompt(length), steps) };
                let (want, completion) = fresh(&mut *session, &plain);
                assert_eq!(completion.speculation, None);
                for speculating in [drafted(&plain, 1), drafted(&plain, 4), looking_up(&plain, 5, 1)] {
                    let (got, completion) = fresh(&mut *session, &speculating);
                    assert_eq!(got, want, "{arch}, {sampling:?}, {:?}", speculating.toggles);
                    assert_eq!(completion.cache_tokens, Some(length as u32 + steps - 1));
                    let counts = counts(&completion, got.len());
                    accepted += counts.accepted_tokens;
                    refused += counts.drafted_tokens - counts.accepted_tokens;
                }
            }
            assert!(accepted > 5 && refused > 10, "{arch}: {accepted} accepted, {refused} not");
        }
    }
}

/// Inputs rounded to 8 bits turn a difference in the last bit into one that chooses other tokens:
/// here a row of a pass must give the bits of a single step.
#[test]
fn quantized_products_choose_the_same_tokens() {
    let config = config("llama");
    let (model, near) = (folder(&config), nearly(&config));
    let draft = Value::from(near.path().to_str().unwrap());
    for dtype in ["q8_0", "bf16"] {
        let toggles = [("dtype", dtype.into()), ("draft_model", draft.clone())];
        let mut session = crate::transformer::Transformer.open(&load(model.path(), &toggles)).unwrap();
        let plain = request(prompt(40), 400);
        let (want, _) = fresh(&mut *session, &plain);
        for most in [2, 7] {
            assert_eq!(fresh(&mut *session, &drafted(&plain, most)).0, want, "{dtype}, {most}");
        }
    }
}

#[test]
fn a_draft_model_equal_to_the_model_is_always_right() {
    for (arch, config) in models() {
        let model = folder(&config);
        let mut session = with_draft(&model, &model);
        // 300 positions: the windows' caches drop positions in the middle of drafts.
        for (length, steps) in [(5, 41), (250, 51)] {
            let (_, completion) = fresh(&mut *session, &drafted(&request(prompt(length), steps), 4));
            // The first token is the prefill's; then each pass accepts four and chooses a fifth.
            let passes = (steps - 1) / 5;
            let all =
                Speculation { passes, verify_passes: passes, drafted_tokens: 4 * passes, accepted_tokens: 4 * passes };
            assert_eq!(completion.speculation, Some(all), "{arch}");
        }
        // No more is drafted than may be generated.
        let (tokens, completion) = fresh(&mut *session, &drafted(&request(prompt(9), 8), 4));
        let counts = counts(&completion, tokens.len());
        assert_eq!((counts.passes, counts.drafted_tokens, counts.accepted_tokens), (2, 5, 5), "{arch}");
        // A single token needs no pass.
        let (_, completion) = fresh(&mut *session, &drafted(&request(prompt(9), 1), 4));
        assert_eq!(completion.speculation, Some(Speculation::default()));
    }
}

/// By hand: the text is 1 2 3 4 1 2, and 3 4 1 2 9 8 1 2 9 8 1 follows, as forced. The last two
/// tokens are looked up, three tokens are drafted.
#[test]
fn look_ups_are_counted_as_by_hand() {
    let model = folder(&config("llama"));
    let mut session = with_draft(&model, &model);
    let forced = vec![3, 4, 1, 2, 9, 8, 1, 2, 9, 8, 1];
    let plain = Request { forced_tokens: Some(forced.clone()), ..request(vec![1, 2, 3, 4, 1, 2], 11) };
    let (tokens, completion) = fresh(&mut *session, &looking_up(&plain, 3, 2));
    assert_eq!(tokens, forced);
    // 3 is the prefill's. Then: 2 3 -> 4 1 2, all right, and 9 is chosen. 2 9 and 9 8 were not
    // seen: plain passes choose 8 and 1. 8 1 neither: 2. 1 2 -> 9 8 1, all right, and nothing is
    // left.
    let by_hand = Speculation { passes: 5, verify_passes: 2, drafted_tokens: 5, accepted_tokens: 5 };
    assert_eq!(completion.speculation, Some(by_hand));
    assert_eq!(
        (&completion.effective["num_draft_tokens"], &completion.effective["lookup_ngram"]),
        (&3u32.into(), &2u32.into())
    );
    // A draft that is wrong in its second token: 2 3 -> 4 1 2, of which 4 is right, and 7 is
    // chosen.
    let wrong = Request { forced_tokens: Some(vec![3, 4, 7, 5]), ..plain };
    let (tokens, completion) = fresh(&mut *session, &looking_up(&wrong, 2, 2));
    assert_eq!(tokens, [3, 4, 7, 5]);
    let by_hand = Speculation { passes: 2, verify_passes: 1, drafted_tokens: 2, accepted_tokens: 1 };
    assert_eq!(completion.speculation, Some(by_hand));
}

/// The end token is accepted in the middle of a draft: what follows it is not generated.
#[test]
fn generation_ends_where_plain_decoding_ends() {
    let without_end = config("llama");
    let first = folder(&without_end);
    let ids = prompt(20);
    let (want, _) = fresh(&mut *with_draft(&first, &first), &request(ids.clone(), 40));
    // Ends that lie at every place of a pass of five tokens.
    for end in &want[10..16] {
        let mut ending = without_end.clone();
        ending["eos_token_id"] = (*end).into();
        let model = folder(&ending);
        let mut session = with_draft(&model, &model);
        let plain = Request { ignore_eos: false, ..request(ids.clone(), 40) };
        let (tokens, done) = fresh(&mut *session, &plain);
        let (drafted, completion) = fresh(&mut *session, &drafted(&plain, 4));
        assert_eq!(drafted, tokens, "{end}");
        assert_eq!((done.finish_reason, completion.finish_reason), (FinishReason::Stop, FinishReason::Stop));
        assert_eq!(completion.cache_tokens, done.cache_tokens);
        counts(&completion, drafted.len());
    }
}

#[test]
fn turns_of_a_conversation_reuse_both_caches() {
    for (arch, config) in models() {
        let (model, near) = (folder(&config), nearly(&config));
        let mut session = with_draft(&model, &near);
        let in_turns = |session: &mut dyn Session, speculating: &dyn Fn(&Request) -> Request| {
            session.reset().unwrap();
            let (mut text, mut all) = (Vec::new(), Vec::new());
            for turn in 0..3 {
                text.extend(prompt(30 + turn));
                let turn = Request { conversation: Some("a".to_owned()), ..request(text.clone(), 25) };
                let (tokens, completion) = run(session, &speculating(&turn)).unwrap();
                text.extend(&tokens);
                all.push((tokens, completion.reused_tokens, completion.cache_tokens));
            }
            all
        };
        let want = in_turns(&mut *session, &Request::clone);
        assert!(want[2].1 > 80, "{arch}: {want:?}");
        assert_eq!(in_turns(&mut *session, &|turn| drafted(turn, 3)), want, "{arch}");
        assert_eq!(in_turns(&mut *session, &|turn| looking_up(turn, 3, 1)), want, "{arch}");
        // A turn that is decoded plainly leaves the draft model's cache behind.
        let every_other = |turn: &Request| match &turn.prompt {
            inferometer_protocol::Prompt::Tokens(ids) if ids.len() < 100 && ids.len() > 50 => turn.clone(),
            _ => drafted(turn, 3),
        };
        assert_eq!(in_turns(&mut *session, &every_other), want, "{arch}");
        assert!(session.memory().kv_cache_bytes.unwrap() > 0);
    }
}

#[test]
fn a_cancelled_generation_can_be_continued() {
    let model = folder(&config("llama"));
    let mut session = with_draft(&model, &model);
    let whole = drafted(&request(prompt(40), 20), 4);
    let (want, _) = fresh(&mut *session, &whole);
    for patience in 1..12 {
        session.reset().unwrap();
        let inner = Recorder::new(20, Instrumentation::default(), std::sync::Arc::default());
        let mut sink = Impatient { inner, patience: patience.into() };
        let completion = session.generate(&whole, &mut sink).unwrap();
        assert_eq!(completion.finish_reason, FinishReason::Cancelled);
        assert_eq!(sink.inner.tokens, want[..sink.inner.tokens.len()]);
        let cached = completion.cache_tokens.unwrap() as usize;
        assert!(sink.inner.tokens.is_empty() || cached == 39 + sink.inner.tokens.len(), "{cached}");
        assert_eq!(run(&mut *session, &whole).unwrap().0, want);
    }
}

/// Tokens of one pass become readable together.
#[test]
fn tokens_of_a_pass_share_a_stamp() {
    let model = folder(&config("llama"));
    let mut session = with_draft(&model, &model);
    let mut recorder = Recorder::new(11, Instrumentation::default(), std::sync::Arc::default());
    session.generate(&drafted(&request(prompt(9), 11), 4), &mut recorder).unwrap();
    let groups: Vec<usize> = recorder.token_ns.chunk_by(|a, b| a == b).map(<[u64]>::len).collect();
    assert_eq!(groups, [1, 5, 5]);
}

#[test]
fn what_cannot_speculate_is_refused() {
    let model = folder(&config("llama"));
    let mut session = crate::transformer::testing::open(model.path()).unwrap();
    let refused = |session: &mut dyn Session, request: &Request| run(session, request).unwrap_err().to_string();
    let plain = request(prompt(9), 5);
    let nothing = refused(&mut *session, &drafted(&plain, 2));
    assert!(nothing.contains("nothing drafts") && nothing.contains("lookup_ngram"), "{nothing}");
    let many = refused(&mut *session, &looking_up(&plain, 65, 1));
    assert!(many.contains("num_draft_tokens = 65") && many.contains("at most 64"), "{many}");
    // Nothing is looked up without drafts, and that is what is reported.
    let (_, completion) = fresh(&mut *session, &looking_up(&plain, 0, 3));
    assert_eq!((completion.speculation, &completion.effective["lookup_ngram"]), (None, &0u32.into()));
    assert_eq!(session.receipt().settings["draft_model"], Value::from("none"));
}

#[test]
fn a_draft_model_needs_the_same_vocabulary() {
    let model = folder(&config("llama"));
    let mut other = config("llama");
    other["vocab_size"] = (VOCABULARY / 2).into();
    let draft = folder(&other);
    let toggles = [("draft_model", Value::from(draft.path().to_str().unwrap()))];
    let error = crate::transformer::Transformer.open(&load(model.path(), &toggles)).err().unwrap().to_string();
    assert!(error.contains("draft_model = ") && error.contains("256 tokens") && error.contains("512"), "{error}");
    let missing = [("draft_model", Value::from("/no/such/model"))];
    let error = crate::transformer::Transformer.open(&load(model.path(), &missing)).err().unwrap().to_string();
    assert!(error.contains("/no/such/model"), "{error}");
}

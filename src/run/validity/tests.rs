use super::super::measure::tests::reply;
use super::*;
use crate::record::Status;
use inferometer_protocol::effective::EFFECTIVE_CHUNK;
use inferometer_protocol::toggle::{PREFILL_CHUNK_SIZE, THREADS};
use inferometer_protocol::{Capabilities, Choice, ModelIdentity, Sampling, TokenTiming};

fn cell(toggles: &[(&str, Value)]) -> Cell {
    let toggles: Settings = toggles.iter().map(|(n, v)| ((*n).to_owned(), v.clone())).collect();
    Cell {
        id: 0,
        engine: 0,
        label: String::new(),
        length: None,
        load: Settings::new(),
        toggles,
        sampling: Sampling::default(),
        predicted: Settings::new(),
        level: None,
        merged: Vec::new(),
    }
}

fn receipt(toggles: &[&str]) -> Receipt {
    Receipt {
        engine: "e".to_owned(),
        version: "1".to_owned(),
        commit: None,
        backend: None,
        device: None,
        model: ModelIdentity::default(),
        capabilities: Capabilities::default(),
        toggles: toggles.iter().map(|t| (*t).to_owned()).collect(),
        sampling: Vec::new(),
        not_honoured: std::collections::BTreeMap::new(),
        token_timing: TokenTiming::Exact,
        works_in: None,
        deterministic: true,
        includes: Vec::new(),
        settings: Settings::new(),
        details: std::collections::BTreeMap::new(),
    }
}

fn request(max_tokens: u32) -> Request {
    Request {
        prompt: Prompt::Text("x".repeat(100)),
        sampling: Sampling::default(),
        toggles: Settings::new(),
        max_tokens,
        ignore_eos: true,
        conversation: None,
        forced_tokens: None,
    }
}

/// [`super::judge`] for a single request.
fn judge(
    cell: &Cell,
    request: &Request,
    generated: &Generated,
    receipt: &Receipt,
    built_in: bool,
    stamps: Result<(), Fault>,
    allowed: &[String],
) -> Option<Fault> {
    super::judge(
        &Asked { cell, request, choices: false, turn: 0, allowed, counted: None },
        generated,
        receipt,
        built_in,
        stamps,
    )
}

fn judged(cell: &Cell, generated: &Generated, receipt: &Receipt, allowed: &[String]) -> Option<Fault> {
    judge(cell, &request(2), generated, receipt, true, Ok(()), allowed)
}

#[test]
fn the_engine_s_outcome_comes_first() {
    let (plain, who) = (cell(&[]), receipt(&[]));
    assert_eq!(judged(&plain, &reply(&[13, 15], true), &who, &[]), None);
    let mut stopped = reply(&[13, 15], true);
    stopped.completion.finish_reason = FinishReason::Stop;
    let found =
        judge(&plain, &request(2), &stopped, &who, true, Err(Fault::new(Cause::Stamps, "stamps")), &[]).unwrap();
    assert_eq!(found.cause.status(), Status::Failed);
    assert!(found.reason.contains("ignore_eos"));
    let may_stop = Request { ignore_eos: false, ..request(9) };
    assert_eq!(judge(&plain, &may_stop, &stopped, &who, true, Ok(()), &[]), None);
    let mut cancelled = reply(&[13, 15], true);
    cancelled.completion.finish_reason = FinishReason::Cancelled;
    assert!(judged(&plain, &cancelled, &who, &[]).unwrap().reason.contains("not cancelled"));
    assert!(judged(&plain, &reply(&[], true), &who, &[]).unwrap().reason.contains("no token"));
    let short = judge(&plain, &request(3), &reply(&[13, 15], true), &who, true, Ok(()), &[]).unwrap();
    assert_eq!((short.cause.status(), short.reason.contains("2 tokens of 3")), (Status::Failed, true));
}

#[test]
fn figures_that_contradict_one_another_are_invalid() {
    let (plain, who, good) = (cell(&[]), receipt(&[]), reply(&[13, 15], true));
    let bad_stamps =
        judge(&plain, &request(2), &good, &who, true, Err(Fault::new(Cause::Stamps, "runs backwards")), &[]).unwrap();
    assert_eq!(bad_stamps, Fault::new(Cause::Stamps, "runs backwards"));
    let sent = Request { prompt: Prompt::Tokens(vec![1; 99]), ..request(2) };
    let found = judge(&plain, &sent, &good, &who, true, Ok(()), &[]).unwrap();
    assert!(found.reason.contains("99 prompt tokens were sent, but the engine counts 100"), "{}", found.reason);
    let forced = |ids: &[u32], max_tokens| Request { forced_tokens: Some(ids.to_vec()), ..request(max_tokens) };
    let along = |request: &Request| judge(&plain, request, &good, &who, true, Ok(()), &[]);
    assert_eq!(along(&forced(&good.tokens, 2)), None);
    assert_eq!(along(&forced(&[good.tokens[0], good.tokens[1], 9], 2)), None, "cut at max_tokens");
    for ids in [&[good.tokens[0]][..], &[good.tokens[0], 9], &[good.tokens[0], good.tokens[1], 9]] {
        let found = along(&forced(ids, 5)).unwrap();
        assert!(found.reason.contains("forced"), "{}", found.reason);
    }
    let mut sum = good;
    sum.completion.prefill_tokens = 100;
    assert_eq!(judged(&plain, &sum, &who, &[]).unwrap().cause.status(), Status::Invalid);
}

#[test]
fn choices_are_one_a_token_and_only_when_asked_for() {
    let with = |gaps: Option<&[f32]>| {
        let mut generated = reply(&[13, 15], true);
        generated.choices = gaps.map(|gaps| gaps.iter().map(|gap| Choice { token: 1, gap: *gap }).collect());
        generated
    };
    assert_eq!(choices(true, &with(Some(&[0.0, 7.5]))), Ok(()));
    assert_eq!(choices(false, &with(None)), Ok(()));
    for (gaps, words) in [
        (None, "did not report"),
        (Some(&[0.5][..]), "1 choices for 2 tokens"),
        (Some(&[0.5, -0.1]), "token 1 is -0.1"),
        (Some(&[f32::NAN, 0.5]), "token 0 is NaN"),
        (Some(&[0.5, f32::INFINITY]), "token 1 is inf"),
    ] {
        let told = choices(true, &with(gaps)).unwrap_err();
        assert!(told.contains(words), "{told}");
    }
    let unasked = judged(&cell(&[]), &with(Some(&[0.5, 0.5])), &receipt(&[]), &[]).unwrap();
    assert_eq!((unasked.cause.status(), unasked.reason.contains("without a request")), (Status::Invalid, true));
}

#[test]
fn what_the_cache_holds_must_follow_from_the_request() {
    let resets = Receipt { capabilities: Capabilities { reset: true, ..Capabilities::default() }, ..receipt(&[]) };
    let found = judged(&cell(&[]), &reply(&[13, 15], true), &resets, &[]).unwrap();
    assert!(found.reason.contains("20 tokens were reused although"), "{}", found.reason);
    assert_eq!(judged(&cell(&[]), &reply(&[13, 15], true), &receipt(&[]), &[]), None, "it does not support reset");
    let holding = |tokens, built_in| {
        let mut generated = reply(&[13, 15], true);
        generated.completion.cache_tokens = tokens;
        judge(&cell(&[]), &request(2), &generated, &receipt(&[]), built_in, Ok(()), &[])
    };
    for built_in in [true, false] {
        assert_eq!(holding(None, built_in), None, "not measured");
        assert_eq!(holding(Some(101), built_in), None);
        let found = holding(Some(100), built_in).unwrap();
        assert_eq!(found.cause.status(), Status::Invalid);
        assert!(found.reason.contains("holds 100 tokens") && found.reason.contains("expected 101"), "{found:?}");
        assert!(holding(Some(103), built_in).is_some());
    }
    assert!(holding(Some(102), true).is_some());
    assert_eq!(holding(Some(102), false), None, "another engine may run the last token too");
    let mut rotating = reply(&[13, 15], true);
    rotating.completion.cache_tokens = Some(50);
    rotating.completion.effective.insert(KV_CACHE.to_owned(), "rotating:50".into());
    assert_eq!(judged(&cell(&[]), &rotating, &receipt(&[]), &[]), None, "it drops tokens, as it should");
    rotating.completion.cache_tokens = Some(51);
    let found = judged(&cell(&[]), &rotating, &receipt(&[]), &[]).unwrap();
    assert!(found.reason.contains("expected 50"), "{}", found.reason);
    rotating.completion.effective.insert(KV_CACHE.to_owned(), "rotating:500".into());
    let found = judged(&cell(&[]), &rotating, &receipt(&[]), &[]).unwrap();
    assert!(found.reason.contains("expected 101"), "not full yet: {}", found.reason);
    rotating.completion.effective.insert(KV_CACHE.to_owned(), "paged".into());
    assert_eq!(judged(&cell(&[]), &rotating, &receipt(&[]), &[]), None, "a kind that the project does not define");
}

#[test]
fn a_turn_may_reuse_what_came_before_it_unless_told_not_to() {
    let resets =
        Receipt { capabilities: Capabilities { reset: true, ..Capabilities::default() }, ..receipt(&[KV_REUSE]) };
    let (prefix, none) = (cell(&[(KV_REUSE, "prefix".into())]), cell(&[(KV_REUSE, "none".into())]));
    let of = |cell: &Cell, turn, reuse: &str| {
        let mut generated = reply(&[13, 15], true);
        generated.completion.effective.insert(KV_REUSE.to_owned(), reuse.into());
        let request = Request { toggles: request_toggles(cell), ..request(2) };
        let asked = Asked { cell, request: &request, choices: false, turn, allowed: &[], counted: None };
        super::judge(&asked, &generated, &resets, true, Ok(())).map(|found| found.reason)
    };
    assert_eq!(of(&prefix, 1, "prefix"), None);
    assert!(of(&prefix, 0, "prefix").unwrap().contains("reset"), "the cache is empty before the first turn");
    assert!(of(&none, 1, "none").unwrap().contains("20 tokens were reused although `kv_reuse` is none"));
}

#[test]
fn effective_settings_are_compared_with_what_was_asked() {
    let chunk = cell(&[(PREFILL_CHUNK_SIZE, Value::Int(32))]);
    let who = receipt(&[PREFILL_CHUNK_SIZE]);
    let with = |value: i64| {
        let mut generated = reply(&[13, 15], true);
        generated.completion.effective.insert(EFFECTIVE_CHUNK.to_owned(), Value::Int(value));
        generated
    };
    assert_eq!(judged(&chunk, &with(32), &who, &[]), None);
    let found = judged(&chunk, &with(64), &who, &[]).unwrap();
    assert_eq!(found.cause.status(), Status::Invalid);
    assert!(found.reason.contains("prefill_chunk_size is 64, expected 32"), "{}", found.reason);
    assert_eq!(judged(&chunk, &with(64), &who, &[EFFECTIVE_CHUNK.to_owned()]), None, "allowed");
    let silent = judged(&chunk, &reply(&[13, 15], true), &who, &[]).unwrap();
    assert!(silent.reason.contains("not reported"), "{}", silent.reason);
    assert_eq!(judged(&cell(&[]), &reply(&[13, 15], true), &who, &[]), None, "nothing requested, nothing reported");
    assert_eq!(judged(&cell(&[]), &with(64), &receipt(&[]), &[]), None, "an engine that does not support the toggle");
    assert!(judged(&cell(&[]), &with(64), &who, &[]).is_some(), "80 tokens fit the default chunk");
}

#[test]
fn load_time_settings_come_from_the_receipt() {
    let threads = cell(&[(THREADS, Value::Int(2))]);
    let mut who = receipt(&[THREADS]);
    who.settings.insert(THREADS.to_owned(), Value::Int(1));
    let found = judged(&threads, &reply(&[13, 15], true), &who, &[]).unwrap();
    assert!(found.reason.contains("threads is 1, expected 2"), "{}", found.reason);
    assert_eq!(judged(&cell(&[(THREADS, Value::Int(0))]), &reply(&[13, 15], true), &who, &[]), None);
}

#[test]
fn settings_an_engine_does_not_honour_are_named() {
    let mut penalized = cell(&[(PREFILL_CHUNK_SIZE, Value::Int(32))]);
    penalized.sampling.repetition_penalty = 1.1;
    let text = Prompt::Text("x".to_owned());
    let able = |toggles: &[&str]| {
        let mut receipt = receipt(toggles);
        receipt.capabilities.text = true;
        receipt
    };
    let asked = not_honoured(&penalized, &text, &able(&[]));
    let penalty = "repetition_penalty = 1.1 (its receipt's `sampling` does not list it)";
    assert_eq!(asked, ["prefill_chunk_size = 32", penalty]);
    let mut telling = able(&[REPETITION_PENALTY]);
    telling.sampling.push(REPETITION_CONTEXT_SIZE.to_owned());
    telling.not_honoured.insert(PREFILL_CHUNK_SIZE.to_owned(), "one pass is all it has".to_owned());
    assert_eq!(not_honoured(&penalized, &text, &telling), ["prefill_chunk_size = 32 (one pass is all it has)"]);
    let honours_both = able(&[PREFILL_CHUNK_SIZE, REPETITION_PENALTY, REPETITION_CONTEXT_SIZE]);
    assert!(not_honoured(&penalized, &text, &honours_both).is_empty());
    let off = cell(&[(REPETITION_PENALTY, Value::Float(1.0))]);
    assert!(not_honoured(&off, &text, &able(&[])).is_empty(), "a penalty of 1 is no request");
    assert!(not_honoured(&off, &Prompt::Tokens(vec![1]), &able(&[]))[0].contains("token ids"));
}

#[test]
fn only_request_toggles_travel_with_a_request() {
    let both = cell(&[(THREADS, Value::Int(2)), (PREFILL_CHUNK_SIZE, Value::Int(32))]);
    assert_eq!(request_toggles(&both).into_keys().collect::<Vec<_>>(), [PREFILL_CHUNK_SIZE]);
}

#[test]
fn a_chat_with_tools_needs_an_engine_that_takes_them() {
    let chat = |json| Prompt::Messages(serde_json::from_value(json).unwrap());
    let plain = chat(serde_json::json!({"messages": [{"role": "user", "content": "hi"}]}));
    let able = |tools| Receipt {
        capabilities: Capabilities { messages: true, tools, ..Capabilities::default() },
        ..receipt(&[])
    };
    let off = cell(&[]);
    assert!(not_honoured(&off, &plain, &able(false)).is_empty());
    for rich in [
        serde_json::json!({"messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]}),
        serde_json::json!({"messages": [{"role": "user", "content": "hi"}], "tools": []}),
        serde_json::json!({"messages": [{"role": "user", "content": "hi"}], "template_arguments": {"a": 1}}),
    ] {
        assert!(not_honoured(&off, &chat(rich.clone()), &able(true)).is_empty());
        let asked = not_honoured(&off, &chat(rich), &able(false));
        assert!(asked[0].contains("capability `tools`"), "{asked:?}");
    }
}

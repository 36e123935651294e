//! Tests the host with an engine that does what its prompt says.

/// The example outside of the workspace, compiled here too so that it stays correct.
#[path = "../../../../examples/custom-engine/src/engine.rs"]
mod custom_engine;

use std::io::{BufRead, BufReader, PipeReader, PipeWriter, Write, pipe};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use serde_json::{Value, json};

use super::*;
use crate::{Result, TokenSink};
use inferometer_protocol::{Completion, EngineSpec, FinishReason, Honours, Offer, Phase, Prompt, Receipt, Request};

/// First id of the prompt: the engine's behaviour.
const COUNT: u32 = 1;
const WAIT_FOR_CANCEL: u32 = 2;
const PANIC: u32 = 3;

struct Obedient;

struct Counting;

impl Engine for Obedient {
    fn name(&self) -> &'static str {
        "obedient"
    }
    fn offer(&self) -> Offer {
        Offer {
            name: "obedient",
            label: "obedient",
            meaning: "",
            options: vec![],
            required: &[],
            serves: false,
            honours: Honours::default(),
            variants: Vec::new(),
            built_in: true,
        }
    }
    fn open(&self, load: &Load) -> Result<Box<dyn Session>> {
        match &load.model {
            Some(path) => Err(EngineError::model(format!("{} is no model", path.display()))),
            None => Ok(Box::new(Counting)),
        }
    }
}

impl Session for Counting {
    fn receipt(&self) -> Receipt {
        let json = json!({"engine": "obedient", "version": "1", "capabilities": {"concurrent": 2}});
        serde_json::from_value(json).unwrap()
    }
    fn generate(&mut self, request: &Request, sink: &mut dyn TokenSink) -> Result<Completion> {
        let Prompt::Tokens(prompt) = &request.prompt else { return Err(EngineError::unsupported("tokens only")) };
        let span = sink.begin(Phase::Decode);
        match prompt[0] {
            COUNT => (0..request.max_tokens).for_each(|id| sink.token(id)),
            WAIT_FOR_CANCEL => {
                sink.token(0);
                while !sink.cancelled() {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
            PANIC => panic!("told to panic"),
            _ => return Err(EngineError::bad_request("unknown id")),
        }
        sink.end(span);
        Ok(Completion {
            finish_reason: if sink.cancelled() { FinishReason::Cancelled } else { FinishReason::Length },
            prompt_tokens: prompt.len() as u32,
            reused_tokens: 0,
            prefill_tokens: prompt.len() as u32,
            cache_tokens: None,
            effective: Default::default(),
            speculation: None,
            served: None,
        })
    }
    fn another(&self) -> Result<Box<dyn Session + Send>> {
        Ok(Box::new(Counting))
    }
    fn reset(&mut self) -> Result<()> {
        Ok(())
    }
    fn decode(&self, tokens: &[u32]) -> Option<String> {
        Some(format!("{} tokens", tokens.len()))
    }
}

/// The other end of a host's pipes.
struct Tester {
    to: PipeWriter,
    from: BufReader<PipeReader>,
    host: JoinHandle<End>,
}

impl Tester {
    fn start_with(input_ended: fn()) -> Self {
        Self::start(&[&Obedient], input_ended)
    }

    fn start(engines: &'static [&'static dyn Engine], input_ended: fn()) -> Self {
        let (input, to) = pipe().unwrap();
        let (from, output) = pipe().unwrap();
        let host = std::thread::spawn(move || serve_on(input, output, engines, input_ended));
        Self { to, from: BufReader::new(from), host }
    }

    /// A host after `hello` and `open`, which used ids 1 and 2.
    fn ready() -> Self {
        let mut tester = Self::start_with(|| {});
        tester.send(json!({"id": 1, "type": "hello", "protocol": VERSION, "harness": "test"}));
        assert_eq!(tester.receive()["type"], "hello");
        tester.send(open(2));
        assert_eq!(tester.receive()["type"], "ready");
        tester
    }

    fn send(&mut self, message: Value) {
        writeln!(self.to, "{message}").unwrap();
    }

    fn receive(&mut self) -> Value {
        let mut line = String::new();
        self.from.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|e| panic!("{line:?}: {e}"))
    }

    fn ask(&mut self, message: Value) -> Value {
        self.send(message);
        self.receive()
    }

    fn end(self) -> End {
        drop(self.to);
        self.host.join().unwrap()
    }
}

fn open(id: u64) -> Value {
    let engine = EngineSpec { name: "obedient".into(), label: "o".into(), options: Default::default() };
    json!({"id": id, "type": "open", "engine": engine})
}

fn generate(id: u64, what: u32, progress: bool) -> Value {
    json!({"id": id, "type": "generate", "prompt": {"tokens": [what]}, "max_tokens": 4, "progress": progress})
}

#[test]
fn a_generation_is_answered_with_its_stamps() {
    let mut tester = Tester::ready();
    let result = tester.ask(generate(3, COUNT, false));
    assert_eq!(result["id"], 3);
    assert_eq!(result["tokens"], json!([0, 1, 2, 3]));
    assert_eq!(result["text"], "4 tokens");
    assert_eq!(result["finish_reason"], "length");
    let stamps: Vec<u64> = serde_json::from_value(result["token_ns"].clone()).unwrap();
    assert!(result["accepted_ns"].as_u64().unwrap() <= stamps[0]);
    assert!(stamps[3] <= result["finished_ns"].as_u64().unwrap());
    assert_eq!(result["spans"].as_array().unwrap().len(), 1);
    assert_eq!(tester.ask(json!({"id": 4, "type": "close"}))["type"], "done");
    assert_eq!(tester.end(), End::Closed);
}

#[test]
fn the_engine_of_the_guide_runs_in_a_host() {
    let mut tester = Tester::start(&[&custom_engine::Custom], || {});
    tester.send(json!({"id": 1, "type": "hello", "protocol": VERSION, "harness": "test"}));
    tester.receive();
    let ready = tester.ask(json!({"id": 2, "type": "open", "engine": {"name": "custom", "label": "m", "options": {}}}));
    assert_eq!(ready["model"]["synthetic"], true);
    let ask = |prompt: Value| json!({"id": 3, "type": "generate", "prompt": prompt, "max_tokens": 3});
    let result = tester.ask(ask(json!({"tokens": [5, 9]})));
    // next = (31 * last + 7 * position + 1) mod 1000
    assert_eq!(result["tokens"], json!([294, 136, 245]));
    assert_eq!(tester.ask(ask(json!({"tokens": [5000]})))["kind"], "bad_request");
    assert_eq!(tester.ask(ask(json!({"text": "x"})))["kind"], "unsupported");
}

#[test]
fn cancel_arrives_during_work() {
    let mut tester = Tester::ready();
    tester.send(generate(3, WAIT_FOR_CANCEL, false));
    assert_eq!(tester.ask(json!({"id": 4, "type": "cancel", "request": 99})), json!({"id": 4, "type": "done"}));
    assert_eq!(tester.ask(json!({"id": 5, "type": "cancel", "request": 3})), json!({"id": 5, "type": "done"}));
    let result = tester.receive();
    assert_eq!((&result["id"], &result["finish_reason"]), (&json!(3), &json!("cancelled")));
    let next = tester.ask(generate(6, COUNT, false));
    assert_eq!(next["finish_reason"], "length", "a cancel does not reach the next request");
    assert_eq!(tester.end(), End::InputEnded);
}

#[test]
fn progress_comes_only_when_asked_for_and_never_after_the_result() {
    let mut tester = Tester::ready();
    tester.send(generate(3, WAIT_FOR_CANCEL, true));
    for _ in 0..2 {
        assert_eq!(tester.receive(), json!({"id": 3, "type": "progress", "generated_tokens": 1}));
    }
    tester.send(json!({"id": 4, "type": "cancel", "request": 3}));
    let mut answers = Vec::new();
    while answers.last().is_none_or(|last| *last != "result") {
        answers.push(tester.receive()["type"].as_str().unwrap().to_owned());
    }
    assert_eq!(tester.ask(json!({"id": 5, "type": "ping"}))["type"], "pong", "after {answers:?}");
}

#[test]
fn a_panic_is_told_and_ends_the_host() {
    let mut tester = Tester::ready();
    let error = tester.ask(generate(3, PANIC, false));
    assert_eq!(error["kind"], "internal");
    assert!(error["message"].as_str().unwrap().contains("told to panic"));
    assert_eq!(tester.host.join().unwrap(), End::Panicked);
}

#[test]
fn what_cannot_be_done_is_refused_and_the_host_goes_on() {
    let mut tester = Tester::start_with(|| {});
    let refused = |answer: Value, id: u64, kind: &str, word: &str| {
        assert_eq!((&answer["id"], &answer["kind"]), (&json!(id), &json!(kind)), "{answer}");
        assert!(answer["message"].as_str().unwrap().contains(word), "{answer}");
    };
    let hello = |id: u64, major: u32| json!({"id": id, "type": "hello", "protocol": {"major": major, "minor": 7}, "harness": "t"});
    refused(tester.ask(json!({"id": 1, "type": "ping"})), 1, "protocol", "hello");
    refused(tester.ask(hello(2, 2)), 2, "protocol", &format!("version {VERSION}"));
    assert_eq!(tester.ask(hello(3, 1))["type"], "hello");
    refused(tester.ask(generate(4, COUNT, false)), 4, "bad_request", "open");
    refused(tester.ask(json!({"id": 5, "type": "dance"})), 5, "protocol", "`dance`");
    refused(tester.ask(json!({"id": 6, "type": "generate"})), 6, "bad_request", "prompt");
    refused(tester.ask(json!(["no message"])), 0, "protocol", "no message");
    refused(
        tester.ask(json!({"id": 7, "type": "open", "engine": {"name": "x", "label": "x", "options": {}}})),
        7,
        "unsupported",
        "obedient",
    );
    let mut missing = open(8);
    missing["model"] = json!("/no/such/model");
    refused(tester.ask(missing), 8, "model", "/no/such/model");
    assert_eq!(tester.ask(open(9))["type"], "ready");
    refused(tester.ask(open(10)), 10, "bad_request", "already open");
    let mut none = generate(11, COUNT, false);
    none["max_tokens"] = json!(0);
    refused(tester.ask(none.clone()), 11, "bad_request", "max_tokens");
    none["max_tokens"] = json!(u32::MAX);
    refused(tester.ask(none), 11, "bad_request", "max_tokens");
    refused(tester.ask(json!({"id": 12, "type": "clear_cache"})), 12, "unsupported", "cache");
    let ping = tester.ask(json!({"id": 13, "type": "ping", "a field of tomorrow": {"x": [1]}}));
    assert_eq!((&ping["type"], &ping["clock"]), (&json!("pong"), &json!(CLOCK_ID)));
    assert_eq!(tester.end(), End::InputEnded);
}

#[test]
fn a_model_that_was_unloaded_can_be_loaded_again() {
    let mut tester = Tester::ready();
    let no_model =
        |answer: Value| assert_eq!((&answer["type"], &answer["kind"]), (&json!("error"), &json!("bad_request")));
    for id in [10, 20] {
        assert_eq!(tester.ask(generate(id, COUNT, false))["type"], "result");
        assert_eq!(tester.ask(json!({"id": id + 1, "type": "unload"}))["type"], "done");
        no_model(tester.ask(json!({"id": id + 2, "type": "unload"})));
        no_model(tester.ask(generate(id + 3, COUNT, false)));
        let ready = tester.ask(open(id + 4));
        assert_eq!((&ready["type"], &ready["capabilities"]["unload"]), (&json!("ready"), &json!(true)));
    }
    assert_eq!(tester.end(), End::InputEnded);
}

#[test]
fn the_end_of_input_is_seen_during_work() {
    static SEEN: AtomicBool = AtomicBool::new(false);
    let mut tester = Tester::start_with(|| SEEN.store(true, Ordering::SeqCst));
    tester.send(json!({"id": 1, "type": "hello", "protocol": VERSION, "harness": "test"}));
    tester.send(open(2));
    tester.send(generate(3, WAIT_FOR_CANCEL, false));
    drop(tester.to);
    // The engine never returns by itself, so only the reading thread can have handled it.
    while !SEEN.load(Ordering::SeqCst) {
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(!tester.host.is_finished());
}

#[test]
fn an_endless_line_ends_the_host() {
    let mut tester = Tester::start_with(|| {});
    let block = vec![b'x'; 1 << 20];
    for _ in 0..=(MAX_LINE_BYTES >> 20) {
        if tester.to.write_all(&block).is_err() {
            break;
        }
    }
    assert_eq!(tester.receive()["kind"], "protocol");
    assert_eq!(tester.host.join().unwrap(), End::Broken);
}

#[test]
fn a_result_that_is_too_long_loses_its_spans_and_says_so() {
    let span = inferometer_protocol::Span { phase: Phase::Forward, index: 0, start_ns: u64::MAX, end_ns: u64::MAX };
    let completion = Completion {
        finish_reason: FinishReason::Length,
        prompt_tokens: 1,
        reused_tokens: 0,
        prefill_tokens: 1,
        cache_tokens: None,
        effective: Default::default(),
        speculation: None,
        served: None,
    };
    let result = Generated {
        tokens: vec![1],
        token_ns: vec![1],
        accepted_ns: 0,
        finished_ns: 2,
        spans: vec![span; 1 << 20],
        spans_dropped: 5,
        span_timing: None,
        allocations: Vec::new(),
        memory_samples: Vec::new(),
        choices: None,
        logprobs: None,
        text: None,
        completion,
        memory: Default::default(),
    };
    let line = to_line(1, FromHost::Result(Box::new(result)));
    let Envelope { body: FromHost::Result(short), .. } = serde_json::from_slice(&line).unwrap() else { panic!() };
    assert_eq!((short.spans.len(), short.spans_dropped, short.tokens), (0, 5 + (1 << 20), vec![1]));
}

#[test]
fn generations_run_beside_each_other_up_to_the_limit() {
    let mut tester = Tester::ready();
    let beside = |id, what| {
        let mut message = generate(id, what, false);
        message["concurrent"] = true.into();
        message
    };
    tester.send(beside(3, WAIT_FOR_CANCEL));
    tester.send(beside(4, WAIT_FOR_CANCEL));
    let full = tester.ask(beside(5, COUNT));
    assert_eq!((&full["id"], &full["kind"]), (&json!(5), &json!("bad_request")), "{full}");
    assert!(full["message"].as_str().unwrap().contains("2 generations are running"), "{full}");
    let busy = tester.ask(json!({"id": 6, "type": "reset"}));
    assert!(busy["message"].as_str().unwrap().contains("while generations are running"), "{busy}");
    // One that is not beside others runs meanwhile.
    assert_eq!(tester.ask(generate(7, COUNT, false))["tokens"], json!([0, 1, 2, 3]));
    for (cancel, generation) in [(8, 4), (9, 3)] {
        tester.send(json!({"id": cancel, "type": "cancel", "request": generation}));
        let answers = [tester.receive(), tester.receive()];
        let of = |id: u64| answers.iter().find(|answer| answer["id"] == id).unwrap();
        assert_eq!(of(cancel)["type"], "done");
        assert_eq!(of(generation)["finish_reason"], "cancelled", "{answers:?}");
        assert_eq!(tester.ask(beside(cancel + 10, COUNT))["tokens"], json!([0, 1, 2, 3]), "in the lane that is free");
    }
    let wrong = tester.ask(beside(20, 99));
    assert_eq!((&wrong["id"], &wrong["type"]), (&json!(20), &json!("error")));
    assert_eq!(tester.ask(json!({"id": 21, "type": "reset"}))["type"], "done");
    tester.send(beside(22, PANIC));
    assert!(tester.receive()["message"].as_str().unwrap().contains("the engine panicked"));
    tester.send(generate(23, COUNT, false));
    assert_eq!(tester.host.join().unwrap(), End::Panicked);
}

#[test]
fn the_profiler_splits_by_phase_and_takes_its_messages_in_order() {
    let _turn = sampling::TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut tester = Tester::ready();
    let refused = |tester: &mut Tester, message: Value, why: &str| {
        tester.send(message);
        let answer = tester.receive();
        assert_eq!((&answer["type"], &answer["kind"]), (&json!("error"), &json!("bad_request")), "{answer}");
        assert!(answer["message"].as_str().unwrap().contains(why), "{answer}");
    };
    refused(&mut tester, json!({"id": 3, "type": "profile_stop"}), "profile_start");
    for wrong in [0, 10_001] {
        refused(&mut tester, json!({"id": 4, "type": "profile_start", "frequency_hz": wrong}), "1 to 10000");
    }
    let start = |id| json!({"id": id, "type": "profile_start", "frequency_hz": 997});
    tester.send(start(5));
    assert_eq!(tester.receive()["type"], "done");
    refused(&mut tester, start(6), "already running");
    tester.send(generate(7, COUNT, false));
    assert_eq!(tester.receive()["tokens"], json!([0, 1, 2, 3]));
    // Fails in the middle of its decode phase.
    tester.send(generate(8, 99, false));
    assert_eq!(tester.receive()["type"], "error");
    tester.send(json!({"id": 9, "type": "profile_stop"}));
    let answer = tester.receive();
    assert_eq!(
        (&answer["type"], &answer["profiler"], &answer["clock"]),
        (&json!("profile"), &json!("pprof"), &json!("cpu"))
    );
    let phases: Vec<&Value> = answer["parts"].as_array().unwrap().iter().map(|part| &part["phase"]).collect();
    assert_eq!(phases, [&Value::Null, &json!("decode")], "each phase once: {answer}");
    // And again.
    tester.send(start(10));
    assert_eq!(tester.receive()["type"], "done");
}

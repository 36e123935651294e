//! The session on its own, with laws so cheap that no time is spent.

use std::sync::Arc;

use super::Simulated;
use crate::Instrumentation;
use crate::recorder::{Recorder, Shared};
use crate::{Engine, Load, Result, Session};
use inferometer_protocol::{Completion, EngineSpec, FinishReason, Prompt, Request, Sampling, Settings, Value};

fn open(options: &[(&str, Value)]) -> Box<dyn Session> {
    let free = [("a_ms", Value::Int(0)), ("d_us", Value::Int(0))];
    let options = free.iter().chain(options).map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    let engine = EngineSpec { name: super::NAME.into(), label: "s".into(), options };
    Simulated.open(&Load { engine, model: None, toggles: Settings::new() }).unwrap()
}

fn request(prompt: Prompt) -> Request {
    Request {
        prompt,
        sampling: Sampling::default(),
        toggles: Settings::new(),
        max_tokens: 8,
        ignore_eos: true,
        conversation: None,
        forced_tokens: None,
    }
}

fn run(session: &mut dyn Session, request: &Request) -> Result<(Vec<u32>, Completion)> {
    let mut recorder = Recorder::new(request.max_tokens, Instrumentation::default(), Arc::<Shared>::default());
    let done = session.generate(request, &mut recorder)?;
    Ok((recorder.tokens, done))
}

fn tokens(options: &[(&str, Value)], request: &Request) -> Vec<u32> {
    run(&mut *open(options), request).unwrap().0
}

#[test]
fn tokens_depend_on_prompt_seeds_and_position_alone() {
    let asked = request(Prompt::Tokens(vec![1, 2, 3]));
    let first = tokens(&[], &asked);
    let mut session = open(&[("noise", "noisy".into())]);
    for _ in 0..2 {
        assert_eq!(run(&mut *session, &asked).unwrap().0, first);
    }
    assert_eq!(first.iter().collect::<std::collections::BTreeSet<_>>().len(), 8, "{first:?}");
    assert_ne!(tokens(&[], &request(Prompt::Tokens(vec![1, 2, 4]))), first);
    assert_ne!(tokens(&[("seed", Value::Int(2))], &asked), first);
    let other = Request { sampling: Sampling { seed: 9, ..Sampling::default() }, ..asked.clone() };
    assert_ne!(tokens(&[], &other), first);
    assert_eq!(tokens(&[], &Request { max_tokens: 3, ..asked }), first[..3]);
}

#[test]
fn one_token_can_be_changed() {
    let asked = request(Prompt::Text("one two three".to_owned()));
    let (before, after) = (tokens(&[], &asked), tokens(&[("change_token_at", Value::Int(5))], &asked));
    let differing: Vec<usize> = (0..8).filter(|i| before[*i] != after[*i]).collect();
    assert_eq!(differing, [5]);
}

#[test]
fn forced_tokens_are_followed() {
    let mut asked = request(Prompt::Tokens(vec![1]));
    asked.forced_tokens = Some(vec![7, 70_000, 9]);
    let (tokens, done) = run(&mut *open(&[]), &asked).unwrap();
    assert_eq!((tokens, done.finish_reason), (vec![7, 70_000, 9], FinishReason::Length));
    asked.max_tokens = 2;
    assert_eq!(run(&mut *open(&[]), &asked).unwrap().0, [7, 70_000]);
    asked.forced_tokens = Some(Vec::new());
    assert!(run(&mut *open(&[]), &asked).unwrap_err().message.contains("forced_tokens is empty"));
}

#[test]
fn counts_and_memory_are_reported() {
    let mut session = open(&[("kv_bytes_per_token", Value::Int(10)), ("memory_mib", Value::Int(1))]);
    let (_, done) = run(&mut *session, &request(Prompt::Text("five words are in here".to_owned()))).unwrap();
    assert_eq!((done.prompt_tokens, done.prefill_tokens, done.cache_tokens), (5, 5, Some(12)));
    assert_eq!(session.memory().active_bytes, Some(1_048_576 + 120));
    assert_eq!(session.memory().kv_cache_bytes, Some(120));
    assert_eq!(session.decode(&[1, 2]).unwrap(), "t1 t2");
}

#[test]
fn faults_strike_and_leave_the_session_alive() {
    let asked = request(Prompt::Tokens(vec![1]));
    let mut session = open(&[("fault", "error".into()), ("fault_at", Value::Int(2))]);
    assert!(run(&mut *session, &asked).is_ok());
    assert!(run(&mut *session, &asked).unwrap_err().message.contains("as its options say"));
    assert!(run(&mut *session, &asked).is_ok());
    let mut session = open(&[("fault", "no-tokens".into()), ("fault_percent", Value::Int(100))]);
    let (tokens, done) = run(&mut *session, &asked).unwrap();
    assert_eq!((tokens.len(), done.finish_reason), (0, FinishReason::Length));
}

#[test]
fn a_cancelled_generation_says_so() {
    let shared = Arc::<Shared>::default();
    shared.cancel();
    let mut recorder = Recorder::new(8, Instrumentation::default(), shared);
    let done = open(&[("a_ms", Value::Int(1000))]).generate(&request(Prompt::Tokens(vec![1])), &mut recorder).unwrap();
    assert_eq!((recorder.tokens.len(), done.finish_reason), (0, FinishReason::Cancelled));
}

#[test]
fn what_it_cannot_do_is_refused() {
    let mut session = open(&[]);
    let refused = |session: &mut dyn Session, asked: &Request, told: &str| {
        let error = run(session, asked).unwrap_err().message;
        assert!(error.contains(told), "{error}");
    };
    refused(&mut *session, &request(Prompt::Text("  ".to_owned())), "prompt is empty");
    let mut toggled = request(Prompt::Tokens(vec![1]));
    toggled.toggles.insert("kv_reuse".to_owned(), "none".into());
    refused(&mut *session, &toggled, "kv_reuse");
    let receipt = session.receipt();
    assert!(receipt.model.synthetic && receipt.deterministic && receipt.model.name.contains("simulated"));
}

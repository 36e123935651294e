//! The checks, in execution order.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::rules::Before;
use super::{Bench, FEW, Fault, Verdict, ensure, sampling};
use crate::run::host::{Due, Exchange, HostError, check_stamps};
use crate::run::timing::Sight;
use inferometer_protocol::messages::{FromHost, Generate, MAX_TOKENS, ToHost};
use inferometer_protocol::sampling::{FIELDS, SEED, TEMPERATURE};
use inferometer_protocol::{Detail, ErrorKind, FinishReason, Instrumentation, Phase, Prompt, TokenTiming};

pub(super) type Run = fn(&mut Bench) -> Verdict;

/// If this check fails, all others are skipped.
pub(super) const GREETS: &str = "greets";

pub(super) const ALL: &[(&str, Run)] = &[
    (GREETS, |bench| Ok(bench.greeted().map(drop)?)),
    ("refuses another major version", refuses_another_major),
    ("ping", ping),
    ("needs a model before work", needs_a_model),
    ("ignores unknown fields", ignores_unknown_fields),
    ("refuses unknown messages and goes on", refuses_unknown_messages),
    ("opens", opens),
    ("generates what was asked", generates),
    ("generates one token", |bench| generate_exactly(bench, 1).map(drop)),
    ("stamps fit the harness's clock", stamps),
    ("tokens arrive when they are stamped", streams),
    ("refuses bad requests and goes on", refuses_bad_requests),
    ("no progress unless asked for", no_progress),
    ("progress is slow, rises and ends", progress),
    ("deterministic", deterministic),
    ("reset", reset),
    ("temperature", sampling::temperature),
    ("seed", sampling::seed),
    ("top_k", sampling::top_k),
    ("top_p", sampling::top_p),
    ("min_p", sampling::min_p),
    ("repetition penalty", sampling::penalty),
    ("repetition context", sampling::context_size),
    ("prefill chunk", sampling::prefill_chunk),
    ("forced tokens", forced_tokens),
    ("choices", choices),
    ("clear_cache", clear_cache),
    ("memory", memory),
    ("profile", profile),
    ("fit", fit),
    ("concurrent", concurrent),
    ("cancel during work", cancel),
    ("cancel while idle", cancel_while_idle),
    ("closes with a model open", closes_open),
    ("closes without a model", |bench| Ok(bench.greeted()?.close()?)),
    ("ends with its input", ends_with_input),
    ("ends with its input during work", ends_with_input_during_work),
];

/// Sampling frequency for the host's profiler, in Hz.
const PROFILE_HZ: u32 = 99;

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// Passes if the answer is an `error` of that kind.
fn refused<T>(answer: Result<T, HostError>, kind: ErrorKind, what: &str) -> Verdict {
    match answer {
        Err(HostError::Engine(error)) if error.kind == kind => Ok(()),
        Err(HostError::Engine(error)) => {
            Err(Fault::Fail(format!("{what}: expected an error of kind {kind:?}, got {:?}: {error}", error.kind)))
        }
        Err(error) => Err(error.into()),
        Ok(_) => Err(Fault::Fail(format!("{what}: expected an error of kind {kind:?}, but it was accepted"))),
    }
}

fn refuses_another_major(bench: &mut Bench) -> Verdict {
    let hello = json!({"type": "hello", "protocol": {"major": 999, "minor": 0}, "harness": "conformance"});
    refused(bench.stranger()?.ask_raw(object(hello), "the greeting"), ErrorKind::Protocol, "`hello` of version 999.0")
}

fn ping(bench: &mut Bench) -> Verdict {
    let mut host = bench.greeted()?;
    let first = host.clock().clone();
    ensure(!first.clock.is_empty(), || "`pong` names no clock".to_owned())?;
    let mut last = 0;
    for _ in 0..20 {
        let answer = host.talk().ask(ToHost::Ping, "a ping", &mut |_| {})?;
        let FromHost::Pong { clock, now_ns } = answer.body else {
            return Err(Fault::Fail(format!("expected `pong`, got {:?}", answer.body)));
        };
        ensure(clock == first.clock, || format!("its clock changed from `{}` to `{clock}`", first.clock))?;
        ensure(now_ns >= last, || format!("its clock ran backwards, from {last} to {now_ns} ns"))?;
        last = now_ns;
    }
    Ok(())
}

fn needs_a_model(bench: &mut Bench) -> Verdict {
    let mut host = bench.greeted()?;
    let generate = json!({"type": "generate", "prompt": {"tokens": [1]}, "max_tokens": 1});
    refused(host.talk().ask_raw(object(generate), "a generation"), ErrorKind::BadRequest, "`generate` before `open`")?;
    host.resync()?;
    Ok(())
}

fn ignores_unknown_fields(bench: &mut Bench) -> Verdict {
    let mut host = bench.greeted()?;
    let ping = json!({"type": "ping", "field_of_a_later_version": {"nested": [1, 2.5, "x", null]}});
    let answer = host.talk().ask_raw(object(ping), "a ping")?;
    ensure(matches!(answer.body, FromHost::Pong { .. }), || format!("expected `pong`, got {:?}", answer.body))
}

fn refuses_unknown_messages(bench: &mut Bench) -> Verdict {
    let mut host = bench.greeted()?;
    let unknown = json!({"type": "message_of_a_later_version", "value": 1});
    refused(host.talk().ask_raw(object(unknown), "an unknown message"), ErrorKind::Protocol, "an unknown message")?;
    host.resync()?;
    Ok(())
}

fn opens(bench: &mut Bench) -> Verdict {
    let opened = bench.opened()?;
    let receipt = &opened.ready.receipt;
    ensure(!receipt.engine.is_empty() && !receipt.version.is_empty(), || {
        "its receipt does not name the engine and its version".to_owned()
    })?;
    let stray = receipt.sampling.iter().find(|name| !FIELDS.contains(&name.as_str()));
    ensure(stray.is_none(), || {
        format!(
            "its receipt's `sampling` lists `{}`, which is no field of it; the fields are {}",
            stray.map_or("", |name| name.as_str()),
            FIELDS.join(", ")
        )
    })?;
    opened.request(FEW).map(drop)
}

/// Generates and checks the answer, by the rules of a run and for what was asked.
fn generate_exactly(bench: &mut Bench, max_tokens: u32) -> Result<Exchange, Fault> {
    let opened = bench.opened()?;
    let request = opened.request(max_tokens)?;
    let exchange = opened.judged(request, Before::Request)?;
    let finish = exchange.generated.completion.finish_reason;
    ensure(finish == FinishReason::Length, || format!("finish reason is `{}`, not `length`", finish.name()))?;
    Ok(exchange)
}

fn generates(bench: &mut Bench) -> Verdict {
    let first = generate_exactly(bench, FEW)?.generated.completion.prompt_tokens;
    let second = generate_exactly(bench, FEW)?.generated.completion.prompt_tokens;
    ensure(first == second, || format!("it counts {first} prompt tokens, then {second} for the same prompt"))
}

fn stamps(bench: &mut Bench) -> Verdict {
    // A busy machine may wake a process late; an honest host does not fail three times.
    let mut last = Ok(());
    for _ in 0..3 {
        let exchange = generate_exactly(bench, 4 * FEW)?;
        let host = &mut bench.opened()?.host;
        last = check_stamps(&exchange, host.clock(), 4 * FEW);
        if last.is_ok() {
            break;
        }
        host.resync()?;
    }
    Ok(last.map_err(|fault| fault.reason)?)
}

/// Sends tokens as they become readable, and their stamps agree with their arrival.
fn streams(bench: &mut Bench) -> Verdict {
    let opened = bench.opened()?;
    let receipt = &opened.ready.receipt;
    if receipt.token_timing == TokenTiming::Inexact {
        return Err(Fault::Skip("it declares its token times inexact: reports leave them out".to_owned()));
    }
    if !receipt.capabilities.stream {
        let told = "it does not declare `stream`, so its token times are claims, which reports leave out and gates refuse: \
                    when `generate` has `stream`, send {\"type\": \"token\", \"index\": 0, \"token\": 17} for each token \
                    as soon as it is readable";
        return Err(Fault::Skip(told.to_owned()));
    }
    let (stream, quiet) = (Instrumentation { stream: true, ..Instrumentation::default() }, Instrumentation::default());
    // As in a run: a busy machine may deliver late, an honest host does not differ every time.
    let mut sight = Sight::Differs(String::new());
    for _ in 0..4 {
        let opened = bench.opened()?;
        if opened.ready.receipt.capabilities.reset {
            opened.host.reset()?;
        }
        opened.host.resync()?;
        let request = opened.instrumented(2 * FEW, stream)?;
        let exchange = opened.host.generate(request, &mut |_| {})?;
        sight = match check_stamps(&exchange, opened.host.clock(), 2 * FEW) {
            Ok(()) => Sight::of(&exchange, opened.host.clock()),
            Err(fault) => Sight::Differs(fault.reason),
        };
        if matches!(sight, Sight::Together(_)) {
            let request = opened.instrumented(8 * FEW, quiet)?;
            let longer = opened.host.generate(request, &mut |_| {})?;
            let took = longer.received_ns.saturating_sub(longer.sent_ns);
            sight = sight.probed(longer.generated.tokens.len() as u64, took);
        }
        if matches!(sight, Sight::Verified(_)) {
            break;
        }
    }
    match sight.doubt() {
        None => Ok(()),
        Some(why) => Err(Fault::Fail(format!(
            "{why}: stamp each token when it is readable, and send it then; or declare `token_timing` as `inexact`"
        ))),
    }
}

fn refuses_bad_requests(bench: &mut Bench) -> Verdict {
    let opened = bench.opened()?;
    let mut nothing = opened.request(1)?;
    nothing.request.max_tokens = 0;
    refused(opened.host.generate(nothing, &mut |_| {}), ErrorKind::BadRequest, "`max_tokens` = 0")?;
    let no_prompt = json!({"type": "generate", "max_tokens": 1});
    let answer = opened.host.talk().ask_raw(object(no_prompt), "a generation");
    refused(answer, ErrorKind::BadRequest, "`generate` without `prompt`")?;
    if opened.ready.receipt.capabilities.tokens {
        let mut empty = opened.request(1)?;
        empty.request.prompt = Prompt::Tokens(Vec::new());
        refused(opened.host.generate(empty, &mut |_| {}), ErrorKind::BadRequest, "a prompt of no tokens")?;
    }
    if let (true, Some(vocabulary)) = (opened.ready.receipt.capabilities.tokens, opened.ready.receipt.model.vocabulary)
    {
        let mut outside = opened.request(1)?;
        outside.request.prompt = Prompt::Tokens(vec![1, vocabulary]);
        refused(opened.host.generate(outside, &mut |_| {}), ErrorKind::BadRequest, "an id outside the vocabulary")?;
    }
    generate_exactly(bench, FEW).map(drop)
}

/// Generates with or without progress; returns the progress messages.
fn heard(bench: &mut Bench, asked: bool) -> Result<Vec<u32>, Fault> {
    let opened = bench.opened()?;
    let request = opened.instrumented(8 * FEW, Instrumentation { progress: asked, ..Instrumentation::default() })?;
    let mut heard = Vec::new();
    opened.host.generate(request, &mut |tokens| heard.push(tokens))?;
    // Nothing may follow the result: a late `progress` would come before this answer.
    opened.host.resync()?;
    Ok(heard)
}

fn no_progress(bench: &mut Bench) -> Verdict {
    let heard = heard(bench, false)?;
    ensure(heard.is_empty(), || format!("it sent {} `progress` messages without a request", heard.len()))
}

fn progress(bench: &mut Bench) -> Verdict {
    let started = std::time::Instant::now();
    let heard = heard(bench, true)?;
    let allowed = 2 + started.elapsed().as_millis() as usize / 100;
    ensure(heard.len() <= allowed, || {
        format!("it sent {} `progress` messages; the limit is ten per second", heard.len())
    })?;
    ensure(heard.is_sorted(), || format!("`progress` decreases: {heard:?}"))?;
    ensure(heard.iter().all(|tokens| *tokens <= 8 * FEW), || format!("`progress` exceeds `max_tokens`: {heard:?}"))
}

fn deterministic(bench: &mut Bench) -> Verdict {
    let opened = bench.opened()?;
    let receipt = &opened.ready.receipt;
    // As in a run: greedy tokens must agree even if the engine does not declare itself
    // deterministic.
    let draws = receipt.deterministic && receipt.samples_with(TEMPERATURE) && receipt.samples_with(SEED);
    for temperature in [0.0, 0.8].into_iter().take(1 + usize::from(draws)) {
        let mut request = opened.request(2 * FEW)?;
        request.request.sampling.temperature = temperature;
        request.request.sampling.seed = 7;
        let mut outputs = Vec::new();
        for _ in 0..2 {
            outputs.push(opened.judged(request.clone(), Before::Reset)?.generated.tokens);
        }
        ensure(outputs[0] == outputs[1], || {
            format!("equal requests at temperature {temperature} gave {:?} and {:?}", outputs[0], outputs[1])
        })?;
    }
    Ok(())
}

fn reset(bench: &mut Bench) -> Verdict {
    bench.with("reset", |ready| ready.receipt.capabilities.reset)?;
    generate_exactly(bench, FEW)?;
    let opened = bench.opened()?;
    let request = opened.request(FEW)?;
    opened.judged(request, Before::Reset).map(drop)
}

fn forced_tokens(bench: &mut Bench) -> Verdict {
    let opened = bench.with("forced_tokens", |ready| ready.receipt.capabilities.forced_tokens)?;
    let vocabulary = opened.ready.receipt.model.vocabulary.unwrap_or(16).max(1);
    let forced: Vec<u32> = [3, 1, 2, 5].map(|id| id % vocabulary).into();
    for (max_tokens, expected) in [(FEW, &forced[..]), (2, &forced[..2])] {
        let mut request = opened.request(max_tokens)?;
        request.request.forced_tokens = Some(forced.clone());
        let generated = opened.judged(request, Before::Request)?.generated;
        ensure(generated.tokens == expected, || format!("forced {expected:?}, got {:?}", generated.tokens))?;
        let finish = generated.completion.finish_reason;
        ensure(finish == FinishReason::Length, || format!("finish reason is `{}`, not `length`", finish.name()))?;
    }
    Ok(())
}

/// The engine's own choices match its tokens.
fn choices(bench: &mut Bench) -> Verdict {
    let opened = bench.with("choices", |ready| ready.receipt.capabilities.choices)?;
    let can = opened.ready.receipt.capabilities;
    let free = opened.request(FEW)?;
    let unasked = opened.judged(free.clone(), Before::Reset)?.generated;
    let forced = can.forced_tokens.then(|| unasked.tokens.iter().rev().copied().collect());
    let mut asked =
        Generate { instrumentation: Instrumentation { choices: true, ..Instrumentation::default() }, ..free };
    for forced_tokens in std::iter::once(None).chain(forced.map(Some)) {
        let free = forced_tokens.is_none();
        asked.request.forced_tokens = forced_tokens;
        let generated = opened.judged(asked.clone(), Before::Reset)?.generated;
        let said: Vec<u32> = generated.choices.iter().flatten().map(|choice| choice.token).collect();
        ensure(!free || said == generated.tokens, || {
            format!("without forced tokens it generated {:?}, but its own choices are {said:?}", generated.tokens)
        })?;
        let deterministic = opened.ready.receipt.deterministic;
        ensure(!deterministic || said.first() == unasked.tokens.first(), || {
            format!(
                "its first token is {:?} when choices are requested, but {:?} when they are not",
                said.first(),
                unasked.tokens.first()
            )
        })?;
    }
    Ok(())
}

fn clear_cache(bench: &mut Bench) -> Verdict {
    let opened = bench.with("clear_cache", |ready| ready.receipt.capabilities.clear_cache)?;
    Ok(opened.host.clear_cache()?)
}

fn memory(bench: &mut Bench) -> Verdict {
    let opened = bench.with("memory", |ready| ready.receipt.capabilities.memory)?;
    let memory = opened.host.memory()?;
    ensure(memory != Default::default(), || "it declares `memory` but reports no figure".to_owned())
}

/// A declared profiler profiles a generation, and the parts of the profile are consistent.
fn profile(bench: &mut Bench) -> Verdict {
    let opened = bench.with("profile", |ready| ready.receipt.capabilities.profile)?;
    for _ in 0..2 {
        opened.host.profile_start(PROFILE_HZ)?;
        let request = opened
            .instrumented(4 * FEW, Instrumentation { detail: Detail::Operations, ..Instrumentation::default() })?;
        opened.host.generate(request, &mut |_| {})?;
        let profile = opened.host.profile_stop()?;
        ensure(!profile.profiler.is_empty(), || "its profile names no `profiler`".to_owned())?;
        let phases: Vec<Phase> = profile.parts.iter().filter_map(|part| part.phase).collect();
        let other = phases.iter().find(|phase| !matches!(phase, Phase::Prefill | Phase::Decode));
        ensure(other.is_none(), || {
            format!("its profile has a part for the phase {other:?}, which is neither prefill nor decode")
        })?;
    }
    Ok(())
}

/// A text that was fitted has as many tokens as a prompt.
fn fit(bench: &mut Bench) -> Verdict {
    const TEXT: &str = "A quick brown fox jumps over a lazy dog, and nobody counts the words. ";
    let opened = bench.with("fit", |ready| ready.receipt.capabilities.fit)?;
    for tokens in [24, 100] {
        let text = opened.host.fit(TEXT.to_owned(), tokens)?;
        let mut generate = opened.request(FEW)?;
        generate.request.prompt = Prompt::Text(text);
        let counted = opened.host.generate(generate, &mut |_| {})?.generated.completion.prompt_tokens;
        ensure(counted == tokens, || format!("a text that it fitted to {tokens} tokens has {counted} as a prompt"))?;
    }
    Ok(())
}

/// Requests beside each other give the tokens that they give alone.
fn concurrent(bench: &mut Bench) -> Verdict {
    let opened = bench.with("concurrent", |ready| ready.receipt.capabilities.concurrent > 0)?;
    let most = opened.ready.receipt.capabilities.concurrent as usize;
    let deterministic = opened.ready.receipt.deterministic;
    let alone = opened.host.generate(opened.request(FEW)?, &mut |_| {})?.generated.tokens;
    let request = Generate { concurrent: true, ..opened.request(FEW)? };
    let due = Due::Free(most.min(4));
    let (served, broke) = opened.host.traffic(8, &due, most, &mut |_| request.clone(), &mut |_| {});
    broke.map_or(Ok(()), Err)?;
    for one in served {
        let generated = one.outcome.expect("the host did not break")?.generated;
        ensure(!deterministic || generated.tokens == alone, || {
            format!("it declares itself deterministic, but beside others it gives other tokens: {:?}", generated.tokens)
        })?;
    }
    Ok(opened.host.reset().or_else(|error| match error {
        // An engine without `reset` says so.
        HostError::Engine(_) => Ok(()),
        error => Err(error),
    })?)
}

/// Token counts of increasing generation time, up to the limits of the model's context and the
/// protocol.
fn long_lengths(bench: &mut Bench) -> Result<Vec<u32>, Fault> {
    let context = bench.opened()?.ready.receipt.model.context_length.unwrap_or(MAX_TOKENS);
    let most = context.saturating_sub(2 * FEW).clamp(1, MAX_TOKENS);
    let mut lengths: Vec<u32> = [1 << 10, 1 << 14, 1 << 18].into_iter().filter(|length| *length < most).collect();
    lengths.push(most);
    Ok(lengths)
}

fn cancel(bench: &mut Bench) -> Verdict {
    bench.with("cancel", |ready| ready.receipt.capabilities.cancel)?;
    let lengths = long_lengths(bench)?;
    let longest = lengths[lengths.len() - 1];
    // A quick engine may finish before the message arrives: generate more, then cancel earlier.
    let tries = lengths.into_iter().map(|length| (length, 50)).chain([(longest, 10), (longest, 0)]);
    let mut ignored = None;
    for (length, delay_ms) in tries {
        let opened = bench.opened()?;
        let request = opened.request(length)?;
        let canceller = opened.host.canceller();
        let cancelling = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(delay_ms));
            canceller.cancel()
        });
        let exchange = opened.host.generate(request, &mut |_| {});
        let in_flight = cancelling.join().unwrap_or(false);
        let generated = exchange?.generated;
        // The answer to `cancel` may follow the result: read it here.
        opened.host.resync()?;
        let (tokens, finish) = (generated.tokens.len(), generated.completion.finish_reason);
        if finish == FinishReason::Cancelled {
            return ensure(tokens < length as usize, || "it reports `cancelled` but generated all tokens".to_owned());
        }
        if in_flight {
            ignored =
                Some(format!("a cancelled generation continued to {tokens} tokens, finish reason `{}`", finish.name()));
        }
    }
    Err(ignored.map_or_else(|| Fault::Skip("it finishes before a `cancel` can arrive".to_owned()), Fault::Fail))
}

fn cancel_while_idle(bench: &mut Bench) -> Verdict {
    let mut host = bench.greeted()?;
    match host.talk().ask(ToHost::Cancel { request: 1 }, "a cancel while idle", &mut |_| {})?.body {
        FromHost::Done => Ok(()),
        other => Err(Fault::Fail(format!("expected `done`, got {other:?}"))),
    }
}

fn closes_open(bench: &mut Bench) -> Verdict {
    bench.opened()?;
    let opened = bench.opened.take().expect("it was opened just now");
    Ok(opened.host.close()?)
}

fn ends_with_input(bench: &mut Bench) -> Verdict {
    let mut host = bench.greeted()?;
    host.talk().outgoing.close();
    let ended = host.talk().process.wait_end(bench.target.timeout);
    ensure(ended, || "it still runs after its input ended, so it would outlive the harness".to_owned())
}

fn ends_with_input_during_work(bench: &mut Bench) -> Verdict {
    bench.with("cancel", |ready| ready.receipt.capabilities.cancel)?;
    let length = long_lengths(bench)?.into_iter().rfind(|length| *length <= 1 << 14).unwrap_or(1);
    let mut opened = bench.opened.take().expect("`with` opened it");
    let request = opened.request(length)?;
    let talk = opened.host.talk();
    talk.outgoing.send(ToHost::Generate(Box::new(request))).map_err(HostError::from)?;
    std::thread::sleep(Duration::from_millis(50));
    talk.outgoing.close();
    let ended = talk.process.wait_end(bench.target.timeout);
    ensure(ended, || "it continues to work after its input ended, so it would outlive the harness".to_owned())
}

//! The overhead of the harness: decode rate through host, protocol and gauges at 20 Hz, compared
//! with the same session driven by a plain loop in one process.
//!
//! Both sides are resident and take turns. Pairs come in balanced blocks: of four pairs, two begin
//! with the harness, in seeded random order. It prints the median of the pair ratios with a
//! confidence interval from order statistics. Run it with `just bench-overhead`.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a benchmark talks to whoever runs it")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use inferometer::engines;
use inferometer::origin::Origin;
use inferometer::run::host::{Host, Launch};
use inferometer::telemetry::Sampler;
use inferometer_host::rng;
use inferometer_host::{Detail, Engine as _, Instrumentation, Load, Session, SpanKey, TokenSink};
use inferometer_protocol::clock::now_ns;
use inferometer_protocol::messages::{Generate, Open};
use inferometer_protocol::{Architecture, EngineSpec, ModelSpec, Phase, Prompt, Request, Sampling, Settings};
use inferometer_stats::robust::{Summary, summarize};
use rand::seq::SliceRandom;

const BLOCK: usize = 4;
const INTERVAL: Duration = Duration::from_millis(50);
const PROMPT: u32 = 128;

/// Records the time of the first and the last token only.
#[derive(Default)]
struct BareSink {
    first_ns: u64,
    last_ns: u64,
    tokens: u32,
}

impl TokenSink for BareSink {
    fn token(&mut self, _id: u32) {
        self.last_ns = now_ns();
        if self.tokens == 0 {
            self.first_ns = self.last_ns;
        }
        self.tokens += 1;
    }

    fn detail(&self) -> Detail {
        Detail::Timed
    }

    fn begin(&mut self, _phase: Phase) -> SpanKey {
        SpanKey::default()
    }

    fn end(&mut self, _key: SpanKey) {}

    fn cancelled(&self) -> bool {
        false
    }
}

/// Decode rate in tokens per second.
fn rate(first_ns: u64, last_ns: u64, tokens: usize) -> f64 {
    (tokens - 1) as f64 / ((last_ns - first_ns) as f64 / 1e9)
}

fn bare(session: &mut dyn Session, request: &Request) -> Result<f64> {
    session.reset()?;
    let mut sink = BareSink::default();
    session.generate(request, &mut sink)?;
    Ok(rate(sink.first_ns, sink.last_ns, sink.tokens as usize))
}

fn through_harness(host: &mut Host, request: &Request) -> Result<f64> {
    // Runs only in this side's turns, so that it does not slow down the plain loop.
    let sampler = Sampler::start(INTERVAL, &["cpu".to_owned(), "memory".to_owned()], Origin::start());
    sampler.watch(Some((0, host.pid())));
    host.reset()?;
    let generate =
        Generate { request: request.clone(), instrumentation: Instrumentation::default(), concurrent: false };
    let stamps = host.generate(generate, &mut |_| {})?.generated.token_ns;
    let (Some(first), Some(last)) = (stamps.first(), stamps.last()) else {
        anyhow::bail!("the host generated nothing");
    };
    anyhow::ensure!(!sampler.drain().is_empty(), "the gauges were not sampled");
    Ok(rate(*first, *last, stamps.len()))
}

fn setting(name: &str, default: u32) -> Result<u32> {
    match std::env::var(name) {
        Ok(text) => text.parse().with_context(|| format!("{name}={text} is not a number")),
        Err(_) => Ok(default),
    }
}

fn print(name: &str, unit: &str, summary: &Summary) {
    let interval = summary
        .interval
        .map_or_else(String::new, |i| format!("  [{:.4}, {:.4}] at {:.1} %", i.lo, i.hi, i.confidence * 100.0));
    println!("{name:<34} {:>9.4}{interval} {unit}", summary.median);
}

fn measure() -> Result<()> {
    // As in the host, so that both sides allocate the same way.
    inferometer_host::heap::use_one_arena();
    let pairs = setting("PAIRS", 40)? as usize;
    let max_tokens = setting("TOKENS", 128)?;
    let preset = std::env::var("PRESET").unwrap_or_else(|_| "small".to_owned());
    let spec = ModelSpec::Synthetic { arch: Architecture::Qwen3, preset, seed: 1, dtype: None, quantization: None };
    let model: PathBuf = engines::models::resolve(&spec, &mut |note| eprintln!("{note}"))?;
    let engine_spec = EngineSpec { name: "transformer".into(), label: "transformer".into(), options: Settings::new() };
    let request = Request {
        prompt: Prompt::Tokens((0..PROMPT).map(|i| 300 + i * 7).collect()),
        sampling: Sampling::default(),
        toggles: Settings::new(),
        max_tokens,
        ignore_eos: true,
        conversation: None,
        forced_tokens: None,
    };

    let transformer = inferometer_engine::transformer::Transformer;
    let mut toggles = Settings::from([("dtype".to_owned(), "q8_0".into())]);
    if let threads @ 1.. = setting("THREADS", 0)? {
        toggles.insert("threads".to_owned(), threads.into());
    }
    let load = Load { engine: engine_spec.clone(), model: Some(model.clone()), toggles: toggles.clone() };
    let mut session = transformer.open(&load)?;
    let log = tempfile::NamedTempFile::new()?;
    let mut host = Host::start(&Launch {
        command: vec![env!("CARGO_BIN_EXE_inferometer").to_owned(), "host".to_owned()],
        env: Vec::new(),
        log: log.path().to_owned(),
        timeout: Duration::from_secs(600),
    })?;
    let model = model.to_str().context("the cache folder's path is not UTF-8")?.to_owned();
    host.open(Open { engine: engine_spec, model: Some(model), toggles, memory_interval_ms: None })?;

    for _ in 0..2 {
        bare(session.as_mut(), &request)?;
        through_harness(&mut host, &request)?;
    }
    let mut order = rng::seeded(1, "overhead order");
    let (mut ratios, mut bare_rates, mut harness_rates) = (Vec::new(), Vec::new(), Vec::new());
    while ratios.len() < pairs {
        let mut harness_first = [true, true, false, false];
        harness_first.shuffle(&mut order);
        for first in harness_first.into_iter().take(BLOCK) {
            let (harness, alone) = if first {
                let harness = through_harness(&mut host, &request)?;
                (harness, bare(session.as_mut(), &request)?)
            } else {
                let alone = bare(session.as_mut(), &request)?;
                (through_harness(&mut host, &request)?, alone)
            };
            ratios.push(harness / alone);
            bare_rates.push(alone);
            harness_rates.push(harness);
        }
    }
    host.close()?;
    println!("{} pairs, {max_tokens} tokens each after a prompt of {PROMPT}", ratios.len());
    for (name, unit, values) in [
        ("decode, bare loop", "tok/s", &bare_rates),
        ("decode, through the harness", "tok/s", &harness_rates),
        ("ratio, harness to bare", "", &ratios),
    ] {
        print(name, unit, &summarize(values).context("no finite figures")?);
    }
    Ok(())
}

fn main() -> ExitCode {
    // `cargo test --benches` also runs this, but must not measure.
    if !std::env::args().any(|a| a == "--bench") {
        return ExitCode::SUCCESS;
    }
    match measure() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

//! The host's time for a decoded token outside of MLX's calls, and how often the host waits for the
//! device.
//!
//! Every call of MLX is timed. The rest of a token's time is spent in this program: the generic
//! forward pass, bookkeeping, stamps. The cost of timing a call is measured separately and
//! subtracted. Run with the MLX build's cargo configuration: `cargo --config target/mlx/config.toml
//! bench --features mlx --bench mlx_host`.

#![allow(clippy::print_stdout, reason = "a benchmark talks to whoever runs it")]

use std::sync::Arc;
use std::time::Instant;

use inferometer_engine::synthetic;
use inferometer_engine::synthetic::Recipe;
use inferometer_engine::transformer::Transformer;
use inferometer_engine::transformer::mlx::calls;
use inferometer_engine::transformer::mlx::calls::Calls;
use inferometer_host::Instrumentation;
use inferometer_host::recorder::{Recorder, Shared};
use inferometer_host::{Engine as _, Load, Session};
use inferometer_protocol::{Architecture, EngineSpec, Prompt, Request, Sampling, Settings, Value};

const TOKENS: u32 = 100;
const ROUNDS: usize = 5;
/// The most that a token may cost on the host, in microseconds.
const MOST_US: f64 = 30.0;

fn main() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let mut kept = true;
    println!("host time per decoded token outside MLX's calls, median of {ROUNDS} rounds of {TOKENS} tokens");
    println!("{:<14} {:>10} {:>12} {:>12} {:>8}", "model", "calls/tok", "calls µs/tok", "host µs/tok", "waits");
    for (architecture, preset) in [
        (Architecture::Llama, "tiny"),
        (Architecture::Qwen3, "tiny"),
        (Architecture::Qwen3, "small"),
        (Architecture::Qwen3, "0.6b"),
    ] {
        let recipe = Recipe::find(architecture, preset, 1).expect("a preset of that name");
        let model = folder.path().join(format!("{architecture}-{preset}"));
        synthetic::create(&recipe, &model)?;
        let mut session = Transformer.open(&Load {
            engine: EngineSpec {
                name: "transformer".into(),
                label: "transformer".into(),
                options: Settings::from([("backend".to_owned(), Value::from("mlx"))]),
            },
            model: Some(model),
            toggles: Settings::new(),
        })?;
        let mut rounds = (0..ROUNDS).map(|_| round(&mut *session)).collect::<anyhow::Result<Vec<_>>>()?;
        rounds.sort_by(|a, b| a.host_us.total_cmp(&b.host_us));
        let Round { calls, host_us, per_token } = &rounds[ROUNDS / 2];
        kept &= *host_us < MOST_US && calls.waits == u64::from(TOKENS);
        println!(
            "{:<14} {:>10.0} {:>12.1} {:>12.1} {:>8.3}",
            format!("{architecture} {preset}"),
            calls.calls as f64 / f64::from(TOKENS),
            per_token,
            host_us,
            calls.waits as f64 / f64::from(TOKENS),
        );
    }
    anyhow::ensure!(kept, "a token costs {MOST_US} µs or more, or more than one wait");
    Ok(())
}

struct Round {
    calls: Calls,
    /// Microseconds per token in this program.
    host_us: f64,
    /// Microseconds per token in MLX's calls, including waiting.
    per_token: f64,
}

/// One generation from a prompt of one token, so that nearly all of it is decode.
fn round(session: &mut dyn Session) -> anyhow::Result<Round> {
    let request = Request {
        prompt: Prompt::Tokens(vec![7]),
        sampling: Sampling::default(),
        toggles: Settings::from([("kv_reuse".to_owned(), Value::from("none"))]),
        max_tokens: TOKENS,
        ignore_eos: true,
        conversation: None,
        forced_tokens: None,
    };
    let (inside, outside) = calls::cost();
    let mut recorder = Recorder::new(TOKENS, Instrumentation::default(), Arc::<Shared>::default());
    calls::take();
    calls::measure(true);
    let began = Instant::now();
    session.generate(&request, &mut recorder)?;
    let total = began.elapsed().as_nanos() as f64;
    calls::measure(false);
    let calls = calls::take();
    let count = calls.calls as f64;
    let host = (total - calls.ns as f64 - count * outside).max(0.0);
    let us = |ns: f64| ns / 1e3 / f64::from(TOKENS);
    Ok(Round { calls, host_us: us(host), per_token: us(calls.ns as f64 - count * inside) })
}

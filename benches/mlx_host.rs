//! What a decoded token costs on the host beside MLX's own calls, and how often the host waits for the device.
//!
//! Every call of MLX is timed; what remains of a token's time is this program's: the generic forward pass, bookkeeping,
//! stamps. The clock readings around each call are measured apart and taken off. Run with the MLX build's cargo
//! configuration: `cargo --config target/mlx/config.toml bench --features mlx --bench mlx_host`.

#![allow(clippy::print_stdout, reason = "a benchmark talks to whoever runs it")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use inferometer::engine::recorder::{Recorder, Shared};
use inferometer::engine::synthetic::{self, Recipe};
use inferometer::engine::transformer::mlx::calls::{self, Calls};
use inferometer::engine::{Load, Session, find};
use inferometer::spec::{Architecture, EngineSpec, Prompt, Request, Sampling, Settings, Value};

const TOKENS: u32 = 200;
const ROUNDS: usize = 7;

fn main() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    println!("host time per decoded token outside MLX's calls, median of {ROUNDS} rounds of {TOKENS} tokens");
    println!("{:<14} {:>10} {:>12} {:>12} {:>8}", "model", "calls/tok", "calls µs/tok", "host µs/tok", "waits");
    for (architecture, preset) in
        [(Architecture::Llama, "tiny"), (Architecture::Qwen3, "tiny"), (Architecture::Qwen3, "small")]
    {
        let recipe = Recipe::find(architecture, preset, 1).expect("a preset of that name");
        let model = folder.path().join(format!("{architecture}-{preset}"));
        synthetic::create(&recipe, &model)?;
        let mut session = find("transformer").expect("it is built in").open(&Load {
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
        println!(
            "{:<14} {:>10.0} {:>12.1} {:>12.1} {:>8.3}",
            format!("{architecture} {preset}"),
            calls.calls as f64 / f64::from(TOKENS),
            per_token,
            host_us,
            calls.waits as f64 / f64::from(TOKENS),
        );
    }
    Ok(())
}

struct Round {
    calls: Calls,
    /// Microseconds a token in this program.
    host_us: f64,
    /// Microseconds a token in MLX's calls, waiting included.
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
    let clock_ns = clock_ns();
    let mut recorder = Recorder::new(TOKENS, false, Arc::<Shared>::default());
    calls::take();
    calls::measure(true);
    let began = Instant::now();
    session.generate(&request, &mut recorder)?;
    let total = began.elapsed().as_nanos() as f64;
    calls::measure(false);
    let calls = calls::take();
    // A timed call's two readings: one falls inside what was timed, one outside.
    let readings = calls.calls as f64 * clock_ns;
    let host = (total - calls.ns as f64 - readings).max(0.0);
    let us = |ns: f64| ns / 1e3 / f64::from(TOKENS);
    Ok(Round { calls, host_us: us(host), per_token: us(calls.ns as f64 - readings) })
}

/// What one reading of the clock takes.
fn clock_ns() -> f64 {
    let began = Instant::now();
    for _ in 0..100_000 {
        black_box(Instant::now());
    }
    began.elapsed().as_nanos() as f64 / 100_000.0
}
